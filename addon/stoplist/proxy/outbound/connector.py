"""Outbound: makes every TCP connection of the gate to a server, and judges the address to which it connects.

A name can lead anywhere: it may resolve to a public address at one moment, and to 127.0.0.1 at the next. So the gate
resolves a name once, judges each address, and connects to a judged address (RFC 8305, by the aiohappyeyeballs
library). It does not resolve the name again for the connection.

Rules
  - The gate leaves out addresses that `upstream` of the policy denies. If none is left, it does not connect.
  - It denies the addresses at which it listens itself, even if the policy allows them: it never connects to itself.
  - A proxy to which the operator forwards (a parent proxy) may have any address.
  - The system's resolver completes short names with its search domains: no completed name may be listed.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple

import aiohappyeyeballs
import dns.name
import dns.resolver

from stoplist.core.addresses import Address, forms
from stoplist.core.decide import DENIED, Action, Reason
from stoplist.core.hosts import Host, HostError
from stoplist.proxy.judge import Judge
from stoplist.proxy.log.log_allowlist import Faults

CONNECT_SECONDS = 60.0
"""How long resolving and connecting may take together."""
RESOLVED_SECONDS = 5.0
"""How long the gate uses the addresses of a name again: the load of one page asks many times for few names.

The system's resolver does not tell the TTL.
"""
OWN_SECONDS = 1.0
"""How long the gate caches the list of addresses at which it listens."""
HAPPY_EYEBALLS_SECONDS = 0.25
"""How long the gate tries one address alone (RFC 8305, section 5)."""


NO_ADDRESS = "the name has no address"
OWN_ADDRESS = "the gate itself"
"""Texts of errors. mitmproxy keeps nothing of an error but its text."""

type _AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""Family, type, protocol, canonical name, socket address."""


class _Found(NamedTuple):
    """An address of a host, as `getaddrinfo` found it for port 0."""

    address: Address
    family: int
    kind: int
    protocol: int
    socket_address: tuple[Any, ...]

    def at(self, port: int) -> _AddressInfo:
        text, _, *rest = self.socket_address
        return self.family, self.kind, self.protocol, "", (text, port, *rest)

    def __repr__(self) -> str:
        return "_Found(...)"


class DeniedError(PermissionError):
    """The gate may connect to no address of this host. The refusal was counted."""

    def __init__(self) -> None:
        super().__init__(Reason.DENIED.value)


