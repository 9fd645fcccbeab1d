"""Before anything is hidden, counts are exact: the sum is what the client sent, whoever was killed meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from stoplist.core.counts import Outcome
from stoplist.state import State
from tests.e2e.clocks import hours
from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.network import EVER, META_ADDRESS, SECONDS, STOPLIST, Gate, Network, need, wait_until
from tests.e2e.processes import workers_of

STOPPED = "http://listed.test/"
PASSED = "http://pass.test/"
REFUSED = f"http://{META_ADDRESS}/"
STOPS, PASSES, REFUSALS = ("test", Outcome.STOPPED), (None, Outcome.PASSED), (None, Outcome.REFUSED)
HEY = ("hey", "-c", "20", "-t", str(SECONDS))
"""Twenty at once."""


def _hey(gate: Gate, requests: int, url: str, *options: str) -> Counter[int]:
    """Ask so many times; how often each status came."""
    need("hey")
    done = subprocess.run(
        gate.network.enter(*HEY, "-n", str(requests), "-x", gate.url, *options, url),
        capture_output=True,
        text=True,
        timeout=4 * SECONDS,
        check=True,
    )
    return Counter(
        {int(status): int(times) for status, times in re.findall(r"\[(\d+)\]\s+(\d+) responses", done.stdout)}
    )


def _kill(gate: Gate, number: int, *, all_of_them: bool = False) -> int:
    """Kill a worker, or each; how many there were."""
    before = workers_of(gate.process.pid)
    victims = sorted(before) if all_of_them else [min(before)]
    for pid in victims:
        os.kill(pid, number)
    wait_until(lambda: len(workers_of(gate.process.pid) - set(victims)) == len(before), "new workers")
    return len(victims)


def _two_workers(net: Network, desk: Desk, state: Path) -> Gate:
    return net.gate(desk.policy, state, "--workers", "2")


@pytest.mark.campaign
def test_counts_are_exact_over_workers_restarts_and_kills(net: Network, desk: Desk, tmp_path: Path):
    state, kills = tmp_path / "state", 0
    gate = _two_workers(net, desk, state)
    assert _hey(gate, 4000, STOPPED) == {403: 4000}
    kills += _kill(gate, signal.SIGKILL)
    assert _hey(gate, 4000, PASSED) == {200: 4000}
    kills += _kill(gate, signal.SIGSEGV)
    assert _hey(gate, 4000, REFUSED) == {403: 4000}
    kills += _kill(gate, signal.SIGKILL, all_of_them=True)
    gate.process.end()
    assert +gate.counts() == {STOPS: 4000, PASSES: 4000, REFUSALS: 4000}

    gate = _two_workers(net, desk, state)
    assert _hey(gate, 4000, STOPPED) == {403: 4000}
    seen = len(gate.process.err)
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for(r"listening on .* workers\)", after=seen)
    desk.publish(["listed.test", "second.test"])
    gate.process.wait_for("serial 2 in force", after=seen)
    assert _hey(gate, 4000, STOPPED) == {403: 4000}
    kills += _kill(gate, signal.SIGKILL)
    gate.process.end()
    assert +gate.counts() == {STOPS: 12_000, PASSES: 4000, REFUSALS: 4000}
    assert kills == 5


@pytest.mark.campaign
def test_what_is_under_way_when_a_worker_is_killed_is_counted_once_or_not_at_all(
    net: Network, desk: Desk, tmp_path: Path
):
    gate = _two_workers(net, desk, tmp_path / "state")
    load = subprocess.Popen(
        # On a connection that is kept, it asks again by itself when that ends.
        net.enter(*HEY, "-n", "3000", "-disable-keepalive", "-x", gate.url, STOPPED),
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(3):
        wait_until(lambda: len(workers_of(gate.process.pid)) == 2, "both workers")
        _kill(gate, signal.SIGKILL)
    said, _ = load.communicate(timeout=4 * SECONDS)
    answered = sum(int(times) for times in re.findall(r"\[403\]\s+(\d+) responses", said))
    gate.process.end()
    assert answered <= gate.counts()[STOPS] <= 3000


@pytest.mark.campaign
@pytest.mark.parametrize("options", EITHER_WAY)
def test_a_gate_that_is_killed_loses_the_last_minute_and_counts_nothing_twice(
    net: Network, desk: Desk, tmp_path: Path, options: tuple[str, ...]
):
    """A gate writes what it has when it starts, when a period closes, and each minute."""
    desk.policy.write_text(desk.policy.read_text() + "counts: {period: hour, hide_below: 10, round_to: 5}\n")
    for coming in hours():
        state = tmp_path / f"state{coming.seconds}"
        gate = net.gate(desk.policy, state, *options, program=(*coming.clock, str(STOPLIST)))
        assert _hey(gate, 100, STOPPED) == {403: 100}
        if coming.is_ahead:
            break
        gate.process.end()
    hour, clock = coming.begins, coming.clock
    counted = r'"event": "counts".*"outcome": "stopped", "requests": 100'
    gate.process.wait_for(counted, seconds=coming.seconds + SECONDS)
    assert _hey(gate, 60, STOPPED) == {403: 60}
    gate.process.send(signal.SIGKILL)
    gate.process.wait()

    again = net.gate(desk.policy, state, *options, program=(*clock, str(STOPLIST)))
    assert _hey(again, 40, STOPPED) == {403: 40}
    again.process.end()
    opened = State.open_read_only(state)
    stops = {
        count.period.name: count.requests for count in opened.counts(0, EVER) if count.cell.outcome is Outcome.STOPPED
    }
    opened.close()
    closed = f"{hour - timedelta(hours=1):%Y-%m-%dT%HZ}"
    assert stops[closed] == 100
    assert stops[f"{hour:%Y-%m-%dT%HZ}"] == 40
    assert "counts" not in again.log()
