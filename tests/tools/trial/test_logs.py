"""Logs: each format by lines as the programs write or document them, and by whatever else a file may hold.

tests/e2e/test_trial.py has the programs themselves write them. Zeek's and Suricata's lines are of their documentation
(Zeek: "JSON logs", http.log, ssl.log, dns.log; Suricata: "EVE JSON format", events http, tls, quic and dns of versions 2
and 3).
"""

# ruff: noqa: E501  a line of a log is as long as it is

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import warnings
import zoneinfo
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, timedelta

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy.test import tflow

from stoplist.errors import StoplistError
from stoplist.tools.trial.logs import flows, formats, har
from stoplist.tools.trial.logs.formats import LINE_FORMATS, LineFormat
from stoplist.tools.trial.logs.inputs import BLOCK, Input
from stoplist.tools.trial.logs.reading import MAX_LINE, Reading
from stoplist.tools.trial.logs.stamps import day_of, unix
from stoplist.tools.trial.logs.targets import host_of
from tests.examples import examples
from tests.fixed_time import NOW
from tests.pace import million_steps

READ_AT = NOW + timedelta(days=1)
# fixed time: what programs wrote in their logs a while before they are read

SQUID = b"""\
1795329488.123    456 192.0.2.7 TCP_TUNNEL/200 4512 CONNECT www.pass.test:443 - HIER_DIRECT/192.0.2.2 -
1795329488.123      0 192.0.2.7 TCP_DENIED/403 3512 CONNECT [2001:db8::1]:443 - HIER_NONE/- text/html
1795329500.001     12 192.0.2.7 TCP_MISS/200 512 GET http://listed.test/path?next=http://other.test/ anna HIER_DIRECT/192.0.2.2 -
1795329500.001     12 192.0.2.7 TCP_MISS_ABORTED/000 0 POST http://user:secret@LISTED.test:8080/ - HIER_DIRECT/192.0.2.2 -
1795329500.999      0 2001:db8::7 NONE_NONE/400 3800 - error:invalid-request - HIER_NONE/- text/html
1795329500.999      0 192.0.2.7 NONE/000 0 NONE error:transaction-end-before-headers - HIER_NONE/- -
1795329501.000      3 192.0.2.7 TCP_MISS/200 9 GET ftp://files.test/a%20b - HIER_DIRECT/192.0.2.2 text/plain
"""
COMBINED = b"""\
192.0.2.7 - - [21/Nov/2026:23:58:08 -0500] "CONNECT www.pass.test:443 HTTP/1.1" 200 39 "-" "curl/8.0"
192.0.2.7 - anna smith [21/Nov/2026:23:58:08 +0000] "GET http://listed.test/?q=[a] HTTP/1.1" 200 5 "http://other.test/" "a \\" b"
192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "-" 408 0 "-" "-"
192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "" 400 0 "-" "-"
192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "NONE error:invalid-request HTTP/1.1" 400 3500 "-" "-" NONE_NONE:HIER_NONE
192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "\\x16\\x03\\x01" 400 150 "-" "-"
192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "GET /path HTTP/1.1" 200 5 "http://other.test/" "-"
"""
VHOSTS = b"""\
www.pass.test:443 192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "GET /path?a=http://other.test/ HTTP/1.1" 200 5 "-" "-"
[2001:db8::1]:80 192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "GET / HTTP/1.1" 200 5 "-" "-"
proxy.test:80 192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "GET http://listed.test/path HTTP/1.1" 200 5 "-" "-"
proxy.test:80 192.0.2.7 - - [22/Nov/2026:00:00:09 +0000] "-" 408 0 "-" "-"
"""
DNSMASQ = b"""\
Nov 22 06:38:19 dnsmasq[123]: started, version 2.90 cachesize 150
Nov 22 06:38:19 dnsmasq[123]: query[A] www.pass.test from 192.0.2.7
Nov 22 06:38:19 dnsmasq[123]: forwarded www.pass.test to 192.0.2.53
Nov 22 06:38:19 dnsmasq[123]: reply www.pass.test is 192.0.2.2
Nov  1 06:38:20 router dnsmasq[123]: 17 192.0.2.7/53211 query[type=65] listed.test from 192.0.2.7
2026-11-22T06:38:19.123456+01:00 router dnsmasq[123]: query[AAAA] listed.test from 2001:db8::7
dnsmasq: query[SRV] _x._tcp.pass.test from 127.0.0.1
Nov 22 06:38:20 dnsmasq-dhcp[123]: DHCPACK(eth0) 192.0.2.7 02:00:00:00:00:01 laptop
"""
UNBOUND = b"""\
[1795329488] unbound[123:0] notice: init module 0: iterator
[1795329488] unbound[123:0] info: start of service (unbound 1.17.1).
[1795329488] unbound[123:0] info: 192.0.2.7 www.pass.test. A IN
[1795329488] unbound[123:1] info: 2001:db8::7 listed.test. TYPE65 IN
[1795329488] unbound[123:0] info: 192.0.2.7 listed.test. A IN NOERROR 0.012345 0 45
Nov 22 06:38:19 unbound[123:0] info: query: 192.0.2.7 listed.test. A IN
Nov 22 06:38:19 router unbound[123]: [123:0] info: 192.0.2.7 listed.test. A IN
Nov 22 06:38:19 router unbound: [123:0] info: 192.0.2.7 . NS IN
"""
BIND = b"""\
22-Nov-2026 06:38:19.123 queries: info: client @0x7f2a8c 192.0.2.7#53211 (www.pass.test): query: www.pass.test IN A +E(0)K (192.0.2.53)
22-Nov-2026 06:38:19.123 client 192.0.2.7#53211 (listed.test): view internal: query: listed.test IN HTTPS + (192.0.2.53)
22-Nov-2026 06:38:19.123 general: info: running
2026-11-22T06:38:19.123Z queries: info: client @0x7f 2001:db8::7#53 (listed.test): query: listed.test IN A -E(0)DC (192.0.2.53)
Nov 22 06:38:19 router named[123]: client @0x7f 192.0.2.7#53/key office (listed.test): query: listed.test IN A + (192.0.2.53)
Nov 22 06:38:19 router named[123]: zone test/IN: loaded serial 1
queries: info: client @0x7f 192.0.2.7#53 (listed.test): query: listed.test IN TYPE64 + (192.0.2.53)
"""
ZEEK = b"""\
{"ts":1795329488.123456,"uid":"CHhAvVGS1DHFjwGM9","id.orig_h":"192.0.2.7","id.resp_h":"192.0.2.2","trans_depth":1,"method":"GET","host":"www.pass.test","uri":"/a?host=x","user_agent":"\\"host\\":\\"other.test\\""}
{"ts":1795329488.123456,"uid":"CHhAvVGS1DHFjwGM9","id.orig_h":"192.0.2.7","version":"TLSv13","server_name":"listed.test","resumed":false}
{"ts":"2026-11-22T06:38:19.123456Z","uid":"C1","id.orig_h":"192.0.2.7","query":"listed.test","qtype_name":"A","rejected":false}
{"ts":1795329488.123456,"uid":"C2","id.orig_h":"192.0.2.7","proto":"tcp","conn_state":"SF"}
{"ts": 1795329488.1, "host": "spaced.test"}
{"ts":1795329488.1,"host":"esc\\u0061ped.test"}
{"ts":1795329488.1,"host":
"""
SURICATA = b"""\
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"http","src_ip":"192.0.2.7","http":{"hostname":"www.pass.test","url":"/a","http_user_agent":"{}"}}
{"timestamp":"2026-11-22T06:38:19.123456+0100","flow_id":1,"in_iface":"eth0","event_type":"tls","src_ip":"192.0.2.7","tls":{"subject":"CN=x","sni":"listed.test","version":"TLS 1.3"}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"quic","src_ip":"192.0.2.7","quic":{"version":"1","sni":"listed.test"}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"dns","src_ip":"192.0.2.7","dns":{"type":"query","id":1,"rrname":"listed.test","rrtype":"A"}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"dns","src_ip":"192.0.2.7","dns":{"version":2,"type":"answer","rrname":"listed.test","rrtype":"A"}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"dns","dns":{"version":3,"type":"request","queries":[{"rrname":"listed.test","rrtype":"A"}]}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","flow_id":1,"event_type":"alert","alert":{"severity":1},"http":{"hostname":"listed.test"}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","event_type":"stats","stats":{"uptime":1}}
{"timestamp":"2026-11-22T06:38:19.123456+0000","event_type":"http","http":{"http_user_agent":"a{b","hostname":"braces.test"}}
"""
HOSTS = b"""\
# visited
www.pass.test
  LISTED.test:443   # why
https://listed.test/path#top
2001:db8::1

two words
"""


