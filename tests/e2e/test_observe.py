"""Observing: a client that is observed passes and is counted, while another one is stopped at the same time; and what
is counted is what enforcing stops, request by request."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from stoplist.core.counts import Outcome
from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.network import CLIENT_ADDRESS, GATEWAY_ADDRESS, SECONDS, Gate, Network, Space, wait_until
from tests.e2e.ways import Door, View, ask, ask_inside_tls, get, has_ended, read_answer, secure, seen

OBSERVED_ADDRESS = "198.51.100.7"
"""Another client's, on the same machine."""
OBSERVE = f"observe_clients: [{OBSERVED_ADDRESS}]\n"
HOST = b"listed.example"
"""Listed, and in the origin's certificate."""
UNLISTED = b"www.pass.test"
PORTS = {"regular": 8090, "socks5": 1090, "transparent": 8091, "upstream": 8092}
DNS_PORT = 5390
REDIRECTED = (80, 443, 8443)
CLOSE = b"Connection: close\r\n"
LISTED = ["listed.example", "listed.test"]
STOPS = (Outcome.STOPPED, Outcome.NOT_SHOWN)


@dataclass(frozen=True)
class Bound(Space):
    """A client's namespace, of which one address is used."""

    address: str

    def connect(self, address: str, port: int, *, seconds: float = SECONDS) -> socket.socket:
        return self.call(
            lambda: socket.create_connection((address, port), timeout=seconds, source_address=(self.address, 0))
        )


def _bound(net: Network, address: str) -> Network:
    """The same network, for a client with this address."""
    client = net.client
    return replace(net, client=Bound(client.pid, client.folder, client.ending, address))


@pytest.fixture(scope="module")
def observed(net: Network) -> Iterator[Network]:
    """The network as a second client sees it."""
    hardware = "02:00:" + socket.inet_aton(CLIENT_ADDRESS).hex(":")
    net.client.run("ip", "address", "add", f"{OBSERVED_ADDRESS}/24", "dev", "gateway")
    net.gateway.run(*f"ip neigh add {OBSERVED_ADDRESS} lladdr {hardware} dev client nud permanent".split())
    yield _bound(net, OBSERVED_ADDRESS)
    net.gateway.run(*f"ip neigh del {OBSERVED_ADDRESS} dev client".split())
    net.client.run("ip", "address", "del", f"{OBSERVED_ADDRESS}/24", "dev", "gateway")


@pytest.fixture
def enforced(net: Network) -> Network:
    return _bound(net, CLIENT_ADDRESS)


@pytest.fixture
def desk(desk: Desk) -> Desk:
    desk.publish(LISTED)
    return desk


# Ways in: each is one request that a list has something to say to


@dataclass(frozen=True)
class Way:
    """`ask` takes a door, a host, and the CAs that the client trusts; `is_shown` says that it can be shown a page."""

    name: str
    ask: Callable[[Door, bytes, Path], bytes]
    doors: tuple[str, ...] = tuple(PORTS)
    is_shown: bool = True


def _plain(door: Door, host: bytes, _: Path) -> bytes:
    if door.mode in ("socks5", "transparent"):
        return _plain_in_a_tunnel(door, host, _)
    with door.connect() as connection:
        return ask(connection, get(host, target=b"http://" + host + b"/"))


def _plain_in_a_tunnel(door: Door, host: bytes, _: Path) -> bytes:
    with door.enter(host, 80) as tunnel:
        return ask(tunnel, get(host))


def _tls(door: Door, host: bytes, trust: Path) -> bytes:
    with door.enter(host, 443) as tunnel:
        return ask_inside_tls(tunnel, host.decode(), trust, get(host, more=CLOSE))


def _tls_with_http2(door: Door, host: bytes, trust: Path) -> bytes:
    with door.enter(host, 8443) as tunnel:
        return ask_inside_tls(tunnel, host.decode(), trust, get(host), protocols=("h2",))


def _tls_behind_an_unlisted_target(door: Door, host: bytes, trust: Path) -> bytes:
    with door.enter(UNLISTED, 443) as tunnel:
        return ask_inside_tls(tunnel, host.decode(), trust, get(host, more=CLOSE))


def _tls_behind_an_unlisted_name(door: Door, host: bytes, trust: Path) -> bytes:
    with door.enter(host, 443) as tunnel:
        return ask_inside_tls(tunnel, UNLISTED.decode(), trust, get(UNLISTED, more=CLOSE))


