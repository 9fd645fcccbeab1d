"""Dns: a listed name is answered here, any other query goes on as it came. Events in, commands out."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import mitmproxy.dns
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context

from stoplist.core.decide import Action, Reason, Ruleset, decide
from stoplist.core.hosts import Host, HostError
from stoplist.errors import StoplistError
from stoplist.proxy.mitm.layers.dns_layer import Dns
from tests.examples import examples
from tests.proxy.judges import Store, judge_by
from tests.rulesets import ruleset, signed

LISTED = ruleset(signed("listed.example", "xn--bcher-kva.test"))
DEMANDED = ruleset(signed("listed.example"), status=451)
OBSERVED = ruleset(signed("listed.example"), mode="observe")
EXPIRED = ruleset(signed("listed.example"), when_expired="refuse-all")
TYPES = ["A", "AAAA", "HTTPS", "SVCB", "TXT", "MX", "NS", "SOA", "CNAME", "PTR", "ANY", "TYPE65280"]


STORES = {id(rules): Store.of(rules) for rules in (LISTED, DEMANDED, OBSERVED, EXPIRED)}


class Wire:
    """A client of the layer, with a resolver behind it that answers nothing by itself."""

    def __init__(self, rules: Ruleset = LISTED, *, protocol: str = "udp", reachable: bool = True) -> None:
        client = Client(
            peername=("198.51.100.2", 1),
            sockname=("198.51.100.1", 53),
            timestamp_start=0,
            transport_protocol=protocol,
            state=ConnectionState.OPEN,
        )
        self.judge, self.counted = judge_by(STORES[id(rules)])
        self.context = Context(client, Options())
        self.context.server.address = ("192.0.2.53", 53)
        self.layer = Dns(self.context, self.judge)
        self.reachable = reachable
        self.opened = 0
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.closed: list[object] = []
        self._handle(events.Start())

    def send(self, *segments: bytes) -> None:
        for segment in segments:
            self._handle(events.DataReceived(self.context.client, segment))

    def answer(self, data: bytes) -> None:
        self._handle(events.DataReceived(self.context.server, data))

    def end(self, connection: object, state: ConnectionState = ConnectionState.CLOSED) -> None:
        connection.state = state
        self._handle(events.ConnectionClosed(connection))

    def _handle(self, event: events.Event) -> None:
        waiting = [event]
        while waiting:
            for command in self.layer.handle_event(waiting.pop(0)):
                match command:
                    case commands.SendData():
                        is_client = command.connection is self.context.client
                        (self.to_client if is_client else self.to_server).append(command.data)
                    case commands.OpenConnection():
                        assert command.connection is self.context.server
                        self.opened += 1
                        if self.reachable:
                            command.connection.state = ConnectionState.OPEN
                        error = None if self.reachable else "Connect call failed"
                        waiting.append(events.OpenConnectionCompleted(command, error))
                    case commands.CloseConnection():
                        self.closed.append(command.connection)
                    case _:
                        raise AssertionError(command)

    def said(self) -> dns.message.Message:
        """The one answer that the client got, and nothing went anywhere else."""
        assert (self.opened, self.to_server) == (0, [])
        (answer,) = self.to_client
        return dns.message.from_wire(answer)


def query(name: str | dns.name.Name, kind: str = "A", *, edns: int = -1, **options: object) -> bytes:
    return dns.message.make_query(name, kind, use_edns=edns, **options).to_wire()


def changed(
    wire: bytes, *, flags: int = 0, counts: tuple[int, int, int, int] | None = None, more: bytes = b""
) -> bytes:
    """A query with flags added, with other counts of records, with bytes at its end."""
    identity, old, *rest = struct.unpack_from("!6H", wire)
    return struct.pack("!6H", identity, old | flags, *(counts or rest)) + wire[12:] + more


def framed(*messages: bytes) -> bytes:
    """Messages as TCP carries them (RFC 1035, section 4.2.2)."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


