"""Outbound: connections go to addresses that were judged, and to no other.

A real event loop and real listening sockets on loopback; only names are resolved by the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import secrets
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from types import FunctionType, ModuleType
from typing import Any

import pytest

from stoplist.core.decide import Action, Reason, Verdict
from stoplist.proxy.judge import Judge
from stoplist.proxy.log.log_allowlist import Faults
from stoplist.proxy.outbound import connector
from stoplist.proxy.outbound.connector import Outbound, search_domains
from stoplist.proxy.reload.ruleset_store import InForce
from tests.e2e.network import SECONDS
from tests.rulesets import page_of, ruleset, signed

NOTHING: dict[str, list[str]] = {}
ONE = {"allow": ["127.0.0.1/32"]}
LOOPBACK = {"allow": ["127.0.0.0/8", "::1/128"]}


LONG = 30.0
"""More seconds than two connections take on any machine, and less than a test may."""


class Names(asyncio.SelectorEventLoop):
    """An event loop that resolves only the names it was told, and addresses. Its clock is so many seconds `ahead`."""

    ahead = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[bytes, list[str]] = {}
        self.asked: list[bytes] = []

    def time(self) -> float:
        return super().time() + self.ahead

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        name = host if isinstance(host, bytes) else str(host).encode()
        self.asked.append(name)
        if name in self.names:
            found = []
            for address in self.names[name]:
                found += await super().getaddrinfo(address, port, **options)
            return found
        try:
            ip_address(name.decode())
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return await super().getaddrinfo(host, port, **options)


@dataclass
class Store:
    current: InForce


@dataclass
class Counted:
    """A counter that remembers."""

    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict, *, page: bool = False) -> None:
        assert not page
        self.verdicts.append(verdict)


@dataclass
class Gate:
    outbound: Outbound
    judge: Judge
    counted: list[Verdict]
    loop: Names


@contextlib.asynccontextmanager
async def installed(
    upstream: dict[str, list[str]],
    *,
    listening: Callable[[], Collection[tuple[str, int]]] = tuple,
    trusted: Collection[tuple[str, int]] = (),
    names: dict[str, list[str]] | None = None,
    search: Collection[str] = (),
) -> AsyncIterator[Gate]:
    """The running loop, with its connections judged by a policy with `upstream`."""
    rules = ruleset(signed("listed.example"), upstream=upstream)
    judge, counted, loop = Judge(), Counted(), asyncio.get_running_loop()
    assert isinstance(loop, Names)
    judge.store = Store(InForce(rules, page_of(rules.policy)))
    judge.counter = counted
    loop.names = {name.encode(): addresses for name, addresses in (names or {}).items()}
    connector = Outbound(judge, Faults(), listening, search)
    connector.trust(trusted)
    connector.install(loop)
    try:
        yield Gate(connector, judge, counted.verdicts, loop)
    finally:
        connector.remove()


def run[T](main: Callable[[], Awaitable[T]]) -> T:
    async def timed() -> T:
        async with asyncio.timeout(SECONDS):
            return await main()

    with asyncio.Runner(loop_factory=Names) as runner:
        return runner.run(timed())


class Listener:
    """A port on one address that takes connections and does nothing with them."""

    def __init__(self, address: str, port: int = 0, backlog: int = 16) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.create_server((address, port), family=family, backlog=backlog)
        self.socket.setblocking(False)
        self.address, self.port = self.socket.getsockname()[:2]
        self._fillers: list[socket.socket] = []

    def contacts(self) -> list[str]:
        """From where somebody has connected since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, peer = self.socket.accept()
                connection.close()
                found.append(peer[0])
        return found

    def fill(self) -> None:
        """Let nobody in any more: further connections get no answer."""
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.address, self.port))
            self._fillers.append(filler)

    def close(self) -> None:
        for filler in self._fillers:
            filler.close()
        self.socket.close()


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    with contextlib.ExitStack() as stack:

        def listen(address: str, port: int = 0, backlog: int = 16) -> Listener:
            try:
                listener = Listener(address, port, backlog)
            except OSError as error:
                if ":" in address:
                    pytest.skip(f"no IPv6 here: {error}")
                raise
            stack.callback(listener.close)
            return listener

        yield listen


