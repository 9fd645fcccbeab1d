"""The name in a ClientHello: the bytes of its extension, and nothing but one readable host in them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.clienthello import SERVER_NAME, server_name
from stoplist.core.hosts import Host, HostError


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
