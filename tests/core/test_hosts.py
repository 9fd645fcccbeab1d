"""Host: one canonical form for everything a browser reads as the same host, and an error for the rest."""

from __future__ import annotations

import json
import string
import traceback
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoplist.core.hosts import MAX_LENGTH, Host, HostError, parse_authority

SUITE = Path(__file__).parents[3] / "shared" / "suites" / "toascii.json"

# Characters that mean something to a host parser, beside whatever hypothesis thinks of.
TRICKY = st.text(
    st.sampled_from("aAxXnN-_.:[]%0127fF/\\@#? \t\x00\x7f\xadßüσςİ。．｡０ａ：＠％\u200d\ufeff\ud800①℀"), max_size=24
)
PUNYCODE = st.builds("xn--{}".format, st.text(string.ascii_lowercase + string.digits + "-", max_size=12))
ANY_HOST = (
    st.text()
    | TRICKY
    | st.lists(PUNYCODE | TRICKY, min_size=1, max_size=4).map(".".join)
    | st.ip_addresses().map(str)
    | st.ip_addresses(v=6).map("[{}]".format)
)


def shown(parse: Callable[[str | bytes], object], text: str | bytes) -> str:
    """All that a log or a crash report could show of the error that a text makes; empty where it makes none."""
    try:
        parse(text)
    except HostError as error:
        return f"{error} {error!r} {error.args!r} {''.join(traceback.format_exception(error))}"
    return ""


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("listed.example", "listed.example", id="canonical"),
        pytest.param("LISTED.Example", "listed.example", id="case"),
        pytest.param("listed.example.", "listed.example", id="trailing dot"),
        pytest.param("LISTED.EXAMPLE.", "listed.example", id="case and trailing dot"),
        pytest.param("localhost", "localhost", id="one label"),
        pytest.param("%6cisted%2Eexample", "listed.example", id="percent-encoding"),
        pytest.param("listed.example%2e", "listed.example", id="percent-encoded trailing dot"),
        pytest.param("%4C%49STED%2eEXAMPLE", "listed.example", id="percent-encoded upper case"),
        pytest.param("lis%C2%ADted.example", "listed.example", id="percent-encoded soft hyphen"),
        pytest.param("%EF%BD%8Cisted.example", "listed.example", id="percent-encoded full-width letter"),
        pytest.param("listed%E3%80%82example", "listed.example", id="percent-encoded ideographic full stop"),
        pytest.param("b%C3%BCcher.example", "xn--bcher-kva.example", id="percent-encoded UTF-8"),
        pytest.param("ｌｉｓｔｅｄ.example", "listed.example", id="full-width letters"),
        pytest.param("listed．example", "listed.example", id="full-width dot"),
        pytest.param("listed。example", "listed.example", id="ideographic full stop"),
        pytest.param("listed｡example｡", "listed.example", id="half-width full stops, one trailing"),
        pytest.param("lis\xadted.example", "listed.example", id="soft hyphen"),
        pytest.param("\xadlisted\xad.\xadexample\xad", "listed.example", id="soft hyphens at the ends of labels"),
        pytest.param("listed.example\xad.", "listed.example", id="soft hyphen before the trailing dot"),
        pytest.param("listed.example.\xad", "listed.example", id="soft hyphen after the trailing dot"),
        pytest.param("ＬＩＳＴＥＤ．ＥＸＡＭＰＬＥ．", "listed.example", id="full-width upper case, with trailing dot"),
        pytest.param("lis\u200bted.example", "listed.example", id="zero-width space"),
        pytest.param("\ufefflisted.example", "listed.example", id="byte order mark"),
        pytest.param("ⓛisted.example", "listed.example", id="circled letter"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="Unicode"),
        pytest.param("bu\u0308cher.example", "xn--bcher-kva.example", id="combining character"),
        pytest.param("BÜCHER.example", "xn--bcher-kva.example", id="Unicode upper case"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="punycode"),
        pytest.param("XN--BCHER-KVA.example", "xn--bcher-kva.example", id="punycode upper case"),
        pytest.param("ｘｎ－－ｂｃｈｅｒ－ｋｖａ.example", "xn--bcher-kva.example", id="punycode full-width"),
        pytest.param("x\xadn--bcher-kva.example.", "xn--bcher-kva.example", id="punycode with soft hyphen"),
        pytest.param("faß.example", "xn--fa-hia.example", id="sharp s stays itself"),
        pytest.param("fass.example", "fass.example", id="ss is no sharp s"),
        pytest.param("under_score.example", "under_score.example", id="underscore"),
        pytest.param("_dmarc.example", "_dmarc.example", id="leading underscore"),
        pytest.param("listed_.EXAMPLE", "listed_.example", id="trailing underscore, and case"),
        pytest.param("ｕnder＿score.example", "under_score.example", id="full-width underscore"),
        pytest.param("listed.ex_ample", "listed.ex_ample", id="underscore in the top level"),
        pytest.param("-a-.example", "-a-.example", id="hyphens at the ends"),
        pytest.param("a--b.example", "a--b.example", id="hyphens in third and fourth place"),
        pytest.param("1.example", "1.example", id="a number that is not last"),
        pytest.param("0x.example", "0x.example", id="a hexadecimal prefix that is not last"),
        pytest.param("a" * 64 + ".example", "a" * 64 + ".example", id="a label longer than DNS allows"),
    ],
)
def test_every_spelling_of_a_name_is_one_host(text: str, name: str) -> None:
    assert Host.parse(text) == Host(name, is_address=False)
    assert Host.parse(text.encode()) == Host(name, is_address=False)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", "127.0.0.1", id="IPv4"),
        pytest.param("127.0.0.1.", "127.0.0.1", "127.0.0.1", id="IPv4 with trailing dot"),
        pytest.param("0177.0.0.01", "127.0.0.1", "127.0.0.1", id="IPv4 octal"),
        pytest.param("0x7f.0x0.0X0.0x1", "127.0.0.1", "127.0.0.1", id="IPv4 hexadecimal"),
        pytest.param("0x7f000001", "127.0.0.1", "127.0.0.1", id="IPv4 hexadecimal, one part"),
        pytest.param("2130706433", "127.0.0.1", "127.0.0.1", id="IPv4 decimal, one part"),
        pytest.param("017700000001", "127.0.0.1", "127.0.0.1", id="IPv4 octal, one part"),
        pytest.param("127.1", "127.0.0.1", "127.0.0.1", id="IPv4 short"),
        pytest.param("0x7f.1", "127.0.0.1", "127.0.0.1", id="IPv4 hexadecimal, short"),
        pytest.param("0177.1.", "127.0.0.1", "127.0.0.1", id="IPv4 octal, short, with trailing dot"),
        pytest.param("0xC0.0.01001", "192.0.2.1", "192.0.2.1", id="IPv4 in three bases, short"),
        pytest.param("3221225985", "192.0.2.1", "192.0.2.1", id="IPv4 decimal, one part, not loopback"),
        pytest.param("０ｘ７ｆ。１", "127.0.0.1", "127.0.0.1", id="IPv4 hexadecimal, full-width"),
        pytest.param("127.0.0\xad.1", "127.0.0.1", "127.0.0.1", id="IPv4 with soft hyphen"),
        pytest.param("0", "0.0.0.0", "0.0.0.0", id="IPv4 zero"),
        pytest.param("127.0.1", "127.0.0.1", "127.0.0.1", id="IPv4 three parts"),
        pytest.param("0x", "0.0.0.0", "0.0.0.0", id="IPv4 empty hexadecimal"),
        pytest.param("１２７．0.0.1", "127.0.0.1", "127.0.0.1", id="IPv4 full-width"),
        pytest.param("%31%32%37.0.0.1", "127.0.0.1", "127.0.0.1", id="IPv4 percent-encoded"),
        pytest.param("[::1]", "[::1]", "::1", id="IPv6 in brackets"),
        pytest.param("::1", "[::1]", "::1", id="IPv6 without brackets"),
        pytest.param("[0:0:0:0:0:0:0:1]", "[::1]", "::1", id="IPv6 long"),
        pytest.param("2001:DB8::000A", "[2001:db8::a]", "2001:db8::a", id="IPv6 case and zeros"),
        pytest.param("[::ffff:192.0.2.1]", "[::ffff:c000:201]", "::ffff:c000:201", id="IPv4-mapped"),
        pytest.param("::ffff:192.0.2.1", "[::ffff:c000:201]", "::ffff:c000:201", id="IPv4-mapped without brackets"),
        pytest.param("[0::FFFF:C000:0201]", "[::ffff:c000:201]", "::ffff:c000:201", id="IPv4-mapped in hexadecimal"),
        pytest.param("[::192.0.2.1]", "[::c000:201]", "::c000:201", id="IPv4-compatible"),
    ],
)
def test_every_spelling_of_an_address_is_one_host(text: str, name: str, address: str) -> None:
    host = Host.parse(text)
    assert host == Host(name, is_address=True)
    assert host.address == address


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(".", id="a dot"),
        pytest.param("..", id="two dots"),
        pytest.param("listed.example..", id="two trailing dots"),
        pytest.param("。", id="an ideographic full stop"),
        pytest.param("\xad", id="only a soft hyphen"),
        pytest.param("[]", id="empty brackets"),
        pytest.param("[::1", id="open bracket"),
        pytest.param("::1]", id="closing bracket"),
        pytest.param("[::1].", id="a dot after brackets"),
        pytest.param("[127.0.0.1]", id="IPv4 in brackets"),
        pytest.param("[listed.example]", id="name in brackets"),
        pytest.param("[::01.2.3.4]", id="octal inside IPv6"),
        pytest.param("1::2::3", id="IPv6 with two gaps"),
        pytest.param("fe80::1%eth0", id="zone id without brackets"),
        pytest.param("[fe80::1%eth0]", id="zone id"),
        pytest.param("[fe80::1%25eth0]", id="zone id, percent-encoded"),
        pytest.param("[fe80::1%]", id="zone id that is empty"),
        pytest.param("[::1%1]", id="zone id of loopback"),
        pytest.param("[::ffff:0x7f.0.0.1]", id="hexadecimal inside IPv6"),
        pytest.param("[::ffff:127.1]", id="short IPv4 inside IPv6"),
        pytest.param("[v1.a]", id="IPvFuture"),
        pytest.param("256.0.0.1", id="IPv4 part too large"),
        pytest.param("4294967296", id="IPv4 too large"),
        pytest.param("1.2.3.4.5", id="IPv4 with five parts"),
        pytest.param("0x7g.1", id="IPv4 with no digit"),
        pytest.param("09.1", id="IPv4 with no octal digit"),
        pytest.param("listed.1", id="last label is a number"),
        pytest.param("listed.0x1", id="last label is a hexadecimal number"),
        pytest.param("listed.example:443", id="port"),
        pytest.param("listed.example:80", id="another port"),
        pytest.param("listed.example:", id="empty port"),
        pytest.param("listed.example%3A443", id="percent-encoded port"),
        pytest.param("listed.example：443", id="full-width port"),
        pytest.param("[::1]:80", id="IPv6 and a port"),
        pytest.param("[::1]:443", id="IPv6 and the default port"),
        pytest.param("[::1]:0443", id="IPv6 and the default port with a zero"),
        pytest.param("[::1]:", id="IPv6 and an empty port"),
        pytest.param("::1]:443", id="a port through the brackets that are added"),
        pytest.param("::1]:[", id="brackets through the brackets that are added"),
        pytest.param("user@listed.example", id="userinfo"),
        pytest.param("@listed.example", id="empty userinfo"),
        pytest.param("user:word@listed.example", id="userinfo with password"),
        pytest.param("user%40listed.example", id="percent-encoded userinfo"),
        pytest.param("user＠listed.example", id="full-width userinfo"),
        pytest.param("listed.example/", id="path"),
        pytest.param("listed.example\\", id="backslash"),
        pytest.param("listed.example%2f", id="percent-encoded path"),
        pytest.param("listed.example／", id="full-width path"),
        pytest.param("listed.example?", id="query"),
        pytest.param("listed.example#", id="fragment"),
        pytest.param("https://listed.example", id="URL"),
        pytest.param("lis\tted.example", id="tab, which a URL parser drops"),
        pytest.param("lis\nted.example", id="newline, which a URL parser drops"),
        pytest.param("listed.example\r", id="carriage return, which a URL parser drops"),
        pytest.param("lis\x00ted.example", id="NUL"),
        pytest.param("lis%00ted.example", id="percent-encoded NUL"),
        pytest.param("listed.example\x1f", id="control character at the end"),
        pytest.param("\x01listed.example", id="control character at the start"),
        pytest.param("listed\x7f.example", id="DEL"),
        pytest.param(" listed.example", id="space at the start"),
        pytest.param("listed.example ", id="space at the end"),
        pytest.param("listed%20.example", id="percent-encoded space"),
        pytest.param("listed%.example", id="bare percent sign"),
        pytest.param("listed%zz.example", id="percent sign and no digits"),
        pytest.param("%256cisted.example", id="percent-encoded twice"),
        pytest.param("％6cisted.example", id="full-width percent sign"),
        pytest.param("listed%c0%aeexample", id="percent-encoded overlong dot"),
        pytest.param("%ff.example", id="percent-encoded bytes that are not UTF-8"),
        pytest.param("\ud800.example", id="lone surrogate"),
        pytest.param("xn--a.ß", id="bad punycode in a Unicode name"),
        pytest.param("a\u200db.example", id="joiner out of context"),
        pytest.param("℀.example", id="a character that maps to a slash"),
        pytest.param("a" * (MAX_LENGTH + 1), id="longer than the cap"),
    ],
)
def test_what_is_no_host_is_an_error(text: str) -> None:
    with pytest.raises(HostError):
        Host.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff.example", id="no UTF-8 at all"),
        pytest.param(b"b\xfccher.example", id="Latin-1"),
        pytest.param(b"\xc0\xae.example", id="overlong dot"),
        pytest.param(b"\xed\xa0\x80.example", id="surrogate"),
        pytest.param(b"bu\xcc", id="cut off"),
    ],
)
def test_bytes_that_are_not_utf8_are_an_error(data: bytes) -> None:
    with pytest.raises(HostError, match="UTF-8"):
        Host.parse(data)