type Listen = Callable[..., Listener]


@pytest.fixture
def pair(listen: Listen) -> tuple[Listener, Listener]:
    """The same port on 127.0.0.1 and 127.0.0.2."""
    for _ in range(20):
        one = listen("127.0.0.1")
        try:
            return one, listen("127.0.0.2", one.port)
        except OSError as error:
            assert error.errno == errno.EADDRINUSE  # noqa: PT017  a port that somebody else has on 127.0.0.2
    raise AssertionError("no port is free on both")


async def connect(host: str, port: int, **options: Any) -> str:
    """Connect as mitmproxy does; the address that it went to."""
    _, writer = await asyncio.open_connection(host, port, **options)
    peer: str = writer.get_extra_info("peername")[0]
    writer.close()
    await writer.wait_closed()
    return peer


# What is denied


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("127.0.0.1.", id="with a trailing dot"),
        pytest.param("0x7f.1", id="in hexadecimal, short"),
        pytest.param("0177.0.0.1", id="in octal"),
        pytest.param("2130706433", id="in one part"),
        pytest.param("１２７.0.0.1", id="full-width"),
        pytest.param("0.0.0.0", id="unspecified, which Linux takes for loopback"),
        pytest.param("::1", id="IPv6"),
        pytest.param("[::1]", id="IPv6 in brackets"),
        pytest.param("::", id="IPv6, unspecified"),
        pytest.param("::ffff:127.0.0.1", id="mapped"),
        pytest.param("[::ffff:7f00:1]", id="mapped, in hexadecimal"),
        pytest.param("::127.0.0.1", id="compatible"),
        pytest.param("64:ff9b::7f00:1", id="NAT64"),
        pytest.param("localhost", id="a name"),
        pytest.param("LOCALHOST.", id="a name in another spelling"),
        pytest.param("mapped.test", id="a name for a mapped address"),
        pytest.param("metadata.test", id="a name for a metadata service"),
        pytest.param("all.test", id="a name for several addresses, all denied"),
    ],
)
def test_a_denied_address_is_never_connected_to_whatever_names_it(host: str, listen: Listen) -> None:
    listener = listen("127.0.0.1")
    names = {
        "localhost": ["127.0.0.1"],
        "mapped.test": ["::ffff:127.0.0.1"],
        "metadata.test": ["169.254.169.254"],
        "all.test": ["127.0.0.1", "127.0.0.2", "::1"],
    }

    async def main() -> list[Verdict]:
        async with installed(NOTHING, names=names) as gate:
            with pytest.raises(PermissionError) as caught:
                await connect(host, listener.port)
            assert str(caught.value).endswith(Reason.DENIED)
            return gate.counted

    assert [(verdict.action, verdict.reason) for verdict in run(main)] == [(Action.REFUSE, Reason.DENIED)]
    assert listener.contacts() == []


def test_what_the_policy_allows_is_connected_to(listen: Listen) -> None:
    listener = listen("127.0.0.1")

    async def main() -> list[str]:
        async with installed(ONE, names={"one.test": ["127.0.0.1"]}) as gate:
            found = [await connect(host, listener.port) for host in ("127.0.0.1", "0x7f.1", "one.test", "ONE.test.")]
            assert gate.counted == []
            return found

    assert run(main) == ["127.0.0.1"] * 4
    assert len(listener.contacts()) == 4


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["127.0.0.2", "127.0.0.1"], id="the denied one first"),
        pytest.param(["127.0.0.1", "127.0.0.2"], id="the denied one last"),
        pytest.param(["::1", "127.0.0.2", "127.0.0.1", "::ffff:127.0.0.2"], id="several denied"),
    ],
)
def test_of_the_addresses_of_a_name_only_the_permitted_are_tried(
    addresses: list[str], pair: tuple[Listener, Listener]
) -> None:
    permitted, denied = pair

    async def main() -> str:
        async with installed(ONE, names={"both.test": addresses}):
            return await connect("both.test", permitted.port)

    assert run(main) == "127.0.0.1"
    assert len(permitted.contacts()) == 1
    assert denied.contacts() == []


