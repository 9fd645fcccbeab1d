"""The ClientHellos of DTLS: each is judged before the server has all of it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.decide import AMBIGUOUS, PASS, UNREADABLE, Action, Reason, Verdict
from stoplist.core.wire.client_hello import server_name
from stoplist.core.wire.conversations import RefusedError
from stoplist.core.wire.dtls_hello import MAX_HELLOS, MAX_WAITING, DtlsHellos, is_dtls

STOPPED = Verdict(Action.STOP, Reason.LISTED, "worst-of", 1)
VERSIONS = [b"\xfe\xff", b"\xfe\xfd", b"\xfe\xfc", b"\x01\x00"]


def counted(data: bytes, size: int = 2) -> bytes:
    return len(data).to_bytes(size) + data


def body(name: str, *, cookie: bytes = b"", random: bytes = bytes(32)) -> bytes:
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
        pytest.param(record(fragment(LISTED))[:-1], id="a record that is cut off, which a server drops"),
        pytest.param(b"\x16\x03\x03" + record(fragment(LISTED))[3:], id="another version"),
        pytest.param(bytes(range(256)), id="another protocol"),
    ],
)
def test_what_is_no_hello_passes(datagram: bytes):
    assert hellos().take(datagram) == [datagram]


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