def reasons(message: dns.message.Message) -> list[int]:
    """The extended errors of an answer (RFC 8914)."""
    return [option.code for option in message.options if isinstance(option, dns.edns.EDEOption)]


# Listed names


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("listed.example.", id="listed"),
        pytest.param("www.listed.example.", id="below a listed domain"),
        pytest.param("LISTED.EXAMPLE.", id="upper case"),
        pytest.param("wWw.LiStEd.eXaMpLe.", id="mixed case (0x20)"),
        pytest.param("_8443._https.listed.example.", id="a service of a listed domain"),
        pytest.param("*.listed.example.", id="a wildcard"),
        pytest.param("xn--bcher-kva.test.", id="punycode"),
    ],
)
def test_a_listed_name_is_blocked_whatever_is_asked_of_it(name: str, kind: str) -> None:
    wire = Wire()
    asked = query(name, kind)
    wire.send(asked)
    answer = wire.said()
    assert answer.rcode() is dns.rcode.NXDOMAIN
    assert dns.message.from_wire(asked).is_response(answer)
    assert answer.question[0].name.to_text() == name
    assert (answer.answer, answer.authority, answer.additional) == ([], [], [])
    assert [(v.action, v.reason) for v in wire.counted.verdicts] == [(Action.STOP, Reason.LISTED)]


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        pytest.param(LISTED, dns.edns.EDECode.BLOCKED, id="blocked"),
        pytest.param(DEMANDED, dns.edns.EDECode.CENSORED, id="censored, where the law demands it"),
    ],
)
def test_who_takes_edns_is_told_why(rules: Ruleset, code: dns.edns.EDECode) -> None:
    wire = Wire(rules)
    wire.send(query("listed.example", edns=0, payload=1232, want_dnssec=True))
    answer = wire.said()
    assert (answer.rcode(), answer.edns, reasons(answer)) == (dns.rcode.NXDOMAIN, 0, [code])


@pytest.mark.parametrize("rules", [pytest.param(LISTED, id="blocked"), pytest.param(DEMANDED, id="censored")])
def test_who_does_not_take_edns_gets_none(rules: Ruleset) -> None:
    wire = Wire(rules)
    wire.send(query("listed.example"))
    assert wire.said().edns == -1


def test_a_small_buffer_and_padding_and_cookies_change_nothing() -> None:
    wire = Wire()
    options = [dns.edns.GenericOption(12, bytes(100)), dns.edns.GenericOption(10, bytes(8))]
    wire.send(query("listed.example", edns=0, payload=0, options=options))
    assert (wire.said().rcode(), reasons(wire.said())) == (dns.rcode.NXDOMAIN, [dns.edns.EDECode.BLOCKED])


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        pytest.param(0, dns.flags.RD, id="recursion is desired"),
        pytest.param(dns.flags.CD | dns.flags.AD, dns.flags.RD, id="checking is disabled"),
        pytest.param(dns.flags.TC | dns.flags.AA | dns.flags.RA, dns.flags.RD, id="flags of an answer"),
    ],
)
def test_an_answer_has_the_flags_of_one(flags: int, kept: int) -> None:
    wire = Wire()
    wire.send(changed(query("listed.example"), flags=flags))
    answer = wire.said()
    assert answer.rcode() is dns.rcode.NXDOMAIN
    assert answer.flags & ~0xF == dns.flags.QR | dns.flags.RA | kept


def test_another_class_is_no_way_round() -> None:
    wire = Wire()
    wire.send(dns.message.make_query("listed.example", "TXT", "CH").to_wire())
    assert wire.said().rcode() is dns.rcode.NXDOMAIN


def test_a_listed_name_over_tcp_is_blocked_in_a_frame() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(query("listed.example", edns=0)))
    (frame,) = wire.to_client
    (length,) = struct.unpack_from("!H", frame)
    assert length == len(frame) - 2
    answer = dns.message.from_wire(frame[2:])
    assert (answer.rcode(), reasons(answer)) == (dns.rcode.NXDOMAIN, [dns.edns.EDECode.BLOCKED])
    assert wire.opened == 0


