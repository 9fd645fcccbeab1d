"""The proxy is no way in: what clients cannot reach by themselves they do not reach through the gate."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.directory import PORT as PORT_OF_DIRECTORY
from tests.e2e.directory import directory
from tests.e2e.network import (
    CLIENT_ADDRESS,
    GATEWAY_ADDRESS,
    META_ADDRESS,
    ORIGIN_ADDRESS,
    OUTER_ADDRESS,
    SECONDS,
    STOPLIST,
    Gate,
    Network,
    need,
    wait_until,
)
from tests.e2e.ways import ask, get, read_head

PORT = 8199
"""Where a service of the gateway itself listens, which must not be reached."""


@pytest.fixture
def service(net: Network) -> Iterator[list[bytes]]:
    """What reaches a service on every address of the gateway."""
    heard: list[bytes] = []
    with net.gateway.call(
        lambda: socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)
    ) as own:

        def listen() -> None:
            while True:
                try:
                    connection, address = own.accept()
                except OSError:
                    return
                with connection:
                    heard.append(repr(address).encode())

        threading.Thread(target=listen, daemon=True).start()
        yield heard
        own.shutdown(socket.SHUT_RDWR)


DENIED = {
    "loopback": "127.0.0.1",
    "another loopback": "127.8.8.8",
    "loopback, short": "127.1",
    "loopback, decimal": "2130706433",
    "loopback, hexadecimal": "0x7f000001",
    "loopback, octal": "0177.0.0.1",
    "loopback, full width": "１２７.０.０.１",
    "loopback, percent-encoded": "%31%32%37.0.0.1",
    "this host": "0.0.0.0",
    "loopback, IPv6": "[::1]",
    "loopback, mapped": "[::ffff:127.0.0.1]",
    "loopback, mapped in hexadecimal": "[::ffff:7f00:1]",
    "loopback, compatible": "[::127.0.0.1]",
    "loopback, NAT64": "[64:ff9b::7f00:1]",
    "unspecified, IPv6": "[::]",
    "localhost": "localhost",
    "a name of loopback": "loop.test",
    "a name of loopback, with a dot": "loop.test.",
    "link-local": "169.254.7.7",
    "link-local, IPv6": "[fe80::1]",
    "metadata": META_ADDRESS,
    "metadata, decimal": "2852039166",
    "a name of the metadata service": "meta.test",
    "metadata, IPv6": "[fd00:ec2::254]",
    "metadata, Alibaba": "100.100.100.200",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
}


def _connect(gate: Gate, host: str, port: int) -> bytes:
    with gate.connect() as connection:
        authority = f"{host}:{port}".encode()
        connection.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (authority, authority))
        return read_head(connection).split(b"\r\n")[0]


def _get(gate: Gate, host: str, port: int) -> bytes:
    with gate.connect() as connection:
        authority = f"{host}:{port}".encode()
        return ask(connection, get(authority, target=b"http://" + authority + b"/")).split(b"\r\n")[0]


@pytest.mark.parametrize("host", DENIED.values(), ids=DENIED)
def test_an_address_of_the_gateway_or_its_cloud_is_not_reached(
    net: Network, gate: Gate, service: list[bytes], host: str
):
    before = net.journal()
    for answer in (_connect(gate, host, PORT), _get(gate, host, PORT), _get(gate, host, 80)):
        assert answer.split()[1] in (b"403", b"502"), answer
    assert service == []
    assert net.journal() == before


def test_a_denied_address_is_told_from_a_site_that_is_down(gate: Gate):
    assert b" 403 " in _connect(gate, "127.0.0.1", PORT)
    assert b" 403 " in _connect(gate, "loop.test", PORT)
    assert b" 502 " in _connect(gate, "down.test", 4444)


@pytest.mark.parametrize("host", [GATEWAY_ADDRESS, OUTER_ADDRESS, "gate.test"])
def test_a_gate_does_not_connect_to_itself(net: Network, desk: Desk, tmp_path: Path, host: str):
    with desk.policy.open("a") as policy:
        policy.write(f"upstream: {{allow: [{GATEWAY_ADDRESS}, {OUTER_ADDRESS}, 127.0.0.0/8]}}\n")
    gate = net.gate(desk.policy, tmp_path / "state", "--mode", "regular", address="0.0.0.0")
    gate.address = "127.0.0.1"
    try:
        for target in (host, "127.0.0.1"):
            assert b" 403 " in _connect(gate, target, gate.port)
    finally:
        gate.process.end()


def test_a_name_with_a_denied_and_a_permitted_address_leads_to_the_permitted_one(
    net: Network, own_gate: Gate, service: list[bytes]
):
    before = net.journal()
    for _ in range(5):
        assert b" 200 " in _get(own_gate, "rebind.test", 80)
    assert service == []
    connections = [line for line in net.journal()[len(before) :] if line.startswith("connection")]
    assert set(connections) == {f"connection 80 {ORIGIN_ADDRESS}"}


def test_a_name_is_resolved_once_for_a_connection(net: Network, own_gate: Gate):
    before = net.queries()
    assert b" 200 " in _connect(own_gate, "once.pass.test", 443)
    asked = [query.split(" from ")[0] for query in net.queries()[len(before) :]]
    assert asked == sorted(set(asked), key=asked.index)


def test_the_second_address_is_used_where_the_first_is_silent(net: Network, own_gate: Gate):
    assert b" 200 " in _get(own_gate, "two.test", 80)
    assert b" 200 " in _connect(own_gate, "two.test", 443)


def test_upstream_opens_and_closes_networks(net: Network, desk: Desk, tmp_path: Path, service: list[bytes]):
    with desk.policy.open("a") as policy:
        policy.write(f"upstream: {{allow: [127.0.0.0/8], deny: [127.8.0.0/16, {ORIGIN_ADDRESS}]}}\n")
    gate = net.gate(desk.policy, tmp_path / "state")
    try:
        assert b" 200 " in _connect(gate, "127.0.0.1", PORT)
        assert b" 403 " in _connect(gate, "127.8.8.8", PORT)
        assert b" 403 " in _connect(gate, "www.pass.test", 443)
        assert b" 403 " in _connect(gate, META_ADDRESS, 80)
        assert len(service) == 1
    finally:
        gate.process.end()


def test_a_parent_proxy_is_no_clients_target(net: Network, desk: Desk, tmp_path: Path, service: list[bytes]):
    """What the operator forwards to may be on loopback; clients of another mode do not reach it by its name."""
    modes = ("--mode", "regular", "--mode", f"upstream:http://localhost:{PORT}@127.0.0.1:8298")
    gate = net.gate(desk.policy, tmp_path / "state", *modes)
    try:
        assert b" 403 " in _connect(gate, "localhost", PORT)
        assert b" 403 " in _get(gate, "LOCALHOST", PORT)
        assert service == []
        gate.port = 8298
        _get(gate, "www.pass.test", 80)
        assert len(service) == 1
    finally:
        gate.process.end()


@pytest.mark.parametrize("target", ["127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "loop.test"])
def test_a_parent_proxy_is_no_clients_target_under_another_name(
    net: Network, desk: Desk, tmp_path: Path, service: list[bytes], target: str
):
    """The policy allows its address, and so clients of another mode would reach a second proxy."""
    with desk.policy.open("a") as policy:
        policy.write("upstream: {allow: [127.0.0.0/8]}\n")
    modes = ("--mode", "regular", "--mode", f"upstream:http://localhost:{PORT}@127.0.0.1:8298")
    gate = net.gate(desk.policy, tmp_path / "state", *modes)
    try:
        regular, gate.port = gate.port, 8298
        _get(gate, "www.pass.test", 80)
        assert len(service) == 1
        gate.port = regular
        assert b" 403 " in _connect(gate, target, PORT)
        assert b" 403 " in _get(gate, target, PORT)
        assert len(service) == 1
    finally:
        gate.process.end()


def test_through_a_parent_no_client_reaches_the_gate_or_that_parent(
    net: Network, desk: Desk, tmp_path: Path, service: list[bytes]
):
    with desk.policy.open("a") as policy:
        policy.write("upstream: {allow: [127.0.0.0/8]}\n")
    parent = f"upstream:http://localhost:{PORT}@127.0.0.1:8298"
    gate = net.gate(desk.policy, tmp_path / "state", "--mode", parent, "--mode", "socks5@127.0.0.1:8299")
    gate.port = 8298
    try:
        for host, port in (("127.0.0.1", 8298), ("127.0.0.1", 8299), ("[::ffff:127.0.0.1]", 8299), ("localhost", PORT)):
            assert b" 403 " in _connect(gate, host, port)
            own_page = b" 200 " if port != PORT else b" 403 "  # a person who opens the gate's address sees its page
            assert own_page in _get(gate, host, port)
        assert service == []
    finally:
        gate.process.end()


def test_who_comes_from_the_parent_proxy_is_never_only_observed(net: Network, desk: Desk, tmp_path: Path):
    """It may be any client that has come back through the gate."""
    with desk.policy.open("a") as policy:
        policy.write("observe_clients: [127.0.0.0/8]\n")
    gate = net.gate(desk.policy, tmp_path / "state", "--mode", "regular")
    try:
        assert b" 200 " in _get(gate, "www.listed.test", 80)
    finally:
        gate.process.end()
    parent = f"upstream:http://127.0.0.1:{PORT}@127.0.0.1:8298"
    gate = net.gate(desk.policy, tmp_path / "other", "--mode", "regular", "--mode", parent)
    try:
        assert b" 403 " in _get(gate, "www.listed.test", 80)
    finally:
        gate.process.end()


def test_it_listens_on_loopback_unless_told(net: Network, own_gate: Gate):
    for address in (GATEWAY_ADDRESS, OUTER_ADDRESS):
        with pytest.raises(OSError, match="refused"):
            net.gateway.connect(address, own_gate.port)


@contextmanager
def _open_gate(net: Network, desk: Desk, state_dir: Path, *options: str, more: str) -> Iterator[Gate]:
    with desk.policy.open("a") as policy:
        policy.write(more)
    gate = net.gate(desk.policy, state_dir, *options, address=GATEWAY_ADDRESS)
    try:
        yield gate
    finally:
        gate.process.end()


@pytest.mark.parametrize(
    ("clients", "served"),
    [
        pytest.param("", True, id="private networks by default"),
        pytest.param(f"clients: [{CLIENT_ADDRESS}]\n", True, id="the client alone"),
        pytest.param("clients: [198.51.100.0/24]\n", True, id="the client's network"),
        pytest.param("clients: [10.0.0.0/8]\n", False, id="another network"),
    ],
)
def test_only_clients_of_the_policy_are_served(net: Network, desk: Desk, tmp_path: Path, clients: str, served: bool):
    with _open_gate(net, desk, tmp_path / "state", more=clients) as gate:
        answer = _ask_from_the_client(net, gate)
    assert answer.startswith(b"HTTP/1.1 200 ") if served else answer == b""


def test_clients_follow_the_policy_without_a_restart(net: Network, desk: Desk, tmp_path: Path):
    text = desk.policy.read_text()
    with _open_gate(net, desk, tmp_path / "state", more="") as gate:
        assert _ask_from_the_client(net, gate)
        desk.policy.write_text(text + "clients: [10.0.0.0/8]\n")
        wait_until(lambda: not _ask_from_the_client(net, gate), "the change of clients")


def test_a_client_that_is_served_no_more_is_hung_up_on(net: Network, desk: Desk, tmp_path: Path):
    text = desk.policy.read_text()
    with _open_gate(net, desk, tmp_path / "state", more="") as gate, net.client.connect(gate.address, gate.port) as c:
        c.sendall(b"CONNECT www.pass.test:22 HTTP/1.1\r\n\r\n")
        assert b"SSH-2.0-origin" in read_head(c) + c.recv(100)
        desk.policy.write_text(text + "clients: [10.0.0.0/8]\n")
        with suppress(ConnectionError):
            assert c.recv(100) == b""


def _ask_from_the_client(net: Network, gate: Gate) -> bytes:
    with net.client.connect(gate.address, gate.port) as connection:
        try:
            return ask(connection, get(b"pass.test", target=b"http://pass.test/"))
        except OSError:
            return b""


@pytest.fixture
def users(desk: Desk) -> str:
    need("htpasswd")
    subprocess.run(
        ["htpasswd", "-bBc", desk.folder / "users.htpasswd", "alice", "secret"], check=True, capture_output=True
    )
    return "proxy_auth: {htpasswd: users.htpasswd}\n"


def test_a_password_is_asked_for(net: Network, desk: Desk, tmp_path: Path, users: str):
    def curl(gate: Gate, url: str, *options: str) -> int:
        answer = gate.curl(url, *options, space=net.client)
        return answer.proxy_status if url.startswith("https") and answer.status == 0 else answer.status

    with _open_gate(net, desk, tmp_path / "state", more=users) as gate:
        for url in ("http://listed.test/", "https://listed.test/", "http://pass.test/", "https://www.pass.test/"):
            with net.nothing_reaches_the_origin():
                assert curl(gate, url) == 407
                assert curl(gate, url, "--proxy-user", "alice:wrong") == 407
            trust = gate.ca if "listed" in url else net.origin_ca
            expected = 403 if "listed" in url else 200
            assert curl(gate, url, "--proxy-user", "alice:secret", "--cacert", str(trust)) == expected
            # Only after being asked, on the same connection:
            assert (
                curl(gate, url, "--proxy-anyauth", "--proxy-user", "alice:secret", "--cacert", str(trust)) == expected
            )
    assert "alice" not in gate.log()


def test_a_password_is_asked_for_by_socks(net: Network, desk: Desk, tmp_path: Path, users: str):
    mode = ("--mode", "regular", "--mode", f"socks5@{GATEWAY_ADDRESS}:1088")
    with _open_gate(net, desk, tmp_path / "state", *mode, more=users):
        for user, status, code in (("alice:secret", 200, 0), ("alice:wrong", 0, 97)):
            answer = net.curl(
                "http://pass.test/", "--proxy", f"socks5h://{user}@{GATEWAY_ADDRESS}:1088", space=net.client
            )
            assert (answer.status, answer.exit_code) == (status, code)


def test_passwords_are_not_forwarded(net: Network, desk: Desk, tmp_path: Path, users: str):
    heard = []
    server = net.world.call(lambda: socket.create_server((ORIGIN_ADDRESS, 8190)))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(read_head(connection))
            connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with server, _open_gate(net, desk, tmp_path / "state", more=users) as gate:
        assert gate.curl("http://pass.test:8190/", "--proxy-user", "alice:secret", space=net.client).status == 204
        thread.join(SECONDS)
    assert heard
    assert b"authorization" not in heard[0].lower()


def test_an_unreadable_password_file_is_an_error(net: Network, desk: Desk, tmp_path: Path):
    with desk.policy.open("a") as policy:
        policy.write("proxy_auth: {htpasswd: gone.htpasswd}\n")
    process = net.start(str(STOPLIST), "run", str(desk.policy), "--state-dir", str(tmp_path / "state"))
    assert process.wait() == 1
    assert "gone.htpasswd: no such file; make it with 'htpasswd" in "".join(process.err)


@pytest.fixture
def asked(net: Network, desk: Desk, tmp_path: Path) -> Iterator[str]:
    """The policy's text that asks a real directory."""
    with directory(net, tmp_path / "directory", desk.folder, {"alice": "secret"}) as text:
        yield text


def test_a_password_is_tried_against_a_directory(net: Network, desk: Desk, tmp_path: Path, asked: str):
    with _open_gate(net, desk, tmp_path / "state", more=asked) as gate:
        for user, status in (("alice:secret", 200), ("alice:wrong", 407), ("bob:secret", 407), ("*:secret", 407)):
            assert gate.curl("http://pass.test/", "--proxy-user", user, space=net.client).status == status
    assert not any(word in gate.log() for word in ("alice", "secret", "binding"))


def test_a_directory_that_cannot_be_asked_is_an_error(net: Network, desk: Desk, tmp_path: Path, asked: str):
    with desk.policy.open("a") as policy:
        policy.write(asked.replace(str(PORT_OF_DIRECTORY), "3891"))
    process = net.start(str(STOPLIST), "run", str(desk.policy), "--state-dir", str(tmp_path / "state"))
    assert process.wait() == 1
    log = "".join(process.err)
    assert "proxy_auth: the directory gives no usable answer" in log
    assert "Traceback" not in log
    assert "binding" not in log
