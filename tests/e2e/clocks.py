"""Clocks: what to put before a command so that its wall clock is off, while its timers run as ever.

A library of our own (clock.c) is preloaded into the command and all that it starts:

  python -m tests.e2e.clocks "+400 days" pytest tests/core
  python -m tests.e2e.clocks "2028-02-29 23:59:30 UTC" pytest tests/core
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.e2e.network import need

_VARIABLES = ("LD_PRELOAD", "TEST_CLOCK", "TZ")


def clock(offset: timedelta) -> tuple[str, ...]:
    """A clock that is off by so much, in whole seconds, from the one of this process."""
    seconds = int(os.environ.get("TEST_CLOCK", "0")) + int(offset.total_seconds())
    return ("env", f"LD_PRELOAD={_library()}", f"TEST_CLOCK={seconds}")


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
    return hour, clock(hour - now - timedelta(seconds=seconds))


def of_this_process() -> Mapping[str, str]:
    """The variables by which this process has its clock and its zone: for a command that gets no others."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}


@functools.cache
def _library() -> Path:
    """Compiled, in a folder of this user whose path holds no space: LD_PRELOAD would be cut there."""
    need("cc")
    folder = Path("/tmp") / f"stoplist-clock-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    assert folder.stat().st_uid == os.getuid()
    library = folder / "clock.so"
    with tempfile.TemporaryDirectory(dir=folder) as new:
        made = Path(new) / library.name
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True, timeout=60)
        made.replace(library)
    return library


def main() -> None:
    when, *command = sys.argv[1:]
    wanted = subprocess.run(["date", "-d", when, "+%s"], capture_output=True, text=True, check=True).stdout
    before = clock(timedelta(seconds=int(wanted) - int(datetime.now(UTC).timestamp())))
    os.execvp(before[0], [*before, *command])


if __name__ == "__main__":
    main()