class OwnAddressError(DeniedError):
    """The host is the gate itself. The refusal was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.args = (f"{Reason.DENIED.value}: {OWN_ADDRESS}",)


class NoAddressError(socket.gaierror):
    """The name of the host has no address."""

    def __init__(self) -> None:
        super().__init__(NO_ADDRESS)


@dataclass(slots=True, repr=False)
class Opened:
    """An open connection to a host. The next code in its context that connects to that host gets it."""

    host: str
    port: int
    connection: socket.socket | None

    def take(self, host: str | None, port: int | None) -> socket.socket | None:
        if (host, port) != (self.host, self.port):
            return None
        connection, self.connection = self.connection, None
        return connection

    def close(self) -> None:
        """Close the connection if nothing took it."""
        if self.connection is not None:
            self.connection.close()


_opened: ContextVar[Opened | None] = ContextVar("opened", default=None)


@contextmanager
def handing_over(opened: Opened) -> Iterator[None]:
    """A task that is created in this context may take `opened`."""
    token = _opened.set(opened)
    try:
        yield
    finally:
        _opened.reset(token)


class Outbound:
    """Replaces the `create_connection` of an event loop.

    `listening` gives the (address, port) at which the gate listens. `trusted` are the (host, port) to which the
    operator forwards. `search` are the search domains of the system's resolver.
    """

    def __init__(
        self,
        judge: Judge,
        faults: Faults,
        listening: Callable[[], Collection[tuple[str, int]]],
        search: Collection[str] = (),
    ) -> None:
        self._judge = judge
        self._faults = faults
        self._listening = listening
        self._search = search
        self._loop: Any = None
        self._resolved: dict[str, tuple[_Found, ...]] = {}
        self._own: tuple[tuple[str, int], ...] = ()
        self._own_until = 0.0
        self._asked: dict[str, asyncio.Future[tuple[_Found, ...]]] = {}
        self.trusted: frozenset[tuple[str, int]] = frozenset()
        self._trusted_at: dict[tuple[str, int], frozenset[Address]] = {}
        """The addresses of each trusted host, as far as they are known."""

    def trust(self, places: Iterable[tuple[str, int]]) -> None:
        """Let the gate forward to these (host, port), whatever their addresses; clients may not be connected there."""
        self.trusted = frozenset(places)
        self._trusted_at = {}
        for host, port in self.trusted:
            with suppress(ValueError):
                self._trusted_at[host, port] = frozenset(forms(ip_address(host)))

    async def resolve_trusted(self) -> None:
        """Look up the addresses of the trusted hosts, so that they are known whatever a client calls them."""
        for host, port in self.trusted:
            with suppress(OSError):
                await self._resolve(host, port)

    def is_trusted(self, address: Address, port: int | None = None) -> bool:
        """Whether the operator forwards to this address, at this port or at any."""
        return any(
            port in (None, place[1]) and not known.isdisjoint(forms(address))
            for place, known in self._trusted_at.items()
        )

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._create_connection: Any = loop.create_connection
        self._loop.create_connection = self._connect

    def remove(self) -> None:
        if self._loop is not None:
            del self._loop.create_connection
            self._loop = None

    def permit(self, address: Address, port: int) -> bool:
        """Whether the gate may connect a client to this address."""
        if not self._judge.in_force.ruleset.addresses.permit(address):
            return False
        return not self.is_own(address, port) and not self.is_trusted(address, port)

    def permit_resolver(self, address: tuple[str, int]) -> bool:
        """Whether the gate may forward queries to this address: any address but its own."""
        return not self.is_own(ip_address(address[0]), address[1])

    def is_own(self, address: Address, port: int) -> bool:
        """Whether the gate listens at this address."""
        now = self._loop.time()
        if now >= self._own_until:
            self._own, self._own_until = tuple(self._listening()), now + OWN_SECONDS
        places = [ip_address(place) for place, own_port in self._own if own_port == port]
        return any(_is_at(form, place) for place in places for form in forms(address))

    async def _connect(self, protocol: Any, host: str | None = None, port: int | None = None, **options: Any) -> Any:
        if host is None or port is None:
            return await self._create_connection(protocol, host, port, **options)
        opened, local = _opened.get(), options.pop("local_addr", None)
        connection = opened.take(host, port) if opened is not None else None
        if connection is None:
            connection = await self.open(host, port, local)
        return await self._create_connection(protocol, sock=connection, **options)

    def start(self, host: Host, port: int) -> socket.socket | None:
        """A non-blocking socket that connects to a host, if the host has one address only, which is known.

        None where the caller must use `open`. Raises OSError, DeniedError among them.
        """
        found = (_literal(host.address),) if host.is_address else self._resolved.get(host.address, ())
        if len(found) != 1:
            return None
        if not host.is_address:
            self._check_completed(host.address)
        (info,) = self._permitted(found, host.address, port)
        connection = socket.socket(*info[:3])
        connection.setblocking(False)
        error = connection.connect_ex(info[4])
        if error not in (0, errno.EINPROGRESS):
            connection.close()
            raise OSError(error, "the address does not answer")
        return connection

    async def open(self, host: str, port: int, local: tuple[str, int] | None = None) -> socket.socket:
        """A connection to a host, at an address that is permitted. Raises OSError, DeniedError among them."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._open(host, port, local)
        except OSError:
            raise
        except Exception as error:  # mitmproxy handles an OSError only
            self._faults.add("outbound", error)
            raise OSError("a fault of the gate") from None

    async def _open(self, host: str, port: int, local: tuple[str, int] | None) -> socket.socket:
        found = await self._resolve(host, port)
        source = await self._loop.getaddrinfo(*local, type=socket.SOCK_STREAM) if local is not None else None
        try:
            return await aiohappyeyeballs.start_connection(
                found,
                local_addr_infos=source,
                happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
                interleave=1,
                loop=self._loop,
            )
        except OSError as error:  # its text contains the address
            raise OSError(error.errno or errno.EHOSTUNREACH, "no address answers") from None

    async def _resolve(self, host: str, port: int) -> list[_AddressInfo]:
        """The permitted addresses of a host, in the form of `getaddrinfo`. Raises OSError."""
        try:
            name = Host.parse(host)
        except HostError as error:
            raise OSError(error.message) from None
        found = (_literal(name.address),) if name.is_address else await self._look_up(name.address)
        return self._permitted(found, host, port)

    def _permitted(self, found: Collection[_Found], host: str, port: int) -> list[_AddressInfo]:
        """Those of the addresses of a host that are permitted, with the port. Raises DeniedError."""
        if (host, port) in self.trusted:
            self._trusted_at[host, port] = frozenset(form for info in found for form in forms(info.address))
        else:
            permitted = [info for info in found if self.permit(info.address, port)]
            if not permitted:
                self._judge.count(DENIED)
                raise OwnAddressError if any(self.is_own(info.address, port) for info in found) else DeniedError
            found = permitted
        return [info.at(port) for info in found]

    async def _look_up(self, name: str) -> tuple[_Found, ...]:
        """The addresses of a name, resolved now or a moment ago. Raises OSError."""
        self._check_completed(name)
        if name in self._resolved:
            return self._resolved[name]
        if name not in self._asked or self._asked[name].done():  # requests for one name at once share one lookup
            self._asked[name] = asyncio.ensure_future(self._ask(name))
            self._asked[name].add_done_callback(functools.partial(self._answered, name))
        return await asyncio.shield(self._asked[name])

    def _check_completed(self, name: str) -> None:
        """Raises DeniedError for a name that the system's resolver could complete to a listed one."""
        for domain in self._search:
            verdict = self._judge.verdict(f"{name}.{domain}", client=None)
            # Where the search domain itself is listed, every name would be refused.
            if verdict.action is Action.STOP and self._judge.verdict(domain, client=None).action is not Action.STOP:
                self._judge.count(verdict)
                raise DeniedError

    def _answered(self, name: str, asked: asyncio.Future[tuple[_Found, ...]]) -> None:
        if self._asked.get(name) is asked:  # the name may have been asked for again in the meantime
            del self._asked[name]
        if not asked.cancelled():
            asked.exception()  # where every caller is gone, asyncio must not log the exception as a fault

    async def _ask(self, name: str) -> tuple[_Found, ...]:
        # As bytes: Python would encode a str by IDNA 2003, whose names differ from those of the Web.
        try:
            infos = await self._loop.getaddrinfo(name.encode(), 0, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise NoAddressError from None
            raise
        found = self._resolved[name] = tuple(
            _Found(ip_address(info[4][0].partition("%")[0]), int(info[0]), int(info[1]), info[2], info[4])
            for info in infos
        )
        self._loop.call_later(RESOLVED_SECONDS, self._resolved.pop, name, None)
        return found


def _literal(address: str) -> _Found:
    """The result that `getaddrinfo` would give for an address."""
    parsed = ip_address(address)
    if parsed.version == 6:
        return _Found(parsed, int(socket.AF_INET6), int(socket.SOCK_STREAM), socket.IPPROTO_TCP, (address, 0, 0, 0))
    return _Found(parsed, int(socket.AF_INET), int(socket.SOCK_STREAM), socket.IPPROTO_TCP, (address, 0))


def search_domains() -> tuple[str, ...]:
    """The domains with which the system's resolver completes names (resolv.conf(5)).

    These are its search list, or the domain of the machine.
    """
    try:
        resolver = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return ()
    domains = resolver.search or [resolver.domain]
    return tuple(domain.to_text(omit_final_dot=True) for domain in domains if domain != dns.name.root)


def _is_at(address: Address, place: Address) -> bool:
    """Whether a connection to `address` reaches a socket that is bound to `place`."""
    if place.is_unspecified:
        return _is_local(address)
    return address == place or (address.is_unspecified and place.is_loopback)


def _is_local(address: Address) -> bool:
    """Whether the address belongs to this machine: then the system uses it as its own source address. Sends nothing."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return ip_address(probe.getsockname()[0]) == address