@dataclass(frozen=True)
class Sample:
    """A log, and what is in it: requests by host, lines without one, and the numbers of lines that cannot be read."""

    data: bytes
    hosts: dict[bytes, int]
    days: set[str | None]
    ignored: int = 0
    faulty: tuple[int, ...] = ()


SAMPLES = {
    "squid": Sample(
        SQUID,
        {
            b"www.pass.test:443": 1,
            b"[2001:db8::1]:443": 1,
            b"listed.test": 1,
            b"user:secret@LISTED.test:8080": 1,
            b"files.test": 1,
        },
        {"2026-11-22"},
        ignored=2,
    ),
    "combined": Sample(
        COMBINED, {b"www.pass.test:443": 1, b"listed.test": 1}, {"2026-11-22", "2026-11-21"}, ignored=3, faulty=(6, 7)
    ),
    "vhost-combined": Sample(
        VHOSTS, {b"www.pass.test": 1, b"[2001:db8::1]": 1, b"listed.test": 1}, {"2026-11-22"}, ignored=1
    ),
    "dnsmasq": Sample(
        DNSMASQ,
        {b"www.pass.test": 1, b"listed.test": 2, b"_x._tcp.pass.test": 1},
        {"2026-11-22", "2026-11-01", None},
        ignored=4,
    ),
    "unbound": Sample(UNBOUND, {b"www.pass.test.": 1, b"listed.test.": 3, b".": 1}, {"2026-11-22"}, ignored=3),
    "bind": Sample(BIND, {b"www.pass.test": 1, b"listed.test": 4}, {"2026-11-22", None}, ignored=2),
    "zeek": Sample(
        ZEEK,
        {b"www.pass.test": 1, b"listed.test": 2, b"spaced.test": 1, b"escaped.test": 1},
        {"2026-11-22"},
        ignored=1,
        faulty=(7,),
    ),
    "suricata": Sample(
        SURICATA, {b"www.pass.test": 1, b"listed.test": 4, b"braces.test": 1}, {"2026-11-22"}, ignored=3
    ),
    "hosts": Sample(
        HOSTS,
        {b"www.pass.test": 1, b"LISTED.test:443": 1, b"listed.test": 1, b"2001:db8::1": 1},
        {None},
        ignored=2,
        faulty=(7,),
    ),
}
BY_NAME = {each.name: each for each in LINE_FORMATS}


