"""Lookup: hosts and URLs, one answer a line, whatever a line holds."""

from __future__ import annotations

import io
import json
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.tools.policies import lookup
from stoplist.tools.policies.lookup import HostLookup
from tests.fixed_time import NOW
from tests.rulesets import ruleset, signed

ASKER = HostLookup(ruleset(signed("listed.example", "xn--bcher-kva.example")), NOW.timestamp())
STOP = "stop, listed (worst-of, serial 1)"
REFUSE = "refuse, a host that cannot be read"


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        pytest.param("listed.example", STOP, id="a host"),
        pytest.param("https://listed.example", STOP, id="a URL"),
        pytest.param("http://www.listed.example:8080/path?q#f", STOP, id="a URL with all there is"),
        pytest.param("https://LISTED.example/", STOP, id="upper case"),
        pytest.param("HTTPS://listed.example/", STOP, id="a scheme in upper case"),
        pytest.param("https://b\u00fccher.example/", STOP, id="another script"),
        pytest.param("https://user:password@listed.example/", STOP, id="userinfo"),
        pytest.param("https://pass.example@listed.example/", STOP, id="a user like a host"),
        pytest.param("https://pass.example:80@listed.example/", STOP, id="a user and a password like a port"),
        pytest.param("https://listed.example\\@pass.example/", STOP, id="a backslash, as browsers read it"),
        pytest.param("https://listed.example/https://pass.example/", STOP, id="a URL in a path"),
        pytest.param("https://pass.example/?https://listed.example", "pass, not listed", id="a URL in a query"),
        pytest.param("https://lis\tted.example/", STOP, id="a tab, as browsers read it"),
        pytest.param("https://listed%2eexample/", STOP, id="percent-encoded"),
        pytest.param("wss://listed.example/", STOP, id="another scheme"),
        pytest.param("https://192.0.2.1/", "pass, an IP address", id="an address"),
        pytest.param("https://[2001:db8::1]:443/", "pass, an IP address", id="an address, IPv6"),
        pytest.param("https://0x7f.1/", "refuse, an address that no client may reach", id="an address in disguise"),
        pytest.param("https://", REFUSE, id="no host"),
        pytest.param("listed.example/path", REFUSE, id="a path without a scheme"),
        pytest.param("listed.example:443", REFUSE, id="a port without a scheme"),
        pytest.param("mailto:it@listed.example", REFUSE, id="no place"),
        pytest.param("", REFUSE, id="nothing"),
    ],
)
def test_a_host_or_a_url_is_answered_for_its_host(asked: str, answer: str) -> None:
    assert lookup.as_text(ASKER, [asked], explained=False).partition(": " + answer.partition(",")[0])[2] == (
        f",{answer.partition(',')[2]}\n"
    )
    (line,) = lookup.as_json(ASKER, [asked], explained=False).splitlines()
    assert json.loads(line) == {"host": asked, **json.loads(line)}
    assert f"{json.loads(line)['action']}, {json.loads(line)['reason']}" == answer.partition(" (")[0]


@given(st.from_regex(r"https?://[a-z0-9._:@/?#\\\\-]{0,30}", fullmatch=True))
def test_the_short_way_through_a_url_leads_where_the_long_way_does(url: str) -> None:
    assert ASKER.verdict(url) == ASKER.verdict(url.replace("http", "HTTP", 1))


def of_stdin(data: bytes) -> list[str]:
    return [line for batch in lookup.batches(["-"], io.BytesIO(data)) for line in batch]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        pytest.param(b"a.example\nb.example\n", ["a.example", "b.example"], id="two"),
        pytest.param(b"a.example\nb.example", ["a.example", "b.example"], id="no newline at the end"),
        pytest.param(b"a.example\r\n b.example \n", ["a.example", "b.example"], id="newlines of Windows, spaces"),
        pytest.param(b"\n\na.example\n", ["", "", "a.example"], id="empty lines"),
        pytest.param(b"\xff\n", ["\\xff"], id="no UTF-8"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_each_line_of_stdin_is_asked(data: bytes, lines: list[str]) -> None:
    assert of_stdin(data) == lines


def test_a_line_without_an_end_takes_no_memory_and_is_refused() -> None:
    (line,) = of_stdin(b"x" * 3_000_000)
    assert len(line) == 64 * 1024
    assert lookup.as_text(ASKER, [line], explained=False).endswith(f": {REFUSE}\n")


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert lookup.as_text(ASKER, ["\x1b[2Jx"], explained=False) == f"'\\x1b[2Jx': {REFUSE}\n"


@given(st.binary(max_size=300))
def test_any_bytes_are_answered_line_by_line(data: bytes) -> None:
    asked = of_stdin(data)
    assert len(asked) == len(data.removesuffix(b"\n").split(b"\n")) if data else not asked
    for explained in (False, True):
        answers = [json.loads(line) for line in lookup.as_json(ASKER, asked, explained=explained).splitlines()]
        assert [answer["host"] for answer in answers] == asked


def test_what_has_come_is_answered_before_the_rest_has() -> None:
    class Slow(io.RawIOBase):
        pieces: ClassVar[list[bytes]] = [b"a.example\nb.ex", b"ample\n", b""]

        def read1(self, size: int = -1) -> bytes:
            return self.pieces.pop(0)

    assert list(lookup.batches(["first.example", "-"], Slow())) == [["first.example"], ["a.example"], ["b.example"]]