def test_a_permitted_address_that_refuses_is_no_reason_to_try_a_denied_one(pair: tuple[Listener, Listener]) -> None:
    permitted, denied = pair
    permitted.close()

    async def main() -> None:
        async with installed(ONE, names={"both.test": ["127.0.0.1", "127.0.0.2"]}):
            with pytest.raises(ConnectionRefusedError):
                await connect("both.test", denied.port)

    run(main)
    assert denied.contacts() == []


def test_a_name_that_is_bound_anew_leads_nowhere_else(
    pair: tuple[Listener, Listener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: what was judged is what is connected to; the name is not asked for again."""
    permitted, denied = pair
    monkeypatch.setattr(connector, "RESOLVED_SECONDS", LONG)

    class Rebinding(dict[bytes, list[str]]):
        def __getitem__(self, name: bytes) -> list[str]:
            addresses = super().__getitem__(name)
            self[name] = ["127.0.0.2"]
            return addresses

    async def main() -> list[bytes]:
        async with installed(ONE) as gate:
            gate.loop.names = Rebinding({b"rebinding.test": ["127.0.0.1"]})
            assert await connect("rebinding.test", permitted.port) == "127.0.0.1"
            assert await connect("rebinding.test", permitted.port) == "127.0.0.1"
            asked = list(gate.loop.asked)
            gate.loop.ahead += LONG + 0.1
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            with pytest.raises(PermissionError):
                await connect("rebinding.test", permitted.port)
            return asked

    assert run(main).count(b"rebinding.test") == 1
    assert denied.contacts() == []


def held(root: object, *, without: Collection[object]) -> Iterator[object]:
    """All that an object holds, and what that holds in turn, but for classes, functions and modules: whatever it is."""
    seen, waiting = {id(each) for each in without}, [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | FunctionType | ModuleType):
            continue
        seen.add(id(each))
        yield each
        waiting += gc.get_referents(each)


def tells(each: object, name: str, address: str) -> bool:
    """Whether an object is, or has in it, a name or an address."""
    if isinstance(each, IPv4Address):
        return str(each) == address
    text = each.decode("latin-1") if isinstance(each, bytes) else each
    return isinstance(text, str) and (name in text or address in text)


@pytest.mark.parametrize(
    ("policy", "resolves"),
    [
        pytest.param({"allow": ["127.0.0.0/8"]}, True, id="connected to"),
        pytest.param(NOTHING, True, id="denied"),
        pytest.param(NOTHING, False, id="not found"),
    ],
)
@pytest.mark.parametrize("seconds", [1, 5.1], ids=["before", "after"])
def test_what_a_name_resolved_to_is_forgotten_after_five_seconds(
    policy: dict[str, list[str]], resolves: bool, seconds: float, listen: Listen
) -> None:
    name, address = f"x{secrets.token_hex(8)}.test", "127.66.77.88"
    listener = listen(address)

    async def ask(gate: Gate) -> None:
        with contextlib.suppress(OSError):
            (await gate.outbound.open(name, listener.port)).close()

    async def main() -> tuple[bool, int]:
        async with installed(policy, names={name: [address]} if resolves else {}) as gate:
            await ask(gate)
            gate.loop.ahead += seconds
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            without = (gate.loop.names, gate.loop.asked, asyncio.current_task())
            is_held = any(tells(each, name, address) for each in held(gate.outbound, without=without))
            await ask(gate)
            return is_held, gate.loop.asked.count(name.encode())

    is_kept = resolves and seconds < connector.RESOLVED_SECONDS
    assert run(main) == (is_kept, 1 if is_kept else 2)


def test_a_name_that_is_asked_for_at_any_moment_of_an_answer_is_no_fault() -> None:
    """Somebody may ask between the end of a look-up and when that is noted."""

    async def main() -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        async with installed(NOTHING) as gate:
            asking = []
            for _ in range(50):
                asking.append(asyncio.ensure_future(gate.outbound.open("gone.test", 443)))
                await asyncio.sleep(0)
            for each in asking:
                with pytest.raises(OSError, match="no address"):
                    await each
        return faults

    assert run(main) == []


def test_a_changed_policy_is_followed_at_once(listen: Listen) -> None:
    listener = listen("127.0.0.1")

    async def main() -> None:
        async with installed(ONE) as gate:
            await connect("127.0.0.1", listener.port)
            rules = ruleset(signed("listed.example"))
            gate.judge.store = Store(InForce(rules, page_of(rules.policy)))
            with pytest.raises(PermissionError):
                await connect("127.0.0.1", listener.port)

    run(main)
    assert len(listener.contacts()) == 1


def test_without_a_ruleset_nothing_is_connected(listen: Listen) -> None:
    listener = listen("127.0.0.1")

    async def main() -> None:
        async with installed(LOOPBACK) as gate:
            gate.judge.store = None
            with pytest.raises(OSError, match="gate"):
                await connect("127.0.0.1", listener.port)

    run(main)
    assert listener.contacts() == []


def test_a_name_is_resolved_as_the_web_reads_it() -> None:
    """Python's own codec would ask for fass.test, another host."""

    async def main() -> list[bytes]:
        async with installed(NOTHING) as gate:
            for host in ("FAß.test", "bücher.test."):
                with pytest.raises(socket.gaierror):
                    await connect(host, 443)
            return gate.loop.asked

    assert run(main) == [b"xn--fa-hia.test", b"xn--bcher-kva.test"]


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("", id="nothing"),
        pytest.param("user@h.test", id="userinfo"),
        pytest.param("h.test/", id="a path"),
        pytest.param("h.test\0", id="NUL"),
        pytest.param("fe80::1%eth0", id="a zone id"),
        pytest.param("a" * 5000, id="too long"),
    ],
)
def test_what_is_no_host_is_not_resolved(host: str) -> None:
    async def main() -> list[bytes]:
        async with installed(NOTHING) as gate:
            with pytest.raises(OSError, match="host"):
                await connect(host, 443)
            return gate.loop.asked

    assert run(main) == []