def _tls_without_trust(door: Door, host: bytes, _: Path) -> bytes:
    with door.enter(host, 443) as tunnel:
        return ask_inside_tls(tunnel, host.decode(), door.outer, get(host, more=CLOSE))


WAYS = (
    Way("plain HTTP", _plain),
    Way("plain HTTP in a tunnel", _plain_in_a_tunnel),
    Way("TLS", _tls),
    Way("TLS with HTTP/2", _tls_with_http2),
    Way("TLS behind an unlisted target", _tls_behind_an_unlisted_target),
    Way("TLS behind an unlisted name", _tls_behind_an_unlisted_name, ("regular", "socks5", "upstream"), is_shown=False),
    Way("TLS without trust in the gate", _tls_without_trust, is_shown=False),
)


def _seen(door: Door, way: Way, trust: Path, host: bytes = HOST) -> View:
    def asked() -> bytes:
        return way.ask(door, host, trust).replace(b"tls TLSv1", b"origin TLSv1")  # what its port 8443 says

    return seen(asked)


def _asks_dns(net: Network, address: str, name: str, over: str) -> dns.rcode.Rcode:
    query = dns.message.make_query(name, "A")
    send = dns.query.udp if over == "udp" else dns.query.tcp
    return net.client.call(lambda: send(query, GATEWAY_ADDRESS, port=DNS_PORT, timeout=SECONDS, source=address)).rcode()


@contextmanager
def _every_door(net: Network, desk: Desk, state: Path, *options: str) -> Iterator[Gate]:
    modes = (
        *("--mode", f"regular@{GATEWAY_ADDRESS}:{PORTS['regular']}"),
        *("--mode", f"socks5@{GATEWAY_ADDRESS}:{PORTS['socks5']}"),
        *("--mode", f"transparent@{GATEWAY_ADDRESS}:{PORTS['transparent']}"),
        *("--mode", f"upstream:http://127.0.0.1:3128@{GATEWAY_ADDRESS}:{PORTS['upstream']}"),
        *("--mode", f"dns@{GATEWAY_ADDRESS}:{DNS_PORT}"),
    )
    gate = net.gate(desk.policy, state, *modes, *options, address=GATEWAY_ADDRESS)
    try:
        with net.redirect(REDIRECTED, PORTS["transparent"]):
            yield gate
    finally:
        gate.process.end()
    assert "fault" not in gate.log()


def _trust(net: Network, gate: Gate, folder: Path) -> Path:
    """The CAs of a client that trusts the gate."""
    both = folder / "trusted.pem"
    own = gate.ca.read_bytes() if gate.ca.exists() else b""  # with `https: refuse` there is none
    both.write_bytes(own + net.origin_ca.read_bytes())
    return both


def _doors(net: Network, gate: Gate) -> list[Door]:
    return [Door(net, mode, port, gate.ca, net.origin_ca) for mode, port in PORTS.items()]


@pytest.mark.parametrize("options", EITHER_WAY)
def test_at_every_door_an_observed_client_passes_and_another_is_stopped_at_the_same_time(
    squid: None,
    net: Network,
    desk: Desk,
    observed: Network,
    enforced: Network,
    tmp_path: Path,
    options: tuple[str, ...],
):
    desk.policy.write_text(desk.policy.read_text() + OBSERVE)
    asked = 0
    with _every_door(net, desk, tmp_path / "state", *options) as gate:
        trust = _trust(net, gate, tmp_path)
        for one, other in zip(_doors(observed, gate), _doors(enforced, gate), strict=True):
            for way in (each for each in WAYS if one.mode in each.doors):
                stopped = _seen(other, way, trust)
                assert stopped is (View.PAGE if way.is_shown else View.REFUSED), (one.mode, way.name)
                assert _seen(one, way, trust) is View.ORIGIN, (one.mode, way.name)
                asked += 1
            checked = _plain(one, b"check.stoplist.invalid", trust)  # what the gate is tested by is stopped for all
            assert checked.startswith(b"HTTP/1.1 403 ")
        for over in ("udp", "tcp"):
            assert _asks_dns(net, CLIENT_ADDRESS, "listed.example", over) == dns.rcode.NXDOMAIN
            assert _asks_dns(net, OBSERVED_ADDRESS, "listed.example", over) == dns.rcode.NOERROR
            asked += 1
    counts = gate.counts()
    assert counts["test", Outcome.OBSERVED] == asked
    assert sum(counts["test", outcome] for outcome in STOPS) == asked
    assert counts[None, Outcome.REFUSED] == 0


# Equality


