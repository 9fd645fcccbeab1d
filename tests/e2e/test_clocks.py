"""A clock that a test sets is set: or each run under another clock would be one more under the machine's."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta

import pytest

from tests.e2e.clocks import clock

DAYS = timedelta(days=400)
READINGS = {
    "datetime": "from datetime import UTC, datetime; print(datetime.now(UTC).timestamp())",
    "time": "import time; print(time.time())",
    "SQLite": """
import sqlite3
print(sqlite3.connect(":memory:").execute("SELECT strftime('%s', 'now')").fetchone()[0])
""",
    "a process of a process": "import subprocess; print(subprocess.check_output(['date', '+%s'], text=True))",
}


def _read(program: str, *before: str) -> float:
    return float(subprocess.check_output([*before, sys.executable, "-c", program], text=True, timeout=60))


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("offset", [DAYS, -DAYS], ids=["ahead", "behind"])
def test_the_wall_clock_is_off_and_timers_are_not(reading: str, offset: timedelta):
    before = int(time.time())
    read = _read(READINGS[reading], *clock(offset)) - offset.total_seconds()
    assert before <= read <= time.time()
    steady = "import time; time.sleep(0.01); print(time.monotonic())"
    assert time.monotonic() <= _read(steady, *clock(offset)) <= time.monotonic()


def test_a_clock_within_a_clock_is_off_by_both():
    program = (
        "from datetime import timedelta as t; from tests.e2e.clocks import clock; print(clock(t(days=1))[-1][11:])"
    )
    assert _read(program, *clock(DAYS)) == (DAYS + timedelta(days=1)).total_seconds()
