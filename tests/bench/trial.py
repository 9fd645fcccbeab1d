"""What `stoplist trial` costs. Run: PYTHONPATH=. .venv/bin/python tests/bench/trial.py [--lines N] [--json]

Logs of N lines (10 million) are made in a temporary folder, 1.2 GB at most, and removed: one of Squid, one of dnsmasq
with what it does of each query. They name 100,000 hosts, the n-th 1/n times as often as the first. Each is tried in a
process of its own, by a list of 10,000 domains. Lines are counted for each second of CPU, user and system: what other
processes do matters less. Status 1 if a bound is missed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stoplist import clock
from tests.published import Publisher

LEAST_PER_SECOND = 300_000
MOST_MEMORY = 200 * 1024 * 1024
LINES = 10_000_000

_FIRST = 1795219200  # fixed time: what a log says, in which a trial finds its days
_PER_CHUNK = 100_000
_HOSTS = [f"www{number}.site{number % 997}.test" for number in range(100_000)]
_WEIGHTS = list(itertools.accumulate(1 / rank for rank in range(1, len(_HOSTS) + 1)))


@dataclass(frozen=True)
class Measured:
    log: str
    lines: int
    bytes: int
    cpu: float
    seconds: float
    memory: int

    @property
    def per_second(self) -> float:
        return self.lines / self.cpu


def squid(number: int, host: str) -> str:
    """Ten days; two tunnels for each request."""
    start = f"{_FIRST + number // 12}.{number % 1000:03d} {number % 5000:6d} 10.0.{number % 250}.{number % 241} TCP_"
    if number % 3:
        return f"{start}TUNNEL/200 {number % 90000} CONNECT {host}:443 - HIER_DIRECT/192.0.2.2 -\n"
    return f"{start}MISS/200 {number % 90000} GET http://{host}/page/{number}?a=b - HIER_DIRECT/192.0.2.2 text/html\n"


def dnsmasq(number: int, host: str) -> str:
    """A query is one of four lines; 24 hours."""
    second = number * 86_400 // LINES % 86_400
    moment = f"Nov 21 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} dnsmasq[123]: "
    rest = (
        "query[A] {} from 10.0.0.7",
        "forwarded {} to 192.0.2.53",
        "reply {} is 192.0.2.2",
        "cached {} is 192.0.2.2",
    )
    return f"{moment}{rest[number % 4].format(host)}\n"


def write(path: Path, line: Callable[[int, str], str], lines: int) -> None:
    chance = random.Random(1)
    with path.open("w") as log:
        for start in range(0, lines, _PER_CHUNK):
            count = min(_PER_CHUNK, lines - start)
            hosts = chance.choices(_HOSTS, cum_weights=_WEIGHTS, k=count)
            log.write("".join(map(line, range(start, start + count), hosts)))


def measure(policy: Path, log: Path, lines: int) -> Measured:
    start = time.perf_counter()
    child = subprocess.Popen(
        [Path(sys.executable).parent / "stoplist", "trial", policy, log, "--exact", "--json"],
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    found = json.loads(child.stdout.read())
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    assert found["requests"] + found["ignored_lines"] == lines
    assert found["unparsable_lines"] == 0
    seconds = time.perf_counter() - start
    cpu = used.ru_utime + used.ru_stime
    return Measured(log.name, lines, log.stat().st_size, cpu, seconds, used.ru_maxrss * 1024)


def run(lines: int) -> Iterator[Measured]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publisher = Publisher.new(folder / "publisher", clock.now())
        publisher.list.write_bytes(publisher.build(2, domains=10_000))
        for log, line in (("squid", squid), ("dnsmasq", dnsmasq)):
            write(folder / log, line, lines)
            yield measure(publisher.policy, folder / log, lines)
            (folder / log).unlink()


def main() -> int:
    lines = int(sys.argv[sys.argv.index("--lines") + 1]) if "--lines" in sys.argv else LINES
    load = os.getloadavg()[0]
    is_good = True
    for found in run(lines):
        is_good = is_good and found.per_second >= LEAST_PER_SECOND and found.memory <= MOST_MEMORY
        if "--json" in sys.argv:
            print(json.dumps({**vars(found), "lines_per_second": round(found.per_second), "load": load}))
        else:
            print(
                f"{found.log:8} {found.lines:,} lines, {found.bytes / 1e6:,.0f} MB: {found.per_second:,.0f} lines a "
                f"second of CPU (bound {LEAST_PER_SECOND:,}), {found.seconds:.1f} s, {found.memory / 1024**2:.0f} MiB "
                f"(bound {MOST_MEMORY // 1024**2}); load before {load:.1f}"
            )
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
