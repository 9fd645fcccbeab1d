"""Hellos: whatever connection is in a flow of datagrams, its ClientHello was judged there before it goes on."""

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
from stoplist.proxy.mitm.layers.quic_hellos import MAX_CONNECTIONS, MAX_HELLO_DATAGRAMS, Hellos
from stoplist.proxy.mitm.layers.quic_memory import QuicMemory
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


SERVER = ("192.0.2.1", 4433)


def flow(*, is_quic: bool, memory: QuicMemory | None = None, server: tuple[str, int] = SERVER) -> Hellos:
    return Hellos(judged, memory or QuicMemory(), server, is_quic=is_quic)


@pytest.fixture(params=[True, False], ids=["in a flow of QUIC", "in another flow"])
def hellos(request: pytest.FixtureRequest) -> Hellos:
    return flow(is_quic=request.param)


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
        take(hellos, initial((0, hello("www.pass.test")), keys=b"other %02d" % number))
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


def test_what_nobody_can_open_is_of_no_connection(hellos: Hellos) -> None:
    packet = bytearray(initial((0, hello("www.pass.test"))))
    packet[-1] ^= 1
    assert take(hellos, bytes(packet)) == []


def test_a_version_that_nobody_knows_goes_nowhere_in_a_flow_of_quic() -> None:
    packet = b"\xc0\xba\xba\xba\xba" + bytes(1200)
    assert take(flow(is_quic=True), packet) == []
    assert take(flow(is_quic=False), packet) == [packet]


@pytest.mark.parametrize(
    "datagram", [b"", b"x", b"hello", b"\x80\x60" + bytes(range(160)), b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), b"\xc0"]
)
def test_other_datagrams_pass(datagram: bytes) -> None:
    assert take(flow(is_quic=False), datagram) == [datagram]


def test_the_end_of_a_connection_passes(hellos: Hellos) -> None:
    first = hello("www.pass.test")
    assert take(hellos, initial((0, first)))
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, server_name="www.pass.test"))
    client.connect(("192.0.2.1", 443), now=0.0)
    begun = [data for data, _ in client.datagrams_to_send(now=0.0)]
    client.close()
    closing = [data for data, _ in client.datagrams_to_send(now=0.1)]
    assert take(hellos, *begun, *closing) == begun + closing


def answer(
    *, keys: bytes = b"k" * 8, source: bytes = b"server", kind: int = 0, version: int = V1, opens: bool = True
) -> bytes:
    """A packet of a server with a long header, to the connection that began with the id `keys`."""
    payload = b"\x02\0\0\0\0" + bytes(40)  # ACK
    header = bytes([0xC0 | kind << 4 | 1]) + version.to_bytes(4) + b"\0" + bytes([len(source)]) + source
    header += (b"" if kind else b"\0") + (len(payload) + 2 + 16 | 0x4000).to_bytes(2) + b"\0\0"
    pair = CryptoPair()
    pair.setup_initial(cid=keys, is_client=not opens, version=version)
    packet: bytes = pair.encrypt_packet(header, payload, 0)
    return packet


def short(destination: bytes) -> bytes:
    return b"\x45" + destination + b"\xaa" * 40


def long(kind: int, destination: bytes) -> bytes:
    """A packet of a client that is no Initial: 0-RTT, 1, or of the handshake, 2."""
    return bytes([0xC1 | kind << 4]) + V1.to_bytes(4) + bytes([len(destination)]) + destination + b"\0\x14" + bytes(20)


def test_an_initial_to_an_id_that_the_server_gave_in_another_flow_goes_nowhere(hellos: Hellos) -> None:
    """Two flows, one connection: the gate never opened the ClientHello, and the server did."""
    assert take(hellos, b"\0") == ([] if hellos._is_quic else [b"\0"])
    assert take(hellos, initial((0, hello("www.listed.test")), to=b"of another flow")) == []


@pytest.mark.parametrize("sent", [[], [initial((0, b""))], [initial((5, b"x"))]], ids=["nothing", "no hello", "a part"])
@pytest.mark.parametrize("kind", [0, 2, 3], ids=["Initial", "Handshake", "Retry"])
def test_a_server_is_not_heard_before_a_hello_has_passed(hellos: Hellos, sent: list[bytes], kind: int) -> None:
    take(hellos, *sent)
    assert hellos.hear(answer(kind=kind)) == []