@dataclass
class Cut(Input):
    """An input whose blocks end where a test wants."""

    sizes: Sequence[int] = ()

    def blocks(self) -> Iterator[bytes]:
        for size in self.sizes:
            yield from self._next(size)
        while block := list(self._next(BLOCK)):
            yield from block

    def _next(self, size: int) -> Iterator[bytes]:
        if block := self.stream.read(size):
            self.consumed += len(block)
            yield block


@dataclass
class Result:
    requests: Counter[tuple[bytes, bytes]]
    ignored: int
    unparsable: int
    told: tuple[int, ...]
    format: str | None
    fault: str | None

    @property
    def hosts(self) -> dict[bytes, int]:
        hosts = Counter[bytes]()
        for (_, host), number in self.requests.items():
            hosts[host] += number
        return dict(hosts)

    @property
    def days(self) -> set[str | None]:
        days = {day_of(stamp, UTC, READ_AT) for stamp, _ in self.requests}
        return {day and day.isoformat() for day in days}


def read(
    data: bytes,
    format_name: str | None = None,
    *,
    name: str = "log",
    column: str | None = None,
    sizes: Sequence[int] | None = None,
) -> Result:
    stream = io.BytesIO(data)
    source = Input(name, stream, len(data)) if sizes is None else Cut(name, stream, len(data), sizes=sizes)
    reading = Reading(source, format_name, column)
    found = Result(Counter(), 0, 0, (), None, None)
    consumed = 0
    for batch in reading.batches():
        found.requests.update(batch.requests)
        found.ignored += batch.ignored
        found.unparsable += batch.unparsable
        found.told += batch.told
        consumed += batch.consumed
    found.format, found.fault = reading.format, str(source.fault) if source.fault else None
    assert sizes is not None or consumed <= len(data)
    return found