def test_the_check_host_is_blocked_and_not_counted() -> None:
    wire = Wire()
    wire.send(query("check.stoplist.invalid"))
    assert wire.said().rcode() is dns.rcode.NXDOMAIN
    assert not any(verdict.is_counted for verdict in wire.counted.verdicts)


def test_an_observed_name_is_counted_and_passes() -> None:
    wire = Wire(OBSERVED)
    asked = query("listed.example")
    wire.send(asked)
    assert (wire.to_server, wire.to_client) == ([asked], [])
    assert [verdict.action for verdict in wire.counted.verdicts] == [Action.OBSERVE]


def test_an_expired_list_refuses_all_where_the_policy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: EXPIRED.refuse_from + 1)
    wire = Wire(EXPIRED)
    wire.send(query("other.example", edns=0))
    assert (wire.said().rcode(), reasons(wire.said())) == (dns.rcode.REFUSED, [dns.edns.EDECode.PROHIBITED])


# Other names


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(query("other.example"), id="A"),
        pytest.param(query("OtHeR.eXaMpLe", "HTTPS"), id="mixed case (0x20)"),
        pytest.param(query("other.example", "TYPE65280"), id="an unknown type"),
        pytest.param(query("notlisted.example"), id="a look-alike"),
        pytest.param(query("listed.example.test"), id="a listed name in front of another"),
        pytest.param(query("example"), id="a top level"),
        pytest.param(query(dns.name.root, "NS"), id="the root"),
        pytest.param(query("2.100.51.198.in-addr.arpa", "PTR"), id="reverse lookup"),
        pytest.param(query("_ldap._tcp.other.example", "SRV"), id="a service"),
        pytest.param(query("192.0.2.1"), id="a name that is an address"),
        pytest.param(query("other.example", edns=0, payload=4096, want_dnssec=True), id="EDNS"),
        pytest.param(
            query("other.example", edns=0, options=[dns.edns.GenericOption(65001, b"\0x")]), id="an unknown option"
        ),
        pytest.param(changed(query("other.example"), flags=dns.flags.CD | dns.flags.AD), id="flags"),
        pytest.param(changed(query("other.example"), flags=0x40), id="the reserved bit"),
        pytest.param(dns.message.make_query("version.bind", "TXT", "CH").to_wire(), id="another class"),
    ],
)
def test_any_other_query_goes_on_byte_by_byte(asked: bytes) -> None:
    wire = Wire()
    wire.send(asked)
    assert (wire.to_server, wire.to_client, wire.opened) == ([asked], [], 1)
    assert [verdict.action for verdict in wire.counted.verdicts] == [Action.PASS]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00", id="a byte"),
        pytest.param(bytes(range(256)), id="no DNS at all"),
        pytest.param(query("listed.example"), id="what reads like a query"),
    ],
)
def test_an_answer_comes_back_byte_by_byte(data: bytes) -> None:
    wire = Wire()
    wire.send(query("other.example"))
    wire.answer(data)
    assert wire.to_client == [data]


def test_the_resolver_is_connected_once() -> None:
    wire = Wire()
    wire.send(query("one.example"), query("two.example"))
    assert (wire.opened, len(wire.to_server)) == (1, 2)


def test_listed_and_other_names_are_told_apart_on_one_connection() -> None:
    one, listed, two = query("one.example"), query("listed.example"), query("two.example")
    wire = Wire()
    wire.send(one, listed, two)
    assert wire.to_server == [one, two]
    (answer,) = wire.to_client
    assert dns.message.from_wire(listed).is_response(dns.message.from_wire(answer))


# TCP

ONE, LISTED_TOO, TWO = query("one.example"), query("www.listed.example"), query("two.example", "AAAA")


