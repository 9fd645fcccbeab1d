"""Lane: what the tunnels of one listening address share, and how mitmproxy takes over what is not for the lane."""

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
"""Has mitmproxy serve a client to its end.

The arguments are the client, the bytes that were received from it, the server that its tunnel leads to, and what to
call once mitmproxy has the connection. Raises what mitmproxy raises; the client is closed then.
"""


class AddOn(Protocol):
    """What the lane needs of the add-on."""

    judge: Judge
    outbound: Outbound
    connections: Connections
    faults: Faults

    def serves(self, address: str) -> bool:
        """Whether this client is served at all."""

    def count_fault(self) -> None:
        """Count a request that was refused because of a fault."""


class Waiting(Protocol):
    """A tunnel that waits for its client or its server."""

    def give_up(self) -> None:
        """It was waited for long enough."""


class Lane:
    """The lane of one listening address. `asks_for_passwords` says whether each CONNECT needs mitmproxy for that."""

    def __init__(
        self, gate: AddOn, loop: asyncio.AbstractEventLoop, hand_over: HandOver, *, asks_for_passwords: bool
    ) -> None:
        assert gate.judge.counter is not None
        self.gate = gate
        self.loop = loop
        self.hand_over = hand_over
        self.counters = gate.judge.counter.counters
        self.poll = poll_for(loop, functools.partial(gate.faults.add, "lane"))
        self.waiting: dict[Waiting, float] = {}
        """Those that wait, the first one first, and until when they may."""
        self._unread = SharedCounters(None)
        self._asks_for_passwords = asks_for_passwords
        self.tasks = BackgroundTasks()
        self._give_up_late()

    def takes(self, host: Host, port: int) -> bool:
        """Whether a CONNECT needs nothing of mitmproxy, if it passes."""
        policy, outbound = self.gate.judge.policy, self.gate.outbound
        is_ours = policy.tls == "passthrough" and not self._asks_for_passwords and policy.tunnels.permits(port)
        return is_ours and (host.address, port) not in outbound.trusted

    def counters_of(self, verdict: Verdict) -> SharedCounters:
        """Where a tunnel is counted: not where it is read, if it is observed."""
        return self.counters if verdict.action is Action.PASS else self._unread

    def _give_up_late(self) -> None:
        """One timer for all that wait: each second, end those that have waited for too long."""
        self.loop.call_later(1, self._give_up_late)
        while self.waiting:
            first, until = next(iter(self.waiting.items()))
            if until > self.loop.time():
                break
            del self.waiting[first]
            first.give_up()
