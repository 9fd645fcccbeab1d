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
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stoplist import loading
from stoplist.authority import CA_FILE, Source
from stoplist.proxy.ledger import BEAT_SECONDS
from tests.e2e.clocks import before_the_hour
from tests.e2e.desk import Desk
from tests.e2e.network import STOPLIST, Gate, Network
from tests.e2e.ways import read_head

HITS = 2000
SECONDS_TO_CLOSE = 75
"""So that a beat of 60 s lies in between."""
FIRST, LAST = 5.0, 66.0
"""When requests are stopped, in seconds after the start."""
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

    def metrics_until(self, end: float) -> list[str]:
        return [text for when, text in self.metrics if self.began + when < end]

    def log_until(self, end: float) -> list[dict[str, object]]:
        """Without the time of a line, and the ports that differ between two gates."""
        lines = [json.loads(line) for when, line in self.log if self.began + when < end]
        return [{key: value for key, value in line.items() if key not in ("time", "address", "text")} for line in lines]


class Watcher:
    """Looks at a gate ten times a second, from when it is made until it is left."""

    def __init__(self, net: Network, gate: Gate, folders: list[Path]) -> None:
        self.sight = Sight(time.time())
        self._gate = gate
        self._port = int(gate.process.wait_for(r"metrics at http://127\.0\.0\.1:(\d+)")[1])
        self._folders = folders
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: net.gateway.call(self._watch))
        self._thread.start()

    def __enter__(self) -> Sight:
        return self.sight

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
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

    def _look_at(self, name: str, status: os.stat_result) -> None:
        file = File(status.st_size, status.st_mode, status.st_mtime - self.sight.began)
        seen = self.sight.files.setdefault(name, [])
        if not seen or seen[-1] != file:
            seen.append(file)


type Hit = Callable[[Gate, socket.socket], None]


def _raw(data: bytes, *, reset: bool = False) -> Hit:
    def hit(_: Gate, connection: socket.socket) -> None:
        connection.sendall(data)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            connection.recv(65536)

    return hit


def _tls(*, trusts: bool, then: bytes, alpn: str = "http/1.1") -> Hit:
    def hit(gate: Gate, connection: socket.socket) -> None:
        connection.sendall(b"CONNECT www.listed.test:443 HTTP/1.1\r\n\r\n")
        connection.recv(65536)
        context = ssl.create_default_context(cafile=str(gate.ca)) if trusts else ssl.create_default_context()
        context.set_alpn_protocols([alpn])
        with context.wrap_socket(connection, server_hostname="www.listed.test") as tls:
            tls.sendall(then)
            tls.recv(65536)

    return hit


