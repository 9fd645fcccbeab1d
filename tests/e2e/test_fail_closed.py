"""Promise 5: whatever breaks, the request is refused, a counter rises, and nothing leaks.

A fault is raised at the start of every function that a request can come through, and at every line of the
add-on's hooks, one place after the other, while requests of all kinds come in.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.e2e.conftest import REDIRECTED
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, Gate, Network, wait_until
from tests.e2e.ways import PAGE, Door, RefusedError, View, ask, ask_inside_tls, get, seen

PORTS = {"regular": 8280, "socks5": 1280, "transparent": 8281}
MODULES = {
    *("addresses", "client_hello", "conversations", "decide", "digests", "heads", "hosts", "openings"),
    *("answers", "asker", "certificates", "refusals"),
    *("epoll", "lane", "listener", "relay", "tunnel"),
    *("addon", "hook_guard", "lane_mode", "request_checks", "tls_settings"),
    *("connection_hooks", "hook_context", "request_hooks", "tls_hooks"),
    *("dns_layer", "first_layers", "http_layer", "next_layers"),
    *("background_tasks", "connector", "judge", "open_connections", "verdict_counter"),
}
"""What a request comes through. Other modules are at work as well, at their own pace."""
GUARDS = {
    # They hold when something else breaks, and cannot be broken themselves without breaking Python.
    *(
        "hook_guard:guarded.<locals>.decorate.<locals>.guarded",
        "fail_closed:Guarded.handle_event",
        "fail_closed:Guarded.__init__",
    ),
    "lane:Lane._give_up_late",  # a timer's, whenever a request comes
    *("hook_context:HookContext.count_fault", "http_layer:answer", "http_layer:response", "refusals:refusal"),
    *("log_allowlist:Faults.add", "hook_guard:refuse_client", "hook_guard:refuse_layer", "hook_guard:refuse_flow"),
    *("hook_guard:refuse_tls", "hook_guard:kill_flow"),
    *("hook_guard:refuse_connection", "next_layers:Refused._handle_event"),
}
AFTER = {
    *("tunnel:Tunnel._ended", "tunnel:Tunnel._forget", "epoll:_Epoll.close", "epoll:_Epoll.remove_reader"),
    *("connector:Opened.close", "epoll:_Epoll._remove", "relay:Relay.end", "relay:_Way._end"),
    "conversations:TlsConversation.held_back",  # asked for when the server has ended
    "conversations:TlsConversation.client_ended",  # these clients end when they have their answer
    "connector:Outbound._answered",  # forgets a lookup that has ended, whatever came of it
    *(
        "connection_hooks:ConnectionHooks.client_disconnected",
        "dns_layer:Dns._close",
        "dns_layer:Dns._done",
        "open_connections:close_left",
    ),
}
"""What the end of a tunnel comes through, after all was answered."""
PLACE_SIZE = 256
NO_ANSWER_SECONDS = 3.0
"""After this long without an answer, a request that met a fault is taken to get none."""
TIMES = 1
"""In how many ways of the requests below a place is broken, for each host."""


@dataclass
class Faulty:
    """A gate in which faults can be raised."""

    net: Network
    gate: Gate
    place: Path
    fired: Path

    def door(self, mode: str, seconds: float = SECONDS) -> Door:
        return Door(self.net, mode, PORTS[mode], self.gate.ca, self.net.origin_ca, seconds)

    def at(self, place: str) -> None:
        """Raise a fault at a place from now on."""
        with self.place.open("r+b") as file:  # in place: it is mapped into the gate's memory
            file.write(place.encode().ljust(PLACE_SIZE, b"\0"))

    def sockets(self) -> int:
        """How many sockets the gate has open."""
        return sum(_is_socket(file) for file in Path(f"/proc/{self.gate.process.pid}/fd").iterdir())

    def faults(self, place: str) -> int:
        """How often a fault was raised at a place; the gate may write that of another one a moment later."""
        return self.fired.read_text().splitlines().count(f"fault at {place}")

    def record(self, request: Callable[[], View]) -> tuple[View, list[str]]:
        """What a request leads to, and the functions and lines of hooks that it comes through."""
        before = self.fired.stat().st_size
        self.at("record")
        result = request()
        self.at("")
        places = dict.fromkeys(self.fired.read_text()[before:].splitlines())
        hooks = {
            line
            for line in places
            if re.fullmatch(r"(addon|connection_hooks|hook_context|request_hooks|tls_hooks):\d+", line)
        }
        functions = {place for place in places if re.search(r":[A-Za-z_]", place) and place.split(":")[0] in MODULES}
        return result, [place for place in places if place in hooks | functions - GUARDS]


@pytest.fixture(scope="module")
def faulty(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    folder = tmp_path_factory.mktemp("faulty")
    place, fired = folder / "place", folder / "fired"
    place.write_bytes(bytes(PLACE_SIZE))
    fired.touch()
    gate = net.gate(
        first_desk.policy,
        folder / "state",
        *(option for mode, port in PORTS.items() for option in ("--mode", f"{mode}@{GATEWAY_ADDRESS}:{port}")),
        address=GATEWAY_ADDRESS,
        program=(sys.executable, str(Path(__file__).parent / "faulty.py"), str(place), str(fired)),
    )
    with net.redirect([*REDIRECTED, 53], PORTS["transparent"]):
        yield Faulty(net, gate, place, fired)
    gate.process.end()


def _is_socket(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith("socket:")
    except FileNotFoundError:  # it was closed in the meantime
        return False


def _plain(door: Door, host: bytes) -> bytes:
    with door.connect() as connection:
        return ask(connection, get(host, target=b"http://" + host + b"/"))


def _plain_in_tunnel(door: Door, host: bytes) -> bytes:
    with door.enter(host, 80) as tunnel:
        return ask(tunnel, get(host))


def _tls(door: Door, host: bytes) -> bytes:
    trust = door.ca if b"listed" in host else door.outer
    with door.enter(host, 443) as tunnel:
        return ask_inside_tls(tunnel, host.decode(), trust, get(host, more=b"Connection: close\r\n"))


def _dns_over_tcp(door: Door, host: bytes) -> bytes:
    """What a browser with this answer would go on to see."""
    query = dns.message.make_query(host.decode(), "A")
    try:
        answer = door.network.client.call(lambda: dns.query.tcp(query, ORIGIN_ADDRESS, timeout=door.seconds))
    except (EOFError, dns.exception.DNSException):
        raise RefusedError from None
    if answer.rcode() == dns.rcode.NXDOMAIN:
        return b"HTTP/1.1 403\r\n\r\n" + PAGE
    return b"origin " if answer.answer else b""


WAYS: tuple[tuple[str, Callable[[Door, bytes], bytes]], ...] = (
    ("regular", _plain),
    ("regular", _plain_in_tunnel),
    ("regular", _tls),
    ("socks5", _plain_in_tunnel),
    ("socks5", _tls),
    ("transparent", _plain_in_tunnel),
    ("transparent", _tls),
    ("transparent", _dns_over_tcp),
)


@pytest.mark.parametrize("place", ["first_layers:Continued.__init__", "lane_mode:_top_layer"])
def test_what_cannot_be_handed_over_is_closed(faulty: Faulty, place: str):
    before, fired = faulty.sockets(), faulty.faults(place)
    faulty.at(place)
    assert seen(lambda: _plain_in_tunnel(faulty.door("regular"), b"www.pass.test")) is View.REFUSED
    faulty.at("")
    assert faulty.faults(place) > fired
    wait_until(lambda: faulty.sockets() <= before, "neither the client nor the server stays connected")


@pytest.mark.campaign
def test_a_fault_at_any_place_refuses_the_request(faulty: Faulty):
    queries = len(faulty.net.queries())
    broken: Counter[tuple[str, bytes]] = Counter()
    for mode, way in WAYS:
        for host, usual in ((b"www.pass.test", View.ORIGIN), (b"www.listed.test", View.PAGE)):

            def request(
                seconds: float, mode: str = mode, way: Callable[[Door, bytes], bytes] = way, host: bytes = host
            ) -> View:
                return seen(lambda: way(faulty.door(mode, seconds), host))

            result, places = faulty.record(lambda: request(SECONDS))
            assert result is usual
            for place in places:
                if broken[place, host] >= TIMES:
                    continue
                before = faulty.faults(place)
                faulty.at(place)
                result = request(NO_ANSWER_SECONDS)
                faulty.at("")
                if faulty.faults(place) > before:  # what is cached is not reached twice
                    may_pass = place in AFTER
                    assert result is not View.ORIGIN or may_pass, (
                        f"a fault at {place} let {mode} {way.__name__} {host} pass"
                    )
                    broken[place, host] += 1
                after = request(SECONDS)
                assert after is usual, (
                    f"a fault at {place} is not over: {mode} {way.__name__} {host} {after}\n{faulty.gate.log()}"
                )
            assert request(SECONDS) is usual
    assert len(broken) > 150
    assert not any("listed" in query for query in faulty.net.queries()[queries:])
    faulty.gate.process.end()
    assert "(InjectedError); the gate refused the requests or connections concerned" in faulty.gate.log()
    for word in ("pass.test", "listed.test", "192.0.2", "198.51.100.2", "Traceback"):
        assert word not in faulty.gate.log()
