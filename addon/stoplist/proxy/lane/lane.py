"""Lane: the state that the tunnels of one listening address share, and the hand-over to mitmproxy."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from stoplist.core.decide import Action, Verdict
from stoplist.core.hosts import Host
from stoplist.proxy.background_tasks import BackgroundTasks
from stoplist.proxy.counting.shared_counters import SharedCounters
from stoplist.proxy.judge import Judge
from stoplist.proxy.lane.epoll import poll_for
from stoplist.proxy.log.log_allowlist import Faults
from stoplist.proxy.outbound.connector import Opened, Outbound
from stoplist.proxy.outbound.open_connections import Connections

type HandOver = Callable[[socket.socket, bytes, Opened | None, Callable[[], None]], Awaitable[None]]
"""Lets mitmproxy serve a client to its end.

The arguments are the client, the bytes that were received from it, the server to which its tunnel leads, and a
callback for the moment when mitmproxy has the connection.
Raises the exceptions of mitmproxy; the client is closed then.
"""


class LaneContext(Protocol):
    """What the lane shares with the hooks of mitmproxy."""

    judge: Judge
    outbound: Outbound
    connections: Connections
    faults: Faults

    def serves(self, address: str) -> bool:
        """Whether the gate serves this client at all."""

    def count_fault(self) -> None:
        """Count a request that was refused because of a fault."""


class Waiting(Protocol):
    """A tunnel that waits for its client or its server."""

    def give_up(self) -> None:
        """End the tunnel: its timeout has passed."""


class Lane:
    """The lane of one listening address.

    `asks_for_passwords` says whether the gate asks clients for passwords; then mitmproxy must serve each CONNECT.
    """

    def __init__(
        self, gate: LaneContext, loop: asyncio.AbstractEventLoop, hand_over: HandOver, *, asks_for_passwords: bool
    ) -> None:
        assert gate.judge.counter is not None
        self.gate = gate
        self.loop = loop
        self.hand_over = hand_over
        self.counters = gate.judge.counter.counters
        self.poll = poll_for(loop, functools.partial(gate.faults.add, "lane"))
        self.waiting: dict[Waiting, float] = {}
        """The tunnels that wait, the oldest first, each with the time at which it gives up."""
        self._unread = SharedCounters(None)
        self._asks_for_passwords = asks_for_passwords
        self.tasks = BackgroundTasks()
        self._give_up_late()

    def takes(self, host: Host, port: int) -> bool:
        """Whether the lane can serve a CONNECT that passes, without mitmproxy."""
        policy, outbound = self.gate.judge.policy, self.gate.outbound
        is_ours = policy.tls == "passthrough" and not self._asks_for_passwords and policy.tunnels.permits(port)
        return is_ours and (host.address, port) not in outbound.trusted

    def counters_of(self, verdict: Verdict) -> SharedCounters:
        """The counters for a tunnel. An observed tunnel counts in counters that nothing reads."""
        return self.counters if verdict.action is Action.PASS else self._unread

    def _give_up_late(self) -> None:
        """Once a second, end the tunnels that have waited too long. One timer serves them all."""
        self.loop.call_later(1, self._give_up_late)
        while self.waiting:
            first, until = next(iter(self.waiting.items()))
            if until > self.loop.time():
                break
            del self.waiting[first]
            first.give_up()
