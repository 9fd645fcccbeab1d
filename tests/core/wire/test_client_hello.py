"""The name in a ClientHello: the bytes of its extension, and nothing but one readable host in them."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy.proxy.layers.tls import parse_client_hello

from stoplist.core.hosts import Host, HostError
from stoplist.core.wire.client_hello import (
    MAX_HELLO,
    MAX_RECORDS,
    SERVER_NAME,
    HelloError,
    extensions_of,
    in_one_record,
    server_name,
)
from tests.e2e.ways import browsers_hello, client_hello, hello_with_names, in_small_records
from tests.examples import examples
from tests.pace import million_steps


def _counted(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _names(*names: bytes, kind: int = 0) -> bytes:
    return _counted(b"".join(bytes([kind]) + _counted(name) for name in names))


@pytest.mark.parametrize(
    ("name", "host"),
    [
        pytest.param(b"listed.test", "listed.test", id="a name"),
        pytest.param(b"LISTED.test.", "listed.test", id="upper case and a trailing dot"),
        pytest.param(b"xn--fa-hia.example", "xn--fa-hia.example", id="punycode that IDNA 2003 does not know"),
        pytest.param("faß.example".encode(), "xn--fa-hia.example", id="UTF-8"),
        pytest.param(b"_x.listed.test", "_x.listed.test", id="underscore"),
        pytest.param(b"192.0.2.1", "192.0.2.1", id="an address, which the RFC does not allow"),
    ],
)
def test_a_name_is_read_as_browsers_read_hosts(name: bytes, host: str):
    assert server_name([(SERVER_NAME, _names(name))]) == Host.parse(host)


def test_a_hello_without_the_extension_names_nobody():
    assert server_name([]) is None
    assert server_name([(16, b"\0\x03\x02h2")]) is None


def test_the_extension_is_found_among_others():
    assert server_name([(0x0A0A, b""), (SERVER_NAME, _names(b"listed.test")), (16, b"")]) == Host.parse("listed.test")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0", id="cut off in the length"),
        pytest.param(_counted(b""), id="an empty list"),
        pytest.param(_names(b""), id="an empty name"),
        pytest.param(_names(b"listed.test")[:-1], id="cut off in the name"),
        pytest.param(_names(b"listed.test") + b"x", id="followed by a byte"),
        pytest.param(_names(b"pass.test", b"listed.test"), id="two names"),
        pytest.param(_names(b"listed.test", b"listed.test"), id="one name twice"),
        pytest.param(_names(b"listed.test", kind=1), id="of a kind that is no host"),
        pytest.param(_names(b"lis\xffted.test"), id="no UTF-8"),
        pytest.param(_names(b"lis ted.test"), id="white space"),
        pytest.param(_names(b"lis\0ted.test"), id="a NUL"),
        pytest.param(_names(b"listed.test:443"), id="a port"),
    ],
)
def test_what_is_not_one_readable_name_is_refused(body: bytes):
    with pytest.raises(HostError):
        server_name([(SERVER_NAME, body)])


def test_the_extension_twice_is_refused():
    with pytest.raises(HostError):
        server_name([(SERVER_NAME, _names(b"pass.test")), (SERVER_NAME, _names(b"listed.test"))])


@given(st.lists(st.tuples(st.sampled_from([0, 1, 16]), st.binary(max_size=80))))
def test_any_bytes_give_a_host_or_an_error(extensions: list[tuple[int, bytes]]):
    with suppress(HostError):
        assert isinstance(server_name(extensions), Host | None)


# Where the extensions are, in the first bytes of a client


def _first_flight(context: ssl.SSLContext, name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def _context(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = version
    return context


def _records(handshake: bytes, *sizes: int) -> bytes:
    """Handshake bytes in TLS records of these sizes; the rest of them in one."""
    records, start = b"", 0
    for size in (*sizes, len(handshake)):
        part = handshake[start : start + size]
        records += b"\x16\x03\x01" + _counted(part) if part else b""
        start += size
    return records


def _message(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3) + body


def _body(
    extensions: bytes | None = b"",
    *,
    session: bytes = bytes(32),
    ciphers: bytes = b"\x13\x01",
    counted: int | None = None,
) -> bytes:
    """The body of a ClientHello; `counted` is how long it says its extensions are."""
    start = b"\x03\x03" + bytes(32) + bytes([len(session)]) + session + _counted(ciphers) + b"\x01\x00"
    if extensions is None:
        return start
    return start + (len(extensions) if counted is None else counted).to_bytes(2) + extensions


def _extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2) + _counted(body)


NAME = _extension(SERVER_NAME, _names(b"listed.test"))
HELLO = _message(_body(NAME))
REAL = {
    "TLS 1.3": _first_flight(_context(ssl.TLSVersion.TLSv1_3), "listed.test"),
    "TLS 1.2": _first_flight(_context(ssl.TLSVersion.TLSv1_2), "listed.test"),
    "with GREASE, ECH and a large key share": browsers_hello("listed.test"),
    "12,000 bytes": client_hello("listed.test", padding=12_000),
    "in records of one byte": in_small_records(client_hello("listed.test")),
    "in records of one byte, long": in_small_records(browsers_hello("listed.test")),
    "in two records": _records(client_hello("listed.test")[5:], 100),
    "cut in the length of the handshake": _records(client_hello("listed.test")[5:], 2, 1),
}


@pytest.mark.parametrize("hello", REAL)
def test_the_name_in_a_real_hello_is_read(hello: str):
    extensions = extensions_of(REAL[hello])
    assert extensions is not None
    assert server_name(extensions) == Host.parse("listed.test")


@pytest.mark.parametrize("hello", REAL)
def test_a_hello_that_is_not_whole_is_waited_for(hello: str):
    data = REAL[hello]
    for end in {*range(min(len(data), 2000)), *range(len(data) - 40, len(data))}:
        assert extensions_of(data[:end]) is None


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"\x14\x03\x03\x00\x01\x01", id="a change of cipher"),
        pytest.param(b"\x17\x03\x03\x00\x10" + bytes(16), id="early data"),
        pytest.param(client_hello("pass.test"), id="another hello"),
        pytest.param(b"\xff" * 100_000, id="garbage"),
    ],
)
@pytest.mark.parametrize("hello", REAL)
def test_what_follows_the_records_of_a_hello_changes_nothing(hello: str, more: bytes):
    assert extensions_of(REAL[hello] + more) == extensions_of(REAL[hello])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_real_hello_without_a_name_names_nobody(version: ssl.TLSVersion):
    extensions = extensions_of(_first_flight(_context(version), None))
    assert extensions
    assert server_name(extensions) is None


@pytest.mark.parametrize("extensions", [None, b""], ids=["no length", "no extension"])
def test_a_hello_without_extensions_names_nobody(extensions: bytes | None):
    assert extensions_of(_records(_message(_body(extensions)))) == []


def test_all_names_of_a_hello_are_handed_over():
    extensions = extensions_of(_records(_message(_body(NAME + _extension(0x0A0A, b"") + NAME))))
    assert extensions == [(SERVER_NAME, NAME[4:]), (0x0A0A, b""), (SERVER_NAME, NAME[4:])]
    assert extensions_of(hello_with_names(b"pass.test", b"listed.test"))[0] == (
        SERVER_NAME,
        _names(b"pass.test", b"listed.test"),
    )


NO_HELLO = [
    # Records, RFC 8446, section 5.1
    pytest.param(b"\x16\x03\x01\x00\x00" + _records(HELLO), id="an empty record before it"),
    pytest.param(_records(HELLO[:50]) + b"\x16\x03\x01\x00\x00" + _records(HELLO[50:]), id="an empty record in it"),
    pytest.param(b"\x15\x03\x01\x00\x02\x01\x00" + _records(HELLO), id="an alert before it"),
    pytest.param(_records(HELLO[:50]) + b"\x15\x03\x01\x00\x02\x01\x00" + _records(HELLO[50:]), id="an alert in it"),
    pytest.param(
        _records(HELLO[:50]) + b"\x14\x03\x01\x00\x01\x01" + _records(HELLO[50:]), id="a change of cipher in it"
    ),
    pytest.param(_records(HELLO[:50]) + b"\x17\x03\x03\x00\x01\x01" + _records(HELLO[50:]), id="data in it"),
    pytest.param(_records(HELLO[:50]) + b"\x18\x03\x03\x00\x01\x01" + _records(HELLO[50:]), id="a heartbeat in it"),
    pytest.param(b"\x16\x02\x00" + _counted(HELLO), id="the record of another version"),
    pytest.param(b"\x16\x03\x04" + _counted(HELLO), id="the record of a later version, which mitmproxy does not read"),
    pytest.param(b"\x16\x03\x01" + _counted(HELLO + bytes(16_385 - len(HELLO))), id="a record that is too long"),
    pytest.param(b"\x16\x03\x01\xff\xff" + HELLO, id="a record that says it is too long"),
    pytest.param(b"\x80\x2e\x01\x03\x01" + bytes(50), id="SSL 2"),
    # Handshake messages, RFC 8446, section 4
    pytest.param(_records(_message(b"", 0) + HELLO), id="another message before it"),
    pytest.param(_records(_message(_body(NAME), 2)), id="another message"),
    pytest.param(_records(HELLO + b"\0"), id="a byte after it in its record"),
    pytest.param(_records(HELLO + HELLO), id="another after it in its record"),
    pytest.param(_records(HELLO + HELLO, 2, 40), id="another after it in its last record"),
    # The hello, RFC 8446, section 4.1.2
    pytest.param(_records(_message(b"")), id="nothing in it"),
    pytest.param(_records(_message(_body(NAME)[:34])), id="cut before the session id"),
    pytest.param(_records(_message(_body(NAME)[:60])), id="cut in the session id"),
    pytest.param(_records(_message(_body(NAME)[:67])), id="cut before the cipher suites"),
    pytest.param(_records(_message(_body(NAME)[:68])), id="cut in the length of the cipher suites"),
    pytest.param(_records(_message(_body(NAME)[:70])), id="cut in the cipher suites"),
    pytest.param(_records(_message(_body(NAME)[:71])), id="cut before the compressions"),
    pytest.param(_records(_message(_body(NAME)[:72])), id="cut in the compressions"),
    pytest.param(_records(_message(_body(NAME)[:74])), id="cut in the length of the extensions"),
    pytest.param(_records(_message(_body(NAME)[:-1])), id="cut in an extension"),
    pytest.param(_records(_message(_body(NAME, ciphers=b"\x13\x01\x13"))), id="half a cipher suite"),
    pytest.param(_records(_message(_body(NAME) + b"\0")), id="a byte after the extensions"),
    pytest.param(_records(_message(_body(NAME, counted=len(NAME) - 1))), id="extensions said to be shorter"),
    pytest.param(_records(_message(_body(NAME, counted=len(NAME) + 1))), id="extensions said to be longer"),
    pytest.param(_records(_message(_body(NAME, counted=0))), id="extensions said to be none"),
    pytest.param(_records(_message(_body(NAME + b"\0"))), id="an extension of one byte"),
    pytest.param(_records(_message(_body(NAME + b"\0\x10\0"))), id="an extension of three bytes"),
    pytest.param(_records(_message(_body(NAME + b"\0\x10\0\x01"))), id="an extension that says it is longer"),
]


@pytest.mark.parametrize("data", NO_HELLO)
def test_what_two_readers_could_take_in_two_ways_is_no_hello(data: bytes):
    with pytest.raises(HelloError):
        extensions_of(data)
    for end in range(min(len(data), 300)):
        assert _outcome(data[:end]) in (None, HelloError)


def _outcome(data: bytes) -> list[tuple[int, bytes]] | type[HelloError] | None:
    try:
        return extensions_of(data)
    except HelloError:
        return HelloError


# How long it may be


def _long(length: int, size: int = 16_000) -> bytes:
    """A hello that is so long with its records, of `size` bytes."""
    handshake = length - 5 * -(-length // (size + 5))
    padding = _extension(21, bytes(handshake - len(HELLO) - 4))
    return _records(_message(_body(NAME + padding)), *[size] * (handshake // size))


def _as_some_proxies_read(data: bytes) -> bytes:
    """The bytes after the header of the first record, whatever the borders of the records behind it."""
    return data[5:]


def test_a_hello_goes_on_in_one_record_in_which_every_reader_finds_the_same_names():
    decoy = _extension(0xFF77, b"x" * 20 + bytes.fromhex("0000001400")) + _extension(0x1200, b"www.listed.test")
    whole = _message(_body(decoy + NAME))
    cut = _records(whole, whole.index(b"x" * 20) + 10)
    assert cut.count(b"\x16\x03\x01") == 2
    joined = in_one_record(cut)
    assert joined == _records(whole)
    assert _as_some_proxies_read(joined) == whole
    assert extensions_of(joined) == extensions_of(cut)


@pytest.mark.parametrize("sizes", [(), (1,), (4,), (1,) * 60, (50, 50)])
def test_borders_of_records_change_nothing_but_the_records(sizes: tuple[int, ...]):
    assert in_one_record(_records(HELLO, *sizes)) == _records(HELLO)


def test_a_hello_that_fits_in_no_record_goes_nowhere():
    assert in_one_record(_long(16 * 1024 + 5, 16 * 1024))
    with pytest.raises(HelloError, match="does not fit in one record"):
        in_one_record(_long(MAX_HELLO, 16_000))


@pytest.mark.parametrize("size", [100, 16_000])
def test_the_longest_hello_is_read(size: int):
    data = _long(MAX_HELLO, size)
    assert len(data) == MAX_HELLO
    assert server_name(extensions_of(data)) == Host.parse("listed.test")
    assert extensions_of(data[:-1]) is None


@pytest.mark.parametrize("size", [100, 16_000])
def test_a_longer_hello_is_not_waited_for(size: int):
    data = _long(MAX_HELLO + 1, size)
    assert len(data) == MAX_HELLO + 1
    assert _outcome(data) is HelloError
    assert _outcome(data[:MAX_HELLO]) is HelloError
    assert _outcome(data[:60_000]) is None


def test_a_hello_that_says_it_is_endless_is_not_waited_for():
    endless = b"\x01\xff\xff\xff" + bytes(MAX_HELLO)
    for size in (16_384, 1):
        assert _outcome(_records(endless, *[size] * (len(endless) // size))) is HelloError


def test_a_hello_in_the_most_records_is_read():
    handshake = _message(_body(NAME + _extension(21, bytes(3000))))
    most = _records(handshake, *[1] * (MAX_RECORDS - 1))
    assert server_name(extensions_of(most)) == Host.parse("listed.test")
    assert _outcome(_records(handshake, *[1] * MAX_RECORDS)) is HelloError


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_records(b"\x01\0\xff\xff" + bytes(MAX_HELLO), *[1] * (MAX_RECORDS - 1)), id="many records"),
        pytest.param(_records(_message(_body(_extension(1, b"") * 4000))), id="many extensions"),
    ],
)
def test_a_hello_made_to_be_slow_is_read_at_once(data: bytes):
    def read() -> None:
        for _ in range(10):
            _outcome(data[: 6 * (MAX_RECORDS - 1)])
            _outcome(data)

    assert million_steps(read) < 20


# However the bytes are cut, and whatever they are

BODIES = st.sampled_from([REAL["TLS 1.3"][9:], REAL["TLS 1.2"][9:], browsers_hello("pass.test")[9:], HELLO[4:]])
PLACES = st.sampled_from([34, 35, 67, 68, 69, 70]) | st.integers(0, 2000)
CHANGES = st.lists(
    st.tuples(PLACES, st.integers(0, 3), st.binary(max_size=3) | st.just(NAME) | st.just(_names(b"pass.test"))),
    max_size=3,
)
SIZES = st.lists(st.integers(0, 300), max_size=6)


def _changed(body: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, lost, gained in changes:
        body = body[:place] + gained + body[place + lost :]
    return body


HELLOS = st.builds(
    lambda body, changes, sizes, lost: _records(_message(_changed(body, changes))[: -lost or None], *sizes),
    *(BODIES, CHANGES, SIZES, st.sampled_from([0, 0, 0, 1, 20])),
)
ANY = HELLOS | st.builds(_changed, HELLOS, CHANGES) | st.binary(max_size=80).map(lambda data: b"\x16\x03\x01" + data)


@settings(max_examples=examples(400))
@given(ANY, st.binary(max_size=10))
@example(_records(HELLO + b"\0"), b"")
@example(_records(HELLO, 3) + b"\x15", b"")
def test_a_decision_never_changes_with_more_bytes(data: bytes, more: bytes):
    """A client that sends its hello one by one is read no differently from one that sends it at once."""
    whole = _outcome(data + more)
    for end in {*range(min(len(data), 100)), *range(0, len(data), 7), *range(len(data) - 30, len(data) + 1)}:
        if end >= 0:
            assert _outcome(data[:end]) in (None, whole)


@settings(max_examples=examples(1500))
@given(ANY)
@example(_records(_message(_body(NAME, ciphers=b"\x13\x01\x13"))))
@example(b"\x16\x03\x04" + _counted(HELLO))
def test_both_doors_read_a_hello_in_the_same_way(data: bytes):
    """mitmproxy reads the hellos of all other modes. It takes none with odd protocols (ALPN): those name nobody."""
    extensions = _outcome(data)
    if not isinstance(extensions, list):
        return
    try:
        name = server_name(extensions)
    except HostError:
        name = None
    try:
        hello = parse_client_hello(data)
    except ValueError:
        assert name is None or 16 in dict(extensions)
        return
    assert hello is not None
    assert hello.extensions == extensions


@given(st.binary(max_size=200))
def test_any_bytes_give_extensions_or_an_error(data: bytes):
    assert isinstance(_outcome(data), list | type(None) | type)
