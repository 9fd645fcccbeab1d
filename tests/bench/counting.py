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
from stoplist.proxy.counting.period_counts import Ledger
from stoplist.proxy.counting.shared_counters import Board, Number
from stoplist.proxy.counting.verdict_counter import Tally
from stoplist.state import State
from tests.rulesets import ruleset, signed

TIMES = 200_000
BEATS = 50


def _microseconds(work: Callable[[], object], times: int) -> float:
    return min(timeit.repeat(work, number=times, repeat=3)) / times * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(State.open(Path(folder), datetime.now(UTC)))
        board = Board(None)
        tally = Tally(board, ledger.follow(ruleset(signed("listed.example")), time.time()))
        ledger.read(board)

        def tunnel() -> None:
            board.numbers[Number.TUNNELS] += 1
            board.opened(0.003)
            board.numbers[Number.TUNNELS] -= 1

        def piece() -> None:
            board.numbers[Number.TO_CLIENTS] += 1000

        def beat() -> None:
            tally.add(PASS)
            ledger.beat(time.time())

        print(f"a request {_microseconds(lambda: tally.add(PASS), TIMES):.2f}")
        print(f"a tunnel {_microseconds(tunnel, TIMES):.2f}")
        print(f"a piece {_microseconds(piece, TIMES):.2f}")
        print(f"a beat {_microseconds(beat, BEATS):.0f}")


if __name__ == "__main__":
    main()