# Formats


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_recognised_and_read(name: str) -> None:
    sample = SAMPLES[name]
    found = read(sample.data)
    assert found.format == name
    assert found.hosts == sample.hosts
    assert found.days == sample.days
    assert (found.ignored, found.unparsable, found.told) == (sample.ignored, len(sample.faulty), sample.faulty)
    assert found.fault is None
    for host in found.hosts:
        assert host == b"." or host_of(host)


@pytest.mark.parametrize("name", SAMPLES)
def test_line_ends_of_windows_comments_and_empty_lines_change_nothing(name: str) -> None:
    sample = SAMPLES[name]
    data = b"#fields\r\n\r\n" + sample.data.replace(b"\n", b"\r\n")
    found = read(data, name)
    assert (found.hosts, found.ignored, found.unparsable) == (sample.hosts, sample.ignored + 2, len(sample.faulty))
    assert read(sample.data.removesuffix(b"\n"), name).requests == read(sample.data, name).requests


LINES = [(name, line + b"\n") for name, sample in SAMPLES.items() for line in sample.data.split(b"\n")[:-1]]


@pytest.mark.parametrize("wanted", LINE_FORMATS, ids=lambda each: each.name)
def test_no_line_is_a_request_and_ignored(wanted: LineFormat) -> None:
    for _, line in LINES:
        assert not (wanted.request.match(line) and wanted.ignored.match(line))


@given(
    st.sampled_from(list(SAMPLES)),
    st.lists(st.sampled_from([line for _, line in LINES]) | st.binary(max_size=80), max_size=12).map(b"".join),
    st.lists(st.integers(1, 400), max_size=30),
)
@settings(max_examples=examples(400))
def test_any_bytes_are_read_and_where_they_are_cut_changes_nothing(name: str, data: bytes, sizes: list[int]) -> None:
    whole = read(data, name, sizes=[])
    assert read(data, name, sizes=sizes) == whole
    if name != "suricata":  # an event of DNS may hold several questions
        lines = data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
        assert not data.strip() or whole.requests.total() + whole.ignored + whole.unparsable == lines
    assert read(data, name, sizes=[1] * len(data)).requests == whole.requests


@given(st.binary(max_size=300))
@settings(max_examples=examples(300))
def test_any_bytes_have_a_format_or_are_told_to_have_none(data: bytes) -> None:
    with contextlib.suppress(StoplistError):
        read(data)


def test_a_line_without_end_is_unparsable_wherever_it_is_cut() -> None:
    long = b"x" * (MAX_LINE + 1)
    data = SQUID + long + b"\n" + SQUID + long * 3 + b"\n" + SQUID + long
    found = read(data, "squid")
    assert found.requests.total() == 15
    assert (found.unparsable, found.told) == (3, (8, 16, 24))
    assert read(data, "squid", sizes=[997, BLOCK, 1, BLOCK]) == found


HOSTILE = (
    b"a",
    b" ",
    b"[",
    b"]",
    b'"',
    b":",
    b"{",
    b",",
    b"(",
    b"1",
    b"\\",
    b'"host',
    b'"event_type":"http"',
    b"a:// ",
)
START = {"zeek": b'{"ts":1795329488.1,', "suricata": b'{"timestamp":"2026-11-22T06:38:19.123456+0000",'}


