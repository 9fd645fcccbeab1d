"""Watch: the health of a gate at one moment, from its state directory and its metrics, and its speed between two.

Rules
  - It shows only what `status` and /metrics show: nothing of requests that were stopped, and nothing of an open
    period.
  - If a gate does not answer, or has no metrics, it shows the state alone, with what to do.
  - The module writes nothing, to the state least of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from stoplist import loading, metrics
from stoplist.core.policy.models import MetricsPolicy, Policy
from stoplist.errors import StoplistError
from stoplist.metrics import Scrape
from stoplist.tools.status import ca as authorities
from stoplist.tools.status import lists as remembered
from stoplist.tools.status import running_gate
from stoplist.tools.status.lists import ExceptionStatus, ListStatus
from stoplist.tools.status.running_gate import RunningGate

EVERY_SECONDS = 2.0
"""Interval between two looks at a gate, in seconds."""
WINDOW = 31
"""Number of looks over which the module calculates the speed of a gate: a minute."""


@dataclass(frozen=True, slots=True)
class WatchedList:
    """A list of the policy, and whether the policy enforces it."""

    status: ListStatus
    is_enforced: bool

    @property
    def name(self) -> str:
        return self.status.in_force.header.list if self.status.in_force else self.status.file.name


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something that ends."""

    what: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """A gate at the moment `now`. `scrape` is None if its metrics cannot be read, and `why_not` says why."""

    now: datetime
    policy: str
    operator: str
    lists: tuple[WatchedList, ...]
    exceptions: tuple[ExceptionStatus, ...]
    expiries: tuple[Expiry, ...]
    ca_needs: tuple[str, ...]
    running: RunningGate
    scrape: Scrape | None
    why_not: str

    @property
    def needs(self) -> list[str]:
        """The matters that need a person, in words."""
        of_lists = (f"{each.name}: {need}" for each in self.lists for need in each.status.needs)
        return [*of_lists, *self.ca_needs, *self.running.needs]

    @property
    def next_expiry(self) -> Expiry | None:
        return min((each for each in self.expiries if each.at > self.now), key=lambda each: each.at, default=None)


def look(policy: Path, state_dir: Path, now: datetime) -> Look:
    """Look at the gate of a policy. Raises StoplistError if the policy or the state cannot be read."""
    read = loading.read_policy(policy).policy
    found = remembered.status(policy, state_dir, now)
    lists = tuple(WatchedList(each, read.enforces(wanted)) for each, wanted in zip(found, read.lists, strict=True))
    exceptions = tuple(remembered.exceptions(policy, now))
    ca_ends, ca_needs = _ca(policy, state_dir, now)
    expiries = [
        Expiry(f"list {each.name}", each.status.in_force.header.expires) for each in lists if each.status.in_force
    ]
    expiries += [Expiry("the CA", ca_ends)] if ca_ends is not None else []
    expiries += _ends(read, exceptions)
    scrape, why_not = _ask(read.metrics)
    return Look(
        now,
        policy.name,
        read.stop_page.operator.in_language("en"),
        lists,
        exceptions,
        tuple(expiries),
        ca_needs,
        running_gate.status(state_dir),
        scrape,
        why_not,
    )


def _ca(policy: Path, state_dir: Path, now: datetime) -> tuple[datetime | None, tuple[str, ...]]:
    try:
        found = authorities.status(policy, state_dir, now)
    except StoplistError as error:
        return None, (str(error),)
    return (found.ends, tuple(found.needs)) if found is not None else (None, ())


def _ends(policy: Policy, exceptions: Iterable[ExceptionStatus]) -> list[Expiry]:
    found = []
    for each, wanted in zip(exceptions, policy.exceptions, strict=True):
        ends = wanted.ends(policy.time_zone)
        if ends != float("inf"):
            at = datetime.fromtimestamp(ends, policy.time_zone)
            found.append(Expiry(f"exceptions[{each.number}]", at))
    return found


def _ask(wanted: MetricsPolicy | None) -> tuple[Scrape | None, str]:
    if wanted is None:
        return None, "no metrics; add 'metrics: {listen: 127.0.0.1:9464}' to the policy and restart the gate"
    if wanted.listen.port == 0:
        return None, "'metrics' listens on any port; name one to be found here"
    try:
        return metrics.scrape(wanted.listen.host, wanted.listen.port), ""
    except StoplistError as error:
        return None, str(error)


# Speed


@dataclass(frozen=True, slots=True)
class Speed:
    """The work of a gate over `seconds`. A time is None if nothing opened, and infinite beyond all steps."""

    seconds: float
    tunnels: float
    bytes_from_clients: float
    bytes_to_clients: float
    half: float | None
    nearly_all: float | None


class Pace:
    """The speed of a gate, over the last looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Scrape]] = deque(maxlen=WINDOW)

    def after(self, look: Look) -> Speed | None:
        """The speed after one more look; None as long as there is nothing to compare."""
        if look.scrape is None:
            self._seen.clear()
            return None
        if self._seen and look.scrape.started != self._seen[-1][1].started:
            self._seen.clear()  # the gate was started again, and its numbers begin at zero
        self._seen.append((look.now.timestamp(), look.scrape))
        if len(self._seen) < 2:
            return None
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        return _speed(now - then, before, after)


def _speed(seconds: float, before: Scrape, after: Scrape) -> Speed | None:
    if seconds <= 0:
        return None

    def more(name: str, **labels: str) -> float:
        return max(0.0, after.value(name, **labels) - before.value(name, **labels))

    steps = after.steps("stoplist_lane_open_duration_seconds_bucket")
    was = dict(before.steps("stoplist_lane_open_duration_seconds_bucket"))
    opened = [(step, max(0.0, number - was.get(step, 0.0))) for step, number in steps]
    return Speed(
        seconds,
        (opened[-1][1] if opened else 0.0) / seconds,
        more("stoplist_lane_bytes_total", **{"from": "client"}) / seconds,
        more("stoplist_lane_bytes_total", **{"from": "server"}) / seconds,
        quantile(opened, 0.5),
        quantile(opened, 0.99),
    )


def quantile(steps: Sequence[tuple[float, float]], share: float) -> float | None:
    """The value below which this share lies, in seconds. `steps` is a histogram of sums by step; values within a
    step are taken as evenly spread."""
    if not steps or not steps[-1][1]:
        return None
    wanted = share * steps[-1][1]
    for (low, below), (high, number) in pairwise([(0.0, 0.0), *steps]):
        if number >= wanted and number > below:
            return low + (high - low) * (wanted - below) / (number - below) if high != float("inf") else high
    return None