def test_a_server_is_heard_on_the_connection_whose_hello_has_passed(hellos: Hellos) -> None:
    take(hellos, initial((0, hello("www.pass.test"))))
    assert hellos.hear(answer(kind=2)) == [], "its Initial has not come"
    assert hellos.hear(answer(keys=b"another connection")) == []
    assert hellos.hear(answer(opens=False)) == []
    assert hellos.hear(answer()) == [answer()]
    assert hellos.hear(answer(source=b"other")) == [], "a server has one id"
    assert hellos.hear(answer(kind=2)) == [answer(kind=2)]
    assert hellos.hear(answer(kind=2, source=b"other")) == []
    assert hellos.hear(answer() + answer(kind=2) + short(b"")) == [answer() + answer(kind=2) + short(b"")]


@pytest.mark.parametrize(
    "datagram", [b"", b"x", short(b"server"), b"\x80\x60" + bytes(range(160)), b"\xc0", b"\x80" + bytes(4) + b"\0\0"]
)
def test_other_datagrams_of_a_server_are_heard(hellos: Hellos, datagram: bytes) -> None:
    assert hellos.hear(datagram) == [datagram]


def test_after_the_handshake_only_ids_of_this_flow_pass(hellos: Hellos) -> None:
    """Migration: a connection made elsewhere has an id that the server did not choose here."""
    take(hellos, initial((0, hello("www.pass.test"))))
    assert take(hellos, short(b"server")) == []
    hellos.hear(answer())
    assert take(hellos, short(b"server")) == [short(b"server")]
    assert take(hellos, short(b"another id")) == []
    assert take(hellos, short(b"serve")) == []
    take(hellos, initial((0, hello("pass.test")), keys=b"other id"))
    hellos.hear(answer(keys=b"other id", source=b"srv2"))
    assert take(hellos, short(b"server"), short(b"srv2")) == [short(b"server"), short(b"srv2")]


def test_other_packets_of_a_client_go_to_ids_of_this_flow_alone(hellos: Hellos) -> None:
    assert take(hellos, long(2, b"server"), long(1, b"k" * 8)) == []
    take(hellos, initial((0, hello("www.pass.test"))))
    assert take(hellos, long(1, b"k" * 8)) == [long(1, b"k" * 8)], "0-RTT follows the Initial"
    assert take(hellos, long(2, b"server")) == []
    hellos.hear(answer())
    assert take(hellos, long(2, b"server")) == [long(2, b"server")]
    assert take(hellos, long(2, b"another")) == []
    whole = long(2, b"server") + short(b"server")
    assert take(hellos, whole) == [whole]
    assert take(hellos, long(2, b"server") + short(b"another")) == []
    assert take(hellos, long(2, b"server") + bytes(40)) == [long(2, b"server") + bytes(40)], "zeros at the end"


def test_dtls_passes_beside_quic_and_nothing_else(hellos: Hellos) -> None:
    take(hellos, initial((0, hello("www.pass.test"))))
    record = bytes.fromhex("17 fefd 0001 000000000007 0002 abcd")
    assert take(hellos, record) == [record]
    assert take(hellos, record + b"x") == []
    assert take(hellos, b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12)) == []


def test_an_initial_of_one_id_comes_in_one_flow_alone() -> None:
    """The server would put the ClientHello together from pieces of both; each of ours knows only its own."""
    memory = QuicMemory()
    one, two = flow(is_quic=True, memory=memory), flow(is_quic=False, memory=memory)
    good = initial((0, hello("www.pass.test")))
    assert take(one, good) == [good]
    assert take(two, good) == []
    del one
    assert take(two, good, initial((0, hello("www.listed.test")))) == []


def test_an_initial_to_an_id_that_is_too_short_goes_nowhere(hellos: Hellos) -> None:
    assert take(hellos, initial((0, hello("www.pass.test")), keys=b"k" * 7)) == []


def test_once_a_server_has_answered_in_quic_its_other_flows_must_begin_with_quic() -> None:
    """Otherwise a connection that the gate ended would go on in another flow, with any id that the server gave it."""
    memory = QuicMemory()
    one, before = flow(is_quic=False, memory=memory), flow(is_quic=False, memory=memory)
    assert take(before, short(b"any")) == [short(b"any")]
    take(one, initial((0, hello("www.pass.test"))))
    one.hear(answer())
    after = flow(is_quic=False, memory=memory)
    for other in (before, after):
        assert take(other, short(b"server"), short(b"any"), b"\0") == []
    elsewhere = flow(is_quic=False, memory=memory, server=("192.0.2.1", 4434))
    assert take(elsewhere, short(b"any")) == [short(b"any")]


def test_a_connection_that_changes_its_version_goes_on(hellos: Hellos) -> None:
    """Its keys come from the same id (RFC 9369, section 4.1)."""
    take(hellos, initial((0, hello("www.pass.test"))))
    assert hellos.hear(answer(version=V2, kind=1)) == [], "0-RTT of a server"
    packet = initial(to=b"server", version=V2, number=1)
    assert take(hellos, packet) == [packet]