def test_several_queries_in_one_segment_are_each_judged() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE, LISTED_TOO, TWO))
    assert wire.to_server == [framed(ONE), framed(TWO)]
    assert len(wire.to_client) == 1


@pytest.mark.parametrize("size", [pytest.param(size, id=f"of {size}") for size in (1, 2, 3, 7, 20, 50)])
def test_a_query_over_several_segments_is_judged_whole(size: int) -> None:
    data = framed(ONE, LISTED_TOO, TWO)
    wire = Wire(protocol="tcp")
    wire.send(*(data[start : start + size] for start in range(0, len(data), size)))
    assert b"".join(wire.to_server) == framed(ONE, TWO)
    assert len(wire.to_client) == 1


@given(st.lists(st.integers(0, len(framed(ONE, LISTED_TOO, TWO))), max_size=6).map(sorted))
def test_where_segments_end_changes_nothing(cuts: list[int]) -> None:
    data = framed(ONE, LISTED_TOO, TWO)
    wire = Wire(protocol="tcp")
    wire.send(*(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)))
    assert wire.to_server == [framed(ONE), framed(TWO)]
    assert len(wire.to_client) == 1


def test_what_is_no_message_in_a_frame_does_not_hide_the_next() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(b"", b"x", bytes(12), b"\xff" * 40, LISTED_TOO, ONE))
    assert wire.to_server == [framed(ONE)]
    assert dns.message.from_wire(wire.to_client[-1][2:]).rcode() is dns.rcode.NXDOMAIN


def test_a_query_that_is_not_whole_waits() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE)[:-1])
    assert (wire.opened, wire.to_server, wire.to_client) == (0, [], [])


def test_many_small_frames_are_read_in_time() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(*[b""] * 32000))
    assert (wire.opened, wire.to_client) == (0, [])


ANSWERED = changed(query("one.example"), flags=dns.flags.QR, more=bytes(range(0x80, 0xFF)))
"""A header that says that it is an answer, and bytes that are none of the layer's business."""


@pytest.mark.parametrize("size", [pytest.param(size, id=f"of {size}") for size in (1, 2, 5, 100, 1000)])
def test_answers_over_tcp_come_back_byte_by_byte(size: int) -> None:
    data = framed(ANSWERED, ANSWERED + b"x")
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE, TWO))
    for start in range(0, len(data), size):
        wire.answer(data[start : start + size])
    assert (b"".join(wire.to_client), wire.closed) == (data, [])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(framed(ANSWERED, query("one.example")), id="a query"),
        pytest.param(framed(ANSWERED, b"x"), id="a message without a whole header"),
        pytest.param(framed(ANSWERED) + b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 20_000, id="a response of HTTP/1"),
    ],
)
def test_a_server_that_sends_something_else_over_tcp_is_not_heard(data: bytes) -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE))
    wire.answer(data)
    wire.answer(framed(ANSWERED))
    wire.send(framed(TWO))
    assert (wire.to_client, wire.to_server) == ([framed(ANSWERED)], [framed(ONE)])
    assert wire.closed == [wire.context.client, wire.context.server]
    assert [verdict.reason for verdict in wire.counted.verdicts] == [Reason.NOT_LISTED, Reason.PROTOCOL]


REQUEST = b" HTTP/1.1\r\nHost: listed.example\r\n\r\n"
RECORD = b"\x00\xff\x01\x00\x01\x00\x00\x00\x01" + struct.pack("!H", len(REQUEST)) + REQUEST


@pytest.mark.parametrize("cut", [pytest.param(cut, id=f"cut at {cut}") for cut in (0, 2, 30, 60)])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(framed(changed(ONE, counts=(1, 0, 0, 1), more=RECORD)), id="in a record"),
        pytest.param(framed(changed(ONE, more=b"\nGET / HTTP/1.1\n" + b"x" * 40)), id="behind the message"),
        pytest.param(
            struct.pack("!H", 0x4745) + b"T /\x00\x00\x01\x00\x00\x00\x00\x00\x00".ljust(0x4745, b"x"),
            id="in its length",
        ),
    ],
)
def test_a_query_that_a_web_server_could_answer_ends_the_connection(data: bytes, cut: int) -> None:
    wire = Wire(protocol="tcp")
    wire.send(data[:cut], data[cut:], framed(ONE))
    assert (wire.to_server, wire.to_client) == ([], [])
    assert wire.closed == [wire.context.client]
    assert wire.counted.verdicts[-1].reason is Reason.PROTOCOL


