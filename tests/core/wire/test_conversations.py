"""Conversations: what may go on until it is clear that no web server is asked in the clear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from stoplist.core.decide import AMBIGUOUS, PASS, PROTOCOL, UNREADABLE, Action, Reason, Verdict
from stoplist.core.wire.client_hello import extensions_of, server_name
from stoplist.core.wire.conversations import OtherConversation, RefusedError, TlsConversation, Words, words_of
from tests.e2e.ways import client_hello

STOP = Verdict(Action.STOP, Reason.LISTED, "test", 1)
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
SETTINGS = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d"


def record(kind: int, body: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(body).to_bytes(2) + body


def server_hello(random: bytes = b"r" * 32) -> bytes:
    body = b"\x03\x03" + random + b"\0\x13\x01\0\0\0"
    return record(22, b"\x02" + len(body).to_bytes(3) + body)


HELLO = client_hello("www.pass.test")
LISTED = client_hello("www.listed.test")
CHANGE, EARLY, ALERT = record(20, b"\x01"), record(23, b"early data"), record(21, b"\x01\x70")


def judged(extensions: Iterable[tuple[int, bytes]]) -> Verdict:
    name = server_name(extensions)
    return STOP if name is not None and name.name.endswith("listed.test") else PASS


def pieces(data: bytes, size: int, say: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """What goes on of data that comes in such pieces."""
    return (say(data[start : start + size]) for start in range(0, len(data), size))


def begun() -> TlsConversation:
    conversation = TlsConversation(judged)
    assert conversation.from_client(HELLO) == HELLO
    return conversation


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", Words.INCOMPLETE),
        (b"H", Words.INCOMPLETE),
        (b"\r\n<!do", Words.INCOMPLETE),
        (b"HTTP/1.1 200 OK\r\n", Words.WEB),
        (b"http/1.0 400\r\n", Words.WEB),
        (b"HTTPD ready\r\n", Words.OTHER),
        (b"<html><body>", Words.WEB),
        (b"\n<!DOCTYPE html>", Words.WEB),
        (b"<?xml version='1.0'?>", Words.OTHER),
        (b"SSH-2.0-x\r\n", Words.OTHER),
        (b"\x16", Words.INCOMPLETE),
        (b"\x16\x03\x03\0\x7a", Words.INCOMPLETE),
        (b"\x16\x03\x03\0\x7a\x02", Words.WEB),
        (b"\x16\x03\0\0\x01\0", Words.OTHER),
        (b"\x15\x03\x01\0\x02\x02", Words.WEB),
        (b"\x15\x03\x01\0\x09\x02", Words.OTHER),
        (b" " * 1023, Words.INCOMPLETE),
        (b" " * 1024, Words.OTHER),
        (b"\x16\x02", Words.OTHER),
        (b"\x17\x03\x09", Words.OTHER),
        (b"\0", Words.OTHER),
        (SETTINGS[:8], Words.OTHER),
        (SETTINGS, Words.SETTINGS),
        (b"\0\0\0\x04\0\0\0\0\0", Words.SETTINGS),
        (b"\0\0\x05\x04\0\0\0\0\0", Words.OTHER),
        (b"\0\0\x06\x08\0", Words.OTHER),
        (b"J\0\0\0\x0a8.0.39\0", Words.OTHER),
        (b"\xff\xfd\x18", Words.OTHER),
    ],
)
def test_first_words_say_what_a_server_is(data: bytes, words: Words) -> None:
    assert words_of(data) is words
    if words is not Words.SETTINGS:  # they come at once
        for length in range(len(data)):
            assert words_of(data[:length]) in (Words.INCOMPLETE, words)


# Another protocol


def test_what_no_web_server_answers_goes_on() -> None:
    conversation = OtherConversation()
    assert conversation.from_client(b"SSH-2.0-a\r\n") == b"SSH-2.0-a\r\n"
    assert not conversation.is_over
    assert conversation.from_server(b"SSH-2.0-b\r\n") == b"SSH-2.0-b\r\n"
    assert conversation.is_over
    assert conversation.from_client(b"GET / HTTP/1.1\r\n") == b"GET / HTTP/1.1\r\n"
    assert conversation.from_server(b"HTTP/1.1 200 OK\r\n") == b"HTTP/1.1 200 OK\r\n"


def test_the_start_of_an_answer_is_held_until_it_is_told() -> None:
    conversation = OtherConversation()
    conversation.from_client(b"HELP\r\n")
    assert conversation.from_server(b"HT") == b""
    assert conversation.held_back == b"HT"
    assert conversation.from_server(b"ML\n") == b"HTML\n"
    assert conversation.held_back == b""


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n", b"<html>", b"\x15\x03\x03\0\x02\x02\x28"])
@pytest.mark.parametrize("size", [1, 100])
def test_the_answer_of_a_web_server_is_not_handed_on(answer: bytes, size: int) -> None:
    conversation = OtherConversation()
    conversation.from_client(b"\xffBREW\r\n")
    with pytest.raises(RefusedError) as raised:
        assert not any(pieces(answer, size, conversation.from_server))
    assert raised.value.verdict is PROTOCOL


def test_settings_in_answer_to_what_was_no_http2_are_not_handed_on() -> None:
    conversation = OtherConversation()
    conversation.from_client(b"\xffBREW\r\n")
    with pytest.raises(RefusedError):
        conversation.from_server(SETTINGS)


@pytest.mark.parametrize(
    "opening",
    [b"GET x\r\n\r\n", b"GET \x7f\r\n\r\n", b"GET\x85\0\r\n\r\n", b" \tGET\xa0x\xff\r\n\r\n", b"\x01\r\nGET x\r\n\r\n"],
)
def test_an_answer_to_http_0_9_ends_nothing(opening: bytes) -> None:
    """It has no head; some servers take the next request then (RFC 1945, section 5)."""
    conversation = OtherConversation()
    assert conversation.from_client(opening) == opening
    for answer in (b"unlisted", b"and more"):
        assert conversation.from_server(answer) == answer
        assert not conversation.is_over
    assert conversation.from_client(b"help\r\n") == b"help\r\n"
    with pytest.raises(RefusedError):
        conversation.from_client(b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("opening", [b"get x\r\n", b"GET\r\n$1\r\nx\r\n", b"GETS x\r\n", b"EHLO client.example\r\n"])
def test_an_answer_to_what_is_no_request_at_all_ends_the_search(opening: bytes) -> None:
    conversation = OtherConversation()
    conversation.from_client(opening)
    conversation.from_server(b"hello")
    assert conversation.is_over


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_request_that_follows_unanswered_is_refused(size: int) -> None:
    conversation, said = OtherConversation(), b"\xffBREW\r\nGET / HTTP/1.1\r\nHost: www.listed.test\r\n\r\n"
    with pytest.raises(RefusedError):
        list(pieces(said, size, conversation.from_client))


# TLS


def test_it_is_over_with_the_server_hello() -> None:
    conversation = begun()
    assert conversation.from_server(server_hello()) == server_hello()
    assert conversation.is_over
    assert conversation.from_client(LISTED) == LISTED


@pytest.mark.parametrize("size", [1, 10, 1000])
@pytest.mark.parametrize("before", [b"", CHANGE, EARLY + CHANGE], ids=["alone", "after a change", "after early data"])
def test_a_second_hello_is_judged(size: int, before: bytes) -> None:
    for second in (HELLO, LISTED):
        conversation = begun()
        assert b"".join(pieces(before, size, conversation.from_client)) == before
        assert b"".join(pieces(server_hello(RETRY), size, conversation.from_server)) == server_hello(RETRY)
        assert not conversation.is_over
        if second is LISTED:
            with pytest.raises(RefusedError) as raised:
                assert not any(pieces(second, size, conversation.from_client))
            assert raised.value.verdict is STOP
        else:
            assert b"".join(pieces(second, size, conversation.from_client)) == second
            conversation.from_server(CHANGE + server_hello())
            assert conversation.is_over


def test_a_second_hello_is_judged_whether_a_server_asked_for_it_or_not() -> None:
    with pytest.raises(RefusedError):
        begun().from_client(LISTED)
    with pytest.raises(RefusedError):
        TlsConversation(judged).from_client(HELLO + EARLY + LISTED)


def test_a_warning_of_the_server_changes_nothing() -> None:
    conversation = begun()
    assert conversation.from_server(ALERT) == ALERT
    with pytest.raises(RefusedError):
        conversation.from_client(LISTED)


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n", b"\x16\x02\0\0\x01", record(22, b"\x0b\0\0\0"), record(20, b"x" * 17000)]
)
def test_what_no_client_says_before_the_server_hello_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedError) as raised:
        begun().from_client(data)
    assert raised.value.verdict is AMBIGUOUS


def test_a_second_hello_that_names_nobody_readable_is_refused() -> None:
    hello = HELLO.replace(b"www.pass.test", b"www pass test")
    assert extensions_of(hello)
    with pytest.raises(RefusedError) as raised:
        begun().from_client(hello)
    assert raised.value.verdict is UNREADABLE


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"<html>", SETTINGS, b"220 ready\r\n", b"body"]
)
def test_a_server_that_does_not_speak_tls_is_not_heard(answer: bytes) -> None:
    with pytest.raises(RefusedError):
        begun().from_server(answer)


def test_other_bytes_of_tls_are_handed_on() -> None:
    """Such as the client's own, from a server that repeats them."""
    conversation = begun()
    assert conversation.from_server(HELLO) == HELLO
    assert conversation.is_over


@pytest.mark.parametrize("size", [1, 3, 40])
def test_a_server_hello_in_many_records_is_one(size: int) -> None:
    conversation, body = begun(), server_hello()[5:]
    for start in range(0, len(body), size):
        assert not conversation.is_over or start >= 38
        piece = record(22, body[start : start + size])
        assert conversation.from_server(piece) == piece
    assert conversation.is_over
