"""What compare.py measures: functions that drive one subject once, and those that order them."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import socket
import ssl
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tests.bench import load, reload
from tests.bench.report import Figure, Results, percentile
from tests.bench.subjects import (
    ANSWERING,
    BEFORE,
    DIRECT,
    HTTP_PORT,
    INTERCEPTING,
    OURS,
    PASSING,
    REPLAY_PORT,
    SQUID,
    TINYPROXY,
    TLS_PORT,
    ListFiles,
    Subject,
    Yard,
    has_workers,
    list_files,
)

SUBJECTS = (DIRECT, SQUID, TINYPROXY, PASSING, INTERCEPTING, ANSWERING, BEFORE, OURS)
TUNNELLING = (DIRECT, SQUID, TINYPROXY, PASSING, BEFORE, OURS)
"""Those that pass TLS on as it comes."""
SLOW = (PASSING, INTERCEPTING, ANSWERING)
AT_ONCE = (1, 100)
STREAMS = (1, 8)
SCALE_ROUNDS = 3
"""Most rounds of what starts every proxy anew; only one for the slow ones."""
STEP = 1000
SETTLE_SECONDS = 0.2
"""After so long, a proxy has closed what its clients closed."""

CPU = Figure("CPU per new tunnel", "µs", of="at once")
P99 = Figure("p99 of opening a tunnel", "ms", of="at once")
ADDED = Figure("p99 added over direct", "ms", of="at once")
RATE = Figure("new tunnels", "1/s", of="workers")
SHARE = Figure("the proxy's share of all CPU used", "%", of="workers")
KEPT_RATE = Figure("round trips in open tunnels", "1/s")
KEPT_CPU = Figure("CPU per round trip", "µs")
PLAIN_RATE = Figure("plain HTTP requests", "1/s")
PLAIN_CPU = Figure("CPU per plain HTTP request", "µs")
BULK_RATE = Figure("bulk", "MB/s", of="tunnels")
BULK_CPU = Figure("CPU per bulk GB", "ms", of="tunnels")
PAGE_CPU = Figure("CPU per page over HTTPS", "µs")
FIRST_BYTE = Figure("first byte of a page over fresh TLS", "ms")
IDLE_CPU = Figure("CPU per new tunnel beside idle ones", "µs", of="idle tunnels")
IDLE_MEMORY = Figure("memory per idle tunnel", "KiB", of="idle tunnels")
OPENED = Figure("CPU of opening so many", "s", of="tunnels opened")
LIST_CPU = Figure("CPU per new tunnel, by list", "µs", of="domains")
LIST_START = Figure("start until it listens", "s", of="domains")
LIST_MEMORY = Figure("memory once it listens", "MB", of="domains")
RELOAD_FAILED = Figure("reload, failed requests", "")
RELOAD_P99 = Figure("reload, p99 over the usual", "ms")
RELOAD_LATEST = Figure("reload, latest over the usual p99", "ms")
RELOAD_DELAY = Figure("reload, renamed to enforced", "s")
FIGURES = (
    *(CPU, P99, ADDED, RATE, SHARE, KEPT_RATE, KEPT_CPU, PLAIN_RATE, PLAIN_CPU, BULK_RATE, BULK_CPU, PAGE_CPU),
    FIRST_BYTE,
    *(IDLE_CPU, IDLE_MEMORY, OPENED, LIST_CPU, LIST_START, LIST_MEMORY),
    *(RELOAD_FAILED, RELOAD_P99, RELOAD_LATEST, RELOAD_DELAY),
)
"""In the order of the table; of those with a number, without it."""

type Figures = dict[Figure, float]
type Measure = Callable[[Subject, float], Figures]


@dataclass
class Bench:
    """Where and how much to measure."""

    yard: Yard
    origins: list[Subject]
    cores: list[int]
    rounds: int
    seconds: float
    subjects: Sequence[str]
    list_sizes: Sequence[int]
    tunnels: Sequence[int]
    reload_domains: int
    results: Results = field(default_factory=Results)

    @property
    def proxy_cores(self) -> list[int]:
        return self.cores[-1:]

    @property
    def load_cores(self) -> list[int]:
        return self.cores[:-1] or self.cores

    def files(self) -> ListFiles:
        """The list that all measurements but `lists` and `reload` use: the smallest."""
        return list_files(min(self.list_sizes))

    def proxies(self, among: Iterable[str] = SUBJECTS) -> list[str]:
        return [name for name in self.subjects if name in among and name != DIRECT]

    @contextlib.contextmanager
    def fleet(self, names: Iterable[str], files: ListFiles, workers: int = 1) -> Iterator[list[Subject]]:
        """Proxies with one worker on their core, or with more on all cores; warm, those that start."""
        cores = self.proxy_cores if workers == 1 else self.cores
        with contextlib.ExitStack() as stack:
            fleet = []
            for name in names:
                with self.noting(f"start with {files.domains:,} domains", name):
                    proxy = stack.enter_context(self.yard.proxy(name, files, cores, workers))
                    warm(proxy)
                    fleet.append(proxy)
            yield fleet

    @contextlib.contextmanager
    def noting(self, measurement: str, name: str) -> Iterator[None]:
        """A subject that fails is noted, and the others go on."""
        print(f"{time.strftime('%H:%M:%S')} {measurement}: {name}", file=sys.stderr)
        try:
            yield
        except (load.BrokenError, OSError, http.client.HTTPException) as error:
            self.results.note(f"{measurement}, {name}: {type(error).__name__}: {error}")
            gc.collect()

    def take(self, measurement: str, measure: Measure, subject: Subject, turn: int) -> None:
        with self.noting(f"{measurement}, round {turn + 1}", subject.name):
            for figure, value in measure(subject, self.seconds).items():
                if subject.process is None and "CPU" in figure.what:
                    continue
                self.results.add(figure, subject.name, turn, value)

    @contextlib.contextmanager
    def all_cores(self) -> Iterator[None]:
        """Let load and origins run on every core meanwhile."""
        self.place_load(self.cores)
        try:
            yield
        finally:
            self.place_load(self.load_cores)

    def place_load(self, cores: list[int]) -> None:
        for pid in [0, *(pid for origin in self.origins for pid in origin.pids())]:
            os.sched_setaffinity(pid, cores)


def cost[T](proxy: Subject, work: Callable[[], T]) -> tuple[T, float, float]:
    """What `work` returns, the CPU seconds that the proxy used for it, and the seconds that it took."""
    cpu, start = proxy.cpu_seconds(), time.perf_counter()
    done = work()
    seconds = time.perf_counter() - start
    time.sleep(SETTLE_SECONDS)
    return done, proxy.cpu_seconds() - cpu, seconds


def warm(proxy: Subject) -> None:
    """Let the proxy meet every site once or more, as a running one has."""
    load.new_tunnels(proxy.port, TLS_PORT, parallel=10, seconds=0.3)
    load.plain_requests(proxy.port, HTTP_PORT, parallel=2, seconds=0.1, keep=proxy.keeps_connections)


def tunnels(proxy: Subject, seconds: float) -> Figures:
    figures: Figures = {}
    for parallel in AT_ONCE:
        log, cpu, _ = cost(proxy, partial(load.new_tunnels, proxy.port, TLS_PORT, parallel=parallel, seconds=seconds))
        figures[CPU._replace(number=parallel)] = cpu / len(log) * 1e6
        figures[P99._replace(number=parallel)] = percentile(log, 99) * 1e3
    return figures


def rate(proxy: Subject, seconds: float) -> Figures:
    log, _, took = cost(proxy, partial(load.new_tunnels, proxy.port, REPLAY_PORT, parallel=100, seconds=seconds))
    return {RATE._replace(number=1): len(log) / took}


def kept(proxy: Subject, seconds: float) -> Figures:
    work = partial(load.kept_tunnels, proxy.port, REPLAY_PORT, tunnels=32, seconds=seconds)
    log, cpu, took = cost(proxy, work)
    return {KEPT_RATE: len(log) / took, KEPT_CPU: cpu / len(log) * 1e6}


def plain(proxy: Subject, seconds: float) -> Figures:
    keep = proxy.keeps_connections
    log, cpu, took = cost(
        proxy, lambda: load.plain_requests(proxy.port, HTTP_PORT, parallel=8, seconds=seconds, keep=keep)
    )
    return {PLAIN_RATE: len(log) / took, PLAIN_CPU: cpu / len(log) * 1e6}


def bulk(proxy: Subject, seconds: float) -> Figures:
    figures: Figures = {}
    for parallel in STREAMS:
        size, cpu, took = cost(proxy, partial(load.bulk, proxy.port, REPLAY_PORT, parallel=parallel, seconds=seconds))
        figures[BULK_RATE._replace(number=parallel)] = size / took / 1e6
        figures[BULK_CPU._replace(number=parallel)] = cpu / (size / 1e9) * 1e3
    return figures


def pages(proxy: Subject, seconds: float) -> Figures:
    host, port, status = (load.SITES[0], TLS_PORT, 200) if proxy.name == INTERCEPTING else (load.LISTED, 443, 403)
    trust = ssl.create_default_context(cafile=str(proxy.ca))
    times, cpu, _ = cost(proxy, lambda: load.pages(proxy.port, host, port, status, trust, seconds=seconds))
    return {PAGE_CPU: cpu / len(times) * 1e6, FIRST_BYTE: statistics.median(times) * 1e3}


SIDE_BY_SIDE: dict[str, tuple[Measure, Sequence[str]]] = {
    "tunnels": (tunnels, SUBJECTS),
    "rate": (rate, TUNNELLING),
    "kept": (kept, TUNNELLING),
    "plain": (plain, (DIRECT, SQUID, TINYPROXY, INTERCEPTING, BEFORE, OURS)),
    "bulk": (bulk, TUNNELLING),
    "pages": (pages, (INTERCEPTING, ANSWERING, BEFORE, OURS)),
}
"""What one fleet of proxies is measured by, and who takes part."""


def side_by_side(bench: Bench, chosen: Sequence[str]) -> None:
    takers = {name for measurement in chosen for name in SIDE_BY_SIDE[measurement][1]}
    with bench.fleet([DIRECT, *bench.proxies(takers)], bench.files()) as fleet:
        for turn in range(bench.rounds):
            for measurement in chosen:
                measure, takes_part = SIDE_BY_SIDE[measurement]
                for proxy in fleet:
                    if proxy.name in takes_part:
                        bench.take(measurement, measure, proxy, turn)
    for parallel in AT_ONCE:
        bench.results.subtract(P99._replace(number=parallel), DIRECT, ADDED._replace(number=parallel))


def cores(bench: Bench) -> None:
    """Nothing is pinned. tinyproxy has threads of its own accord, mitmproxy cannot use more than one core."""
    workers = len(bench.cores)
    names = bench.proxies((SQUID, TINYPROXY, OURS))
    if OURS in names and not has_workers():
        names.remove(OURS)
        bench.results.note(f"cores, {OURS}: this build knows no --workers")
    with bench.all_cores(), bench.fleet(names, bench.files(), workers) as fleet:
        for turn in range(bench.rounds):
            for proxy in fleet:
                bench.take("cores", partial(_on_all_cores, workers, bench.origins), proxy, turn)


def _on_all_cores(workers: int, origins: Sequence[Subject], proxy: Subject, seconds: float) -> Figures:
    others = -time.process_time() - sum(origin.cpu_seconds() for origin in origins)
    log, cpu, took = cost(proxy, partial(load.new_tunnels, proxy.port, REPLAY_PORT, parallel=100, seconds=seconds))
    others += time.process_time() + sum(origin.cpu_seconds() for origin in origins)
    return {
        RATE._replace(number=workers): len(log) / took,
        SHARE._replace(number=workers): 100 * cpu / (cpu + others),
    }


def scale(bench: Bench) -> None:
    """Each time with a proxy that has just started: what one has once taken, it seldom gives back."""
    for turn in range(min(bench.rounds, SCALE_ROUNDS)):
        for name in bench.proxies():
            if turn and name in SLOW:
                continue
            with bench.fleet([name], bench.files()) as fleet:
                for proxy in fleet:
                    bench.take("scale", partial(_scale, bench.tunnels), proxy, turn)


def _scale(counts: Sequence[int], proxy: Subject, seconds: float) -> Figures:
    figures: Figures = {}
    held: list[socket.socket] = []
    before, used = proxy.memory_bytes(), 0.0
    for count in sorted({*counts, *range(STEP, max(counts), STEP)}):
        more, cpu, _ = cost(proxy, partial(load.hold_tunnels, proxy.port, TLS_PORT, count - len(held)))
        held += more
        used += cpu
        figures[OPENED._replace(number=count)] = used
        if count in counts:
            memory = (proxy.memory_bytes() - before) / count / 1024
            log, cpu, _ = cost(proxy, lambda: load.new_tunnels(proxy.port, TLS_PORT, parallel=32, seconds=seconds))
            figures[IDLE_CPU._replace(number=count)] = cpu / len(log) * 1e6
            if count >= STEP:
                figures[IDLE_MEMORY._replace(number=count)] = memory
    if ended := sum(not load.is_open(tunnel) for tunnel in held):
        raise load.BrokenError(f"{ended} of {len(held)} idle tunnels ended")
    for tunnel in held:
        tunnel.close()
    return figures


def lists(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        fleets = {
            size: stack.enter_context(bench.fleet(bench.proxies((SQUID, OURS)), list_files(size)))
            for size in bench.list_sizes
        }
        for turn in range(bench.rounds):
            for size, fleet in fleets.items():
                for proxy in fleet:
                    bench.take("lists", partial(_by_list, size), proxy, turn)


def _by_list(size: int, proxy: Subject, seconds: float) -> Figures:
    log, cpu, _ = cost(proxy, lambda: load.new_tunnels(proxy.port, TLS_PORT, parallel=100, seconds=seconds))
    return {
        LIST_CPU._replace(number=size): cpu / len(log) * 1e6,
        LIST_START._replace(number=size): proxy.start_seconds,
        LIST_MEMORY._replace(number=size): proxy.memory_bytes() / 1e6,
    }


def reloads(bench: Bench) -> None:
    if OURS not in bench.subjects:
        return
    with bench.all_cores(), bench.noting("reload", OURS):
        done = reload.measure(bench.yard, bench.reload_domains, bench.rounds, bench.cores)
        for figure, value in {
            RELOAD_FAILED: len(done.failures),
            RELOAD_P99: done.p99_over_usual() * 1e3,
            RELOAD_LATEST: done.latest_over_usual() * 1e3,
            RELOAD_DELAY: statistics.median(done.delays()),
        }.items():
            bench.results.add(figure, OURS, 0, value)


ONE_BY_ONE: dict[str, Callable[[Bench], None]] = {"cores": cores, "scale": scale, "lists": lists, "reload": reloads}
