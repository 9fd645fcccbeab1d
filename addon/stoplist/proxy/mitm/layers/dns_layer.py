"""Dns: the layer for DNS queries, in mitmproxy's `dns` mode and in transparent mode.

The layer answers a query for a listed name as blocked. It forwards any other query unchanged, to the system's
resolver or to the address to which the client sent it.

The answer for a blocked name is NXDOMAIN, so that no client asks another resolver. For a client that uses EDNS it
carries the extended error 15 (blocked), or 16 (censored) where the policy's status is 451 (RFC 8914). It has no
record that a client could cache, so a removal from a list takes effect at once.

Rules
  - The layer relays queries and answers that pass byte by byte.
  - It refuses a query that does not ask for one readable name, and drops data that is no query.
  - Over TCP it closes a connection whose client could be understood as asking a web server, or whose server sends
    anything but answers: a query has room for a whole HTTP request, and some web servers would answer that.
"""

from __future__ import annotations

import struct

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer

from stoplist.core.decide import PASS, PROTOCOL, UNREADABLE, Action, Reason, Verdict
from stoplist.core.wire.openings import RequestSearch
from stoplist.proxy.judge import Judge

_LENGTH = struct.Struct("!H")
_PAYLOAD = 1232
"""Largest UDP answer that the gate makes itself, in bytes (DNS flag day 2020)."""


class Dns(Layer):
    """Queries of one client, over UDP or TCP. `context.server` is the resolver."""

    def __init__(self, context: Context, judge: Judge) -> None:
        super().__init__(context)
        self._judge = judge
        self._is_udp = context.client.transport_protocol == "udp"
        self._search = RequestSearch()
        self._queries = _Frames()
        self._answers = _Frames()

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if isinstance(event, events.DataReceived):
            if self._is_udp and event.connection is self.context.server:
                yield commands.SendData(self.context.client, event.data)
            elif self._is_udp:
                yield from self._take(event.data)
            elif event.connection is self.context.server:
                yield from self._hand_back(self._answers.next(event.data))
            elif self._search.finds(event.data):
                self._judge.count(PROTOCOL)
                yield from self._close()
            else:
                for query in self._queries.next(event.data):
                    yield from self._take(query)
        elif isinstance(event, events.ConnectionClosed):
            yield from self._close()

    def _hand_back(self, answers: list[bytes]) -> CommandGenerator[None]:
        for answer in answers:
            if not _is_answer(answer):
                self._judge.count(PROTOCOL)
                yield from self._close()
                return
            yield commands.SendData(self.context.client, self._framed(answer))

    def _close(self) -> CommandGenerator[None]:
        self._handle_event = self._done  # type: ignore[assignment]
        for connection in (self.context.client, self.context.server):
            if connection.state is not ConnectionState.CLOSED:
                yield commands.CloseConnection(connection)

    @staticmethod
    def _done(_: events.Event) -> CommandGenerator[None]:
        yield from ()

    def _take(self, query: bytes) -> CommandGenerator[None]:
        try:
            message = dns.message.from_wire(query)
        except (dns.exception.DNSException, ValueError):
            return  # this is no query: no client waits for an answer
        if message.flags & dns.flags.QR:
            return  # an answer to an answer would make a loop
        try:
            verdict = judge_query(self._judge, message, self.context.client.peername[0])
        except Exception:
            yield self._answer(message, dns.rcode.SERVFAIL)
            raise  # the add-on's faults count it
        if verdict.action is Action.STOP:
            self._judge.count(verdict)
            demanded = self._judge.policy.stop_page.status == 451
            code = dns.edns.EDECode.CENSORED if demanded else dns.edns.EDECode.BLOCKED
            yield self._answer(message, dns.rcode.NXDOMAIN, code)
        elif verdict.action is Action.REFUSE:
            self._judge.count(verdict)
            code = dns.edns.EDECode.PROHIBITED
            yield self._answer(message, dns.rcode.REFUSED, None if verdict.reason is Reason.UNREADABLE else code)
        else:
            self._judge.count(verdict)
            yield from self._forward(message, query)

    def _forward(self, message: dns.message.Message, query: bytes) -> CommandGenerator[None]:
        if not self.context.server.connected:
            error = yield commands.OpenConnection(self.context.server)
            if error:
                yield self._answer(message, dns.rcode.SERVFAIL)
                return
        yield commands.SendData(self.context.server, self._framed(query))

    def _answer(
        self, query: dns.message.Message, code: dns.rcode.Rcode, why: dns.edns.EDECode | None = None
    ) -> commands.SendData:
        answer = dns.message.make_response(query, recursion_available=True, our_payload=_PAYLOAD)
        answer.set_rcode(code)
        if query.edns >= 0 and why is not None:
            answer.use_edns(0, payload=_PAYLOAD, options=[dns.edns.EDEOption(why)])
        return commands.SendData(self.context.client, self._framed(answer.to_wire()))

    def _framed(self, message: bytes) -> bytes:
        return message if self._is_udp else _LENGTH.pack(len(message)) + message


class _Frames:
    """Splits a stream into the messages in it (RFC 1035, section 4.2.2)."""

    def __init__(self) -> None:
        self._stream = b""

    def next(self, data: bytes) -> list[bytes]:
        """The messages that `data`, the next bytes, completes."""
        self._stream += data
        messages = []
        while len(self._stream) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._stream)
            if len(self._stream) < _LENGTH.size + length:
                break
            messages.append(self._stream[_LENGTH.size : _LENGTH.size + length])
            self._stream = self._stream[_LENGTH.size + length :]
        return messages


def _is_answer(message: bytes) -> bool:
    """Whether a message has a whole header that says so (RFC 1035, section 4.1.1)."""
    return len(message) >= 12 and bool(message[2] & 0x80)


def judge_query(judge: Judge, message: dns.message.Message, client: str) -> Verdict:
    """The verdict for the one name in a query of `client`. A query for the root passes: the root is no host."""
    if message.opcode() != dns.opcode.QUERY or message.flags & dns.flags.QR or len(message.question) != 1:
        return UNREADABLE
    labels = message.question[0].name.labels[:-1]
    if any(b"." in label for label in labels):
        return UNREADABLE
    return judge.verdict(b".".join(labels), client=client) if labels else PASS
