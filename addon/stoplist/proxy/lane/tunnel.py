"""Tunnel: one connection of the lane, from its first byte to its end, or until mitmproxy takes it over.

Almost all requests of a network are a CONNECT to an unlisted host with TLS in it. The lane serves these without
mitmproxy.

  CONNECT host:port     the judge gives its verdict; for a host that passes, the lane resolves the name, connects to
                        the server, and answers 200
  the first bytes       where they may be relayed, the lane relays from then on (first_bytes.py, relay.py)
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
import socket
from collections.abc import Iterable
from contextlib import suppress

from stoplist.core.decide import PASS, PROTOCOL, Reason, Verdict
from stoplist.core.hosts import Host, HostError
from stoplist.core.wire.client_hello import extensions_of, server_name
from stoplist.core.wire.conversations import Conversation, RefusedError
from stoplist.core.wire.heads import RequestHead, find_end
from stoplist.page.refusals import Obstacle, refusal
from stoplist.proxy.counting.shared_counters import Number
from stoplist.proxy.lane.first_bytes import FirstBytes
from stoplist.proxy.lane.lane import Lane
from stoplist.proxy.lane.relay import Relay
from stoplist.proxy.lane.steps import step
from stoplist.proxy.outbound.connector import CONNECT_SECONDS, DeniedError, NoAddressError, Opened
from stoplist.proxy.reload.ruleset_store import InForce

_PIECE = 64 * 1024
_CONNECT = b"CONNECT "
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Tunnel:
    """One connection in the lane, from its first byte to its end, or to its hand-over.

    It uses callbacks, not a coroutine: a tunnel opens in six steps, and a task would double the cost of each.
    """

    __slots__ = (
        *("_counters", "_first_bytes", "_is_answered", "_is_open", "_judged_by", "_relay", "_seen", "_task", "_took"),
        *("_verdict", "address", "client", "data", "hosts", "is_ours", "lane", "port", "server"),
    )

    def __init__(self, lane: Lane, client: socket.socket, address: str) -> None:
        self.lane = lane
        self.client = client
        self.address = address
        self.hosts: tuple[Host, ...] = ()
        self.port = 0
        self.server: socket.socket | None = None
        self.data = b""
        """Bytes of the client that nothing has taken yet."""
        self.is_ours = True
        """Whether the tunnel, and neither the relay nor mitmproxy, must close the connections."""
        self._counters = lane.counters
        self._first_bytes: FirstBytes | None = None
        self._is_answered = False
        self._is_open = False
        self._judged_by: InForce | None = None
        self._relay: Relay | None = None
        self._seen = lane.loop.time()
        self._task: asyncio.Task[None] | None = None
        self._took = 0.0
        self._verdict = PASS
        lane.gate.connections.tunnels.add(self)
        self._begin()

    @property
    def seen(self) -> float:
        """When something was last received, by the clock of the event loop."""
        return self._relay.seen if self._relay is not None else self._seen

    def end(self) -> None:
        """Close both connections, and forget the tunnel."""
        if self._relay is not None:
            self._relay.end()
        if not self.is_ours:
            return
        if self._task is not None:
            self._task.cancel()
        self.lane.waiting.pop(self, None)
        for connection in (self.client, self.server):
            if connection is not None:
                self.lane.poll.close(connection)
        self._forget()
        self.is_ours = False

    def refuse(self, verdict: Verdict) -> None:
        """End the tunnel, and count the verdict."""
        self.lane.gate.judge.count(verdict)
        self.end()

    def fail(self, error: BaseException) -> None:
        self.lane.gate.faults.add("lane", error)
        self.lane.gate.count_fault()
        self.end()

    def _forget(self) -> None:
        self.lane.gate.connections.tunnels.discard(self)
        if self._is_open:
            self._is_open = False
            self._counters.numbers[Number.TUNNELS] -= 1

    # The head of the request

    @step
    def _begin(self) -> None:
        if not self.lane.gate.serves(self.address):
            self.end()
            return
        self.client.setblocking(False)
        self._read_head()

    @step
    def _read_head(self) -> None:
        more = self.receive()
        if more is None:
            self.lane.poll.add_reader(self.client, self._read_head)
            return
        if self.data[: len(_CONNECT)] == _CONNECT[: len(self.data)]:
            head = self.lane.gate.judge.read_head(self.data, client=self.address)
            if head is None and more:
                self.lane.poll.add_reader(self.client, self._read_head)
                return
            if isinstance(head, RequestHead) and head.target is not None:
                self._judged_by = self.lane.gate.judge.in_force
                verdict = self.lane.gate.judge.of_head(head, client=self.address)
                if verdict.passes and self.lane.takes(head.target, head.port):
                    self.data = self.data[find_end(self.data) :].lstrip(b"\r\n")
                    self._open(head.target, head.port, verdict)
                    return
        if self.data:
            self._give_to_mitmproxy(None)
        else:
            self.end()

    def receive(self) -> bytes | None:
        """Read the client's next bytes, b"" at its end; None if there are none yet."""
        try:
            more = self.client.recv(_PIECE)
        except BlockingIOError:
            return None
        self.data += more
        self._seen = self.lane.loop.time()
        return more

    # The connection to the server

    def _open(self, host: Host, port: int, verdict: Verdict) -> None:
        lane, outbound = self.lane, self.lane.gate.outbound
        self.hosts, self.port, self._verdict = (host,), port, verdict
        self._counters = lane.counters_of(verdict)
        lane.gate.judge.count(verdict)
        lane.poll.remove_reader(self.client)
        try:
            self.server = outbound.start(host, port)
        except OSError as error:
            self._answer(error)
            return
        if self.server is None:
            self._task = lane.loop.create_task(self._open_slowly(host, port))
        else:
            self.wait()
            lane.poll.add_writer(self.server, self._connected)

    async def _open_slowly(self, host: Host, port: int) -> None:
        """Open a connection to a host that needs a DNS lookup, or has several addresses."""
        try:
            self.server = await self.lane.gate.outbound.open(host.address, port)
        except OSError as error:
            self._task = None
            self._answer(error)
        except Exception as error:
            self.fail(error)
        else:
            self._task = None
            self._first_bytes = FirstBytes(self, self.lane, self.client, self.server)
            self._enter()

    @step
    def _connected(self) -> None:
        assert self.server is not None
        del self.lane.waiting[self]
        error = self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._answer(OSError(error))
            return
        self._first_bytes = FirstBytes(self, self.lane, self.client, self.server)
        self.lane.poll.turn(self.server, self._first_bytes.hear)
        self._enter()

    @step
    def give_up(self) -> None:
        """End the tunnel on a timeout.

        Either the server does not answer, or it is still unclear which protocol the tunnel carries.
        """
        if self._is_answered:
            self.refuse(PROTOCOL)
        else:
            self._answer(TimeoutError())

    def _answer(self, error: OSError) -> None:
        unreachable = Obstacle.NO_ADDRESS if isinstance(error, NoAddressError) else Obstacle.SILENT
        answer = refusal(Reason.DENIED if isinstance(error, DeniedError) else unreachable)
        with suppress(OSError):  # the client is gone
            self.client.send(answer.as_http1())
        self.end()

    @step
    def _enter(self) -> None:
        assert self.server is not None
        assert self._first_bytes is not None
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client.send(_ESTABLISHED)
        self._is_answered = True
        self._took = self.lane.loop.time() - self._seen
        self._first_bytes.begin()

    # For the first bytes

    def wait(self) -> None:
        """Set the timeout, CONNECT_SECONDS from now, unless it is set already."""
        self.lane.waiting.setdefault(self, self.lane.loop.time() + CONNECT_SECONDS)

    def may_relay_hello(self) -> bool | None:
        """Whether `data`, a ClientHello, may be relayed; None if it is not whole. Raises HelloError."""
        try:
            extensions = extensions_of(self.data)
            name = server_name(extensions) if extensions is not None else None
        except HostError:
            return False
        if extensions is None:
            return None
        judge, target = self.lane.gate.judge, self.hosts[0]
        if (name is None or name == target) and judge.in_force is self._judged_by:
            return True
        verdict = judge.verdict(target, name, client=self.address)
        if not verdict.passes:
            return False
        judge.count_more(verdict, self._verdict)
        self._counters = self.lane.counters_of(verdict)
        if name is not None and name != target:
            self.hosts = (target, name)
        return True

    def judge_again(self, extensions: Iterable[tuple[int, bytes]]) -> Verdict:
        """The verdict for a ClientHello that follows another one. Raises HostError."""
        name, judge = server_name(extensions), self.lane.gate.judge
        verdict = judge.verdict(*self.hosts, name, client=self.address)
        if verdict.passes:
            judge.count_more(verdict, judge.verdict(*self.hosts, client=self.address))
            if name is not None and name not in self.hosts:
                self.hosts = (*self.hosts, name)
        return verdict

    def carry(self, conversation: Conversation | None) -> None:
        """Relay from now on.

        The metrics count a tunnel only at this point, so they show nothing of tunnels that are stopped.
        """
        assert self.server is not None
        self.lane.waiting.pop(self, None)
        self._first_bytes = None
        data, self.data = self.data, b""
        self._is_open = True
        self._counters.numbers[Number.TUNNELS] += 1
        self._counters.opened(self._took)
        lane = self.lane
        self._relay = Relay(
            lane.poll, lane.loop.time, self._counters, self.client, self.server, data, self._ended, conversation
        )
        self.is_ours = False

    def _ended(self, error: BaseException | None) -> None:
        self._forget()
        if isinstance(error, RefusedError):
            self.lane.gate.judge.count(error.verdict)
        elif error is not None and not isinstance(error, OSError):
            self.lane.gate.faults.add("lane", error)

    # The hand-over to mitmproxy

    def hand_over(self) -> None:
        """Let mitmproxy serve the open tunnel."""
        assert self.server is not None
        self.lane.waiting.pop(self, None)
        self.lane.poll.remove_reader(self.server)
        self._give_to_mitmproxy(Opened(self.hosts[0].address, self.port, self.server))

    def _give_to_mitmproxy(self, opened: Opened | None) -> None:
        """Let mitmproxy serve the client; `opened` is the server to which its tunnel leads."""
        self._first_bytes = None
        data, self.data = self.data, b""
        self.lane.poll.remove_reader(self.client)

        async def serve() -> None:
            try:
                await self.lane.hand_over(self.client, data, opened, self._forget)
            except OSError:
                pass  # the client is gone
            except Exception as error:
                self.lane.gate.faults.add("lane", error)
                self.lane.gate.count_fault()
            finally:
                self._forget()
                if opened is not None:
                    opened.close()

        self.lane.tasks.start(serve())
        self.is_ours = False