def test_a_host_of_the_longest_length_is_read() -> None:
    assert Host.parse("a" * MAX_LENGTH).name == "a" * MAX_LENGTH


@pytest.mark.parametrize(
    "letter", [pytest.param("ü", id="Latin"), pytest.param("中", id="Han"), pytest.param("😀", id="emoji")]
)
def test_a_text_that_punycode_makes_longer_than_the_cap_is_read_back_or_refused(letter: str) -> None:
    try:
        host = Host.parse(letter * MAX_LENGTH)
    except HostError:
        return
    assert Host.parse(host.name) == host


@given(ANY_HOST)
@example("1.2.3.4.")
@example("[::1]:443")
@example("%2e")
@example("xn--\u00df")
def test_any_text_gives_a_canonical_host_or_an_error(text: str) -> None:
    try:
        host = Host.parse(text)
    except HostError:
        return
    assert host.name.isascii()
    assert host.name == host.name.lower()
    assert host.name
    assert not host.name.endswith(".")
    assert Host.parse(host.name) == host
    assert Host.parse(host.name.upper()) == host


@given(st.binary(max_size=40))
def test_any_bytes_give_the_host_of_their_text_or_an_error(data: bytes) -> None:
    try:
        host = Host.parse(data)
    except HostError:
        return
    assert host == Host.parse(data.decode())