# The gate itself


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="its address"),
        pytest.param("0x7f.1", "127.0.0.1", id="its address in hexadecimal"),
        pytest.param("127.0.0.2", "127.0.0.2", id="another loopback address"),
        pytest.param("::1", "::1", id="IPv6"),
        pytest.param("::ffff:127.0.0.1", "127.0.0.1", id="mapped"),
        pytest.param("0.0.0.0", "127.0.0.1", id="unspecified"),
        pytest.param("gate.test", "127.0.0.1", id="a name"),
    ],
)
def test_the_gate_never_connects_to_itself_even_where_the_policy_allows_it(
    host: str, bound: str, listen: Listen
) -> None:
    listener = listen(bound)
    upstream = {"allow": ["127.0.0.0/8", "::1/128", "0.0.0.0/8"]}

    async def main() -> None:
        names = {"gate.test": ["127.0.0.1"]}
        async with installed(upstream, listening=lambda: [(bound, listener.port)], names=names) as gate:
            with pytest.raises(PermissionError):
                await connect(host, listener.port)
            assert [verdict.reason for verdict in gate.counted] == [Reason.DENIED]

    run(main)
    assert listener.contacts() == []


def test_another_port_of_the_same_machine_is_not_the_gate(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "OWN_SECONDS", 0.05)
    listener = listen("127.0.0.1")
    own: set[tuple[str, int]] = set()

    async def main() -> None:
        async with installed(ONE, listening=lambda: own):
            await connect("127.0.0.1", listener.port)
            own.add(("0.0.0.0", listener.port))  # the gate listens there from now on
            await asyncio.sleep(0.1)
            with pytest.raises(PermissionError):
                await connect("127.0.0.1", listener.port)

    run(main)
    assert len(listener.contacts()) == 1


def test_the_gates_port_on_another_machine_is_not_the_gate() -> None:
    async def main() -> tuple[bool, bool]:
        async with installed(NOTHING, listening=lambda: [("0.0.0.0", 8080)]) as gate:
            others = ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1")
            return (
                all(gate.outbound.permit(ip_address(address), 8080) for address in others),
                all(gate.outbound.permit_resolver((address, 8080)) for address in others),
            )

    assert run(main) == (True, True)