# Queries that are none, or more than one


def labelled(*labels: bytes) -> bytes:
    return query(dns.name.Name([*labels, b""]))


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(changed(query("other.example"), counts=(0, 0, 0, 0))[:12], id="no question"),
        pytest.param(
            changed(query("other.example"), counts=(2, 0, 0, 0), more=query("listed.example")[12:]), id="two questions"
        ),
        pytest.param(
            changed(query("listed.example"), counts=(2, 0, 0, 0), more=query("other.example")[12:]),
            id="two questions, the listed one first",
        ),
        pytest.param(
            changed(query("other.example"), counts=(2, 0, 0, 0), more=query("other.example")[12:]),
            id="the same question twice",
        ),
        pytest.param(changed(query("other.example"), flags=dns.opcode.IQUERY << 11), id="an inverse query"),
        pytest.param(changed(query("other.example"), flags=dns.opcode.STATUS << 11), id="status"),
        pytest.param(changed(query("other.example", "SOA"), flags=dns.opcode.NOTIFY << 11), id="notify"),
        pytest.param(changed(query("other.example"), flags=6 << 11), id="a stateful operation"),
        pytest.param(changed(query("other.example"), flags=15 << 11), id="an unknown operation"),
        pytest.param(changed(query("listed.example"), flags=15 << 11), id="an unknown operation on a listed name"),
        pytest.param(labelled(b"listed.example"), id="a label with a dot in it"),
        pytest.param(labelled(b"listed.example", b"other", b"test"), id="a dot in the first label"),
        pytest.param(labelled(b"www", b"listed.example"), id="a dot in the last label"),
        pytest.param(labelled(b"."), id="a label that is a dot"),
        pytest.param(labelled(b"other", b"example\0"), id="NUL in a label"),
        pytest.param(labelled(b"other", b"exa mple"), id="a space in a label"),
        pytest.param(labelled(b"other", b"exa\tmple"), id="a tab in a label"),
        pytest.param(labelled(b"other", b"exam\nple"), id="a line feed in a label"),
        pytest.param(labelled(b"listed/", b"example"), id="a slash in a label"),
        pytest.param(labelled(b"listed@", b"example"), id="an at sign in a label"),
        pytest.param(labelled(b"listed:80", b"example"), id="a colon in a label"),
        pytest.param(labelled(b"other", b"\xff\xfe"), id="bytes that are no text"),
        pytest.param(labelled(b"xn--a", "ß".encode()), id="punycode that is none, beside Unicode"),
        pytest.param(labelled(b"other", b"1"), id="a number for a top level"),
        pytest.param(labelled(b"256", b"0", b"0", b"1"), id="an address that is none"),
    ],
)
def test_what_is_no_query_for_one_readable_name_is_refused(asked: bytes) -> None:
    wire = Wire()
    wire.send(asked)
    answer = wire.said()
    assert answer.rcode() is dns.rcode.REFUSED
    assert answer.id == int.from_bytes(asked[:2])
    assert [(v.action, v.reason) for v in wire.counted.verdicts] == [(Action.REFUSE, Reason.UNREADABLE)]


