"""WorkerPool: keeps a worker in each slot, and gives each the ruleset in force.

The pool starts a worker again when it ends. It gives a ruleset to one worker after the other, so that never all of
them are busy with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from stoplist import metrics
from stoplist.errors import StoplistError
from stoplist.proxy.background_tasks import BackgroundTasks
from stoplist.proxy.counting.period_counts import PeriodCounts
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.workers.listening_sockets import SharedSockets, SocketAddress
from stoplist.proxy.workers.worker_channel import Word, WorkerChannel
from stoplist.proxy.workers.worker_process import WorkerProcess

ANSWER_SECONDS = 2.0
"""How long the pool waits for a worker to answer or to end."""
START_SECONDS = 60.0
"""How long a worker may take until it serves."""
SHORT_SECONDS = 5.0
"""If a worker lived for a shorter time, the pool pauses before it starts it again."""
MAX_PAUSE_SECONDS = 10.0

type Give = Callable[[WorkerChannel], None]
"""Sends the ruleset in force. Raises OSError where the other end is gone, BlockingIOError where it does not read."""


class WorkerPool:
    """One worker for each slot of `sockets`, and old workers from before this process executed itself anew.

    `give` sends a worker its ruleset, and `counts` reads its counters. The connections of a worker have `drain`
    seconds to end. The pool calls `on_failure` where no worker can serve.
    """

    def __init__(
        self,
        sockets: SharedSockets,
        counts: PeriodCounts,
        give: Give,
        drain: float,
        on_failure: Callable[[StoplistError], None],
    ) -> None:
        self._sockets = sockets
        self._counts = counts
        self._give = give
        self._drain = drain
        self._on_failure = on_failure
        self._own: Sequence[SocketAddress] = ()
        self._workers: set[WorkerProcess] = set()
        self._tasks = BackgroundTasks()
        self._spreading = asyncio.Lock()
        self._news = asyncio.Event()
        """Set when a worker is ready, or the pool ends."""
        self._restarts = 0
        self._pause = 0.0
        self._is_ending = False
        self.serves = False
        """Whether a worker has served."""

    def __len__(self) -> int:
        return len(self._workers)

    def health(self) -> metrics.WorkersHealth:
        serving = sum(worker.is_ready and not worker.is_leaving for worker in self._workers)
        return metrics.WorkersHealth(serving, self._sockets.count, self._restarts)

    # Begin

    def start(self, own: Sequence[SocketAddress], kept: Sequence[Sequence[Any]] = ()) -> None:
        """Start a worker in each slot, beside those that were `kept`. The supervisor itself listens at `own`."""
        self._own = own
        for told in kept:
            self._keep(WorkerProcess.kept(told))
        old_has_all = any(worker.has_all for worker in self._workers)
        self.serves = bool(self._workers)
        for slot in range(self._sockets.count):
            self._start(slot, has_all=slot == 0 and not old_has_all)

    async def until_ready(self) -> None:
        """Wait until a new worker serves in each slot, or the pool ends. Raises StoplistError."""
        slots = set(range(self._sockets.count))
        while not self._is_ending and {worker.slot for worker in self._workers if worker.serves} != slots:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), START_SECONDS)
            except TimeoutError:
                if not self.serves:
                    raise StoplistError("a worker does not start", hint="see above") from None
        self.serves = self.serves or not self._is_ending

    def dismiss_old(self) -> None:
        """Tell the old workers to end when their connections have ended."""
        for worker in self._workers:
            if worker.is_old:
                if not worker.is_leaving:
                    worker.dismiss(signal.SIGTERM)
                self._tasks.start(worker.see_off(self._drain))

    def _start(self, slot: int, *, has_all: bool) -> None:
        worker = WorkerProcess.start(slot, self._sockets.of(slot), self._own, has_all=has_all)
        self._keep(worker)
        try:
            self._give(worker.channel)
        except OSError:
            worker.kill()  # it has ended, or waits for a ruleset that never comes

    def _keep(self, worker: WorkerProcess) -> None:
        self._workers.add(worker)
        self._counts.read(worker.counters)
        worker.channel.connection.setblocking(False)
        asyncio.get_running_loop().add_reader(worker.channel.connection, self._hear, worker)

    # While they serve

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            message = worker.channel.receive()
        except BlockingIOError:
            return
        if message is None:
            asyncio.get_running_loop().remove_reader(worker.channel.connection)
            worker.channel.close()
            self._tasks.start(self._bury(worker))
            return
        word, _ = message
        if word is Word.READY:
            worker.is_ready = True
            self._news.set()
        elif word is Word.TAKEN:
            worker.has_taken.set()
        elif word is Word.RELEASED:
            self._release(worker)

    def _release(self, worker: WorkerProcess) -> None:
        """The modes that only one process can serve are free: let the worker that took this one's place serve them."""
        if not worker.has_all:
            return
        worker.has_all = False
        for other in self._workers:
            if other.slot == 0 and not other.is_leaving and not other.has_all:
                other.has_all = True
                with contextlib.suppress(OSError):
                    other.channel.send(Word.TAKE)

    async def spread(self) -> None:
        """Give each worker the ruleset in force, one after the other."""
        async with self._spreading:
            for worker in list(self._workers):
                await self._convince(worker)

    async def _convince(self, worker: WorkerProcess) -> None:
        """Give a worker the ruleset in force, and wait until it has it. Kill a worker that does not read."""
        worker.has_taken.clear()
        try:
            self._give(worker.channel)
        except BlockingIOError:
            log_allowlist.say(records.WorkerUnresponsive(worker.slot + 1))
            worker.kill()
        except OSError:
            return  # it has ended
        if worker.is_ready:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.has_taken.wait(), ANSWER_SECONDS)

    async def _bury(self, worker: WorkerProcess) -> None:
        """Wait for the end of a worker that has closed its channel. Start another if this one was not told to end."""
        # A worker that was not ready serves no client: it gets more time, so that its exit status says why it ended.
        status = await worker.ended(ANSWER_SECONDS if worker.is_ready else START_SECONDS)
        self._workers.discard(worker)
        self._counts.leave(worker.counters)
        worker.counters.close()
        worker.gone.set()
        if worker.is_leaving or self._is_ending:
            self._release(worker)
            return
        if not worker.is_ready and not self.serves:
            self._on_failure(StoplistError(f"a worker could not start ({_end_of(status)})", hint="see above"))
            return
        log_allowlist.say(records.WorkerEnded(worker.slot + 1, _end_of(status)))
        self._restarts += 1
        if worker.is_old:  # its slot has another worker, or will have one
            self._release(worker)
            return
        lived = time.monotonic() - worker.born
        self._pause = min(MAX_PAUSE_SECONDS, 2 * self._pause + 0.5) if lived < SHORT_SECONDS else 0.0
        await self._start_again(worker)

    async def _start_again(self, worker: WorkerProcess) -> None:
        while True:
            await asyncio.sleep(self._pause)
            if self._is_ending:
                return
            try:
                self._start(worker.slot, has_all=worker.has_all)
                return
            except OSError as error:
                log_allowlist.say(records.WorkerNotStarted(worker.slot + 1, error.strerror or type(error).__name__))
                self._pause = MAX_PAUSE_SECONDS

    # End

    def end(self) -> None:
        """Start no worker again from now on."""
        self._is_ending = True
        self._news.set()

    def end_at_once(self) -> None:
        for worker in self._workers:
            worker.dismiss(signal.SIGINT)
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._kill_all)

    def _kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()

    async def close(self, number: int) -> None:
        """Send each worker the signal `number`, and wait until all have ended."""
        self.end()
        workers = list(self._workers)
        for worker in workers:
            worker.dismiss(number)
        await asyncio.gather(*(worker.see_off(self._drain) for worker in workers))

    def keep(self) -> list[list[Any]]:
        """The argument `kept` for `start`, after this process has executed itself anew."""
        return [worker.keep() for worker in self._workers]


def _end_of(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
