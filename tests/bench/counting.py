"""What counting costs: one request, one tunnel, one piece of bytes, and one beat. Prints microseconds.

Run as ``PYTHONPATH=. .venv/bin/python tests/bench/counting.py`` on a quiet machine.
"""

from __future__ import annotations

import tempfile
import time
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from stoplist.core.decide import PASS
from stoplist.proxy.counting.period_counts import PeriodCounts
from stoplist.proxy.counting.shared_counters import Number, SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.state import State
from tests.rulesets import ruleset, signed

TIMES = 200_000
BEATS = 50


def _microseconds(work: Callable[[], object], times: int) -> float:
    return min(timeit.repeat(work, number=times, repeat=3)) / times * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        period_counts = PeriodCounts(State.open(Path(folder), datetime.now(UTC)))
        counters = SharedCounters(None)
        counter = VerdictCounter(counters, period_counts.follow(ruleset(signed("listed.example")), time.time()))
        period_counts.read(counters)

        def tunnel() -> None:
            counters.numbers[Number.TUNNELS] += 1
            counters.opened(0.003)
            counters.numbers[Number.TUNNELS] -= 1

        def piece() -> None:
            counters.numbers[Number.TO_CLIENTS] += 1000

        def beat() -> None:
            counter.add(PASS)
            period_counts.beat(time.time())

        print(f"a request {_microseconds(lambda: counter.add(PASS), TIMES):.2f}")
        print(f"a tunnel {_microseconds(tunnel, TIMES):.2f}")
        print(f"a piece {_microseconds(piece, TIMES):.2f}")
        print(f"a beat {_microseconds(beat, BEATS):.0f}")


if __name__ == "__main__":
    main()