@pytest.mark.parametrize(
    "name", [pytest.param("other.example", id="another"), pytest.param("listed.example", id="listed")]
)
@pytest.mark.parametrize("protocol", [pytest.param("udp", id="UDP"), pytest.param("tcp", id="TCP")])
def test_an_answer_sent_as_a_query_is_not_forwarded_and_never_answered(name: str, protocol: str) -> None:
    """Two gates that answered each other's answers would do so for ever."""
    wire = Wire(protocol=protocol)
    asked = changed(query(name), flags=dns.flags.QR)
    wire.send(framed(asked) if protocol == "tcp" else asked)
    assert (wire.opened, wire.to_server, wire.to_client) == (0, [], [])


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param((b"127", b"0", b"0", b"1"), id="loopback"),
        pytest.param((b"0x7f", b"1"), id="loopback in hexadecimal"),
        pytest.param((b"2852039166",), id="metadata in one part"),
    ],
)
def test_a_name_that_is_a_denied_address_is_prohibited(labels: tuple[bytes, ...]) -> None:
    wire = Wire()
    wire.send(query(dns.name.Name([*labels, b""]), edns=0))
    assert (wire.said().rcode(), reasons(wire.said())) == (dns.rcode.REFUSED, [dns.edns.EDECode.PROHIBITED])
    assert [(v.action, v.reason) for v in wire.counted.verdicts] == [(Action.REFUSE, Reason.DENIED)]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param((b"%6cisted", b"example"), id="percent-encoding"),
        pytest.param((b"lis\xc2\xadted", b"example"), id="soft hyphen"),
        pytest.param(("ｌｉｓｔｅｄ".encode(), b"example"), id="full-width letters"),
        pytest.param(("bücher".encode(), b"test"), id="Unicode"),
        pytest.param((b"XN--BCHER-KVA", b"TEST"), id="punycode upper case"),
    ],
)
def test_a_name_that_some_resolver_could_take_for_a_listed_one_is_blocked(labels: tuple[bytes, ...]) -> None:
    wire = Wire()
    wire.send(labelled(*labels))
    assert wire.said().rcode() is dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0", id="a byte"),
        pytest.param(bytes(11), id="a header but for a byte"),
        pytest.param(b"\xff" * 12, id="a header of ones"),
        pytest.param(b"\xff" * 512, id="ones"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: listed.example\r\n\r\n", id="HTTP"),
        pytest.param(query("other.example")[:-1], id="cut off"),
        pytest.param(query("other.example") + b"\0", id="a byte too many"),
        pytest.param(changed(query("other.example"), counts=(65535, 0, 0, 0)), id="too few questions"),
        pytest.param(changed(query("other.example"), counts=(1, 0, 0, 65535)), id="too few records"),
        pytest.param(query("other.example")[:12] + b"\xc0\x0c\0\1\0\1", id="a name that points to itself"),
        pytest.param(query("other.example")[:12] + b"\xc0\xff\0\1\0\1", id="a name that points beyond the end"),
        pytest.param(query("other.example")[:12] + b"\x40" + bytes(64) + b"\0\0\1\0\1", id="a label that is too long"),
        pytest.param(query("other.example")[:12] + b"\x3f" * 320 + b"\0\0\1\0\1", id="a name that is too long"),
    ],
)
@pytest.mark.parametrize("protocol", [pytest.param("udp", id="UDP"), pytest.param("tcp", id="TCP")])
def test_what_cannot_be_read_goes_nowhere_and_is_not_answered(data: bytes, protocol: str) -> None:
    wire = Wire(protocol=protocol)
    wire.send(framed(data) if protocol == "tcp" else data)
    assert (wire.opened, wire.to_server, wire.to_client) == (0, [], [])


# What fails


@pytest.mark.parametrize("protocol", [pytest.param("udp", id="UDP"), pytest.param("tcp", id="TCP")])
def test_a_resolver_that_cannot_be_reached_is_a_failure_of_the_server(protocol: str) -> None:
    wire = Wire(protocol=protocol, reachable=False)
    asked = query("other.example", edns=0)
    wire.send(framed(asked) if protocol == "tcp" else asked)
    (answer,) = wire.to_client
    message = dns.message.from_wire(answer[2:] if protocol == "tcp" else answer)
    assert message.rcode() is dns.rcode.SERVFAIL
    assert dns.message.from_wire(asked).is_response(message)
    assert wire.to_server == []