@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_takes_long(name: str) -> None:
    """A server's name, a path, a user agent: strangers choose them."""
    (first, *_) = SAMPLES[name].data.split(b"\n")
    starts = (b"", START.get(name, b""), first, first[: len(first) // 2], b"22-Nov-2026 06:38:19.123 client ")
    size = MAX_LINE // 16
    for unit in HOSTILE:
        data = b"".join(start + unit * (size // len(unit)) + b"\n" for start in starts)
        assert million_steps(functools.partial(read, data, name)) < 180, unit


def test_an_unknown_format_is_told_without_a_word_of_it() -> None:
    with pytest.raises(StoplistError) as caught:
        read(b"secret.test is what anna asked for\n")
    assert str(caught.value) == (
        "log: the format is not known; the known formats are squid, combined, vhost-combined, dnsmasq, unbound, bind, zeek, suricata, "
        "hosts, har, csv, flows; name it with --log-format"
    )


def test_an_empty_input_is_no_error() -> None:
    for data in (b"", b"\n\n", b"#close 2026\n", gzip.compress(b"")):
        assert read(data).requests.total() == 0


# What has no lines of its own

CSV = b'\xef\xbb\xbfid,"site name",why\n1,www.pass.test,"two\nlines"\n\n2, LISTED.test:80 ,\n3,https://listed.test/a,"a ""b"""\n4\n5,,x\n'


def test_a_column_of_csv() -> None:
    found = read(CSV, column="site name")
    assert (found.format, found.hosts) == ("csv", {b"www.pass.test": 1, b"LISTED.test:80": 1, b"listed.test": 1})
    assert (found.unparsable, found.told, found.days) == (2, (7, 8), {None})
    assert read(CSV, column="site name", sizes=[1] * len(CSV)) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CSV, "log.csv:1: no column 'host' among 3; name one of the header row with --column"),
        (b"host,host\n", "log.csv:1: two columns 'host'; name one of the header row with --column"),
    ],
)
def test_a_header_without_the_column_is_told_without_a_word_of_it(data: bytes, message: str) -> None:
    with pytest.raises(StoplistError) as caught:
        read(data, name="log.csv", column="host")
    assert str(caught.value) == message


def test_csv_without_a_column_is_told() -> None:
    with pytest.raises(StoplistError, match=r"^visits.csv.gz: a CSV file; name its column of hosts with --column$"):
        read(gzip.compress(CSV), name="visits.csv.gz")


@given(st.binary(max_size=200).map(lambda data: b"host,x\n" + data), st.lists(st.integers(1, 50), max_size=10))
def test_any_csv_is_read(data: bytes, sizes: list[int]) -> None:
    assert read(data, column="host", sizes=sizes) == read(data, column="host")


def har_of(*urls: str, **more: object) -> bytes:
    entries = [
        {"startedDateTime": "2026-11-22T06:38:19.123+01:00", "request": {"headers": [{"url": "x"}], "url": url}, **more}
        for url in urls
    ]
    return json.dumps(
        {"log": {"version": "1.2", "creator": {"name": "entries"}, "entries": entries, "pages": []}}
    ).encode()


def test_a_har_is_read_wherever_it_is_cut() -> None:
    data = har_of("https://listed.test/a", "http://www.pass.test:8080/", "data:text/plain,x", "wss://listed.test/")
    found = read(data)
    assert (found.format, found.hosts) == ("har", {b"listed.test": 2, b"www.pass.test:8080": 1})
    assert (found.ignored, found.unparsable, found.fault, found.days) == (1, 0, None, {"2026-11-22"})
    for size in (1, 7, 100):
        assert read(data, "har", sizes=[size] * len(data)) == found
    assert read(b"\xef\xbb\xbf" + data, name="x.har").requests == found.requests


def test_of_a_har_that_was_cut_off_the_first_entries_are_kept() -> None:
    data = har_of("https://listed.test/a", "https://listed.test/b")
    found = read(data[:-60])
    assert found.hosts == {b"listed.test": 1}
    assert found.fault == f"log: byte {len(data) - 60}: the HAR ends in the middle; save it again"
    assert read(b'{"log":{"pages":[]}}', "har").fault == "log: byte 20: no HAR: it has no entries; save it again"


def test_an_entry_that_is_too_large_is_told() -> None:
    data = har_of("https://listed.test/", text="x" * (har.MAX_ENTRY + 2 * BLOCK))
    assert "an entry of the HAR is larger than 8 MiB, or broken; save it without" in str(read(data).fault)
    assert read(har_of("https://listed.test/", text="x" * (har.MAX_ENTRY - BLOCK))).hosts == {b"listed.test": 1}


def tnetstring(value: object) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library of mitmproxy's
        from mitmproxy.io import tnetstring
    return tnetstring.dumps(value)


def flow_file() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a library of mitmproxy's
        from mitmproxy.io import FlowWriter
    file = io.BytesIO()
    writer = FlowWriter(file)
    plain, address, named, tunnel = tflow.tflow(), tflow.tflow(resp=True), tflow.tflow(), tflow.ttcpflow()
    plain.request.host = "listed.test"
    plain.request.content = b"}" * (3 * BLOCK)
    address.request.host, address.request.headers["host"] = "192.0.2.2", "www.pass.test:80"
    named.request.host, named.request.headers["host"] = "2001:db8::1", ""
    tunnel.client_conn.sni = "listed.test"
    for each in (plain, address, named, tunnel):
        each.client_conn.timestamp_start = 1795329488.5
        writer.add(each)
    unnamed = tflow.ttcpflow()
    unnamed.server_conn.address = ("192.0.2.9", 22)
    unnamed.client_conn.sni = None
    writer.add(unnamed)
    writer.add(tflow.tdnsflow())
    writer.add(tflow.twebsocketflow())
    return file.getvalue()


FLOWS = flow_file()
ASKED = {
    b"listed.test": 2,
    b"www.pass.test:80": 1,
    b"192.0.2.9": 1,
    b"dns.google": 1,
    b"example.com": 1,
}


def test_a_flow_file_of_mitmproxy_is_read_wherever_it_is_cut() -> None:
    found = read(FLOWS)
    assert found.format == "flows"
    assert found.hosts == ASKED
    assert (found.ignored, found.fault) == (1, None)
    for sizes in ([1] * 3000, [4093] * 1000):
        assert read(FLOWS, "flows", sizes=sizes) == found


def test_of_a_flow_file_that_was_cut_off_the_first_flows_are_kept() -> None:
    found = read(FLOWS[:-100])
    assert found.hosts[b"listed.test"] == 2
    assert "the flow file ends in the middle of a flow; everything before it is counted" in str(found.fault)
    broken = read(FLOWS + b"7:rubbish}")
    assert broken.hosts == ASKED
    assert f"byte {len(FLOWS)}: broken flow file" in str(broken.fault)


@given(st.binary(max_size=200), st.sampled_from(["flows", "har"]), st.booleans())
@settings(max_examples=examples(400))
def test_any_bytes_are_flows_or_a_fault(data: bytes, name: str, is_after: bool) -> None:
    data = (b'{"log":{"entries":[' if name == "har" else b"40:4:type;4:http;") + data if is_after else data
    whole, cut = read(data, name, sizes=[]), read(data, name, sizes=[1] * len(data))
    assert (cut.requests, cut.ignored, cut.fault is None) == (whole.requests, whole.ignored, whole.fault is None)


@pytest.mark.parametrize(
    "flow",
    [
        {"type": "http", "request": {"host": b"192.0.2.1", "headers": 1.5}},
        {"type": "http", "request": {"host": b"192.0.2.1", "headers": [[1.5, b"x"]]}},
        {"type": "dns", "request": {"questions": 1.5}},
        {"type": "tcp", "server_conn": {"address": 1.5}},
        {"type": "dns", "request": {"questions": [{"name": b"listed.test"}], "timestamp": b"now"}, "extra": None},
        {"type": "http", "request": None},
        {"type": "http", "request": {"host": [b"listed.test"], "headers": []}},
    ],
)
def test_flows_with_other_values_than_mitmproxy_writes_are_read_or_broken(flow: dict[str, object]) -> None:
    """What is before them is kept."""
    found = read(FLOWS + tnetstring(flow), "flows")
    assert Counter(found.hosts) >= Counter(ASKED)
    assert found.fault is None or found.fault.endswith(": broken flow file; everything before it is counted")


def test_a_value_without_end_is_not_kept_in_memory() -> None:
    size = flows.MAX_VALUE + 1
    head = b"%d:4:type;%d:" % (size + 20, size)
    assert "broken flow file" in str(read(head + b"x" * size + b";}", "flows").fault)


# Compression


def zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
@given(cut=st.integers(0, len(SQUID)), end=st.integers(1, 200))
@example(cut=713, end=77)
@example(cut=662, end=117)
@settings(max_examples=examples(60))
def test_members_follow_each_other_and_one_may_be_cut_off(compress, cut: int, end: int) -> None:
    first = compress(SQUID[:cut])
    whole = first + compress(SQUID[cut:])
    assert read(whole) == read(SQUID)
    short = read(whole[:-end], "squid")
    if whole[:-end] == first:  # whole again, if of another log
        assert short == read(SQUID[:cut], "squid")
        return
    if len(whole) > end:
        assert "data ends in the middle; everything before it is counted; get a whole copy" in str(short.fault)
    assert short.requests <= read(SQUID).requests
    assert short.unparsable == 0


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_broken_data_is_told_with_its_place_and_what_came_before_is_kept(compress) -> None:
    good = compress(SQUID)
    found = read(good + b"rubbish that is no member" * 9)
    assert found.requests == read(SQUID).requests
    kind = "gzip" if compress is gzip.compress else "zstd"
    assert found.fault is not None
    assert found.fault.startswith("log: byte ")
    assert int(found.fault.split(":")[1].removeprefix(" byte ")) <= len(good)
    assert f"broken {kind} data" in found.fault


def test_padding_after_gzip_is_no_fault() -> None:
    assert read(gzip.compress(SQUID) + bytes(100_000)).fault is None


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_what_compresses_well_is_handed_on_in_pieces(compress) -> None:
    data = compress(bytes(200 * BLOCK))
    source = Input("log", io.BytesIO(data), len(data))
    sizes = [len(block) for block in source.blocks()]
    assert sum(sizes) == 200 * BLOCK
    assert max(sizes) <= BLOCK
    assert source.consumed == len(data)


def test_parallel_zstd_and_its_frames_to_be_skipped() -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    found = read(skipped + zstd(SQUID[:300]) + skipped + zstd(SQUID[300:]))
    assert (found.requests, found.fault) == (read(SQUID).requests, None)


# Times

PARIS = zoneinfo.ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("stamp", "day"),
    [
        pytest.param(unix(1795388399), "2026-11-22", id="Unix, before midnight in Paris"),
        pytest.param(unix(1795388400), "2026-11-23", id="Unix, from midnight on"),
        pytest.param(b"2026-11-22T22:59:59Z", "2026-11-22", id="ISO, UTC"),
        pytest.param(b"2026-11-22T23:00:00.5Z", "2026-11-23", id="ISO, UTC, tomorrow in Paris"),
        pytest.param(b"2026-11-22T23:30:00.123456+0100", "2026-11-22", id="ISO with an offset"),
        pytest.param(b"2026-11-22T18:00:00-05:00", "2026-11-23", id="ISO with a western offset"),
        pytest.param(b"2026-11-22T23:30:00", "2026-11-22", id="ISO of the machine"),
        pytest.param(b"22/Nov/2026:23:30:00 +0000", "2026-11-23", id="access log"),
        pytest.param(b"Nov 22", "2026-11-22", id="syslog, today"),
        pytest.param(b"Nov 23", "2026-11-23", id="syslog, a clock that is ahead"),
        pytest.param(b"Nov 24", "2025-11-24", id="syslog, last year"),
        pytest.param(b"Feb 29", "2024-02-29", id="syslog, the last leap year"),
        pytest.param(b"22-Nov-2026", "2026-11-22", id="BIND"),
        *(
            pytest.param(stamp, None, id=f"none: {stamp!r}")
            for stamp in (b"", b"Nov 31", b"Foo 12", b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59Z", b"31-Feb-2026")
        ),
    ],
)
def test_the_day_of_a_stamp(stamp: bytes, day: str | None) -> None:
    assert day_of(stamp, PARIS, READ_AT) == (date.fromisoformat(day) if day else None)


@given(st.binary(max_size=30) | st.from_regex(rb"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{5}:[0-9]{2} [+-][0-9]{4}"))
def test_any_stamp_has_a_day_or_none(stamp: bytes) -> None:
    day_of(stamp, PARIS, READ_AT)


def test_the_names_of_formats_are_told_apart() -> None:
    assert len(set(formats.NAMES)) == len(formats.NAMES) == len(BY_NAME) + 3