SECOND = """\
  - file: own.stoplist
    key: {file: test.listkey}
    trusted_keys: [authority.pub, operator.pub]
    threshold: 2
stop_page:
"""
HOSTS = {b"listed.example": "test", b"own.pass.test": "own", b"xlisted.test": "test"}
"""Listed hosts that the origin has a certificate for, and which list has them; xlisted.test is on both."""
ROUNDS = 4


def _two_lists(desk: Desk) -> None:
    desk.publish(["listed.example", "xlisted.test"])
    (desk.folder / "domains.txt").write_text("own.pass.test\nxlisted.test\n")
    sign = [argument for key in desk.signers for argument in ("--sign-with", key)]
    desk.stoplist(
        *("list", "build", "domains.txt", "--list", "own", "--serial", "1", "--expires", "2099-12-31"),
        *("--list-key", "test.listkey", *sign, "-o", "own.stoplist"),
    )
    desk.policy.write_text(desk.policy.read_text().replace("stop_page:\n", SECOND))


def _replay(net: Network, gate: Gate, trust: Path) -> Counter[str]:
    """Ask in every way for every host; how often for a host of each list."""
    asked = Counter[str]()
    for door in _doors(net, gate):
        for way in (each for each in WAYS if door.mode in each.doors):
            for host, list_id in HOSTS.items():
                for _ in range(ROUNDS):
                    with suppress(ssl.SSLError):
                        _seen(door, way, trust, host)
                    asked[list_id] += 1
    for host, list_id in HOSTS.items():
        for over in ("udp", "tcp"):
            _asks_dns(net, CLIENT_ADDRESS, host.decode(), over)
            asked[list_id] += 1
    return asked


@pytest.mark.campaign
@pytest.mark.parametrize("keys", ["", "https: refuse\n", "tls: intercept\n"], ids=["the page", "refuse", "intercept"])
def test_what_is_observed_is_what_enforcing_stops(
    squid: None, net: Network, desk: Desk, enforced: Network, tmp_path: Path, keys: str
):
    """The same traffic, through a gate that enforces and one that observes; exact numbers, before any is hidden."""
    _two_lists(desk)
    policy = f"{desk.policy.read_text()}{keys}upstream: {{ca: {net.origin_ca}}}\n"
    found: dict[str, Counter[str]] = {}
    for mode in ("enforce", "observe"):
        desk.policy.write_text(f"{policy}mode: {mode}\n")
        with _every_door(net, desk, tmp_path / mode) as gate:
            asked = _replay(enforced, gate, _trust(net, gate, tmp_path))
        wanted = STOPS if mode == "enforce" else (Outcome.OBSERVED,)
        counts = gate.counts()
        found[mode] = Counter({each: sum(counts[each, outcome] for outcome in wanted) for each in ("test", "own")})
    assert found["enforce"] == found["observe"]
    assert found["observe"] == asked
    assert sum(asked.values()) > 200


@pytest.mark.campaign
def test_where_the_numbers_differ_and_why(net: Network, desk: Desk, enforced: Network, tmp_path: Path):
    """What docs/decisions/0017 says cannot be equal."""
    policy, found = desk.policy.read_text(), []
    for mode in ("enforce", "observe"):
        desk.policy.write_text(f"{policy}mode: {mode}\n")
        gate = net.gate(desk.policy, tmp_path / mode, address=GATEWAY_ADDRESS)
        door = Door(enforced, "regular", gate.port, gate.ca, net.origin_ca)
        with door.enter(HOST, 80):
            pass  # a tunnel in which nothing is asked for
        with door.enter(HOST, 80) as tunnel:  # several requests in one, of a client that goes on
            for _ in range(3):
                with suppress(OSError):
                    ask(tunnel, get(HOST))
        ambiguous = get(HOST, target=b"http://pass.test/")
        with door.connect() as connection:  # names that disagree are refused, whoever asks
            ask(connection, ambiguous)
        gate.process.end()
        counts = gate.counts()
        found.append({outcome: counts[name, outcome] for name, outcome in counts if counts[name, outcome]})
    assert found == [
        {Outcome.STOPPED: 2},
        {Outcome.OBSERVED: 2, Outcome.REFUSED: 1},
    ]


# A policy that changes


def _talking(door: Door) -> socket.socket:
    """A tunnel to a listed server that speaks first, in use."""
    connection = door.network.client.connect(GATEWAY_ADDRESS, door.port)
    connection.sendall(b"CONNECT %b:22 HTTP/1.1\r\n\r\n" % HOST)
    heard = b""
    while b"SSH-2.0-origin\r\n" not in heard:
        part = connection.recv(100)
        assert part, heard
        heard += part
    return connection