def test_a_resolver_that_cannot_be_reached_is_tried_again_and_listed_names_stay_blocked() -> None:
    wire = Wire(reachable=False)
    wire.send(query("one.example"), query("listed.example"))
    wire.reachable = True
    wire.send(query("two.example"))
    assert [dns.message.from_wire(answer).rcode() for answer in wire.to_client] == [
        dns.rcode.SERVFAIL,
        dns.rcode.NXDOMAIN,
    ]
    assert (wire.opened, wire.to_server) == (2, [wire.to_server[0]])


def test_without_a_ruleset_nothing_is_forwarded() -> None:
    wire = Wire()
    wire.judge.store = None
    with pytest.raises(StoplistError):
        wire.send(query("other.example"))
    assert wire.said().rcode() is dns.rcode.SERVFAIL


def test_when_the_resolver_ends_the_connection_the_client_is_told() -> None:
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE))
    wire.end(wire.context.server, ConnectionState.CAN_WRITE)
    assert wire.context.client in wire.closed


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(ConnectionState.CAN_WRITE, id="it can still receive"),
        pytest.param(ConnectionState.CLOSED, id="it is gone"),
    ],
)
def test_when_the_client_has_ended_no_connection_is_left(state: ConnectionState) -> None:
    """mitmproxy keeps a half-closed connection until a layer closes it."""
    wire = Wire(protocol="tcp")
    wire.send(framed(ONE))
    wire.end(wire.context.client, state)
    assert wire.context.server in wire.closed
    assert state is ConnectionState.CLOSED or wire.context.client in wire.closed


# Any bytes at all


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good query with one to three places changed."""
    name = draw(st.sampled_from(["listed.example", "www.LISTED.example", "other.example", "a.b.c.d.test"]))
    wire = query(name, draw(st.sampled_from(TYPES)), edns=draw(st.sampled_from([-1, 0])))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(wire)))
        end = draw(st.integers(start, min(start + 3, len(wire))))
        wire = wire[:start] + draw(st.binary(max_size=3) | st.sampled_from([b"\xc0\x0c", b"\x06listed"])) + wire[end:]
    return wire


def names_for_another_reader(data: bytes) -> Iterable[str]:
    try:
        return [question.name for question in mitmproxy.dns.DNSMessage.unpack(data).questions]
    except (struct.error, ValueError):
        return []


@settings(max_examples=examples(500))
@given(st.binary(max_size=60) | mutated())
@example(changed(query("other.example"), flags=dns.flags.QR))
def test_any_datagram_is_forwarded_as_it_is_or_answered_or_dropped(data: bytes) -> None:
    wire = Wire()
    wire.send(data)
    assert len(wire.to_server) + len(wire.to_client) <= 1
    assert wire.to_server in ([], [data])
    for answer in wire.to_client:
        assert answer[:2] == data[:2]
        assert dns.message.from_wire(answer).flags & dns.flags.QR
    for name in names_for_another_reader(data) if wire.to_server else ():
        try:
            assert decide(LISTED, Host.parse(name), 0).action is not Action.STOP
        except HostError:
            assert name == ""


@given(
    st.lists(st.booleans(), min_size=14, max_size=14),
    st.sampled_from(TYPES),
    st.sampled_from([-1, 0, 1]),
    st.integers(0, 0x7FFF).filter(lambda flags: not flags & 0x7800),
)
def test_no_spelling_type_or_flag_lets_a_listed_name_through(
    upper: list[bool], kind: str, edns: int, flags: int
) -> None:
    name = "".join(c.upper() if up else c for c, up in zip("listed.example", upper, strict=True))
    wire = Wire()
    wire.send(changed(query(name, kind, edns=edns), flags=flags))
    assert wire.said().rcode() is dns.rcode.NXDOMAIN
