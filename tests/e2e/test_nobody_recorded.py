"""Promise 4: after a hostile session, nothing of what was asked for, nor of who asked, is in any sink."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stoplist.core.counts import Outcome
from tests.e2e import hostile
from tests.e2e.clocks import before_the_hour
from tests.e2e.conftest import LOAD
from tests.e2e.desk import Desk
from tests.e2e.hostile import Door
from tests.e2e.network import MITMDUMP, SECONDS, STOPLIST, Gate, Network, Process, counted, need
from tests.e2e.processes import workers_of

REQUESTS = 2600
DOORS = {Door.HTTP: ("127.0.0.1", 0), Door.SOCKS: ("127.0.0.2", 0), Door.DNS: ("127.0.0.3", 5353)}
OBSERVED = "127.192.0.0/10"
"""A quarter of the clients is only observed."""
SECONDS_TO_CLOSE = 30
"""When a period closes, amid the session: a slow machine has started the gate and stopped many requests by then, on a
fast one the session goes on until then."""
ASKED = {
    **{form: ("report", "--format", form) for form in ("table", "csv", "json", "html")},
    "rollout": ("rollout",),
    "status": ("status",),
    "journal": ("status", "--journal", "100"),
    "status as JSON": ("status", "--json"),
}
"""What people ask of the state, when the gate has ended."""
_ENTER = """
set -e
folder=$0
mount -t tmpfs -o size=4m tmpfs "$folder/disk"
mkdir "$folder/disk/tmp" "$folder/disk/home" "$folder/disk/work" "$folder/dev"
mount -t tmpfs tmpfs "$folder/dev"
for device in null zero full random urandom; do
  touch "$folder/dev/$device"
  mount --bind "/dev/$device" "$folder/dev/$device"
