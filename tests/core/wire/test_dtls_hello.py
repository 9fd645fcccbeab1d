"""The ClientHellos of DTLS: each is judged before the server has all of it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.decide import AMBIGUOUS, PASS, PROTOCOL, UNREADABLE, Action, Reason, Verdict
from stoplist.core.wire.client_hello import server_name
from stoplist.core.wire.conversations import RefusedError
from stoplist.core.wire.dtls_hello import MAX_HELLOS, MAX_WAITING, DtlsHellos, is_dtls, is_whole_dtls

STOPPED = Verdict(Action.STOP, Reason.LISTED, "worst-of", 1)
VERSIONS = [b"\xfe\xff", b"\xfe\xfd", b"\xfe\xfc", b"\x01\x00"]


def counted(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size) + data


def body(name: str, *, cookie: bytes = b"", random: bytes = b"\7" * 32) -> bytes:
    """A ClientHello without its handshake header."""
    names = counted(b"\0" + counted(name.encode()))
    extensions = b"\0\0" + counted(names)
    return (
        b"\xfe\xfd"
        + random
        + counted(b"", 1)
        + counted(cookie, 1)
        + counted(b"\x13\x01")
        + b"\1\0"
        + counted(extensions)
    )


def fragment(message: bytes, start: int = 0, end: int | None = None, *, number: int = 0, kind: int = 1) -> bytes:
    """A part of a handshake message, with its header."""
    piece = message[start:end]
    header = bytes([kind]) + len(message).to_bytes(3) + number.to_bytes(2) + start.to_bytes(3) + len(piece).to_bytes(3)
    return header + piece


def record(*fragments: bytes, version: bytes = b"\xfe\xfd", kind: int = 22, epoch: int = 0) -> bytes:
    return struct.pack("!B2sH6s", kind, version, epoch, bytes(6)) + counted(b"".join(fragments))


def hellos(seen: list[str] | None = None) -> DtlsHellos:
    """A reader whose judge stops `listed.test`, and notes what it was asked."""

    def judged(extensions: Iterable[tuple[int, bytes]]) -> Verdict:
        name = server_name(extensions)
        if seen is not None:
            seen.append(name.name if name else "")
        return STOPPED if name is not None and name.name == "listed.test" else PASS

    return DtlsHellos(judged)


def refusal(take: Callable[[], object]) -> Verdict:
    with pytest.raises(RefusedError) as raised:
        take()
    return raised.value.verdict


PASSES, LISTED = body("pass.test"), body("listed.test")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_listed_name_is_stopped_and_another_passes(version: bytes):
    datagram = record(fragment(PASSES), version=version)
    assert hellos().take(datagram) == [datagram]
    assert refusal(lambda: hellos().take(record(fragment(LISTED), version=version))) == STOPPED


@pytest.mark.parametrize("first", [b"junk", b"", b"\x16", record(b"\0" * 8, kind=21), record(fragment(PASSES))])
def test_a_listed_name_is_stopped_whatever_came_before(first: bytes):
    reader = hellos()
    assert reader.take(first) == [first]
    assert refusal(lambda: reader.take(record(fragment(LISTED, number=1)))) == STOPPED


def test_a_second_hello_with_the_cookie_of_the_server_is_judged():
    reader = hellos()
    reader.take(record(fragment(PASSES)))
    assert refusal(lambda: reader.take(record(fragment(body("listed.test", cookie=b"c" * 20), number=1)))) == STOPPED


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(record(b"\1\2", kind=21) + record(fragment(LISTED)), id="behind an alert"),
        pytest.param(record(b"x", kind=99) + record(fragment(LISTED)), id="behind a record of no known type"),
        pytest.param(record() + record(fragment(LISTED)), id="behind an empty record"),
        pytest.param(record(fragment(b"x", kind=16), fragment(LISTED)), id="behind another message"),
        pytest.param(record(fragment(PASSES), fragment(LISTED, number=1)), id="behind another hello"),
        pytest.param(record(fragment(LISTED, 0, 50), fragment(LISTED, 50)), id="as two fragments of a record"),
        pytest.param(record(fragment(LISTED, 0, 50)) + record(fragment(LISTED, 50)), id="as two records"),
        pytest.param(record(fragment(LISTED, 50)) + record(fragment(LISTED, 0, 50)), id="the end first"),
    ],
)
def test_a_listed_name_is_stopped_wherever_it_stands(datagram: bytes):
    assert refusal(lambda: hellos().take(datagram)) == STOPPED


@given(
    st.lists(st.integers(1, len(PASSES) - 1), max_size=8, unique=True).map(sorted), st.randoms(use_true_random=False)
)
def test_fragments_wait_until_the_whole_is_judged(cuts: list[int], random):
    edges = [0, *cuts, len(PASSES)]
    datagrams = [record(fragment(PASSES, *edge)) for edge in itertools.pairwise(edges)]
    random.shuffle(datagrams)
    asked: list[str] = []
    reader = hellos(asked)
    for datagram in datagrams[:-1]:
        assert reader.take(datagram) == []
    assert reader.take(datagrams[-1]) == datagrams
    assert asked == ["pass.test"]
    assert reader.take(datagrams[0]) == [datagrams[0]]  # sent again


def test_the_same_place_in_two_ways_ends_the_flow():
    reader = hellos()
    assert reader.take(record(fragment(PASSES))) == [record(fragment(PASSES))]
    other = body("pass.test", random=b"r" * 32)
    assert refusal(lambda: reader.take(record(fragment(other, 0, 40)))) == AMBIGUOUS


@pytest.mark.parametrize(
    ("datagram", "verdict"),
    [
        pytest.param(record(fragment(PASSES)[:30]), AMBIGUOUS, id="a fragment that is cut off"),
        pytest.param(record(b"\1\0\0"), AMBIGUOUS, id="half a header"),
        pytest.param(record(fragment(PASSES[:20])), AMBIGUOUS, id="a hello that is cut off"),
        pytest.param(record(fragment(b"")), AMBIGUOUS, id="an empty hello"),
        pytest.param(record(fragment(PASSES + b"x")), AMBIGUOUS, id="something behind the hello"),
        pytest.param(record(b"\1\xff\xff\xff\0\0\0\0\0\0\0\1x"), AMBIGUOUS, id="a hello of 16 MB"),
        pytest.param(record(b"\1\0\0\2\0\0\0\0\2\0\0\1x"), AMBIGUOUS, id="a fragment past the end"),
        pytest.param(record(fragment(body("a b"))), UNREADABLE, id="a name that is none"),
    ],
)
def test_what_is_no_hello_for_one_name_ends_the_flow(datagram: bytes, verdict: Verdict):
    assert refusal(lambda: hellos().take(datagram)) == verdict


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\xfe", id="a cut header"),
        pytest.param(record(fragment(LISTED), epoch=1), id="a record that is encrypted"),
        pytest.param(record(fragment(LISTED, kind=2)), id="a message of another type"),
        pytest.param(b"\x16\x03\x03" + record(fragment(LISTED))[3:], id="another version"),
        pytest.param(bytes(range(256)), id="another protocol"),
    ],
)
def test_what_is_no_hello_passes(datagram: bytes):
    assert hellos().take(datagram) == [datagram]


INVALID_HEADERS = [
    pytest.param(b"\x16\xfe\xff" + bytes(8) + b"\xff\xff", id="a length beyond the maximum"),
    pytest.param(b"\x17\xfe\xfd" + bytes(8) + b"\xff\xff", id="application data of such a length"),
    pytest.param(b"\x16\x03\x03" + bytes(8) + b"\0\0", id="the version of TLS"),
    pytest.param(b"\x63\0\0" + bytes(8) + b"\0\0", id="no type and no version"),
    pytest.param(record() + b"\x16\xfe\xff" + bytes(8) + b"\xff\xff", id="an empty record, then such a length"),
    pytest.param(b"\0", id="one byte"),
]


@pytest.mark.parametrize("header", INVALID_HEADERS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_hello_behind_bytes_that_a_server_may_drop_goes_nowhere(header: bytes, version: bytes):
    """OpenSSL drops 13 bytes, and reads the rest of the datagram."""
    reader = hellos()
    assert reader.take(header + record(fragment(LISTED), version=version)) == []
    assert reader.take(record(fragment(PASSES))) == [record(fragment(PASSES))], "the flow goes on"


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(record(record(fragment(LISTED)), kind=23, version=b"\xfe\xff"), id="of another version"),
        pytest.param(record(record(fragment(LISTED)) + bytes(18500), kind=23), id="that is too long"),
        pytest.param(record(record(fragment(LISTED)), kind=22, epoch=1), id="that is encrypted"),
    ],
)
def test_a_hello_inside_a_record_that_a_server_may_drop_goes_nowhere(datagram: bytes):
    assert hellos().take(datagram) == []


@pytest.mark.parametrize("behind", [b"x", b"\x16", record(b"x")[:-1], bytes(13)])
def test_a_hello_before_what_is_no_whole_record_goes_nowhere(behind: bytes):
    assert hellos().take(record(fragment(PASSES)) + behind) == []


def test_a_hello_that_is_cut_off_goes_nowhere():
    assert hellos().take(record(fragment(LISTED))[:-1]) == []


ANSWERS = [
    pytest.param(record(fragment(b"\xfe\xfd" + bytes(40), kind=2)), id="ServerHello"),
    pytest.param(record(fragment(b"\xfe\xff\x14" + bytes(20), kind=3)), id="HelloVerifyRequest"),
    pytest.param(record(fragment(bytes(90), 0, 40, kind=2)), id="a part of a ServerHello"),
    pytest.param(record(b"\1\0", kind=21) + record(fragment(bytes(40), kind=2)), id="behind an alert"),
]


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_to_a_hello_that_nobody_judged_ends_the_flow(answer: bytes):
    reader = hellos()
    assert reader.take(b"junk") == [b"junk"]
    assert refusal(lambda: reader.hear(answer)) == PROTOCOL
    assert reader.take(record(fragment(PASSES, 0, 30))) == []
    assert refusal(lambda: reader.hear(answer)) == PROTOCOL


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_to_a_hello_that_passed_is_heard(answer: bytes):
    reader = hellos()
    reader.take(record(fragment(PASSES)))
    reader.hear(answer)


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12), id="STUN"),
        pytest.param(b"\x80\x60" + bytes(range(160)), id="RTP"),
        pytest.param(record(fragment(PASSES)), id="a peer that is the client of DTLS, as in WebRTC"),
        pytest.param(record(fragment(bytes(40), kind=2), epoch=1), id="a record that is encrypted"),
        pytest.param(record(bytes(40), kind=23, epoch=1), id="application data"),
    ],
)
def test_what_answers_no_hello_is_heard(datagram: bytes):
    hellos().hear(datagram)


def test_whole_records_are_told_from_other_datagrams():
    assert is_whole_dtls(record(b"x", kind=23) + record(b"y", kind=23, epoch=1))
    assert not is_whole_dtls(record(b"x", kind=23) + b"\0")
    assert not is_whole_dtls(record(b"x", kind=0x40))
    assert not is_whole_dtls(b"")


def test_what_waits_is_bounded():
    reader = hellos()
    for start in range(MAX_WAITING):
        assert reader.take(record(fragment(PASSES, start, start + 1))) == []
    assert refusal(lambda: reader.take(record(fragment(PASSES, 20, 21)))) == AMBIGUOUS


def test_hellos_of_one_flow_are_bounded():
    reader = hellos()
    for number in range(MAX_HELLOS):
        reader.take(record(fragment(PASSES, number=number)))
    assert refusal(lambda: reader.take(record(fragment(PASSES, number=MAX_HELLOS)))) == AMBIGUOUS


def test_a_flow_is_dtls_from_its_first_record():
    assert is_dtls(record(fragment(PASSES)))
    assert not is_dtls(record(b"x", kind=23))
    assert not is_dtls(b"\xc0\0\0\0\1")


@given(st.binary(max_size=80), st.sampled_from(VERSIONS))
def test_any_bytes_pass_or_are_refused(data: bytes, version: bytes):
    datagram = b"\x16" + version + b"\0\0" + data
    with suppress(RefusedError):
        assert hellos().take(datagram) in ([datagram], [])