@given(st.text(string.ascii_lowercase + string.digits + "-_.", max_size=30) | st.text("xn-a0.", max_size=12))
@example("xn--a.example")
@example("a.xn--a")
@example("listed.0x")
@example("1.2.3.4.")
@example("a-xn--b.example")
def test_the_fast_path_says_what_the_url_parser_says(text: str) -> None:
    try:
        expected = ada_url.URL(f"https://{text}/").hostname.removesuffix(".")
    except ValueError:
        expected = ""
    try:
        name = Host.parse(text).name
    except HostError:
        name = ""
    assert name == ("" if expected.endswith(".") else expected)


@given(st.from_regex(r"[a-z0-9._-]{0,19}[a-z0-9_-]", fullmatch=True), st.booleans())
def test_upper_case_and_one_trailing_dot_change_nothing(text: str, upper: bool) -> None:
    try:
        host = Host.parse(text)
    except HostError:
        return
    assert Host.parse((text.upper() if upper else text) + ".") == host


def toascii_cases() -> list[object]:
    if not SUITE.exists():
        return [pytest.param("", None, marks=pytest.mark.skip(reason=f"{SUITE} is not there"), id="absent")]
    cases = [case for case in json.loads(SUITE.read_text()) if not isinstance(case, str)]
    return [pytest.param(case["input"], case["output"], id=ascii(case["input"])[1:60]) for case in cases]