@pytest.mark.parametrize("options", EITHER_WAY)
def test_a_network_that_is_not_observed_any_more_loses_its_tunnels(
    net: Network, desk: Desk, observed: Network, tmp_path: Path, options: tuple[str, ...]
):
    policy = desk.policy.read_text()
    desk.policy.write_text(policy + OBSERVE)
    gate = net.gate(desk.policy, tmp_path / "state", *options, address=GATEWAY_ADDRESS)
    door = Door(observed, "regular", gate.port, gate.ca, net.origin_ca)
    with ExitStack() as stack:
        tunnels = [stack.enter_context(_talking(door)) for _ in range(4)]
        desk.policy.write_text(policy)
        for tunnel in tunnels:
            wait_until(lambda tunnel=tunnel: has_ended(tunnel), "the end of the tunnel")
    assert seen(lambda: _plain(door, HOST, gate.ca)) is View.PAGE
    gate.process.end()
    assert gate.counts()["test", Outcome.OBSERVED] == 4
    assert gate.counts()["test", Outcome.NOT_SHOWN] == 4


@pytest.mark.parametrize("options", EITHER_WAY)
def test_a_network_that_is_observed_from_now_on_passes_and_its_page_is_not_forwarded(
    net: Network, desk: Desk, observed: Network, tmp_path: Path, options: tuple[str, ...]
):
    gate = net.gate(desk.policy, tmp_path / "state", *options, address=GATEWAY_ADDRESS)
    door = Door(observed, "regular", gate.port, gate.ca, net.origin_ca)
    context = ssl.create_default_context(cafile=gate.ca)
    with door.enter(HOST, 443) as tunnel:
        secured = secure(tunnel, HOST.decode(), context)
        desk.policy.write_text(desk.policy.read_text() + OBSERVE)
        wait_until(lambda: seen(lambda: _plain(door, HOST, gate.ca)) is View.ORIGIN, "the policy")
        if options:  # by every worker
            assert all(seen(lambda: _plain(door, HOST, gate.ca)) is View.ORIGIN for _ in range(8))
        before = net.requests()
        secured.sendall(get(HOST))
        assert read_answer(secured).startswith(b"HTTP/1.1 503 ")
        assert net.requests() == before
    with _talking(door):
        pass
    gate.process.end()


# A new version beside the enforced one


def test_a_new_version_is_observed_counted_and_enforced_without_a_restart(
    net: Network, desk: Desk, enforced: Network, tmp_path: Path
):
    before, policy = desk.serial, desk.policy.read_text()
    desk.build(["listed.example", "new.pass.test"], "next.stoplist", serial=before + 1)
    beside = policy.replace(
        "stop_page:\n", SECOND.replace("own.", "next.").replace("stop_page:\n", "    mode: observe\nstop_page:\n")
    )
    desk.policy.write_text(beside)
    gate = net.gate(desk.policy, tmp_path / "state", address=GATEWAY_ADDRESS)
    door = Door(enforced, "regular", gate.port, gate.ca, net.origin_ca)

    def what_becomes_of(host: bytes) -> View:
        return seen(lambda: _plain(door, host, gate.ca))

    assert [what_becomes_of(host) for host in (HOST, b"new.pass.test")] == [View.PAGE, View.ORIGIN]
    gate.process.end()
    assert gate.counts() == {
        ("test", Outcome.STOPPED): 1,
        ("test", Outcome.OBSERVED): 1,
        ("test", Outcome.NOT_SHOWN): 0,
        (None, Outcome.PASSED): 0,
        (None, Outcome.REFUSED): 0,
    }

    # After a restart as well the enforced one is not older than what was seen; then files are swapped.
    gate = net.gate(desk.policy, tmp_path / "state", address=GATEWAY_ADDRESS)
    door = Door(enforced, "regular", gate.port, gate.ca, net.origin_ca)
    assert "refused" not in gate.log()
    assert [what_becomes_of(host) for host in (HOST, b"new.pass.test")] == [View.PAGE, View.ORIGIN]
    (desk.folder / "next.stoplist").replace(desk.list)
    desk.policy.write_text(policy)
    wait_until(lambda: what_becomes_of(b"new.pass.test") is View.PAGE, "the new version")
    assert what_becomes_of(HOST) is View.PAGE
    desk.build(["listed.example"], "old.stoplist", serial=before).replace(desk.list)
    gate.process.wait_for(f"serial {before} is older than {before + 1}")
    assert what_becomes_of(b"new.pass.test") is View.PAGE
    gate.process.end()
