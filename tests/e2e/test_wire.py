"""Who listens on the network between a client and the gate: what is heard there, and what TLS to the gate hides."""

from __future__ import annotations

import secrets
import socket
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.e2e.network import Answer, Network
from tests.e2e.ways import GATE_NAME, PAGE, Door

ALL_PROTOCOLS = 3
"""ETH_P_ALL of <linux/if_ether.h>, which a raw socket wants in the order of the network."""
SO_RCVBUFFORCE = 33
"""Of <asm-generic/socket.h>, which Python does not name."""
ROOM = 64 * 1024 * 1024
"""For what is heard until it is looked at, in bytes."""
IPV4, TCP = 0x0800, 6


@dataclass
class Wire:
    """All frames on the link between client and gateway since it was tapped."""

    tap: socket.socket
    streams: dict[bytes, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    """What was sent over TCP, for each direction of each connection."""

    def heard(self) -> bytes:
        while True:
            try:
                frame = self.tap.recv(65536)
            except BlockingIOError:
                return b"".join(self.streams.values())
            packet = frame[14:]
            if int.from_bytes(frame[12:14]) == IPV4 and packet[9] == TCP:
                segment = packet[4 * (packet[0] & 15) : int.from_bytes(packet[2:4])]
                self.streams[packet[12:20] + segment[:4]] += segment[4 * (segment[12] >> 4) :]


@contextmanager
def _tapped(net: Network) -> Iterator[Wire]:
    def tap() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        raw.bind(("gateway", ALL_PROTOCOLS))
        raw.setblocking(False)
        return raw

    with net.client.call(tap) as raw:
        yield Wire(raw)


@dataclass(frozen=True)
class Asked:
    """Words of a request that nobody else says."""

    host: str
    path: str
    password: str

    @classmethod
    def new(cls, zone: str) -> Asked:
        return cls(f"q{secrets.token_hex(6)}.{zone}", secrets.token_hex(8), secrets.token_hex(8))

    def by(self, door: Door, scheme: str) -> Answer:
        options = ("--proxy-user", f"alice:{self.password}") if door.mode != "socks5" else ()
        trust = ("--cacert", str(door.ca)) if "listed" in self.host else ()
        return door.curl(f"{scheme}://{self.host}/{self.path}", "-H", "Accept: text/html", *options, *trust)

    def of(self, heard: bytes) -> set[str]:
        """What of it is heard."""
        words = {
            "host": self.host,
            "path": self.path,
            "password": b64encode(f"alice:{self.password}".encode()).decode(),
        }
        return {name for name, word in words.items() if word.encode() in heard}


@pytest.mark.parametrize(
    ("mode", "scheme", "zone", "told"),
    [
        pytest.param("regular", "http", "listed.test", {"host", "path", "password", "page"}, id="a listed request"),
        pytest.param("regular", "https", "listed.test", {"host", "password"}, id="a listed tunnel"),
        pytest.param("regular", "http", "pass.test", {"host", "path", "password"}, id="a request"),
        pytest.param("regular", "https", "pass.test", {"host", "password"}, id="a tunnel"),
        pytest.param("socks5", "http", "listed.test", {"host", "path", "page"}, id="a listed request by SOCKS"),
        pytest.param("socks5", "https", "listed.test", {"host"}, id="listed TLS by SOCKS"),
    ],
)
def test_who_listens_before_the_gate_hears_the_host_and_a_page_over_http(
    net: Network, doors: Callable[[str], Door], mode: str, scheme: str, zone: str, told: set[str]
):
    asked = Asked.new(zone)
    with _tapped(net) as wire:
        assert asked.by(doors(mode), scheme).status == (403 if "listed" in zone else 200)
        heard = wire.heard()
    assert asked.of(heard) | ({"page"} if PAGE in heard else set()) == told


@pytest.mark.parametrize("zone", ["listed.test", "pass.test"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_who_listens_before_a_gate_that_speaks_tls_hears_its_name_alone(
    net: Network, doors: Callable[[str], Door], scheme: str, zone: str
):
    asked = Asked.new(zone)
    with _tapped(net) as wire:
        answer = asked.by(doors("secure"), scheme)
        heard = wire.heard()
    assert answer.status == (403 if "listed" in zone else 200), answer.error
    assert (PAGE.decode() in answer.body) == ("listed" in zone)
    assert GATE_NAME.encode() in heard
    assert len(heard) > len(answer.body)
    assert not asked.of(heard)
    assert PAGE not in heard
    assert not [word for word in (b"listed.test", b"HTTP/1.", b"stoplist") if word in heard]
