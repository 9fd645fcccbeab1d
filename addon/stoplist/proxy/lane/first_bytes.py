"""First bytes: what a tunnel of the lane carries, judged by the first bytes of the client and of the server.

a ClientHello         the tunnel judges its name as well, then relays the bytes
neither TLS nor HTTP  it relays the bytes, where no web server listens (core/wire/conversations.py)
the server speaks     it relays the bytes, unless this is a web server
anything else         mitmproxy gets the client
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from stoplist.core.decide import CLOSED, PROTOCOL, Verdict
from stoplist.core.policy.models import TunnelsPolicy
from stoplist.core.wire.conversations import OtherConversation, RefusedError, TlsConversation, Words, words_of
from stoplist.core.wire.openings import (
    HESITATION_SECONDS,
    MAX_LINE,
    Opening,
    RequestSearch,
    is_other_at_its_end,
    is_text,
    may_be_tls,
    recognise,
)
from stoplist.proxy.lane.lane import Lane
from stoplist.proxy.lane.steps import step

if TYPE_CHECKING:
    from stoplist.proxy.lane.tunnel import Tunnel

MORE_SECONDS = 0.05
"""How long the lane waits until it reads again from a server whose first bytes were too few to recognise it."""

_PIECE = 64 * 1024


class FirstBytes:
    """The first bytes of a tunnel that is open to both sides, until it relays or ends, or mitmproxy has it."""

    __slots__ = ("_client", "_hesitates", "_lane", "_search", "_server", "_tunnel")

    def __init__(self, tunnel: Tunnel, lane: Lane, client: socket.socket, server: socket.socket) -> None:
        self._tunnel = tunnel
        self._lane = lane
        self._client = client
        self._server = server
        self._hesitates = False
        self._search: RequestSearch | None = None
        """Set while the lane holds text back from a server that has not spoken."""

    def begin(self) -> None:
        """Judge the bytes that have come with the CONNECT, and read more. Raises RefusedError, HelloError, OSError."""
        if self._tunnel.data:
            self._judge()
        if self._tunnel.is_ours:
            self._lane.poll.add_reader(self._client, self._read)
            if not self._tunnel.data or self._hears:
                self._lane.poll.add_reader(self._server, self.hear)

    def end(self) -> None:
        self._tunnel.end()

    def refuse(self, verdict: Verdict) -> None:
        self._tunnel.refuse(verdict)

    def fail(self, error: BaseException) -> None:
        self._tunnel.fail(error)

    @step
    def _read(self) -> None:
        more = self._tunnel.receive()
        if more and self._search is not None:
            self._hold(more, self._search)
        elif more:
            self._judge()
        elif more is not None:
            self._lane.poll.remove_reader(self._client)
            if self._search is not None:
                self._hold(b"\n", self._search)
            elif is_other_at_its_end(self._tunnel.data):
                self._relay_other()
            else:
                self.end()

    @step
    def hear(self) -> None:
        """The server speaks: recognise its protocol from its first bytes, and leave them in the socket."""
        said = self._server.recv(_PIECE, socket.MSG_PEEK)
        words = words_of(said)
        if not said or words is Words.OTHER:  # it has ended its side, or is no web server
            if self._tunnels.other == "relay":
                self._tunnel.carry(None)
            elif said:
                raise RefusedError(CLOSED)
            else:
                self.end()
        elif words is Words.WEB:
            self.end()
        elif words is Words.SETTINGS:
            if self._tunnel.data and recognise(self._tunnel.data) is Opening.OTHER:
                raise RefusedError(PROTOCOL)
            self._lane.poll.remove_reader(self._server)
        else:
            self._lane.poll.remove_reader(self._server)
            self._lane.loop.call_later(MORE_SECONDS, self._hear_again)

    @step
    def _hear_again(self) -> None:
        if self._tunnel.is_ours:
            self._lane.poll.add_reader(self._server, self.hear)

    @property
    def _tunnels(self) -> TunnelsPolicy:
        return self._lane.gate.judge.policy.tunnels

    @property
    def _hears(self) -> bool:
        """Whether the server's first bytes decide."""
        return recognise(self._tunnel.data) in (Opening.INCOMPLETE, Opening.OTHER) and not may_be_tls(self._tunnel.data)

    def _judge(self) -> None:
        """Act on the client's first bytes; wait for more where they do not show the protocol."""
        match recognise(self._tunnel.data):
            case Opening.INCOMPLETE:
                if may_be_tls(self._tunnel.data):
                    self._lane.poll.remove_reader(self._server)
                    self._tunnel.wait()
                else:
                    self._hesitate()
            case Opening.TLS:
                may_relay = self._tunnel.may_relay_hello()
                if may_relay:
                    self._tunnel.carry(
                        TlsConversation(self._tunnel.judge_again, may_be_other=self._tunnels.other == "relay")
                    )
                elif may_relay is None:
                    self._lane.poll.remove_reader(self._server)
                    self._tunnel.wait()
                else:
                    self._tunnel.hand_over()
            case Opening.OTHER:
                self._relay_other()
            case _:
                self._tunnel.hand_over()

    def _hesitate(self) -> None:
        """Wait for more of a text that may be a request or not.

        Some protocols begin with a word, and wait for the server. On a port that is not for the web, the lane relays
        such a word after a while, and goes on inspecting the tunnel.
        """
        if self._port_is_web() and is_text(self._tunnel.data):
            self._tunnel.wait()
            return
        if self._hesitates:
            return
        self._hesitates = True
        length = len(self._tunnel.data)

        def go_on() -> None:
            self._hesitates = False
            if self._tunnel.is_ours and len(self._tunnel.data) == length:
                self._relay_word()
            elif self._tunnel.is_ours and recognise(self._tunnel.data) is Opening.INCOMPLETE:
                self._hesitate()

        self._lane.loop.call_later(HESITATION_SECONDS, go_on)

    @step
    def _relay_word(self) -> None:
        self._relay_other()

    def _relay_other(self) -> None:
        """Relay bytes that are neither TLS nor HTTP. On a web port, relay text only once the server has spoken."""
        if self._tunnels.other == "refuse":
            raise RefusedError(CLOSED)
        if self._port_is_web() and is_text(self._tunnel.data):
            self._search = RequestSearch()
            self._hold(self._tunnel.data, self._search)
        else:
            self._tunnel.carry(OtherConversation())

    def _hold(self, data: bytes, search: RequestSearch) -> None:
        """Hold text back until the server has spoken. Raises RefusedError if there is a request in it."""
        if search.finds(data):
            raise RefusedError(PROTOCOL)
        self._tunnel.wait()
        if len(self._tunnel.data) > MAX_LINE:
            self._lane.poll.remove_reader(self._client)

    def _port_is_web(self) -> bool:
        return self._tunnels.is_web(self._tunnel.port)
