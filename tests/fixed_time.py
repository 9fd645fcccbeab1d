"""The one time at which unit tests judge: a constant, which every test passes in as the present.

A test that makes something by the machine's clock and judges it by a constant goes red some day. So a unit test
reads no clock: what it makes is made at a time that is passed in. A test that needs the machine's clock holds no
constant of the present. ``test_one_clock.py`` sees to both.
"""

from __future__ import annotations

from datetime import UTC, datetime

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)  # fixed time: this module is where it is fixed
ISSUED = NOW.replace(month=1, day=1, hour=0)
"""When the lists of tests were issued."""
EXPIRES = datetime(2096, 1, 1, tzinfo=UTC)
"""When they expire: later than any clock that a test may meet."""
