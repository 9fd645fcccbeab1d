"""Periodic work: what a gate does at fixed intervals, and after each change of its ruleset.

It writes counts, closes connections to hosts that do not pass any more, takes up another CA, and collects garbage.
"""

from __future__ import annotations

import asyncio
import gc
import time

from mitmproxy import ctx

from stoplist import clock
from stoplist.proxy.background_tasks import BackgroundTasks
from stoplist.proxy.counting.period_counts import BEAT_SECONDS, PeriodCounts
from stoplist.proxy.counting.shared_counters import Number
from stoplist.proxy.mitm.hooks.hook_context import HookContext
from stoplist.proxy.mitm.tls_settings import prepare


class PeriodicWork:
    """The work from its start to `end`. A worker has no `period_counts`: its supervisor writes them."""

    def __init__(self, context: HookContext, period_counts: PeriodCounts | None) -> None:
        self._context = context
        self._period_counts = period_counts
        self._tasks = BackgroundTasks()
        self._tasks.start(self._beat())
        self._tasks.start(self._keep_authority())
        self._tasks.start(self._know_parents())

    def end(self) -> None:
        self._tasks.cancel()

    def ruleset_changed(self) -> None:
        """Act on another ruleset at once."""
        self._tasks.start(self._close_stopped())
        self._tasks.start(self._look_at_authority())

    async def _beat(self) -> None:
        faults, connections = self._context.faults, self._context.connections
        while (counter := self._context.judge.counter) is not None:
            seconds = BEAT_SECONDS
            try:
                if self._period_counts is not None:
                    seconds = await asyncio.to_thread(self._period_counts.beat, time.time())
            except Exception as error:
                faults.add("beat", error)
            await asyncio.sleep(seconds)
            gc.collect()  # ended requests leave reference cycles, which would stay in memory while the gate is quiet
            counter.counters.numbers[Number.FAULTS] += faults.report()
            await self._close_stopped()
            loop = asyncio.get_running_loop()
            await connections.close_idle(loop.time() - ctx.options.tcp_timeout)

    async def _keep_authority(self) -> None:
        while self._context.judge.store is not None:
            await self._look_at_authority()
            await asyncio.sleep(self._context.judge.policy.watch.poll)

    async def _know_parents(self) -> None:
        """Keep the addresses of the parent proxies known, so that no client is connected to one under another name."""
        while self._context.outbound.trusted and self._context.judge.store is not None:
            try:
                await self._context.outbound.resolve_trusted()
            except Exception as error:
                self._context.faults.add("know_parents", error)
            await asyncio.sleep(BEAT_SECONDS)

    async def _look_at_authority(self) -> None:
        try:
            if (current_ca := self._context.current_ca) is not None:
                await asyncio.to_thread(current_ca.look, self._context.judge.policy, clock.now())
                await asyncio.to_thread(prepare, current_ca.current)
        except Exception as error:
            self._context.faults.add("keep_authority", error)

    async def _close_stopped(self) -> None:
        """Close connections to hosts that do not pass any more: a list or policy changed, or an exception ended."""
        handlers = ctx.master.addons.get("proxyserver").connections
        context = self._context
        try:
            await context.connections.close_stopped(context.judge, handlers, context.serves)
        except Exception as error:
            context.faults.add("close_stopped", error)
            context.connections.abort_all(handlers)
