"""Workers: several processes that serve one gate, and the supervisor that keeps them.

  supervisor   loads, watches and verifies the files, writes log and counts, owns the listening sockets
  worker       a gate (gate_process.py) that is given all of that: rulesets in shared memory, sockets, and counters of
               numbers that the supervisor reads (shared_counters.py)

Each worker has a listening socket of its own for each address, among which the system spreads new connections
(SO_REUSEPORT). The supervisor has them too: when a worker ends, what waits in its socket waits for the next one.

A worker that ends is started again. On SIGTERM all end, after their connections have. On SIGHUP the
supervisor makes sure that the code and the policy on disk start, executes itself anew, keeps the sockets and
the old workers until new ones serve, and then lets the old ones finish what they carry.

Rules
  - A worker is the same command line as the supervisor, with `TASK` in its environment.
  - Supervisor and worker speak over a socket pair: one letter, and descriptors. No host ever crosses it.
  - A worker whose supervisor is gone ends.
  - A ruleset is given to one worker after the other: never are all of them busy with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoplist import clock, metrics
from stoplist.core.counts import Cell
from stoplist.core.decide import Ruleset
from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError
from stoplist.proxy.counting.period_counts import BEAT_SECONDS, NOTHING_KEPT, PeriodCounts
from stoplist.proxy.counting.shared_counters import SharedCounters
from stoplist.proxy.health import HealthCheck
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.reload import shared_rulesets
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.reload.ruleset_store import InForce, RulesetStore
from stoplist.proxy.workers.listening_sockets import SocketAddress, Sockets, adopt, all_of, describe, listen
from stoplist.proxy.workers.worker_channel import Word, WorkerChannel
from stoplist.state import State

TASK = "STOPLIST_TASK"
"""The environment variable that says what a process of a gate is for; unset where a person starts it."""
ANSWER_SECONDS = 2.0
"""How long a worker is waited for."""
END_SECONDS = 10.0
"""How long a worker may take to end, beyond the time to drain; it is killed then."""
START_SECONDS = 60.0
"""How long a worker may take to serve."""
SHORT_SECONDS = 5.0
"""A worker that lived no longer is started again after a pause only."""
MAX_PAUSE_SECONDS = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_HAD_TERMINAL = sys.stderr.isatty()


@dataclass(eq=False)
class _Worker:
    slot: int
    pid: int
    channel: WorkerChannel
    counters: SharedCounters
    has_all: bool
    """Whether it has the modes that only one process can serve."""
    is_old: bool = False
    """Whether it was started by what this process was before."""
    is_ready: bool = False
    is_leaving: bool = False
    born: float = field(default_factory=time.monotonic)
    has_taken: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def serves(self) -> bool:
        return self.is_ready and not self.is_old


class Supervisor:
    """Keeps `count` workers with the policy at `path` and a socket at each of `places`, with the name of its mode."""

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
        self._count = count
        self._drain = drain
        self._faults = faults
        self._workers: set[_Worker] = set()
        self._sockets: list[Sockets] = []
        """Those of each worker."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._spreading = asyncio.Lock()
        self._layout: Mapping[Cell, int] = {}
        self._restarts = 0
        self._endpoint: metrics.Endpoint | None = None
        self._ending = asyncio.Event()
        self._ends_with: int = signal.SIGTERM
        self._failure: StoplistError | None = None
        self._news = asyncio.Event()
        """Set when a worker is ready, or the gate ends."""
        self._pause = 0.0
        self._serves = False
        self._renewing = False

    async def run(self, inherited: dict[str, Any] | None) -> None:
        """Serve until told to end. `inherited` is what the process kept when it executed itself anew.

        Raises StoplistError where the gate cannot start.
        """
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        state = State.open(self._state_dir, clock.now())
        self._period_counts = PeriodCounts(state, inherited["ledger"] if inherited else NOTHING_KEPT)
        self._store = RulesetStore(
            self._path, state, self._changed, place=shared_rulesets.share, on_accept=self._accept
        )
        policy = self._store.current.ruleset.policy
        self._current_ca = CurrentCa(policy, self._path, self._state_dir, clock.now(), speaks=True)
        wanted = policy.metrics
        if wanted is not None:
            self._endpoint = metrics.Endpoint(wanted.listen.host, wanted.listen.port)
            health = HealthCheck(
                self._store, self._period_counts, self._current_ca, self._is_ready, self._workers_health
            )
            self._endpoint.serve(functools.partial(health.answer, loop))
            log_allowlist.say(records.MetricsAt(str(ListenAddress(*self._endpoint.address))))
        old = self._adopt(inherited) if inherited else []
        self._listen()
        for slot in range(self._count):
            self._start(slot, has_all=slot == 0 and not any(worker.has_all for worker in old))
        self._serves = bool(old)
        try:
            if old:  # they judge by what was in force before, and it may take long until others serve
                self._follow_files()
                self._spawn(self._spread)
            await self._until_ready()
            if not self._ending.is_set():
                if not old:
                    self._follow_files()
                self._serves = True
                self._say_where()
                for worker in old:
                    if not worker.is_leaving:
                        self._dismiss(worker, signal.SIGTERM)
                    self._spawn(self._see_off, worker)
            await self._ending.wait()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    def _is_ready(self) -> bool:
        return self._serves and not self._ending.is_set()

    def _workers_health(self) -> metrics.WorkersHealth:
        serving = sum(worker.is_ready and not worker.is_leaving for worker in self._workers)
        return metrics.WorkersHealth(serving, self._count, self._restarts)

    def _follow_files(self) -> None:
        self._store.watch()
        self._spawn(self._beat)
        self._spawn(self._keep_authority)

    # Workers

    def _start(self, slot: int, *, has_all: bool) -> None:
        channel, theirs = WorkerChannel.pair()
        counters = SharedCounters.make()
        handed = {
            "listening": describe(self._sockets[slot]),
            "link": theirs.fileno(),
            "board": counters.file,
            "has_all": has_all,
            "own": [self._endpoint.address] if self._endpoint else [],
        }
        files = [theirs.fileno(), counters.file, *(each.fileno() for each in all_of(self._sockets[slot]))]
        with theirs:
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                os.environ | {TASK: json.dumps({"worker": handed})},
                file_actions=[(os.POSIX_SPAWN_DUP2, file, file) for file in files],  # keeps them open over exec
            )
        worker = _Worker(slot, pid, channel, counters, has_all)
        self._keep(worker)
        try:
            self._give(worker)
        except OSError:
            self._kill(worker, signal.SIGKILL)  # it has ended, or waits for what never comes

    def _keep(self, worker: _Worker) -> None:
        self._workers.add(worker)
        self._period_counts.read(worker.counters)
        worker.channel.connection.setblocking(False)
        self._loop.add_reader(worker.channel.connection, self._hear, worker)

    def _hear(self, worker: _Worker) -> None:
        try:
            message = worker.channel.receive()
        except BlockingIOError:
            return
        if message is None:
            self._loop.remove_reader(worker.channel.connection)
            worker.channel.close()
            self._spawn(self._bury, worker)
            return
        word, _ = message
        if word is Word.READY:
            worker.is_ready = True
            self._news.set()
        elif word is Word.TAKEN:
            worker.has_taken.set()
        elif word is Word.RELEASED:
            self._release(worker)

    def _release(self, worker: _Worker) -> None:
        """What only one process can serve is free: the worker that took this one's place serves it."""
        if not worker.has_all:
            return
        worker.has_all = False
        for other in self._workers:
            if other.slot == 0 and not other.is_leaving and not other.has_all:
                other.has_all = True
                with contextlib.suppress(OSError):
                    other.channel.send(Word.TAKE)

    async def _bury(self, worker: _Worker) -> None:
        """See a worker end, which has closed its link; start another where it was not told to."""
        ended = asyncio.ensure_future(asyncio.to_thread(_wait_for, worker.pid))
        # One that was not ready serves nobody: it may take its time, so that its status says why it ended.
        await asyncio.wait([ended], timeout=ANSWER_SECONDS if worker.is_ready else START_SECONDS)
        if not ended.done():
            self._kill(worker, signal.SIGKILL)
        status = await ended
        self._workers.discard(worker)
        self._period_counts.leave(worker.counters)
        worker.counters.close()
        worker.gone.set()
        if worker.is_leaving or self._ending.is_set():
            self._release(worker)
            return
        if not worker.is_ready and not self._serves:
            self._fail(StoplistError(f"a worker could not start ({_end_of(status)})", hint="see above"))
            return
        log_allowlist.say(records.WorkerEnded(worker.slot + 1, _end_of(status)))
        self._restarts += 1
        if worker.is_old:  # there is another for its slot, or will be
            self._release(worker)
            return
        lived = time.monotonic() - worker.born
        self._pause = min(MAX_PAUSE_SECONDS, 2 * self._pause + 0.5) if lived < SHORT_SECONDS else 0.0
        await self._start_again(worker)

    async def _start_again(self, worker: _Worker) -> None:
        while True:
            await asyncio.sleep(self._pause)
            if self._ending.is_set():
                return
            try:
                self._start(worker.slot, has_all=worker.has_all)
                return
            except OSError as error:
                log_allowlist.say(records.WorkerNotStarted(worker.slot + 1, error.strerror or type(error).__name__))
                self._pause = MAX_PAUSE_SECONDS

    def _dismiss(self, worker: _Worker, number: int) -> None:
        """Tell a worker to end: on SIGTERM when its connections have, on SIGINT at once."""
        worker.is_leaving = True
        if number == signal.SIGINT and not worker.is_ready:
            number = signal.SIGKILL  # Python would say that it was interrupted
        self._kill(worker, number)

    async def _see_off(self, worker: _Worker) -> None:
        """Wait until a worker that was told to end has; one that takes too long is killed."""
        try:
            await asyncio.wait_for(worker.gone.wait(), self._drain + END_SECONDS)
        except TimeoutError:
            self._kill(worker, signal.SIGKILL)
            await worker.gone.wait()

    def _kill(self, worker: _Worker, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def _kill_all(self) -> None:
        for worker in self._workers:
            self._kill(worker, signal.SIGKILL)

    async def _until_ready(self) -> None:
        """Wait until a new worker serves in each slot, or the gate ends. Raises StoplistError."""
        while not self._ending.is_set() and {worker.slot for worker in self._workers if worker.serves} != set(
            range(self._count)
        ):
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), START_SECONDS)
            except TimeoutError:
                if not self._serves:
                    raise StoplistError("a worker does not start", hint="see above") from None

    # Rulesets and counts

    def _changed(self, _: InForce) -> None:
        """Called by the store's thread when another ruleset is in force; it goes on when all workers have it."""
        spread = asyncio.run_coroutine_threadsafe(self._spread(), self._loop)
        with contextlib.suppress(TimeoutError):
            spread.result(ANSWER_SECONDS * (len(self._workers) + 1))

    def _accept(self, ruleset: Ruleset) -> None:
        self._layout = self._period_counts.follow(ruleset, time.time())

    async def _spread(self) -> None:
        """Give each worker the ruleset in force, one after the other."""
        async with self._spreading:
            for worker in list(self._workers):
                await self._convince(worker)

    async def _convince(self, worker: _Worker) -> None:
        """Give a worker the ruleset in force, and wait until it has it. One that does not listen is ended."""
        worker.has_taken.clear()
        try:
            self._give(worker)
        except BlockingIOError:
            log_allowlist.say(records.WorkerDeaf(worker.slot + 1))
            self._kill(worker, signal.SIGKILL)
        except OSError:
            return  # it has ended
        if worker.is_ready:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(worker.has_taken.wait(), ANSWER_SECONDS)

    def _give(self, worker: _Worker) -> None:
        in_force = self._store.current
        files = shared_rulesets.pack(in_force.ruleset, in_force.page, self._layout)
        try:
            worker.channel.send(Word.RULESET, files=files)
        finally:
            os.close(files[0])

    async def _beat(self) -> None:
        """Gather what the workers counted, and write the period when it has closed."""
        while True:
            seconds = BEAT_SECONDS
            try:
                seconds = await asyncio.to_thread(self._period_counts.beat, time.time())
            except Exception as error:
                self._faults.add("beat", error)
            await asyncio.sleep(seconds)
            self._faults.report()

    async def _keep_authority(self) -> None:
        """Say what becomes of the CA; each worker takes it up by itself."""
        while True:
            policy = self._store.current.ruleset.policy
            try:
                await asyncio.to_thread(self._current_ca.look, policy, clock.now())
            except Exception as error:
                self._faults.add("keep_authority", error)
            await asyncio.sleep(policy.watch.poll)

    # Sockets

    def _listen(self) -> None:
        """Have a socket for each place and worker; those that were kept stay. Raises StoplistError."""
        kept, self._sockets = self._sockets, []
        for slot in range(self._count):
            before = kept[slot] if slot < len(kept) else {}
            self._sockets.append({})
            for place in self._places:
                self._sockets[slot][place] = before.pop(place) if place in before else self._bind(place)
        for sockets in kept:
            for unused in all_of(sockets):
                unused.close()

    def _bind(self, place: SocketAddress) -> list[socket.socket]:
        host, port = place
        first = self._sockets[0].get(place)
        try:
            return listen(host, first[0].getsockname()[1] if first else port, shared=True)
        except OSError as error:
            raise cannot_listen(error) from None

    def _say_where(self) -> None:
        for place, mode in self._places.items():
            for host, port in sorted({each.getsockname()[:2] for each in self._sockets[0][place]}):
                log_allowlist.say(records.Listening(str(ListenAddress(host, port)), mode, self._count))

    # The end, and a new beginning

    def _end(self, number: int) -> None:
        if self._ending.is_set():  # told twice: at once
            for worker in self._workers:
                self._dismiss(worker, signal.SIGINT)
            self._loop.call_later(ANSWER_SECONDS, self._kill_all)
        self._ends_with = number
        self._stop()

    def _hang_up(self) -> None:
        if terminal_is_gone():
            self._end(signal.SIGTERM)
        else:
            self._spawn(self._renew)

    def _fail(self, error: StoplistError) -> None:
        self._failure = error
        self._ends_with = signal.SIGINT
        self._stop()

    def _stop(self) -> None:
        self._ending.set()
        self._news.set()

    async def _close(self) -> None:
        self._ending.set()
        await asyncio.to_thread(self._store.stop)
        for sockets in self._sockets:
            for each in all_of(sockets):
                each.close()
        for worker in list(self._workers):
            self._dismiss(worker, self._ends_with)
        await asyncio.gather(*map(self._see_off, list(self._workers)))
        await asyncio.to_thread(self._period_counts.beat, time.time())
        self._store.close()
        self._faults.report()
        if self._endpoint is not None:
            self._endpoint.close()

    async def _renew(self) -> None:
        """Execute this process anew, with the code and the policy that are on disk now, if they start."""
        if self._renewing or self._ending.is_set():
            return
        self._renewing = True
        log_allowlist.say(records.Renewing())
        if not await self._would_start():
            log_allowlist.say(records.NotRenewed())
            self._renewing = False
            return
        await asyncio.to_thread(self._store.stop)
        if self._ending.is_set():
            return
        await asyncio.to_thread(self._period_counts.beat, time.time())
        self._store.close()
        self._faults.report()
        kept = {
            "ledger": self._period_counts.keep(),
            "workers": [
                [
                    *(worker.slot, worker.pid, worker.channel.connection.fileno(), worker.counters.file),
                    *(worker.has_all, worker.is_leaving),
                ]
                for worker in self._workers
            ],
            "sockets": [describe(sockets) for sockets in self._sockets],
        }
        for each in (*(each for sockets in self._sockets for each in all_of(sockets)), *self._links()):
            each.set_inheritable(True)
        for worker in self._workers:
            assert worker.counters.file is not None
            os.set_inheritable(worker.counters.file, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until they are handled again
        os.execve(  # noqa: S606  this very program
            sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {TASK: json.dumps({"kept": kept})}
        )

    async def _would_start(self) -> bool:
        """Whether this very command would start now, beside what runs."""
        own = [self._endpoint.address] if self._endpoint is not None else []
        environment = os.environ | {TASK: json.dumps({"check": [*self._sockets[0], *own]})}
        try:
            process = await asyncio.create_subprocess_exec(sys.executable, *sys.orig_argv[1:], env=environment)
        except OSError:
            return False
        try:
            return await asyncio.wait_for(process.wait(), START_SECONDS) == 0
        except TimeoutError:
            process.kill()
            return False

    def _links(self) -> list[socket.socket]:
        return [worker.channel.connection for worker in self._workers]

    def _adopt(self, kept: dict[str, Any]) -> list[_Worker]:
        """Take over sockets and workers of what this process was before."""
        self._sockets = [adopt(sockets) for sockets in kept["sockets"]]
        old = []
        for slot, pid, channel, counters, has_all, is_leaving in kept["workers"]:
            connection = WorkerChannel(socket.socket(fileno=channel))
            worker = _Worker(
                slot,
                pid,
                connection,
                SharedCounters(counters),
                has_all,
                is_old=True,
                is_ready=True,
                is_leaving=is_leaving,
            )
            for file in (channel, counters):
                os.set_inheritable(file, False)
            self._keep(worker)
            old.append(worker)
        return old

    def _spawn(self, task: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        spawned = self._loop.create_task(task(*arguments))
        self._tasks.add(spawned)
        spawned.add_done_callback(self._tasks.discard)


def terminal_is_gone() -> bool:
    """Whether SIGHUP says what it first said: the terminal that this was started in was closed."""
    return _HAD_TERMINAL and not os.isatty(sys.stderr.fileno())


def cannot_listen(error: BaseException) -> StoplistError:
    return StoplistError(
        f"cannot listen: {error}",
        hint="choose another address with --listen HOST:PORT, or with --mode MODE@HOST:PORT",
    )


def _wait_for(pid: int) -> int:
    """The exit code of a child, as subprocess has it."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _end_of(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"status {status}"
