"""watch: how fast a gate goes, from what it says of itself twice."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest

from stoplist.metrics import Scrape
from stoplist.state_directory import Holder
from stoplist.tools.status.running_gate import RunningGate
from stoplist.tools.status.watch import Expiry, Look, Pace, quantile
from tests.fixed_time import NOW

INF = float("inf")
BUCKET = "stoplist_lane_open_duration_seconds_bucket"


def scrape(started: float = 1.0, sent: float = 0, opened: Mapping[str, float] | None = None) -> Scrape:
    numbers = {("stoplist_start_time_seconds", frozenset[tuple[str, str]]()): started}
    numbers["stoplist_lane_bytes_total", frozenset({("from", "client")})] = sent
    for step, number in (opened or {}).items():
        numbers[BUCKET, frozenset({("le", step)})] = number
    return Scrape(numbers)


def look(seconds: float, found: Scrape | None, expiries: tuple[Expiry, ...] = ()) -> Look:
    now = NOW + timedelta(seconds=seconds)
    return Look(now, "policy.yaml", "Example School", (), (), expiries, (), RunningGate(Holder(17), ()), found, "")


@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [
        pytest.param([(0.001, 10), (0.01, 10), (INF, 10)], 0.5, 0.0005, id="in the first step"),
        pytest.param([(0.001, 0), (0.01, 100), (INF, 100)], 0.5, 0.0055, id="in the second"),
        pytest.param([(0.001, 98), (0.01, 98), (INF, 100)], 0.99, INF, id="beyond all"),
        pytest.param([(0.001, 0), (INF, 0)], 0.5, None, id="nothing was opened"),
        pytest.param([], 0.5, None, id="no histogram"),
    ],
)
def test_a_share_of_a_histogram(steps: list[tuple[float, float]], share: float, expected: float | None) -> None:
    found = quantile(steps, share)
    assert found == expected if expected in (None, INF) else found == pytest.approx(expected)


def test_speed_is_between_the_first_look_and_the_last() -> None:
    pace = Pace()
    assert pace.after(look(0, scrape(sent=1000, opened={"0.001": 50, "+Inf": 50}))) is None
    speed = pace.after(look(4, scrape(sent=9000, opened={"0.001": 50, "+Inf": 70})))
    assert speed is not None
    assert (speed.seconds, speed.tunnels, speed.bytes_from_clients, speed.half) == (4, 5, 2000, INF)


def test_a_gate_that_began_anew_has_no_speed_yet() -> None:
    pace = Pace()
    pace.after(look(0, scrape(started=1, sent=5000)))
    assert pace.after(look(2, scrape(started=2, sent=10))) is None
    assert pace.after(look(4, None)) is None
    assert pace.after(look(6, scrape(started=2, sent=10))) is None


def test_what_ends_next_has_not_ended() -> None:
    expiries = tuple(Expiry(f"{hours}", NOW + timedelta(hours=hours)) for hours in (-1, 5, 3))
    assert look(0, None, expiries).next_expiry == expiries[2]
    assert look(0, None, expiries[:1]).next_expiry is None
