"""Hellos: whatever connection begins in a flow of datagrams, its ClientHello is judged before it goes on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion

from stoplist.core.decide import AMBIGUOUS, PASS, UNREADABLE, Action, Reason, Verdict
from stoplist.core.wire.client_hello import server_name
from stoplist.core.wire.conversations import RefusedError
from stoplist.proxy.mitm.layers.quic_layer import MAX_CONNECTIONS, MAX_HELLO_DATAGRAMS, Hellos
from tests.e2e.ways import client_hello

STOP = Verdict(Action.STOP, Reason.LISTED, "test", 1)
V1, V2 = QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2


def judged(extensions: Iterable[tuple[int, bytes]]) -> Verdict:
    name = server_name(extensions)
    return STOP if name is not None and name.name.endswith("listed.test") else PASS


def hello(name: str, padding: int = 0) -> bytes:
    """A ClientHello without its record."""
    return client_hello(name, padding=padding)[5:]


def initial(
    *pieces: tuple[int, bytes],
    keys: bytes = b"k" * 8,
    to: bytes | None = None,
    number: int = 0,
    version: int = V1,
    fixed: int = 0x40,
    size: int = 1260,
) -> bytes:
    """A datagram with a packet Initial, encrypted as for a connection that began with the id `keys`."""
    to = keys if to is None else to
    payload = b"".join(b"\x06" + encode_uint_var(offset) + encode_uint_var(len(data)) + data for offset, data in pieces)
    payload += bytes(max(0, size - 60 - len(payload)))
    kind = 0x10 if version == V2 else 0
    header = bytes([0x80 | fixed | kind | 1]) + version.to_bytes(4) + bytes([len(to)]) + to + b"\0\0"
    header += (len(payload) + 2 + 16 | 0x4000).to_bytes(2) + number.to_bytes(2)
    pair = CryptoPair()
    pair.setup_initial(cid=keys, is_client=True, version=version)
    packet: bytes = pair.encrypt_packet(header, payload, number)
    return packet


def first_datagrams(name: str) -> list[bytes]:
    """What aioquic's client begins a connection with."""
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name=name, alpn_protocols=["h3"]))
    client.connect(("192.0.2.1", 443), now=0.0)
    return [data for data, _ in client.datagrams_to_send(now=0.0)]


def take(hellos: Hellos, *datagrams: bytes) -> list[bytes]:
    return [each for datagram in datagrams for each in hellos.take(datagram)]


@pytest.fixture(params=[True, False], ids=["in a flow of QUIC", "in another flow"])
def hellos(request: pytest.FixtureRequest) -> Hellos:
    return Hellos(judged, is_quic=request.param)


def test_what_passes_goes_on_as_it_came(hellos: Hellos) -> None:
    datagrams = first_datagrams("www.pass.test")
    assert take(hellos, *datagrams) == datagrams
    assert take(hellos, *datagrams) == datagrams, "sent again"


def test_a_listed_name_is_stopped_in_any_connection_of_the_flow(hellos: Hellos) -> None:
    take(hellos, *first_datagrams("www.pass.test"), *first_datagrams("pass.test"))
    with pytest.raises(RefusedError) as raised:
        take(hellos, *first_datagrams("www.listed.test"))
    assert raised.value.verdict is STOP


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("fixed", [0x40, 0], ids=["the fixed bit", "without it"])
def test_each_version_is_read(hellos: Hellos, version: int, fixed: int) -> None:
    good = initial((0, hello("www.pass.test")), version=version, fixed=fixed)
    assert take(hellos, good) == [good]
    with pytest.raises(RefusedError):
        take(hellos, initial((0, hello("www.listed.test")), keys=b"other id", version=version, fixed=fixed))


def test_each_packet_of_a_datagram_is_read(hellos: Hellos) -> None:
    good, bad = initial((0, hello("www.pass.test"))), initial((0, hello("www.listed.test")), keys=b"other id")
    with pytest.raises(RefusedError):
        take(hellos, good + bad)


def test_a_hello_in_pieces_waits_until_it_is_whole(hellos: Hellos) -> None:
    whole = hello("www.pass.test", padding=2000)
    first, second = initial((1000, whole[1000:]), number=1), initial((0, whole[:1000]), number=2)
    assert take(hellos, first) == []
    assert take(hellos, second) == [first, second]


