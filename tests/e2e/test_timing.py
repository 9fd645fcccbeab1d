"""Who watches a gate from outside, all the time, cannot tell whether requests are stopped until the period closes.

Two gates of one policy run side by side. One stops thousands of requests, the other none. What a watcher
sees of them is the same: metrics, the log, the names, sizes and times of files.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import re
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stoplist import clock
from stoplist.authority import CA_FILE, Source
from stoplist.proxy.counting.period_counts import BEAT_SECONDS
from tests.e2e import hostile
from tests.e2e.clocks import before_the_hour
from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.hostile import Door
from tests.e2e.network import SECONDS, STOPLIST, Gate, Network, wait_until
from tests.e2e.processes import workers_of
from tests.e2e.ways import client_hello, read_head

HITS, AT_ONCE = 2000, 32
AT_LEAST = 400
"""Of the hits, on a machine that does not get to all of them before the period closes."""
SECONDS_TO_CLOSE = (80, 160, 320)
"""So that a beat of 60 s lies in between; a longer time is taken where a shorter one is too short for the machine."""
STARTING, ENDING = 4.0, 9.0
"""For so long nothing is asked for: after both gates are watched, and before the period closes."""
NEAR = 10.0
"""So many seconds may lie between what has a file change and when it is seen to have: a small part of the time that
there are requests in."""
GET = b"GET / HTTP/1.1\r\nHost: listed.test\r\n\r\n"
ITS_OWN = re.compile(r"^stoplist_(start_time|reload_timestamp)_seconds .*\n", re.MULTILINE)
"""When a gate was started."""


@dataclass(frozen=True)
class File:
    size: int
    mode: int
    changed: float
    """Seconds after the start of the watch."""


@dataclass
class Sight:
    """What was seen, ten times a second: when (in seconds after `began`), and what was new then."""

    began: float
    metrics: list[tuple[float, str]] = field(default_factory=list)
    log: list[tuple[float, str]] = field(default_factory=list)
    files: dict[str, list[File]] = field(default_factory=dict)
    """What was there for longer than a moment: what is written beside its place may be missed."""

    def metrics_until(self, end: float) -> list[str]:
        return [text for when, text in self.metrics if self.began + when < end]

    def numbers_until(self, end: float) -> dict[str, list[str]]:
        """The values that each number had, one after the other, but for those of what passes in the lane."""
        found: dict[str, list[str]] = {}
        for text in self.metrics_until(end):
            for line in text.splitlines():
                name, _, value = line.rpartition(" ")
                if not name.startswith(("#", "stoplist_lane_", "stoplist_reload_duration_seconds")):
                    values = found.setdefault(name, [])
                    if values[-1:] != [value]:
                        values.append(value)
        return found

    def log_until(self, end: float) -> list[dict[str, object]]:
        """Without the time of a line, and what differs between two gates: ports, and which worker has ended."""
        lines = [json.loads(line) for when, line in self.log if self.began + when < end]
        apart = ("time", "address", "worker", "text")
        return [{key: value for key, value in line.items() if key not in apart} for line in lines]


class Watcher:
    """Looks at a gate ten times a second, from when it is made until it is left."""

    def __init__(self, net: Network, gate: Gate, folders: list[Path]) -> None:
        self.sight = Sight(time.time())
        self._gate = gate
        self._port = int(gate.process.wait_for(r"metrics at http://127\.0\.0\.1:(\d+)")[1])
        self._folders = folders
        self._files: dict[str, list[File]] = {}
        self._seen: Counter[str] = Counter()
        self._ended = threading.Event()
        self._looks = 0
        self._thread = threading.Thread(target=lambda: net.gateway.call(self._watch))
        self._thread.start()

    def __enter__(self) -> Sight:
        return self.sight

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.sight.files = {name: seen for name, seen in self._files.items() if self._seen[name] > 10}

    def look_again(self) -> None:
        """Wait for a look that begins from now on, and is over."""
        wanted = self._looks + 2
        wait_until(lambda: self._looks >= wanted, "another look")

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
            connection.request("GET", "/metrics")
            metrics = ITS_OWN.sub("", connection.getresponse().read().decode())
            connection.close()
            now = time.time() - self.sight.began  # the answer itself may have been long in coming
            if not self.sight.metrics or self.sight.metrics[-1][1] != metrics:
                self.sight.metrics.append((now, metrics))
            self.sight.log += [(now, line) for line in self._gate.process.err[len(self.sight.log) :]]
            for folder in self._folders:
                for path in folder.rglob("*"):
                    with suppress(FileNotFoundError):
                        self._look_at(str(path.relative_to(folder)), path.stat())
            self._looks += 1

    def _look_at(self, name: str, status: os.stat_result) -> None:
        file = File(status.st_size, status.st_mode, status.st_mtime - self.sight.began)
        self._seen[name] += 1
        seen = self._files.setdefault(name, [])
        if not seen or seen[-1] != file:
            seen.append(file)


def _ask_for_hours_and_metrics(desk: Desk) -> None:
    desk.policy.write_text(
        desk.policy.read_text()
        + "counts: {period: hour, hide_below: 10, round_to: 5}\nmetrics: {listen: 127.0.0.1:0}\n"
    )


@dataclass
class Pair:
    """Two gates of one policy, and what was seen of each. Only of the busy one listed hosts are asked for."""

    desk: Desk
    busy: Gate
    idle: Gate
    watchers: dict[str, Watcher]
    sessions: dict[str, hostile.Session]
    begins: float
    """When requests begin, by our clock; as in what follows."""
    ends: float
    closes: float
    """When the period closes."""
    disturbed: list[float] = field(default_factory=list)
    """When something happened to both that leaves traces in files."""

    @property
    def sights(self) -> dict[str, Sight]:
        return {name: watcher.sight for name, watcher in self.watchers.items()}

    @property
    def has_time(self) -> bool:
        """Whether a beat of both lies before the end of the requests."""
        return time.time() + BEAT_SECONDS < self.ends

    @property
    def gates(self) -> tuple[Gate, Gate]:
        return self.busy, self.idle

    def wait_for(self, pattern: str) -> None:
        for gate in self.gates:
            gate.process.wait_for(pattern)


def _watched(net: Network, desk: Desk, folder: Path, act: Callable[[Pair], None], *options: str) -> Pair:
    """Two gates that were watched until a period had closed, and were done to what `act` does before that."""
    _ask_for_hours_and_metrics(desk)
    for seconds in SECONDS_TO_CLOSE:
        mine = folder / str(seconds)
        copy = Desk(Path(shutil.copytree(desk.folder, mine / "desk")), desk.serial)
        with _pair(net, copy, mine, seconds, *options) as pair:
            if not pair.has_time:
                continue
            act(pair)
            if time.time() >= pair.ends + ENDING / 2:
                continue
            for gate in pair.gates:
                gate.process.wait_for('"event": "counts"', seconds=seconds + SECONDS)
            time.sleep(1)
            for watcher in pair.watchers.values():
                watcher.look_again()
        return pair
    pytest.fail(f"in {seconds} s this machine does not get to what there is to do")


@contextmanager
def _pair(net: Network, desk: Desk, folder: Path, to_close: int, *options: str) -> Iterator[Pair]:
    state = folder / "busy" / "state"
    Source(state, state / CA_FILE, state / CA_FILE, is_own=True).open_or_make(clock.now())
    shutil.copytree(folder / "busy", folder / "idle")
    closes = time.time() + to_close
    _, ahead = before_the_hour(to_close)
    gates, watchers, sessions = {}, {}, {}
    with ExitStack() as ending, ExitStack() as watching:
        for name in ("busy", "idle"):
            temporary = folder / name / "temporary"
            temporary.mkdir()
            program = ("env", f"TMPDIR={temporary}", *ahead, str(STOPLIST))
            modes = ("--mode", "regular@127.0.0.1:0", "--mode", "socks5@127.0.0.2:0")
            gates[name] = gate = net.gate(desk.policy, folder / name / "state", *modes, *options, program=program)
            socks = int(gate.process.wait_for(r"listening on 127\.0\.0\.2:(\d+)")[1])
            places = {Door.HTTP: ("127.0.0.1", gate.port), Door.SOCKS: ("127.0.0.2", socks)}
            sessions[name] = hostile.Session(net, places)
            ending.callback(gate.process.end)
            watchers[name] = Watcher(net, gate, [folder / name])
            watching.enter_context(watchers[name])
        begins, ends = time.time() + STARTING, closes - ENDING
        yield Pair(desk, gates["busy"], gates["idle"], watchers, sessions, begins, ends, closes)


def _kinds(pair: Pair) -> list[hostile.Kind]:
    return hostile.kinds(pair.busy.ca, pair.busy.network.origin_ca)


def _hit(pair: Pair, kinds: Sequence[hostile.Kind]) -> None:
    """Ask for listed hosts, 2,000 times, evenly over the time there is; as often as there is time for."""
    pause = (pair.ends - pair.begins) / HITS

    def hit(number: int) -> bool:
        if has_time := time.time() < pair.ends:
            pair.sessions["busy"].ask(kinds[number % len(kinds)])
        return has_time

    asked = []
    with ThreadPoolExecutor(AT_ONCE) as clients:
        for number in range(HITS):
            time.sleep(max(0.0, pair.begins + number * pause - time.time()))
            asked.append(clients.submit(hit, number))
    assert sum(each.result() for each in asked) >= AT_LEAST


@pytest.mark.campaign
@pytest.mark.parametrize("options", EITHER_WAY)
def test_nothing_that_can_be_watched_changes_when_requests_are_stopped(
    net: Network, desk: Desk, tmp_path: Path, options: tuple[str, ...]
):
    def act(pair: Pair) -> None:
        _hit(pair, [kind for kind in _kinds(pair) if not kind.names_other])

    pair = _watched(net, desk, tmp_path, act, *options)
    open_until, busy, idle = pair.closes - 1, pair.sights["busy"], pair.sights["idle"]
    assert _changed(busy.metrics_until(open_until)) == [], busy.log_until(open_until)
    assert busy.metrics_until(open_until) == idle.metrics_until(open_until)
    _assert_files_and_logs_are_alike(pair)

    # The watcher would see it: when the period has closed, it does.
    after_busy, after_idle = busy.metrics[-1][1], idle.metrics[-1][1]
    assert re.search(r'stoplist_period_requests\{list="test",outcome="stopped"\} \d+\.0', after_busy)
    assert 'stoplist_period_requests_hidden{list="test",outcome="stopped"} 1.0' in after_idle
    assert busy.log_until(math.inf) != idle.log_until(math.inf)
    assert len(busy.files["state/state.db"]) > 2


def _disturb(pair: Pair) -> None:
    """What goes wrong for both gates, beside their requests."""

    def put(path: Path, data: bytes) -> None:
        pair.disturbed.append(time.time())
        beside = path.with_name("beside")
        beside.write_bytes(data)
        beside.replace(path)

    def kill(number: int) -> None:
        for gate in pair.gates:
            os.kill(min(workers_of(gate.process.pid)), number)
        pair.wait_for(rf"has ended \(signal {number:d}\)")

    def publish() -> None:
        pair.desk.publish(["listed.test", "stopped.example", "third.test"])
        pair.disturbed.append(time.time())
        pair.wait_for("serial 2 in force")

    policy = pair.desk.policy.read_bytes()
    steps = [
        lambda: (put(pair.desk.list, b"junk"), pair.wait_for("a list is refused")),
        lambda: kill(signal.SIGKILL),
        publish,
        lambda: kill(signal.SIGSEGV),
        lambda: (put(pair.desk.policy, policy + b"nonsense: true\n"), pair.wait_for("the change is refused")),
        lambda: put(pair.desk.policy, policy),
    ]
    pause = (pair.ends - pair.begins) / len(steps)
    for number, step in enumerate(steps):
        time.sleep(max(0.0, pair.begins + number * pause - time.time()))
        step()


@pytest.mark.campaign
def test_nothing_that_can_be_watched_tells_a_hostile_session_from_one_without_listed_hosts(
    net: Network, desk: Desk, tmp_path: Path
):
    def act(pair: Pair) -> None:
        hits = [kind for kind in _kinds(pair) if kind.names_listed]
        others = [kind for kind in _kinds(pair) if not kind.names_listed]

        def ask_for_others(name: str) -> None:
            for kind in itertools.cycle(others):
                if time.time() > pair.ends:
                    break
                pair.sessions[name].ask(kind)

        with ThreadPoolExecutor() as threads:
            asking = [threads.submit(ask_for_others, name) for name in pair.sessions]
            asking += [threads.submit(_hit, pair, hits), threads.submit(_disturb, pair)]
            for each in asking:
                each.result()

    pair = _watched(net, desk, tmp_path, act, "--workers", "2")
    busy, idle = (sight.numbers_until(pair.closes - 1) for sight in (pair.sights["busy"], pair.sights["idle"]))
    assert busy == idle
    assert busy["stoplist_worker_restarts_total"] == ["0.0", "1.0", "2.0"]
    assert busy['stoplist_list_refused{list="test"}'] == ["0.0", "1.0", "0.0"]
    _assert_files_and_logs_are_alike(pair)


def _assert_files_and_logs_are_alike(pair: Pair) -> None:
    busy, idle = pair.sights["busy"], pair.sights["idle"]
    assert busy.log_until(pair.closes - 1) == idle.log_until(pair.closes - 1)
    assert busy.files.keys() == idle.files.keys()
    for name, seen in busy.files.items():
        assert _lasting(seen) == _lasting(idle.files[name]), name
    for sight in (busy, idle):
        beats = [BEAT_SECONDS * number for number in range(1, 10)]
        expected = [*beats, *(moment - sight.began for moment in (pair.closes, *pair.disturbed))]
        for name, seen in sight.files.items():
            for file in seen:
                before = sight.began + file.changed < pair.begins
                assert before or any(abs(file.changed - moment) < NEAR for moment in expected), (name, file)


def _changed(seen: list[str]) -> list[str]:
    """The lines that were not the same all the time."""
    lines = [text.splitlines() for text in seen]
    return sorted({line for these in lines for line in these if any(line not in those for those in lines)})


def _lasting(seen: list[File]) -> set[tuple[int, int]]:
    """Sizes and modes that stood for longer than a moment: what is written and emptied at once may be missed."""
    lasted = [first for first, then in itertools.pairwise(seen) if then.changed - first.changed > 1]
    return {(file.size, file.mode) for file in [*lasted, seen[-1]]}


@pytest.mark.parametrize(
    ("mode", "target", "first", "is_seen"),
    [
        pytest.param("enforce", "pass.test:25", b"", True, id="a tunnel that passes"),
        pytest.param("enforce", "pass.test:443", client_hello("listed.test"), False, id="stopped by its SNI"),
        pytest.param("enforce", "pass.test:80", GET, False, id="stopped by the host in it"),
        pytest.param("observe", "listed.test:25", b"", False, id="observed by its target"),
        pytest.param("observe", "pass.test:443", client_hello("listed.test"), False, id="observed by its SNI"),
        pytest.param("observe", "pass.test:80", GET, False, id="observed by the host in it"),
    ],
)
def test_only_a_tunnel_that_passes_is_seen(
    net: Network, desk: Desk, tmp_path: Path, mode: str, target: str, first: bytes, is_seen: bool
):
    _ask_for_hours_and_metrics(desk)
    desk.policy.write_text(desk.policy.read_text().replace("version: 1\n", f"version: 1\nmode: {mode}\n"))
    gate = net.gate(desk.policy, tmp_path / "state")
    watcher = Watcher(net, gate, [])
    with watcher as sight, gate.connect() as connection:
        watcher.look_again()
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in read_head(connection)
        watcher.look_again()
        connection.sendall(first)
        assert connection.recv(65536)
        watcher.look_again()
    gate.process.end()
    assert f"stoplist_lane_tunnels {is_seen:d}.0\n" in sight.metrics[-1][1]
    assert (len(sight.metrics) > 1) is is_seen
    assert (len(_changed([text for _, text in sight.metrics])) > 0) is is_seen
