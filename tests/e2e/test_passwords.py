"""Names and passwords of clients: no sink of the gate has one, none is held for long, and nobody else is sent one."""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.directory import directory
from tests.e2e.memory import HOST, Memory, running
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, Gate, Network, need
from tests.e2e.traces import METRICS, left_by
from tests.e2e.ways import Door, ask, get, read_head, receive, secure

SOCKS = "127.0.0.2"
PARENT_PORT = 8190
AT_ONCE = 8
SECONDS = 3.0
"""How long an answer is waited for."""
HELD = r"q[0-9a-f]{12}z|c[tw][0-9a-z+/]{38}"
"""A name or a password, or both in base64, in any case."""

type Form = Callable[[bytes, bytes], bytes]
type Way = Callable[[socket.socket, bytes], None]


def _token() -> str:
    return f"q{secrets.token_hex(6)}z"


def _coded(name: bytes, password: bytes) -> bytes:
    return b64encode(name + b":" + password)


RIGHT: Form = lambda name, password: b"Basic " + _coded(name, password)  # noqa: E731  one of the forms
FORMS: dict[str, Form] = {
    "as it should be": RIGHT,
    "in another case": lambda name, password: b"bAsIc   " + _coded(name, password),
    "no colon": lambda name, password: b"Basic " + b64encode(name + password),
    "two colons": lambda name, password: b"Basic " + _coded(name, password + b":"),
    "not base64": lambda name, password: b"Basic " + name + b":" + password,
    "bad base64": lambda name, password: b"Basic " + _coded(name, password)[:-1],
    "not UTF-8": lambda name, password: b"Basic " + b64encode(b"\xff" + name + b":" + password),
    "no scheme": _coded,
    "three words": lambda name, password: b"Basic " + name + b" " + password,
    "bearer": lambda name, password: b"Bearer " + password,
    "digest": lambda name, password: b'Digest username="%b", response="%b"' % (name, password),
    "a control character": lambda name, password: b"Basic " + name + b"\x01" + password,
    "very long": lambda name, password: b"Basic " + name + password * 6000,
    "two of them": lambda name, password: b"%b\r\nProxy-Authorization: %b" % (RIGHT(name, password), password),
}
"""What a client sends as Proxy-Authorization."""


def _plain(host: bytes) -> Way:
    return lambda connection, field: suppressed(ask, connection, get(host, target=b"http://%b/" % host, more=field))


def suppressed(function: Callable[..., object], *arguments: object) -> None:
    """What a gate hangs up on is done as well."""
    with suppress(OSError, ssl.SSLError):
        function(*arguments)


def _enter(connection: socket.socket, target: bytes, field: bytes) -> bool:
    connection.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, field))
    return b" 200 " in read_head(connection)


def _tunnel(target: bytes, then: bytes) -> Way:
    def ask_in_it(connection: socket.socket, field: bytes) -> None:
        with suppress(OSError):
            if _enter(connection, target, field):
                connection.sendall(then)
                read_head(connection)

    return ask_in_it


def _tls(host: str, ca: Path) -> Way:
    def ask_in_it(connection: socket.socket, field: bytes) -> None:
        with suppress(OSError, ssl.SSLError):
            if _enter(connection, f"{host}:443".encode(), field):
                ask(secure(connection, host, ssl.create_default_context(cafile=ca)), get(host.encode(), more=field))

    return ask_in_it


def _ways(gate_ca: Path, origin_ca: Path) -> dict[str, Way]:
    return {
        "a request": _plain(b"pass.test"),
        "a listed request": _plain(b"listed.test"),
        "a request that nobody answers": _plain(b"down.test:4444"),
        "TLS in a tunnel": _tls("www.pass.test", origin_ca),
        "TLS to a listed host": _tls("www.listed.test", gate_ca),
        "HTTP in a tunnel": _tunnel(b"www.pass.test:80", get(b"www.pass.test")),
        "other bytes in a tunnel": _tunnel(b"www.pass.test:22", b"\r\n\r\n"),
        "a tunnel that nobody answers": _tunnel(b"down.test:4444", b""),
        "a tunnel to what is denied": _tunnel(b"127.0.0.1:9", b""),
    }