def test_the_gate_knows_its_machine_by_each_of_its_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]

    async def main() -> tuple[bool, bool, bool]:
        async with installed({"allow": [own]}, listening=lambda: [("0.0.0.0", 8080)]) as gate:
            return (
                gate.outbound.permit(ip_address(own), 8080),
                gate.outbound.permit(ip_address(f"::ffff:{own}"), 8080),
                gate.outbound.permit(ip_address(own), 8081),
            )

    assert run(main) == (False, False, True)


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        pytest.param(("127.0.0.53", 53), True, id="a resolver on this machine"),
        pytest.param(
            ("127.0.0.53", 54), True, id="a resolver on this machine, at the port of the gate's other address"
        ),
        pytest.param(("::1", 53), True, id="a resolver on this machine, IPv6"),
        pytest.param(("192.0.2.53", 5353), True, id="a resolver elsewhere at the gate's port"),
        pytest.param(("127.0.0.1", 5353), False, id="the gate"),
        pytest.param(("::1", 5353), False, id="the gate, IPv6"),
        pytest.param(("0.0.0.0", 5353), False, id="the gate, unspecified"),
        pytest.param(("::ffff:127.0.0.1", 5353), False, id="the gate, mapped"),
    ],
)
def test_queries_go_to_any_resolver_but_the_gate(address: tuple[str, int], permitted: bool) -> None:
    async def main() -> bool:
        async with installed(NOTHING, listening=lambda: [("0.0.0.0", 5353), ("::", 5353), ("127.0.0.1", 54)]) as gate:
            return gate.outbound.permit_resolver(address)

    assert run(main) is permitted


# What the operator trusts


def test_what_the_operator_forwards_to_may_be_anywhere(listen: Listen) -> None:
    listener = listen("127.0.0.1")
    trusted = [("parent.test", listener.port), ("127.0.0.1", listener.port)]

    async def main() -> list[str]:
        async with installed(NOTHING, trusted=trusted, names={"parent.test": ["127.0.0.1"]}):
            return [await connect(host, listener.port) for host in ("parent.test", "127.0.0.1")]

    assert run(main) == ["127.0.0.1", "127.0.0.1"]


