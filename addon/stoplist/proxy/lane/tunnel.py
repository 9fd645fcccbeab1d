"""Tunnel: one connection of the lane, from its first byte to its end, or until mitmproxy takes it over.

Almost all requests of a network are a CONNECT to an unlisted host with TLS in it. The lane serves these without
mitmproxy.

  CONNECT host:port     the judge gives its verdict; for a host that passes, the lane resolves the name, connects to
                        the server, and answers 200
  the first bytes       a ClientHello: the lane judges its name as well, then relays the bytes (relay.py)
                        neither TLS nor HTTP: it relays them, where no web server listens (core/wire/conversations.py)
                        the server speaks first: it relays the bytes, unless this is a web server
  anything else         the lane hands the client to mitmproxy, with the bytes that it has read, and the hooks decide.
                        These are other requests, TLS to the gate, HTTP in a tunnel, and every name that does not pass

Rules
  - The lane asks the same judge as the hooks, and takes only requests that pass. The hooks stop and refuse the others.
  - The lane hands over all bytes of a client, and the connection to the server unread. One exception: where parsers
    could read a ClientHello in two ways, the connection ends here, as it would end in mitmproxy's layers.
  - A fault ends the connection, and is counted.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from stoplist.core.decide import CLOSED, PASS, PROTOCOL, Reason, Verdict
from stoplist.core.hosts import Host, HostError
from stoplist.core.policy.models import TunnelsPolicy
from stoplist.core.wire.client_hello import HelloError, extensions_of, server_name
from stoplist.core.wire.conversations import (
    Conversation,
    OtherConversation,
    RefusedError,
    TlsConversation,
    Words,
    words_of,
)
from stoplist.core.wire.heads import RequestHead, find_end
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
from stoplist.page.refusals import UNREACHABLE, refusal
from stoplist.proxy.counting.shared_counters import Number
from stoplist.proxy.lane.lane import Lane
from stoplist.proxy.lane.relay import Relay
from stoplist.proxy.outbound.connector import CONNECT_SECONDS, DeniedError, Opened
from stoplist.proxy.reload.ruleset_store import InForce

MORE_SECONDS = 0.05
"""How long the lane waits until it reads again from a server whose first bytes were too few to recognise it."""

_PIECE = 64 * 1024
_CONNECT = b"CONNECT "
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def _step(step: Callable[..., None]) -> Callable[..., None]:
    """Make a callback of a tunnel fail closed: any exception ends the tunnel."""

    @functools.wraps(step)
    def guarded(self: Tunnel) -> None:
        try:
            step(self)
        except (OSError, HelloError):
            self.end()  # the client or the server is gone, or the ClientHello is malformed
        except RefusedError as error:
            self._lane.gate.judge.count(error.verdict)
            self.end()
        except Exception as error:
            self.fail(error)

    return guarded


class Tunnel:
    """One connection in the lane, from its first byte to its end, or to its hand-over.

    It uses callbacks, not a coroutine: a tunnel opens in six steps, and a task would double the cost of each.
    """

    __slots__ = (
        *(
            "_counters",
            "_client",
            "_data",
            "_hesitates",
            "_is_answered",
            "_is_open",
            "_is_ours",
            "_judged_by",
            "_lane",
            "_port",
            "_relay",
            "_search",
            "_seen",
            "_server",
        ),
        *("_task", "_took", "_verdict", "address", "hosts"),
    )

    def __init__(self, lane: Lane, client: socket.socket, address: str) -> None:
        self._lane = lane
        self._client = client
        self._is_ours = True
        self._is_answered = False
        self._hesitates = False
        self._is_open = False
        self._counters = lane.counters
        self._server: socket.socket | None = None
        self._relay: Relay | None = None
        self._task: asyncio.Task[None] | None = None
        self._data = b""
        self._search: RequestSearch | None = None
        """Set while the lane holds text back from a server that has not spoken."""
        self._verdict = PASS
        self._judged_by: InForce | None = None
        self._port = 0
        self._took = 0.0
        self._seen = lane.loop.time()
        self.address = address
        self.hosts: tuple[Host, ...] = ()
        lane.gate.connections.tunnels.add(self)
        self._begin()

    @property
    def seen(self) -> float:
        return self._relay.seen if self._relay is not None else self._seen

    def end(self) -> None:
        if self._relay is not None:
            self._relay.end()
        if not self._is_ours:
            return
        if self._task is not None:
            self._task.cancel()
        self._lane.waiting.pop(self, None)
        for connection in (self._client, self._server):
            if connection is not None:
                self._lane.poll.close(connection)
        self._forget()
        self._is_ours = False

    def fail(self, error: BaseException) -> None:
        self._lane.gate.faults.add("lane", error)
        self._lane.gate.count_fault()
        self.end()

    def _forget(self) -> None:
        self._lane.gate.connections.tunnels.discard(self)
        if self._is_open:
            self._is_open = False
            self._counters.numbers[Number.TUNNELS] -= 1

    # The head of the request

    @_step
    def _begin(self) -> None:
        if not self._lane.gate.serves(self.address):
            self.end()
            return
        self._client.setblocking(False)
        self._read_head()

    @_step
    def _read_head(self) -> None:
        more = self._receive()
        if more is None:
            self._lane.poll.add_reader(self._client, self._read_head)
            return
        if self._data[: len(_CONNECT)] == _CONNECT[: len(self._data)]:
            head = self._lane.gate.judge.read_head(self._data, client=self.address)
            if head is None and more:
                self._lane.poll.add_reader(self._client, self._read_head)
                return
            if isinstance(head, RequestHead) and head.target is not None:
                self._judged_by = self._lane.gate.judge.in_force
                verdict = self._lane.gate.judge.of_head(head, client=self.address)
                if verdict.passes and self._lane.takes(head.target, head.port):
                    self._data = self._data[find_end(self._data) :].lstrip(b"\r\n")
                    self._open(head.target, head.port, verdict)
                    return
        if self._data:
            self._hand_over(None)
        else:
            self.end()

    def _receive(self) -> bytes | None:
        """Read the client's next bytes, b"" at its end; None if there are none yet."""
        try:
            more = self._client.recv(_PIECE)
        except BlockingIOError:
            return None
        self._data += more
        self._seen = self._lane.loop.time()
        return more

    # The connection to the server

    def _open(self, host: Host, port: int, verdict: Verdict) -> None:
        lane, outbound = self._lane, self._lane.gate.outbound
        self.hosts, self._port, self._verdict = (host,), port, verdict
        self._counters = lane.counters_of(verdict)
        lane.gate.judge.count(verdict)
        lane.poll.remove_reader(self._client)
        try:
            self._server = outbound.start(host, port)
        except OSError as error:
            self._refuse(error)
            return
        if self._server is None:
            self._task = lane.loop.create_task(self._open_slowly(host, port))
        else:
            self._wait()
            lane.poll.add_writer(self._server, self._connected)

    async def _open_slowly(self, host: Host, port: int) -> None:
        """Open a connection to a host that needs a DNS lookup, or has several addresses."""
        try:
            self._server = await self._lane.gate.outbound.open(host.address, port)
        except OSError as error:
            self._task = None
            self._refuse(error)
        except Exception as error:
            self.fail(error)
        else:
            self._task = None
            self._enter()

    @_step
    def _connected(self) -> None:
        assert self._server is not None
        del self._lane.waiting[self]
        error = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._refuse(OSError(error))
            return
        self._lane.poll.turn(self._server, self._hear)
        self._enter()

    @_step
    def give_up(self) -> None:
        """End the tunnel on a timeout.

        Either the server does not answer, or it is still unclear which protocol the tunnel carries.
        """
        if self._is_answered:
            raise RefusedError(PROTOCOL)
        self._refuse(TimeoutError())

    def _refuse(self, error: OSError) -> None:
        answer = refusal(Reason.DENIED) if isinstance(error, DeniedError) else UNREACHABLE
        with suppress(OSError):  # the client is gone
            self._client.send(answer.as_http1())
        self.end()

    # The first bytes in the tunnel

    @_step
    def _enter(self) -> None:
        assert self._server is not None
        self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client.send(_ESTABLISHED)
        self._is_answered = True
        self._took = self._lane.loop.time() - self._seen
        if self._data:
            self._judge()
        if self._is_ours:
            self._lane.poll.add_reader(self._client, self._read_first)
            if not self._data or self._hears:
                self._lane.poll.add_reader(self._server, self._hear)

    @_step
    def _read_first(self) -> None:
        more = self._receive()
        if more and self._search is not None:
            self._hold(more, self._search)
        elif more:
            self._judge()
        elif more is not None:
            self._lane.poll.remove_reader(self._client)
            if self._search is not None:
                self._hold(b"\n", self._search)
            elif is_other_at_its_end(self._data):
                self._relay_other()
            else:
                self.end()

    @_step
    def _hear(self) -> None:
        """The server speaks first: recognise its protocol from its first bytes, and leave them in the socket."""
        assert self._server is not None
        said = self._server.recv(_PIECE, socket.MSG_PEEK)
        words = words_of(said)
        if not said or words is Words.OTHER:  # it has ended its side, or is no web server
            if self._tunnels.other == "relay":
                self._carry(None)
            elif said:
                raise RefusedError(CLOSED)
            else:
                self.end()
        elif words is Words.WEB:
            self.end()
        elif words is Words.SETTINGS:
            if self._data and recognise(self._data) is Opening.OTHER:
                raise RefusedError(PROTOCOL)
            self._lane.poll.remove_reader(self._server)
        else:
            self._lane.poll.remove_reader(self._server)
            self._lane.loop.call_later(MORE_SECONDS, self._hear_again)

    @_step
    def _hear_again(self) -> None:
        if self._is_ours and self._server is not None:
            self._lane.poll.add_reader(self._server, self._hear)

    @property
    def _tunnels(self) -> TunnelsPolicy:
        return self._lane.gate.judge.policy.tunnels

    @property
    def _hears(self) -> bool:
        """Whether the server's first bytes decide."""
        return recognise(self._data) in (Opening.INCOMPLETE, Opening.OTHER) and not may_be_tls(self._data)

    def _judge(self) -> None:
        """Act on the client's first bytes; wait for more where they do not show the protocol."""
        assert self._server is not None
        match recognise(self._data):
            case Opening.INCOMPLETE:
                if may_be_tls(self._data):
                    self._lane.poll.remove_reader(self._server)
                    self._wait()
                else:
                    self._hesitate()
            case Opening.TLS:
                may_relay = self._may_relay_hello()
                if may_relay:
                    self._carry(TlsConversation(self._judge_again, may_be_other=self._tunnels.other == "relay"))
                elif may_relay is None:
                    self._lane.poll.remove_reader(self._server)
                    self._wait()
                else:
                    self._hand_over_tunnel()
            case Opening.OTHER:
                self._relay_other()
            case _:
                self._hand_over_tunnel()

    def _hesitate(self) -> None:
        """Wait for more of a text that may be a request or not.

        Some protocols begin with a word, and wait for the server. On a port that is not for the web, the lane relays
        such a word after a while, and goes on inspecting the tunnel.
        """
        if self._port_is_web() and is_text(self._data):
            self._wait()
            return
        if self._hesitates:
            return
        self._hesitates = True
        length = len(self._data)

        def go_on() -> None:
            self._hesitates = False
            if self._is_ours and len(self._data) == length:
                self._relay_word()
            elif self._is_ours and recognise(self._data) is Opening.INCOMPLETE:
                self._hesitate()

        self._lane.loop.call_later(HESITATION_SECONDS, go_on)

    @_step
    def _relay_word(self) -> None:
        self._relay_other()

    def _relay_other(self) -> None:
        """Relay bytes that are neither TLS nor HTTP. On a web port, relay text only once the server has spoken."""
        if self._tunnels.other == "refuse":
            raise RefusedError(CLOSED)
        if self._port_is_web() and is_text(self._data):
            self._search = RequestSearch()
            self._hold(self._data, self._search)
        else:
            self._carry(OtherConversation())

    def _hold(self, data: bytes, search: RequestSearch) -> None:
        """Hold text back until the server has spoken. Raises RefusedError if there is a request in it."""
        if search.finds(data):
            raise RefusedError(PROTOCOL)
        self._wait()
        if len(self._data) > MAX_LINE:
            self._lane.poll.remove_reader(self._client)

    def _wait(self) -> None:
        """Set the timeout, CONNECT_SECONDS from now, unless it is set already."""
        self._lane.waiting.setdefault(self, self._lane.loop.time() + CONNECT_SECONDS)

    def _port_is_web(self) -> bool:
        return self._tunnels.is_web(self._port)

    def _may_relay_hello(self) -> bool | None:
        try:
            extensions = extensions_of(self._data)
            name = server_name(extensions) if extensions is not None else None
        except HostError:
            return False
        if extensions is None:
            return None
        judge, target = self._lane.gate.judge, self.hosts[0]
        if (name is None or name == target) and judge.in_force is self._judged_by:
            return True
        verdict = judge.verdict(target, name, client=self.address)
        if not verdict.passes:
            return False
        judge.count_more(verdict, self._verdict)
        self._counters = self._lane.counters_of(verdict)
        if name is not None and name != target:
            self.hosts = (target, name)
        return True

    def _judge_again(self, extensions: Iterable[tuple[int, bytes]]) -> Verdict:
        """The verdict for a ClientHello that follows another one. Raises HostError."""
        name, judge = server_name(extensions), self._lane.gate.judge
        verdict = judge.verdict(*self.hosts, name, client=self.address)
        if verdict.passes:
            judge.count_more(verdict, judge.verdict(*self.hosts, client=self.address))
            if name is not None and name not in self.hosts:
                self.hosts = (*self.hosts, name)
        return verdict

    def _carry(self, conversation: Conversation | None) -> None:
        """Relay from now on.

        The metrics count a tunnel only at this point, so they show nothing of tunnels that are stopped.
        """
        assert self._server is not None
        self._lane.waiting.pop(self, None)
        data, self._data = self._data, b""
        self._is_open = True
        self._counters.numbers[Number.TUNNELS] += 1
        self._counters.opened(self._took)
        lane = self._lane
        self._relay = Relay(
            lane.poll, lane.loop.time, self._counters, self._client, self._server, data, self._ended, conversation
        )
        self._is_ours = False

    def _ended(self, error: BaseException | None) -> None:
        self._forget()
        if isinstance(error, RefusedError):
            self._lane.gate.judge.count(error.verdict)
        elif error is not None and not isinstance(error, OSError):
            self._lane.gate.faults.add("lane", error)

    # The hand-over to mitmproxy

    def _hand_over_tunnel(self) -> None:
        assert self._server is not None
        self._lane.waiting.pop(self, None)
        self._lane.poll.remove_reader(self._server)
        self._hand_over(Opened(self.hosts[0].address, self._port, self._server))

    def _hand_over(self, opened: Opened | None) -> None:
        """Let mitmproxy serve the client; `opened` is the server to which its tunnel leads."""
        data, self._data = self._data, b""
        self._lane.poll.remove_reader(self._client)

        async def serve() -> None:
            try:
                await self._lane.hand_over(self._client, data, opened, self._forget)
            except OSError:
                pass  # the client is gone
            except Exception as error:
                self._lane.gate.faults.add("lane", error)
                self._lane.gate.count_fault()
            finally:
                self._forget()
                if opened is not None:
                    opened.close()

        self._lane.tasks.start(serve())
        self._is_ours = False