GET = b"GET http://listed.test/ HTTP/1.1\r\nHost: listed.test\r\n\r\n"
CONNECT = b"CONNECT listed.test:443 HTTP/1.1\r\n\r\n"
KINDS: list[Hit] = [
    _raw(GET),
    _raw(GET.replace(b"GET", b"HEAD")),
    _raw(GET.replace(b"GET", b"OPTIONS")),
    _raw(GET.replace(b"1.1\r\n", b"1.0\r\n", 1)),
    _raw(GET[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
    _raw(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 3\r\n\r\nabc"),
    _raw(GET.replace(b"GET", b"POST")[:-2] + b"Content-Length: 30000000\r\n\r\nabc"),
    _raw(GET, reset=True),
    _raw(CONNECT),
    _raw(CONNECT, reset=True),
    _raw(CONNECT + b"SSH-2.0-client\r\n"),
    _raw(CONNECT + b"\x16\x03\x01\x02\x00\x01" + b"\x00" * 40),
    _raw(CONNECT + GET),
    _raw(b"GET http://a@listed.test:99999/ HTTP/1.1\r\n\r\n"),
    _raw(b"GET http://listed.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    _tls(trusts=True, then=b"GET / HTTP/1.1\r\nHost: www.listed.test\r\n\r\n"),
    _tls(trusts=False, then=b""),
    _tls(trusts=True, then=b"no HTTP at all\r\n\r\n"),
    _tls(trusts=True, then=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 30, alpn="h2"),
]


def _hit(gate: Gate, number: int) -> None:
    with gate.connect() as connection, suppress(OSError):
        connection.settimeout(2)
        KINDS[number % len(KINDS)](gate, connection)


def _ask_for_hours_and_metrics(desk: Desk) -> None:
    desk.policy.write_text(
        desk.policy.read_text()
        + "counts: {period: hour, hide_below: 10, round_to: 5}\nmetrics: {listen: 127.0.0.1:0}\n"
    )


@pytest.mark.timeout(240)
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_nothing_that_can_be_watched_changes_when_requests_are_stopped(
    net: Network, desk: Desk, tmp_path: Path, options: tuple[str, ...]
):
    _ask_for_hours_and_metrics(desk)
    state = tmp_path / "busy" / "state"
    Source(state, state / CA_FILE, state / CA_FILE, is_own=True).open_or_make(loading.now())
    shutil.copytree(tmp_path / "busy", tmp_path / "idle")
    began, (_, clock) = time.monotonic(), before_the_hour(SECONDS_TO_CLOSE)
    closes = time.time() + SECONDS_TO_CLOSE
    gates, sights = [], []
    with ExitStack() as watching:
        for name in ("busy", "idle"):
            temporary = tmp_path / name / "temporary"
            temporary.mkdir()
            program = ("env", f"TMPDIR={temporary}", *clock, str(STOPLIST))
            gates.append(net.gate(desk.policy, tmp_path / name / "state", *options, program=program))
            sights.append(watching.enter_context(Watcher(net, gates[-1], [tmp_path / name])))
        with ThreadPoolExecutor(4) as clients:
            pause = (LAST - FIRST) / HITS
            for number in range(HITS):
                time.sleep(max(0.0, began + FIRST + number * pause - time.monotonic()))
                clients.submit(_hit, gates[0], number)
        for gate in gates:
            gate.process.wait_for('"event": "counts"', seconds=SECONDS_TO_CLOSE)
        time.sleep(1)
    for gate in gates:
        gate.process.end()
    busy, idle = sights

    open_until = closes - 1
    assert _changed(busy.metrics_until(open_until)) == []
    assert busy.metrics_until(open_until) == idle.metrics_until(open_until)
    assert busy.log_until(open_until) == idle.log_until(open_until)
    assert busy.files.keys() == idle.files.keys()
    for name, seen in busy.files.items():
        assert _lasting(seen) == _lasting(idle.files[name]), name
    for sight in (busy, idle):
        expected = [BEAT_SECONDS, closes - sight.began]
        for name, seen in sight.files.items():
            for file in seen:
                assert file.changed < FIRST or any(abs(file.changed - beat) < 3 for beat in expected), (name, file)

    # The watcher would see it: when the period has closed, it does.
    after_busy, after_idle = busy.metrics[-1][1], idle.metrics[-1][1]
    assert re.search(r'stoplist_period_requests\{list="test",outcome="stopped"\} \d+\.0', after_busy)
    assert 'stoplist_period_requests_hidden{list="test",outcome="stopped"} 1.0' in after_idle
    assert busy.log_until(math.inf) != idle.log_until(math.inf)
    assert len(busy.files["state/state.db"]) > 2


def _changed(seen: list[str]) -> list[str]:
    """The lines that were not the same all the time."""
    lines = [text.splitlines() for text in seen]
    return sorted({line for these in lines for line in these if any(line not in those for those in lines)})


def _lasting(seen: list[File]) -> set[tuple[int, int]]:
    """Sizes and modes that stood for longer than a moment: what is written and emptied at once may be missed."""
    lasted = [first for first, then in itertools.pairwise(seen) if then.changed - first.changed > 1]
    return {(file.size, file.mode) for file in [*lasted, seen[-1]]}


def test_a_tunnel_that_is_observed_is_not_seen_among_those_that_pass(net: Network, desk: Desk, tmp_path: Path):
    _ask_for_hours_and_metrics(desk)
    desk.policy.write_text(desk.policy.read_text().replace("version: 1\n", "version: 1\nmode: observe\n"))
    gate = net.gate(desk.policy, tmp_path / "state")
    with Watcher(net, gate, []) as sight:
        for host, tunnels in (("listed.test", 0), ("pass.test", 1)):
            with gate.connect() as connection:
                connection.sendall(f"CONNECT {host}:25 HTTP/1.1\r\n\r\n".encode())
                assert b" 200 " in read_head(connection)
                assert connection.recv(65536)
                time.sleep(0.5)
                metrics = sight.metrics[-1][1]
                assert f"stoplist_lane_tunnels {tunnels}.0\n" in metrics
                assert f"stoplist_lane_open_duration_seconds_count {tunnels}.0\n" in metrics
                assert ('stoplist_lane_bytes_total{from="server"} 0.0\n' in metrics) == (host == "listed.test")
    gate.process.end()