def test_what_the_operator_forwards_to_is_a_host_and_a_port(pair: tuple[Listener, Listener], listen: Listen) -> None:
    parent, neighbour = pair
    another = listen("127.0.0.1")
    names = {"parent.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}

    async def main() -> None:
        async with installed(NOTHING, trusted=[("parent.test", parent.port)], names=names):
            for host, port in (
                ("parent.test", another.port),
                ("other.test", parent.port),
                ("127.0.0.1", parent.port),
                ("127.0.0.2", parent.port),
            ):
                with pytest.raises(PermissionError):
                    await connect(host, port)

    run(main)
    assert parent.contacts() == neighbour.contacts() == another.contacts() == []


# Connecting


@pytest.mark.parametrize("first", [pytest.param("silent", id="does not answer"), pytest.param("closed", id="refuses")])
def test_where_the_first_address_fails_the_second_is_used(
    first: str, pair: tuple[Listener, Listener], listen: Listen
) -> None:
    failing, working = pair
    port = failing.port
    failing.close()
    if first == "silent":
        listen("127.0.0.1", port, backlog=0).fill()

    async def main() -> str:
        async with installed(LOOPBACK, names={"two.test": ["127.0.0.1", "127.0.0.2"]}):
            return await connect("two.test", port)

    assert run(main) == "127.0.0.2"  # and no connection may take longer than all of this
    assert len(working.contacts()) == 1


def test_where_the_first_address_works_the_second_is_left_alone(pair: tuple[Listener, Listener]) -> None:
    first, second = pair

    async def main() -> str:
        async with installed(LOOPBACK, names={"two.test": ["127.0.0.1", "127.0.0.2"]}):
            return await connect("two.test", first.port)

    assert run(main) == "127.0.0.1"
    assert second.contacts() == []


def test_a_connection_comes_from_the_address_that_was_asked_for(listen: Listen) -> None:
    listener = listen("127.0.0.1")

    async def main() -> None:
        async with installed(ONE):
            await connect("127.0.0.1", listener.port, local_addr=("127.0.0.5", 0))

    run(main)
    assert listener.contacts() == ["127.0.0.5"]


def test_a_connection_carries_bytes_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server, installed(ONE, names={"echo.test": ["127.0.0.1"]}):
            reader, writer = await asyncio.open_connection("echo.test", server.sockets[0].getsockname()[1])
            writer.write(b"one line\n")
            data = await reader.read()
            writer.close()
            await writer.wait_closed()
            return data

    assert run(main) == b"one line\n"


# Errors


def all_of(error: BaseException) -> str:
    """All that a log or a crash report could show of an error."""
    return f"{error} {error!r} {error.args!r} {''.join(traceback.format_exception(error))}"


@pytest.mark.parametrize(
    ("host", "hidden"),
    [
        pytest.param("seen-by-nobody.test", "seen-by-nobody", id="a name that does not exist"),
        pytest.param("seen-by-nobody-too.test", "seen-by-nobody", id="a denied name"),
        pytest.param("seen-by-nobody@h.test", "seen-by-nobody", id="no host"),
        pytest.param("127.0.0.9", "127.0.0.9", id="a denied address"),
        pytest.param("127.0.0.1", "127.0.0.1", id="an address that refuses"),
        pytest.param("closed.test", "127.0.0.1", id="a name whose address refuses"),
        pytest.param("two.test", "127.0.0", id="a name whose addresses all refuse"),
    ],
)
def test_an_error_never_shows_the_host_or_its_address(host: str, hidden: str, listen: Listen) -> None:
    closed = listen("127.0.0.1")
    closed.close()
    names = {
        "seen-by-nobody-too.test": ["127.0.0.9"],
        "closed.test": ["127.0.0.1"],
        "two.test": ["127.0.0.1", "127.0.0.3"],
    }

    async def main() -> str:
        async with installed({"allow": ["127.0.0.1", "127.0.0.3"]}, names=names):
            with pytest.raises(OSError) as caught:  # noqa: PT011  the message is what is asserted
                await connect(host, closed.port)
            return all_of(caught.value)

    assert hidden not in run(main)


# Coming and going


def test_once_removed_the_loop_connects_as_before(listen: Listen) -> None:
    listener = listen("127.0.0.1")

    async def main() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        before = loop.create_connection
        async with installed(NOTHING):
            assert loop.create_connection != before
            with pytest.raises(PermissionError):
                await connect("127.0.0.1", listener.port)
        await connect("127.0.0.1", listener.port)
        return before, loop.create_connection

    before, after = run(main)
    assert before == after
    assert len(listener.contacts()) == 1


def test_removing_what_was_not_installed_does_nothing() -> None:
    async def main() -> None:
        async with installed(NOTHING) as gate:
            gate.outbound.remove()
            gate.outbound.remove()
        Outbound(Judge(), Faults(), tuple).remove()

    run(main)


# Names that the system's resolver completes


@pytest.mark.parametrize(
    ("name", "search", "stopped"),
    [
        pytest.param("listed", ["example"], True, id="completed to a listed name"),
        pytest.param("www.listed", ["other.example", "example"], True, id="by the second search domain"),
        pytest.param("other", ["example"], False, id="completed to an unlisted name"),
        pytest.param("other.example", ["listed.example"], False, id="by a search domain that is listed itself"),
    ],
)
def test_a_name_that_the_resolver_would_complete_to_a_listed_one_is_refused(
    name: str, search: list[str], stopped: bool, listen: Listen
) -> None:
    listener = listen("127.0.0.1")

    async def main() -> None:
        async with installed(ONE, names={name: ["127.0.0.1"]}, search=search) as gate:
            if not stopped:
                await connect(name, listener.port)
                return
            with pytest.raises(PermissionError):
                await connect(name, listener.port)
            assert [verdict.action for verdict in gate.counted] == [Action.STOP]

    run(main)
    assert bool(listener.contacts()) is not stopped


def test_search_domains_are_read_as_the_system_reads_them() -> None:
    assert all(domain and not domain.endswith(".") for domain in search_domains())


def test_no_repr_shows_where_a_connection_leads() -> None:
    shown = repr(connector._literal("192.0.2.7")) + repr(connector.Opened("secret.test", 443, None))
    assert "secret" not in shown
    assert "192.0.2" not in shown