@pytest.mark.parametrize(("text", "expected"), toascii_cases())
def test_web_platform_tests_for_toascii(text: str, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(HostError):
            Host.parse(text)
    else:
        assert Host.parse(text).name == expected


@pytest.mark.parametrize("character", list("!\"$&'()*+,;=`{}~"))
def test_a_character_that_no_site_has_in_its_name_is_refused(character: str) -> None:
    """Some servers end a name there: HAProxy takes `listed.test,x` for `listed.test`."""
    for text in (
        f"listed.test{character}",
        f"listed.test{character}x",
        f"a{character}listed.test",
        f"x.a{character}b.test",
    ):
        with pytest.raises(HostError):
            parse_authority(text)


SEEN = "seen-by-nobody"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{SEEN}.example", id="name"),
        pytest.param(f"{SEEN}.BÜCHER.example", id="name that is converted"),
    ],
)
def test_a_host_is_never_shown(text: str) -> None:
    host = Host.parse(text)
    for form in (repr(host), str(host), f"{host}", f"{[host]}", f"{host!a}", "%s" % (host,)):  # noqa: UP031  logging's way
        assert SEEN not in form


@given(st.text(max_size=5) | TRICKY, st.text(max_size=5) | TRICKY)
@example("", ".example:443")
@example("", "\t")
@example("[", "]")
@example("u@", ".example")
@example("%ff", "")
@example("a" * MAX_LENGTH, "")
def test_an_error_never_shows_the_host(before: str, after: str) -> None:
    for parse in (Host.parse, parse_authority):
        assert SEEN not in shown(parse, before + SEEN + after)


