"""What a new list costs while requests run. Run: PYTHONPATH=. .venv/bin/python tests/bench/reload.py [--domains N]

A real gate with a list of a million domains, a real origin (nginx), and clients of two kinds: four open one
tunnel after the other, four ask for a page over kept connections; each pauses for 10 ms in between. A list of
as many domains is renamed over the old one several times, and what it lists anew is asked for until it is
stopped. Printed: seconds from the rename to the first stopped request; what the clients met while no list
was taken up, and from each rename until half a second after the new list was enforced.

Needs root and nginx. All of it on loopback. Status 1 if a bound of the design is missed.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.load import LOOPBACK, BrokenError, Client, drive, fetcher, opener
from tests.bench.report import percentile
from tests.bench.subjects import (
    HTTP_PORT,
    OURS,
    TLS_PORT,
    ListFiles,
    Yard,
    domain,
    enter_own_world,
    new_publisher,
    publish,
)
from tests.published import Publisher

CLIENTS = 4
"""Of each kind."""
PAUSE_SECONDS = 0.01
WARM_SECONDS = 1.0
QUIET_SECONDS = 5.0
AFTER_SECONDS = 0.5
LOOK_SECONDS = 0.02
"""How often the newly listed host is asked for."""
GIVE_UP_SECONDS = 60
SWAPS = 5


@dataclass
class Reload:
    """Moments are of time.perf_counter, all else is seconds."""

    requests: list[tuple[float, float]] = field(default_factory=list)
    """When each ended, and how long it took."""
    failures: list[str] = field(default_factory=list)
    swaps: list[tuple[float, float]] = field(default_factory=list)
    """When each list was renamed, and when it was enforced."""
    has_ended: bool = False

    def is_going(self) -> bool:
        return not self.has_ended

    def note(self, seconds: float) -> None:
        self.requests.append((time.perf_counter(), seconds))

    def delays(self) -> list[float]:
        return [enforced - renamed for renamed, enforced in self.swaps]

    def during(self) -> list[list[float]]:
        """What the requests took during each swap."""
        return [
            [took for ended, took in self.requests if renamed <= ended and ended - took <= enforced + AFTER_SECONDS]
            for renamed, enforced in self.swaps
        ]

    def usual(self) -> list[float]:
        return [took for ended, took in self.requests if ended < self.swaps[0][0]]

    def p99_over_usual(self) -> float:
        return percentile([took for swap in self.during() for took in swap], 99) - percentile(self.usual(), 99)

    def latest_over_usual(self) -> float:
        """The latest request of a swap, median over the swaps, over the usual p99."""
        return statistics.median(map(max, self.during())) - percentile(self.usual(), 99)


def measure(yard: Yard, domains: int, swaps: int, cores: Iterable[int], quiet_seconds: float = QUIET_SECONDS) -> Reload:
    """Swap lists of so many domains under load. The origins must run."""
    folder = yard.folder / f"reload{domains}"
    folder.mkdir()
    publisher = new_publisher(folder / "files")
    publisher.list.write_bytes(publish(publisher, domains + 1, 1))
    news = [folder / f"list{serial}" for serial in range(2, 2 + swaps)]
    for serial, new in enumerate(news, 2):
        new.write_bytes(publish(publisher, domains + serial, serial))
    cost = Reload()
    with yard.proxy(OURS, ListFiles(domains, folder), cores) as gate:
        swapping = _swapper(gate.port, publisher, domains, news, cost, quiet_seconds)
        clients = [
            _persistent(partial(kind, gate.port, port, cost.is_going, cost.note, PAUSE_SECONDS), cost)
            for kind, port in ((opener, TLS_PORT), (fetcher, HTTP_PORT))
            for _ in range(CLIENTS)
        ]
        drive([swapping, *clients])
    return cost


def _persistent(client: Callable[[], Client], cost: Reload) -> Client:
    """Runs the client anew when it fails."""
    while cost.is_going():
        try:
            yield from client()
        except (BrokenError, OSError) as error:
            cost.failures.append(str(error))
            yield PAUSE_SECONDS


def _swapper(
    proxy: int, publisher: Publisher, domains: int, news: list[Path], cost: Reload, quiet_seconds: float
) -> Client:
    yield WARM_SECONDS
    cost.requests.clear()
    yield quiet_seconds
    for serial, new in enumerate(news, 2):
        renamed = time.perf_counter()
        new.replace(publisher.list)
        while not (yield from _is_stopped(proxy, domain(domains + serial - 1))):
            if time.perf_counter() - renamed > GIVE_UP_SECONDS:
                raise BrokenError(f"the new list was not enforced within {GIVE_UP_SECONDS} s")
            yield LOOK_SECONDS
        cost.swaps.append((renamed, time.perf_counter()))
        yield AFTER_SECONDS + 1
    cost.has_ended = True


def _is_stopped(proxy: int, host: str) -> Generator[socket.socket, None, bool]:
    with socket.create_connection((LOOPBACK, proxy)) as connection:
        connection.send(f"GET http://{host}:1/ HTTP/1.1\r\nHost: {host}:1\r\n\r\n".encode())
        yield connection
        return connection.recv(4096)[8:12] == b" 403"


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--domains", type=int, default=1_000_000)
    domains = arguments.parse_args().domains
    enter_own_world()
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder))
        with yard.origins(cores):
            cost = measure(yard, domains, SWAPS, cores)
    usual, delays, over = cost.usual(), cost.delays(), cost.latest_over_usual()
    latest = [max(swap) for swap in cost.during()]
    print(f"domains                                   {domains:9d}")
    print(f"requests, failed                          {len(cost.requests):9d} {len(cost.failures)}")
    print(
        f"usual median, p99, latest                 {statistics.median(usual) * 1e3:9.1f} "
        f"{percentile(usual, 99) * 1e3:.1f} {max(usual) * 1e3:.1f} ms"
    )
    print(f"renamed to enforced, median, latest       {statistics.median(delays):9.3f} {max(delays):.3f} s   bound 1")
    print(f"p99 during it, over the usual             {cost.p99_over_usual() * 1e3:9.1f} ms")
    print(
        f"latest request during it, median, worst   {statistics.median(latest) * 1e3:9.1f} {max(latest) * 1e3:.1f} ms"
    )
    print(f"  over the usual p99                      {over * 1e3:9.1f} ms        bound 25")
    return int(statistics.median(delays) > 1 or over > 0.025 or bool(cost.failures))


if __name__ == "__main__":
    sys.exit(main())