def _socks(connection: socket.socket, name: bytes, password: bytes) -> None:
    """RFC 1929, then a request, where that is let in."""
    with suppress(OSError):
        connection.sendall(b"\x05\x01\x02")
        if receive(connection, 2) != b"\x05\x02":
            return
        connection.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(password)]) + password)
        if receive(connection, 2) == b"\x01\x00":
            connection.sendall(b"\x05\x01\x00\x03\x09pass.test\x00\x50")
            receive(connection, 10)
            ask(connection, get(b"pass.test"))


@contextmanager
def _asked_for(kind: str, net: Network, desk: Desk, folder: Path, people: Mapping[str, str]) -> Iterator[str]:
    """The line of a policy that asks these people for their passwords; for "nobody", of one that does not ask."""
    if kind == "directory":
        with directory(net, folder / "directory", desk.folder, people) as text:
            yield text
        return
    need("htpasswd")
    file = desk.folder / "users.htpasswd"
    file.touch()
    for name, password in people.items():
        subprocess.run(["htpasswd", "-bB", "-C", "4", file, name, password], check=True, capture_output=True)
    yield "proxy_auth: {htpasswd: users.htpasswd}\n" if kind == "file" else ""


def _send_all(memory: Memory, net: Network, people: Mapping[str, str]) -> set[bytes]:
    """Each way with each form: the password right, wrong, and of nobody. All that was sent that tells of one."""
    gate, sent = memory.gate, set[bytes]()
    socks = int(gate.process.wait_for(rf"listening on {SOCKS}:(\d+)")[1])

    def connect(address: str, port: int) -> socket.socket:
        connection = net.gateway.connect(address, port)
        connection.settimeout(SECONDS)
        return connection

    def send(way: Way, form: Form, name: str, password: str) -> None:
        value = form(name.encode(), password.encode())
        sent.update((name.encode(), password.encode()), (word for word in value.split() if len(word) > 12))
        with connect(HOST, gate.port) as connection:
            suppressed(way, connection, b"Proxy-Authorization: %b\r\n" % value)

    def send_by_socks(name: str, password: str) -> None:
        sent.update((name.encode(), password.encode()))
        with connect(SOCKS, socks) as connection:
            _socks(connection, name.encode(), password.encode())

    known = list(people.items())
    with ThreadPoolExecutor(AT_ONCE) as clients:
        asked = []
        for number, way in enumerate(_ways(gate.ca, net.origin_ca).values()):
            name, password = known[number % len(known)]
            asked += [
                clients.submit(send, way, RIGHT, name, password),
                clients.submit(send, way, RIGHT, name, _token()),
            ]
            asked += [clients.submit(send, way, form, _token(), _token()) for form in FORMS.values()]
        for name, password in known:
            pairs = ((name, password), (name, _token()), (_token(), _token()))
            asked += [clients.submit(send_by_socks, *pair) for pair in pairs]
        for each in asked:
            each.result()
    return sent


def _field(name: str, password: str) -> bytes:
    return b"Proxy-Authorization: %b\r\n" % RIGHT(name.encode(), password.encode())


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["file", "directory", "nobody"])
def test_passwords_leave_no_trace(net: Network, desk: Desk, tmp_path: Path, kind: str):
    people = {_token(): _token() for _ in range(4)}
    name, password = next(iter(people.items()))
    with ExitStack() as stack:
        asks = stack.enter_context(_asked_for(kind, net, desk, tmp_path, people))
        desk.policy.write_text(f"{desk.policy.read_text()}{asks}{METRICS}")
        home = tmp_path / "home"
        memory = stack.enter_context(running(net, desk, home, f"regular@{HOST}:0", f"socks5@{SOCKS}:0"))
        gate = memory.gate
        sent = _send_all(memory, net, people)
        with gate.connect() as tunnel, gate.connect() as other:
            assert _enter(tunnel, b"www.pass.test:22", _field(name, password))
            assert _enter(other, b"www.pass.test:22", _field(name, name)) is not bool(asks)
            assert (password in memory.find(HELD)) is bool(asks), "what is open is held, and found"
        held = memory.kept(HELD, {each.decode().lower()[:40] for each in sent} - people.keys())
        assert len(held) <= (kind == "directory"), "the last name that it was asked for"
        assert held.keys().isdisjoint(people.values())
        left = left_by(gate, desk, home)
    for place, data in left.items():
        assert not [each for each in sent if each in data], place