done
touch "$folder/dev/log"
mount --bind "$folder/syslog" "$folder/dev/log"
mount --rbind "$folder/dev" /dev
cd "$folder/disk/work"
ulimit -c unlimited
logger this is how syslog is heard
sh -c 'kill -SEGV $$' || true
export HOME="$folder/disk/home" TMPDIR="$folder/disk/tmp"
exec "$@"
"""
"""A disk with little room, a syslog that is ours, and core dumps as large as they like; then a crash, to see one."""


@dataclass
class Sinks:
    """Where a gate could leave something. Its `disk` is mounted for it alone; `holder` sees it as well."""

    net: Network
    folder: Path
    syslog: socket.socket
    clock: tuple[str, ...]
    closes: float
    """When the period closes (monotonic), or a second later."""
    process: Process | None = None
    holder: Process | None = None
    heard: bytearray = field(default_factory=bytearray)
    said: dict[str, bytes] = field(default_factory=dict)
    """What was asked of it: metrics, reports."""

    @classmethod
    def new(cls, net: Network) -> Sinks:
        folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a socket's path has a limit
        (folder / "disk").mkdir()
        syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        syslog.bind(str(folder / "syslog"))
        syslog.settimeout(0.2)
        closes = time.monotonic() + SECONDS_TO_CLOSE
        return cls(net, folder, syslog, before_the_hour(SECONDS_TO_CLOSE)[1], closes)

    @property
    def disk(self) -> Path:
        """As it is called inside."""
        return self.folder / "disk"

    @property
    def seen_from_here(self) -> Path:
        assert self.holder is not None
        return Path(f"/proc/{self.holder.pid}/root{self.disk}")

    def start(self, desk: Desk, kind: str) -> tuple[Gate, hostile.Places]:
        """A gate, and where it listens."""
        modes = tuple(option for door, (host, port) in DOORS.items() for option in ("--mode", f"{door}@{host}:{port}"))
        state = self.disk / "state"
        commands = {
            "one process": (str(STOPLIST), "run", str(desk.policy), "--state-dir", str(state), *modes),
            "mitmdump": (
                *(str(MITMDUMP), "-s", str(LOAD), "--set", "flow_detail=0", *modes),
                *("--set", f"stoplist_policy={desk.policy}", "--set", f"stoplist_state_dir={state}"),
            ),
        }
        commands["workers"] = (*commands["one process"], "--workers", "2", "--drain", "1s")
        self.process = process = self.net.start(
            "unshare", "--mount", "sh", "-c", _ENTER, str(self.folder), *self.clock, *commands[kind]
        )
        places = {
            door: (host, int(process.wait_for(rf"listening on {host}:(\d+)")[1])) for door, (host, _) in DOORS.items()
        }
        self.holder = Process(["nsenter", f"--target={process.pid}", "--net", "--mount", "sleep", "1000"])
        gate = Gate(self.net, process, places[Door.HTTP][1], self.seen_from_here / "state")
        return gate, places

    def ports(self) -> set[bytes]:
        """Where the gate has listened, which it says: for metrics on another port after each SIGHUP."""
        assert self.process is not None
        said = "".join([*self.process.out, *self.process.err])
        return {port.encode() for port in re.findall(r"(?:listening on |metrics at http://)[\d.]+:(\d+)", said)}

    def inside(self, *command: str) -> str:
        """What a command says that sees the disk, and the clock."""
        assert self.holder is not None
        done = subprocess.run(
            ["nsenter", f"--target={self.holder.pid}", "--net", "--mount", *self.clock, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    def all(self) -> dict[str, bytes]:
        """All that was left anywhere, by where. The gate has ended."""
        assert self.process is not None
        with suppress(TimeoutError):
            while data := self.syslog.recv(65536):
                self.heard += data
        disk = self.seen_from_here
        files = {str(path.relative_to(disk)): path.read_bytes() for path in disk.rglob("*") if path.is_file()}
        streams = {"stdout": "".join(self.process.out).encode(), "stderr": "".join(self.process.err).encode()}
        return files | streams | self.said | {"syslog": bytes(self.heard)}

    def close(self) -> None:
        if self.process is not None:
            self.process.end()
        if self.holder is not None:
            self.holder.end()
        self.syslog.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def new_sinks(net: Network) -> Iterator[Callable[[], Sinks]]:
    need("logger", "mount", "unshare")
    with ExitStack() as ending:

        def new_sinks() -> Sinks:
            sinks = Sinks.new(net)
            ending.callback(sinks.close)
            return sinks

        yield new_sinks


@contextmanager
def _scraping(sinks: Sinks) -> Iterator[None]:
    """Meanwhile metrics are asked for, in both formats."""
    assert sinks.process is not None
    port = int(sinks.process.wait_for(r"metrics at http://127\.0\.0\.1:(\d+)")[1])
    ended = threading.Event()

    def scrape() -> None:
        number = 0
        while not ended.wait(0.5):
            number += 1
            accept = ("*/*", "application/openmetrics-text")[number % 2]
            with suppress(OSError), sinks.net.connect(port) as connection:
                connection.settimeout(SECONDS)
                connection.sendall(f"GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode())
                answer = b""
                while data := connection.recv(65536):
                    answer += data
                sinks.said[f"metrics {number}"] = answer

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _trouble(part: int, gate: Gate, desk: Desk, sinks: Sinks) -> None:
    """What goes wrong beside the requests, after so many hundredths of them."""
    mine = sorted(workers_of(gate.process.pid))
    filler = f"{sinks.disk}/filler"
    if part == 10:
        desk.list.write_bytes(b"junk")
        gate.process.wait_for("a list is refused")
    elif part == 20 and mine:
        os.kill(mine[0], signal.SIGKILL)
    elif part == 30:
        desk.publish(["listed.test", "stopped.example"])
        gate.process.wait_for("serial 2 in force")
    elif part == 40 and mine:
        os.kill(mine[-1], signal.SIGSEGV)
    elif part == 50:
        sinks.inside("sh", "-c", f"dd if=/dev/zero of={filler} bs=4k; test -s {filler}")
        desk.publish(["listed.test", "third.test"])
        gate.process.wait_for("the gate cannot save its state for a restart")
    elif part == 60:
        desk.policy.write_text(desk.policy.read_text() + "nonsense: true\n")
        gate.process.wait_for("the change is refused")
    elif part == 70:
        sinks.inside("rm", filler)
        desk.policy.write_text(desk.policy.read_text().replace("nonsense: true\n", ""))
    elif part == 80 and mine:
        gate.process.send(signal.SIGHUP)
        gate.process.wait_for("checking whether the program and policy on disk start")


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["one process", "workers", "mitmdump"])
def test_a_hostile_session_leaves_no_trace(
    net: Network, desk: Desk, new_sinks: Callable[[], Sinks], tmp_path: Path, kind: str
):
    desk.policy.write_text(
        f"{desk.policy.read_text()}metrics: {{listen: 127.0.0.1:0}}\nobserve_clients: [{OBSERVED}]\n"
        "counts: {period: hour, hide_below: 10, round_to: 5}\n"
    )
    sinks = new_sinks()
    gate, places = sinks.start(desk, kind)
    kinds = hostile.kinds(gate.ca, net.origin_ca, DOORS)
    assert len(kinds) >= 40
    session = hostile.Session(net, places)
    with _scraping(sinks):
        for part in session.run(kinds, REQUESTS):
            _trouble(part, gate, desk, sinks)
        while time.monotonic() < sinks.closes + 2:
            for _ in session.run(kinds, 100):
                pass
    gate.process.end()
    for name, (command, *options) in ASKED.items():
        state = ("--state-dir", str(sinks.disk / "state"))
        sinks.said[name] = sinks.inside(str(STOPLIST), command, str(desk.policy), *options, *state).encode()
    left = sinks.all()
    _assert_no_trace(left, session.used, sinks.ports())

    assert all(left[name] for name in ASKED)
    assert {b"stopped", b"page not shown", b"observed"} <= set(left["csv"].replace(b"\r\n", b",").split(b","))
    assert b"would have stopped about" in left["rollout"]
    assert len([name for name in left if name.startswith("metrics ")]) > 10
    assert {"state/state.db", "state/ca.pem"} <= left.keys()
    (tmp_path / "state.db").write_bytes(left["state/state.db"])
    counts = counted(tmp_path)
    for cell in (
        ("test", Outcome.STOPPED),
        ("test", Outcome.NOT_SHOWN),
        ("test", Outcome.OBSERVED),
        (None, Outcome.REFUSED),
        (None, Outcome.PASSED),
    ):
        assert counts[cell] > 100, cell
    if kind == "workers":
        assert re.search(r"has ended \(signal 9\)", gate.log())
        assert re.search(r"has ended \(signal 11\)", gate.log())


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["one process", "mitmdump"])
def test_a_crash_amid_requests_leaves_no_trace(net: Network, desk: Desk, new_sinks: Callable[[], Sinks], kind: str):
    sinks = new_sinks()
    gate, places = sinks.start(desk, kind)
    session = hostile.Session(net, places)
    for part in session.run(hostile.kinds(gate.ca, net.origin_ca, DOORS), 200):
        if part == 80:
            gate.process.send(signal.SIGSEGV)
    assert gate.process.wait() == -signal.SIGSEGV
    _assert_no_trace(sinks.all(), session.used, sinks.ports())


def _assert_no_trace(left: Mapping[str, bytes], used: hostile.Used, its_ports: set[bytes]) -> None:
    used.ports -= its_ports
    for name, data in left.items():
        is_text = name in ("stdout", "stderr", *ASKED)
        assert not used.traces(data, ports=is_text), name
    # Traces are found where there are some, and so are the sinks.
    for trace in (min(used.tokens), min(used.addresses), b"www.LISTED.test"):
        assert used.traces(b"in " + trace + b".", ports=False)
    assert used.traces(b"port " + min(used.ports), ports=True)
    assert b"this is how syslog is heard" in left["syslog"]
    assert left["syslog"].count(b"\n") == 0 or len(left["syslog"]) < 200, left["syslog"]
    cores = [name for name in left if name.rpartition("/")[2].startswith("core")]
    has_core_files = not Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/"))
    assert len(cores) == has_core_files, "the one that the shell left before the gate was started, and no other"
