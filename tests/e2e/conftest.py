"""Real processes in network namespaces: DNS server, origin, gate, clients."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stoplist.page import languages
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, MITMDUMP, ORIGIN_ADDRESS, Gate, Network, need, network, wait_until
from tests.e2e.ways import Door

EITHER_WAY = [
    pytest.param((), id="one process"),
    pytest.param(("--workers", "2"), id="workers", marks=pytest.mark.campaign),
]
"""The options of a gate of one process, and of one that is four processes."""
EVERY_LANGUAGE = [
    pytest.param(language, marks=() if language in ("ar", "de", "en") else pytest.mark.campaign)
    for language in languages.included()
]
"""The languages of the stop page: one from right to left, one of long words and English at each run."""
MODES = {"regular": 8080, "secure": 8080, "socks5": 1080, "transparent": 8081, "upstream": 8082}
"""The ports of the gate that has every mode; `secure` is TLS to the gate itself."""
REDIRECTED = (80, 443, 8443)
LISTED = ("listed.test", "stopped.example", "bücher.example", "faß.example")
SQUID_PORT = 3128
LOAD = Path(__file__).parent.parent.parent / "addon" / "load.py"


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    if os.geteuid() != 0 or subprocess.run(["unshare", "--net", "--mount", "true"], check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("CI cannot make a network namespace")
        pytest.skip("needs the right to make a network namespace")
    with network(tmp_path_factory.mktemp("network") / "net") as net:
        yield net


@pytest.fixture(scope="session")
def first_desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A publisher's and an operator's desk: keys, a policy, a list of listed.test and stopped.example."""
    return Desk.new(tmp_path_factory.mktemp("desk") / "desk", ["listed.test", "stopped.example"])


@pytest.fixture(scope="session")
def gate(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate for all tests that only ask it."""
    gate = net.gate(first_desk.policy, tmp_path_factory.mktemp("gate") / "state")
    yield gate
    gate.process.end()


@pytest.fixture
def desk(first_desk: Desk, tmp_path: Path) -> Desk:
    """A desk of one's own, to change."""
    return Desk(Path(shutil.copytree(first_desk.folder, tmp_path / "desk")), first_desk.serial)


@pytest.fixture
def own_gate(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Gate]:
    """A gate that enforces the policy of one's own desk."""
    gate = net.gate(desk.policy, tmp_path / "state")
    yield gate
    gate.process.end()


@pytest.fixture(scope="session")
def squid(net: Network) -> Iterator[None]:
    """A parent proxy on the gateway."""
    with parent_proxy(net):
        yield


@contextmanager
def parent_proxy(net: Network) -> Iterator[None]:
    """Squid, on the gateway."""
    need("squid")
    config = net.folder / "squid.conf"
    config.write_text(
        f"http_port 127.0.0.1:{SQUID_PORT}\nhttp_access allow all\ncache deny all\naccess_log none\n"
        "cache_log /dev/null\npid_filename none\nshutdown_lifetime 0 seconds\nvisible_hostname squid.test\n"
        f"dns_nameservers {ORIGIN_ADDRESS}\nnetdb_filename none\nserver_persistent_connections off\n"
    )
    process = net.start("squid", "-N", "-f", str(config))
    wait_until(lambda: net.listens(SQUID_PORT), "squid")
    yield
    process.end()


@pytest.fixture(scope="session")
def signed(net: Network) -> Path:
    """The log of the certificates that the gate of `doors` signs."""
    return net.folder / "signed"


@pytest.fixture(scope="session")
def gate_of_doors(net: Network, squid: None, signed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with every mode at once."""
    with gate_with_every_mode(net, tmp_path_factory.mktemp("gate-of-doors"), signed) as gate:
        yield gate
    assert "fault" not in gate.log()


@contextmanager
def gate_with_every_mode(net: Network, folder: Path, signed: Path) -> Iterator[Gate]:
    """A gate that uses the parent proxy; with STOPLIST_TEST_MITMDUMP=1, the add-on in mitmdump instead."""
    desk = Desk.new(folder / "desk", list(LISTED))
    with desk.policy.open("a") as policy:
        policy.write(f"certificate: {{cert: {net.folder}/origin.pem, key: {net.folder}/origin.pem}}\n")
    state_dir = folder / "state"
    modes = (
        *("--mode", f"regular@{GATEWAY_ADDRESS}:{MODES['regular']}"),
        *("--mode", f"socks5@{GATEWAY_ADDRESS}:{MODES['socks5']}"),
        *("--mode", f"transparent@{GATEWAY_ADDRESS}:{MODES['transparent']}"),
        *("--mode", f"upstream:http://127.0.0.1:{SQUID_PORT}@{GATEWAY_ADDRESS}:{MODES['upstream']}"),
    )
    if os.environ.get("STOPLIST_TEST_MITMDUMP"):
        gate = _mitmdump(net, desk, state_dir, *modes)
    else:
        program = (sys.executable, str(Path(__file__).parent / "signing.py"), str(signed))
        gate = net.gate(desk.policy, state_dir, *modes, address=GATEWAY_ADDRESS, program=program)
    yield gate
    gate.process.end()


def _mitmdump(net: Network, desk: Desk, state_dir: Path, *modes: str) -> Gate:
    process = net.start(
        *("env", f"HOME={state_dir.parent}", str(MITMDUMP), "-s", str(LOAD), "--set", "flow_detail=0", *modes),
        *("--set", f"stoplist_policy={desk.policy}", "--set", f"stoplist_state_dir={state_dir}"),
    )
    process.wait_for("in force")
    wait_until(lambda: all(_listens(net, port) for port in MODES.values()), "mitmdump")
    return Gate(net, process, MODES["regular"], state_dir, GATEWAY_ADDRESS)


def _listens(net: Network, port: int) -> bool:
    try:
        net.client.connect(GATEWAY_ADDRESS, port).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def doors(net: Network, gate_of_doors: Gate) -> Iterator[Callable[[str], Door]]:
    """The ways into the gate of every mode, as the client sees them."""
    with net.redirect(REDIRECTED, MODES["transparent"]):
        yield lambda mode: Door(net, mode, MODES[mode], gate_of_doors.ca, net.origin_ca)