def test_a_listed_hello_in_pieces_never_goes_on(hellos: Hellos) -> None:
    whole = hello("www.listed.test", padding=2000)
    assert take(hellos, initial((1000, whole[1000:]))) == []
    with pytest.raises(RefusedError):
        take(hellos, initial((500, whole[500:1000]), (0, whole[:500]), number=1))


def test_a_second_hello_of_a_connection_is_judged(hellos: Hellos) -> None:
    """After a HelloRetryRequest it follows the first, to the id that the server chose, with the keys of before."""
    first = hello("www.pass.test")
    assert take(hellos, initial((0, first)))
    good = initial((len(first), hello("pass.test")), to=b"server", number=1)
    assert take(hellos, good) == [good]
    with pytest.raises(RefusedError):
        take(hellos, initial((len(first) + len(hello("pass.test")), hello("listed.test")), to=b"server", number=2))


def test_the_same_place_said_in_two_ways_is_refused(hellos: Hellos) -> None:
    assert take(hellos, initial((0, hello("www.pass.test"))))
    with pytest.raises(RefusedError) as raised:
        take(hellos, initial((0, hello("a.listed.test")), number=1))
    assert raised.value.verdict is AMBIGUOUS


def test_a_name_that_cannot_be_read_is_refused(hellos: Hellos) -> None:
    with pytest.raises(RefusedError) as raised:
        take(hellos, initial((0, hello("www.pass.test").replace(b"www.pass", b"www pass"))))
    assert raised.value.verdict is UNREADABLE


def test_a_connection_that_was_forgotten_is_not_judged_anew(hellos: Hellos) -> None:
    """Its server remembers what was said before: with a new beginning it would read another hello than we do."""
    first = initial((0, hello("www.pass.test")))
    assert take(hellos, first) == [first]
    for number in range(MAX_CONNECTIONS):
        take(hellos, initial((0, hello("www.pass.test")), keys=b"other%d" % number))
    assert take(hellos, first) == []
    assert take(hellos, initial((0, hello("www.listed.test")))) == []


def test_an_initial_in_a_datagram_that_no_server_takes_goes_nowhere_and_is_not_read(hellos: Hellos) -> None:
    assert take(hellos, initial((0, hello("www.pass.test")[:40]), size=300)) == []
    good = initial((0, hello("pass.test")), number=1)
    assert take(hellos, good) == [good]


def test_a_hello_that_never_ends_is_refused(hellos: Hellos) -> None:
    gaps = (initial((number * 2 + 10, b"x"), number=number) for number in range(MAX_HELLO_DATAGRAMS + 1))
    with pytest.raises(RefusedError):
        assert not any(hellos.take(datagram) for datagram in gaps)


def test_another_message_than_a_hello_is_refused(hellos: Hellos) -> None:
    with pytest.raises(RefusedError):
        take(hellos, initial((0, b"\x14\0\0\0")))


def test_what_nobody_can_open_is_of_no_connection() -> None:
    packet = bytearray(initial((0, hello("www.pass.test"))))
    packet[-1] ^= 1
    assert take(Hellos(judged, is_quic=True), bytes(packet)) == []
    assert take(Hellos(judged, is_quic=False), bytes(packet)) == [bytes(packet)]


def test_a_version_that_nobody_knows_goes_nowhere_in_a_flow_of_quic() -> None:
    packet = b"\xc0\xba\xba\xba\xba" + bytes(1200)
    assert take(Hellos(judged, is_quic=True), packet) == []
    assert take(Hellos(judged, is_quic=False), packet) == [packet]


@pytest.mark.parametrize(
    "datagram", [b"", b"x", b"hello", b"\x80\x60" + bytes(range(160)), b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), b"\xc0"]
)
def test_other_datagrams_pass(datagram: bytes) -> None:
    assert take(Hellos(judged, is_quic=False), datagram) == [datagram]


def test_the_end_of_a_connection_passes(hellos: Hellos) -> None:
    first = hello("www.pass.test")
    assert take(hellos, initial((0, first)))
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name="www.pass.test"))
    client.connect(("192.0.2.1", 443), now=0.0)
    begun = [data for data, _ in client.datagrams_to_send(now=0.0)]
    client.close()
    closing = [data for data, _ in client.datagrams_to_send(now=0.1)]
    assert take(hellos, *begun, *closing) == begun + closing
