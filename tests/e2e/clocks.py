"""Clocks: what to put before a command so that its clock is off, while its timers run as ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.e2e.network import need


def clock(offset: str) -> tuple[str, ...]:
    """A clock that is off by ``offset``, such as ``+1y`` or ``-30s``.

    The library by itself, not the program `faketime`, which would stand between a signal and the gate.
    """
    need("faketime")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    kept = ("FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1")
    return ("env", *kept, f"LD_PRELOAD={library}", f"FAKETIME={offset}")


def before_the_hour(seconds: int) -> tuple[datetime, tuple[str, ...]]:
    """An hour of UTC that begins in so many seconds, by the clock that comes with it."""
    now = datetime.now(UTC)
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return hour, clock(f"+{int((hour - now).total_seconds()) - seconds}s")
