"""Supervisor: the process that keeps several workers running, which serve one gate.

  supervisor   loads, watches and verifies the files, writes log and counts, owns the listening sockets
  worker       a gate (gate_process.py) that gets from its supervisor: rulesets in shared memory, sockets, and counters,
               which the supervisor reads (shared_counters.py)

Each worker has its own listening socket for each address. The system spreads new connections among them
(SO_REUSEPORT). The supervisor holds the sockets too: when a worker ends, connections that wait in its socket wait
for the next worker.

On SIGTERM each worker ends when its connections have ended. On SIGHUP the supervisor checks that the code and the
policy on disk start, and executes itself anew. It keeps the sockets, and the old workers until new ones serve. Then
it lets the old workers finish their connections.

Rules
  - A worker runs the same command line as the supervisor, with `TASK` in its environment.
  - Supervisor and worker speak over a socket pair: a message is one letter and file descriptors. It names no host.
  - When the supervisor is gone, its workers end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoplist import clock, metrics
from stoplist.core.counts import Cell
from stoplist.core.decide import Ruleset
from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError
from stoplist.proxy.background_tasks import BackgroundTasks
from stoplist.proxy.counting.period_counts import BEAT_SECONDS, NOTHING_KEPT, PeriodCounts
from stoplist.proxy.health import HealthCheck
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.reload import shared_rulesets
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.reload.ruleset_store import InForce, RulesetStore
from stoplist.proxy.workers.listening_sockets import SharedSockets, SocketAddress
from stoplist.proxy.workers.renewal import SIGNALS, execute_anew, terminal_is_gone, would_start
from stoplist.proxy.workers.worker_channel import Word, WorkerChannel
from stoplist.proxy.workers.worker_pool import ANSWER_SECONDS, WorkerPool
from stoplist.state import State
from stoplist.state_directory import StateLock


class Supervisor:
    """Keeps `count` workers running, with the policy at `path` and a socket at each of `places`.

    `places` map to the names of their modes. Open connections have `drain` seconds to end.
    """

    def __init__(
        self,
        path: Path,
        places: Mapping[SocketAddress, str],
        state_dir: Path,
        count: int,
        drain: float,
        faults: log_allowlist.Faults,
    ) -> None:
        self._path = path
        self._places = places
        self._state_dir = state_dir
        self._drain = drain
        self._faults = faults
        self._sockets = SharedSockets(places, count)
        self._tasks = BackgroundTasks()
        self._layout: Mapping[Cell, int] = {}
        self._endpoint: metrics.Endpoint | None = None
        self._ending = asyncio.Event()
        self._ends_with: int = signal.SIGTERM
        self._failure: StoplistError | None = None
        self._renewing = False

    async def run(self, inherited: Mapping[str, Any] | None) -> None:
        """Serve until a signal ends it. `inherited` is the state that the process kept when it executed itself anew.

        Raises StoplistError where the gate cannot start.
        """
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self._lock = StateLock.take(self._state_dir, inherited["lock"] if inherited else None)
        self._open_files(inherited["ledger"] if inherited else NOTHING_KEPT)
        self._pool = WorkerPool(self._sockets, self._period_counts, self._give, self._drain, self._fail)
        self._serve_metrics()
        self._sockets.open(inherited["sockets"] if inherited else ())
        self._pool.start(self._own_addresses(), inherited["workers"] if inherited else ())
        has_old = self._pool.serves
        try:
            if has_old:  # old workers have the previous ruleset, and it may take long until new ones serve
                self._follow_files()
                self._tasks.start(self._pool.spread())
            await self._pool.until_ready()
            if not self._ending.is_set():
                if not has_old:
                    self._follow_files()
                self._sockets.say_where()
                self._lock.say(self._sockets.addresses)
                self._pool.dismiss_old()
            await self._ending.wait()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    # Files and counts

    def _open_files(self, kept: Any) -> None:
        state = State.open(self._state_dir, clock.now())
        self._period_counts = PeriodCounts(state, kept)
        self._store = RulesetStore(
            self._path, state, self._changed, place=shared_rulesets.share, on_accept=self._accept
        )
        policy = self._store.current.ruleset.policy
        self._current_ca = CurrentCa(policy, self._path, self._state_dir, clock.now(), speaks=True)

    def _follow_files(self) -> None:
        self._store.watch()
        self._tasks.start(self._beat())
        self._tasks.start(self._keep_authority())

    def _changed(self, _: InForce) -> None:
        """The store's thread calls this when another ruleset is in force. It waits until all workers have it."""
        spread = asyncio.run_coroutine_threadsafe(self._pool.spread(), self._loop)
        with contextlib.suppress(TimeoutError):
            spread.result(ANSWER_SECONDS * (len(self._pool) + 1))

    def _accept(self, ruleset: Ruleset) -> None:
        self._layout = self._period_counts.follow(ruleset, time.time())

    def _give(self, channel: WorkerChannel) -> None:
        in_force = self._store.current
        files = shared_rulesets.pack(in_force.ruleset, in_force.page, self._layout)
        try:
            channel.send(Word.RULESET, files=files)
        finally:
            os.close(files[0])

    async def _beat(self) -> None:
        """Gather the counts of the workers, and write a period when it has closed."""
        while True:
            seconds = BEAT_SECONDS
            try:
                seconds = await asyncio.to_thread(self._period_counts.beat, time.time())
            except Exception as error:
                self._faults.add("beat", error)
            await asyncio.sleep(seconds)
            self._faults.report()

    async def _keep_authority(self) -> None:
        """Watch the CA, and log its changes. Each worker takes up another CA by itself."""
        while True:
            policy = self._store.current.ruleset.policy
            try:
                await asyncio.to_thread(self._current_ca.look, policy, clock.now())
            except Exception as error:
                self._faults.add("keep_authority", error)
            await asyncio.sleep(policy.watch.poll)

    async def _close_files(self) -> None:
        """Write the counts, and close the store."""
        await asyncio.to_thread(self._period_counts.beat, time.time())
        self._store.close()
        self._faults.report()

    # Metrics

    def _serve_metrics(self) -> None:
        wanted = self._store.current.ruleset.policy.metrics
        if wanted is None:
            return
        self._endpoint = metrics.Endpoint(wanted.listen.host, wanted.listen.port)
        health = HealthCheck(self._store, self._period_counts, self._current_ca, self._is_ready, self._pool.health)
        self._endpoint.serve(functools.partial(health.answer, self._loop))
        log_allowlist.say(records.MetricsAt(str(ListenAddress(*self._endpoint.address))))

    def _own_addresses(self) -> list[SocketAddress]:
        return [self._endpoint.address] if self._endpoint is not None else []

    def _is_ready(self) -> bool:
        return self._pool.serves and not self._ending.is_set()

    # The end, and a new beginning

    def _end(self, number: int) -> None:
        if self._ending.is_set():  # a second signal: end at once
            self._pool.end_at_once()
        self._ends_with = number
        self._stop()

    def _hang_up(self) -> None:
        if terminal_is_gone():
            self._end(signal.SIGTERM)
        else:
            self._tasks.start(self._renew())

    def _fail(self, error: StoplistError) -> None:
        self._failure = error
        self._ends_with = signal.SIGINT
        self._stop()

    def _stop(self) -> None:
        self._ending.set()
        self._pool.end()

    async def _close(self) -> None:
        self._stop()
        await asyncio.to_thread(self._store.stop)
        self._sockets.close()
        await self._pool.close(self._ends_with)
        await self._close_files()
        if self._endpoint is not None:
            self._endpoint.close()
        self._lock.release()

    async def _renew(self) -> None:
        """If the code and the policy that are on disk now start, execute this process anew with them."""
        if self._renewing or self._ending.is_set():
            return
        self._renewing = True
        log_allowlist.say(records.Renewing())
        if not await would_start([*self._places, *self._own_addresses()]):
            log_allowlist.say(records.NotRenewed())
            self._renewing = False
            return
        await asyncio.to_thread(self._store.stop)
        if self._ending.is_set():
            return
        await self._close_files()
        execute_anew(
            {
                "ledger": self._period_counts.keep(),
                "lock": self._lock.keep(),
                "workers": self._pool.keep(),
                "sockets": self._sockets.keep(),
            }
        )
