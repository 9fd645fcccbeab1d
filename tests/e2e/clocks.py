"""Clocks: what to put before a command so that its clock is off, while its timers run as ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Hour:
    """One of UTC that begins soon, by the clock that comes with it."""

    begins: datetime
    clock: tuple[str, ...]
    seconds: int
    """How long it was until then, when this was made at `made` (monotonic)."""
    made: float

    @property
    def is_ahead(self) -> bool:
        """Whether what was done until now was done before it began."""
        return time.monotonic() < self.made + self.seconds - 1


def hours() -> Iterator[Hour]:
    """Hours that begin later and later, for who has to do something before that, however slow the machine is."""
    for seconds in (10, 40, 160):
        made = time.monotonic()
        yield Hour(*before_the_hour(seconds), seconds, made)


def before_the_hour(seconds: int) -> tuple[datetime, tuple[str, ...]]:
    """An hour of UTC that begins in so many seconds, or up to one more, by the clock that comes with it."""
    now = datetime.now(UTC)
    later = now + timedelta(seconds=seconds)  # that clock can only be ahead
    hour = later.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return hour, clock(f"+{int((hour - now).total_seconds()) - seconds}s")