@pytest.mark.parametrize("parse", [pytest.param(Host.parse, id="host"), pytest.param(parse_authority, id="authority")])
def test_an_error_for_bytes_never_shows_them(parse: Callable[[str | bytes], object]) -> None:
    report = shown(parse, SEEN.encode() + b"\xff")
    assert "UTF-8" in report
    assert SEEN not in report


def test_a_host_is_frozen() -> None:
    host = Host.parse("listed.example")
    with pytest.raises(FrozenInstanceError):
        host.name = "other.example"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        pytest.param("listed.example:443", "listed.example", 443, id="host and port"),
        pytest.param("listed.example", "listed.example", None, id="host alone"),
        pytest.param("listed.example:", "listed.example", None, id="empty port (RFC 3986, section 3.2.3)"),
        pytest.param("LISTED.example.:8443", "listed.example", 8443, id="canonical host"),
        pytest.param("listed.example:1", "listed.example", 1, id="lowest port"),
        pytest.param("listed.example:65535", "listed.example", 65535, id="highest port"),
        pytest.param("listed.example:00443", "listed.example", 443, id="leading zeros"),
        pytest.param("0x7f.1:80", "127.0.0.1", 80, id="IPv4"),
        pytest.param("[::1]:443", "[::1]", 443, id="IPv6 and port"),
        pytest.param("[::1]", "[::1]", None, id="IPv6 alone"),
        pytest.param("[::1]:", "[::1]", None, id="IPv6 and empty port"),
        pytest.param("xn--fa-hia.example:443", "xn--fa-hia.example", 443, id="punycode"),
        pytest.param("faß.example:443", "xn--fa-hia.example", 443, id="Unicode"),
    ],
)
def test_an_authority_is_a_host_and_a_port(text: str, host: str, port: int | None) -> None:
    for authority in (text, text.encode()):
        parsed, parsed_port = parse_authority(authority)
        assert (parsed.name, parsed_port) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(":443", id="port alone"),
        pytest.param("listed.example:0", id="port 0"),
        pytest.param("listed.example:65536", id="port too large"),
        pytest.param("listed.example:000443", id="port too long"),
        pytest.param("listed.example:+443", id="signed port"),
        pytest.param("listed.example:-1", id="negative port"),
        pytest.param("listed.example: 443", id="space before the port"),
        pytest.param("listed.example:443 ", id="space after the port"),
        pytest.param("listed.example:443\n", id="newline at the end"),
        pytest.param("listed.example:٤٤٣", id="digits of another script"),
        pytest.param("listed.example:443:443", id="two ports"),
        pytest.param("listed.example:https", id="port by name"),
        pytest.param("::1", id="IPv6 without brackets"),
        pytest.param("::1:443", id="IPv6 without brackets and a port"),
        pytest.param("[::1]443", id="no colon after the bracket"),
        pytest.param("[[::1]]:443", id="two brackets"),
        pytest.param("[::1]:443:443", id="IPv6 and two ports"),
        pytest.param("user@listed.example:443", id="userinfo"),
        pytest.param("user:word@listed.example:443", id="userinfo with password"),
        pytest.param("listed.example@other.example:443", id="a host as userinfo"),
        pytest.param("other.example%40listed.example:443", id="a host as percent-encoded userinfo"),
        pytest.param("[fe80::1%25eth0]:443", id="zone id"),
        pytest.param("listed.example..:443", id="two trailing dots"),
        pytest.param("listed.example/:443", id="path"),
        pytest.param("https://listed.example:443", id="URL"),
    ],
)
def test_what_is_no_authority_is_an_error(text: str) -> None:
    with pytest.raises(HostError):
        parse_authority(text)


def test_an_authority_that_is_not_utf8_is_an_error() -> None:
    with pytest.raises(HostError, match="UTF-8"):
        parse_authority(b"\xff.example:443")


@given(ANY_HOST, st.none() | st.integers(1, 65535))
def test_an_authority_names_the_host_that_stands_in_it(text: str, port: int | None) -> None:
    try:
        host = Host.parse(text)
    except HostError:
        return
    assert parse_authority(host.name if port is None else f"{host.name}:{port}") == (host, port)


@given(ANY_HOST | st.builds("{}:{}".format, ANY_HOST, st.integers(-1, 99999)))
def test_any_authority_gives_a_host_and_a_port_or_an_error(text: str) -> None:
    try:
        host, port = parse_authority(text)
    except HostError:
        return
    assert Host.parse(host.name) == host
    assert port is None or 0 < port < 65536
