"""Modes: the ways in which clients connect, in mitmproxy's notation. Each leads out of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mitmproxy.proxy.mode_specs import ProxyMode, RegularMode, ReverseMode, Socks5Mode, UpstreamMode

from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError

EXPLICIT = (RegularMode, UpstreamMode, Socks5Mode)
"""In these modes a client names the server of its connection before it sends anything over it."""


def place(texts: Iterable[str], listen: ListenAddress) -> list[str]:
    """Mode specifications with the address that each listens on: its own, or `listen`.

    Raises StoplistError for a text that is no mode, leads into a network, or wants the address of another mode.
    """
    placed, taken = [], dict[ListenAddress, str]()
    for text in texts:
        mode = parse(text)
        if mode.default_port is None:  # a device, not a port
            placed.append(text)
            continue
        has_port = mode.custom_listen_port is not None
        where = ListenAddress(mode.listen_host(listen.host), mode.listen_port(listen.port) or 0)
        if where.port and where in taken:
            raise StoplistError(
                f"'{text}' would listen on {where}, as '{taken[where]}' does",
                hint=f"give it an address of its own, such as {mode.type_name}@1080",
            )
        taken[where] = text
        placed.append(f"{text.rpartition('@')[0] if has_port else text}@{where.host}:{where.port}")
    return placed


def check_passwords_can_be_asked(texts: Iterable[str]) -> None:
    """Raises StoplistError for a mode in which mitmproxy cannot ask clients for a password."""
    for text in texts:
        if not isinstance(parse(text), EXPLICIT):
            raise StoplistError(
                f"proxy_auth: clients of the mode '{text}' cannot be asked for a password",
                hint="run it in a gate of its own, without 'proxy_auth'",
            )


def shared(placed: Iterable[str]) -> dict[tuple[str, int], str]:
    """The places, (host, port), at which several processes can listen side by side, with the name of the mode.

    Raises StoplistError where two modes want any free port of one host: nothing would tell them apart.
    """
    places: dict[tuple[str, int], str] = {}
    for text in placed:
        if not is_shared(text):
            continue
        mode = parse(text)
        place = _place_of(mode)
        if place in places:
            raise StoplistError(f"'{text}' has no port of its own", hint="with --workers, give each mode a port")
        places[place] = name(mode)
    return places


def at_ports(placed: Iterable[str], ports: Mapping[tuple[str, int], int]) -> list[str]:
    """The modes that several processes serve, with the ports that their places got."""
    found = []
    for text in placed:
        mode = parse(text)
        place = _place_of(mode)
        is_known = is_shared(text) and place in ports
        found.append(f"{text.rpartition('@')[0]}@{place[0]}:{ports[place]}" if is_known else text)
    return found


def _place_of(mode: ProxyMode) -> tuple[str, int]:
    return mode.listen_host(), mode.listen_port() or 0


def is_shared(text: str) -> bool:
    """Whether several processes can serve a mode. A mode that has a device or takes datagrams needs one process."""
    mode = parse(text)
    return mode.transport_protocol == "tcp" and mode.default_port is not None


def name(mode: ProxyMode) -> str:
    """The name that an operator uses for the mode."""
    return RegularMode.type_name if isinstance(mode, RegularMode) else mode.type_name


def parse(text: str) -> ProxyMode:
    """Raises StoplistError for a text that is no mode, or leads into a network.

    >>> parse("socks5@1080").type_name
    'socks5'
    >>> parse("reverse:http://example.test")
    Traceback (most recent call last):
    stoplist.errors.StoplistError: 'reverse:http://example.test' does not lead out of a network; ...
    """
    try:
        mode = ProxyMode.parse(text)
    except ValueError as error:
        raise StoplistError(
            f"'{text}' is no mode: {str(error).rstrip(': ')}",
            hint="write, for example, regular, socks5@1080, dns@53 or upstream:http://proxy.example:3128",
        ) from None
    if isinstance(mode, ReverseMode):
        raise StoplistError(
            f"'{text}' does not lead out of a network", hint="a gate is an egress proxy: leave reverse modes out"
        )
    return mode