@contextmanager
def _parent(net: Network) -> Iterator[list[bytes]]:
    """A parent proxy that lets everything in, and all that it is sent."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                heard.append(data)
                connection.sendall(b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n" * (b"HTTP/1." in data))

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                connection.settimeout(SECONDS)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with net.world.call(lambda: socket.create_server((ORIGIN_ADDRESS, PARENT_PORT))) as listening:
        threading.Thread(target=accept, daemon=True).start()
        yield heard
        listening.shutdown(socket.SHUT_RDWR)


def test_a_parent_proxy_is_sent_no_password_that_the_gate_asks_for(net: Network, desk: Desk, tmp_path: Path):
    people = {_token(): _token()}
    with _parent(net) as heard, _asked_for("file", net, desk, tmp_path, people) as asks:
        desk.policy.write_text(desk.policy.read_text() + asks)
        mode = ("--mode", f"upstream:http://{ORIGIN_ADDRESS}:{PARENT_PORT}")
        gate = net.gate(desk.policy, tmp_path / "state", *mode)
        try:
            for name, password in (*people.items(), (_token(), _token())):
                field = _field(name, password)
                for way in (_plain(b"pass.test"), _tunnel(b"pass.test:80", get(b"pass.test", more=b"X-Inside: 1\r\n"))):
                    with gate.connect() as connection:
                        way(connection, field)
        finally:
            gate.process.end()
    said = b"".join(heard)
    assert b"GET http://pass.test:80/" in said
    assert b"CONNECT pass.test:80" in said
    assert b"X-Inside: 1" in said
    assert b"authorization" not in said.lower()


@pytest.mark.parametrize("mode", ["regular", "secure"])
def test_a_site_is_sent_no_password_for_a_proxy_that_did_not_ask(net: Network, desk: Desk, tmp_path: Path, mode: str):
    """A client that has been told a password sends it to any proxy. It is not for the site."""
    with desk.policy.open("a") as policy:
        policy.write(f"certificate: {{cert: {net.folder}/origin.pem, key: {net.folder}/origin.pem}}\n")
    gate = net.gate(desk.policy, tmp_path / "state", address=GATEWAY_ADDRESS)
    request = get(b"pass.test", target=b"http://pass.test/mirror", more=_field("alice", "secret") + b"X-Kept: 1\r\n")
    try:
        with Door(net, mode, gate.port, gate.ca, net.origin_ca).connect() as connection:
            for _ in range(2):  # the second one on a connection that has led somewhere
                answer = ask(connection, request)
                assert b"X-Kept: 1" in answer
                assert b"authorization" not in answer.lower()
    finally:
        gate.process.end()


@pytest.mark.parametrize(("target", "status"), [(b"down.test:4444", b" 502 "), (b"loop.test:80", b" 403 ")])
def test_after_a_connect_that_led_nowhere_no_request_follows(own_gate: Gate, target: bytes, status: bytes):
    """mitmproxy would take it for one in the tunnel, and hand the password on."""
    field = _field("alice", "secret")
    request = get(b"pass.test", target=b"http://pass.test/mirror", more=field)
    with own_gate.connect() as connection:
        assert b"authorization" not in ask(connection, request).lower()
        connection.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, target, field))
        assert status in read_head(connection)
        suppressed(connection.sendall, request)
        rest = b""
        with suppress(ConnectionResetError):
            while data := connection.recv(65536):
                rest += data
    assert b"authorization" not in rest.lower()
    assert b"mitmproxy" not in rest.lower()


def test_inside_a_tunnel_a_password_is_the_sites(own_gate: Gate):
    """The site may be a proxy itself, and have asked."""
    request = get(b"www.pass.test", target=b"/mirror", more=_field("alice", "secret"))
    with own_gate.connect() as connection:
        assert _enter(connection, b"www.pass.test:80", b"")
        assert _field("alice", "secret").strip() in ask(connection, request)


def test_a_parent_proxy_that_asks_is_sent_the_password(net: Network, desk: Desk, tmp_path: Path):
    with _parent(net) as heard:
        gate = net.gate(desk.policy, tmp_path / "state", "--mode", f"upstream:http://{ORIGIN_ADDRESS}:{PARENT_PORT}")
        try:
            with gate.connect() as connection:
                _plain(b"pass.test")(connection, _field("alice", "secret"))
        finally:
            gate.process.end()
    assert _field("alice", "secret").strip() in b"".join(heard)
