"""Stoplist beside other proxies. Run: PYTHONPATH=. .venv/bin/python tests/bench/compare.py [--quick] [--help]

One load generator drives Squid, tinyproxy, stock mitmproxy (passing TLS through, and intercepting it) and
Stoplist towards nginx and an origin that replays TLS records (origin.py). All have the same list, but for
mitmproxy, which has none. What is missing on the machine, or fails, is left out and named below the table.

All of it runs on loopback, in namespaces of its own. The proxy has the last core for itself; the load and the
origins have the others. Only `cores` and `reload` leave all cores to all. In each round every subject is
measured one after the other; printed are the medians over the rounds, and of the ratios within a round. CPU
is user and system time of all of a proxy's processes; memory is their proportional set size, without the
kernel's socket buffers.

Measurements, for --only:
  tunnels  new tunnels to nginx, 1 and 100 at once: CPU, and p99 latency over that of a direct connection
  rate     new tunnels a second to the replaying origin, 100 at once, one worker
  cores    the same with as many workers as cores
  kept     a record to and fro in 32 open tunnels
  plain    plain HTTP requests to nginx on 8 connections, kept where the proxy keeps them
  bulk     bytes through 1 and 8 tunnels
  pages    the stop page over HTTPS, each in a tunnel and TLS of its own; for mitmproxy, an ordinary intercepted page,
           and one that an add-on of it answers with by itself, the fastest that it can
  scale    CPU per new tunnel, 32 at once, while others stand idle; memory per idle tunnel; CPU of opening them
           (three rounds at most, of mitmproxy one)
  lists    CPU per new tunnel, 100 at once, start and memory with each size of list, of Squid and Stoplist
           (tinyproxy reads through its whole list for each tunnel)
  reload   a new list of a million domains while requests run (see reload.py)

A run with the defaults takes some 20 minutes, and some more where the lists are not yet made (they are kept
in the system's folder for temporary files). Needs root. Ends with status 1 unless each bound on what was
chosen is met.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.measure import ONE_BY_ONE, SIDE_BY_SIDE, SUBJECTS, Bench
from tests.bench.report import Bound, Figure, Results, as_json, bounds_table, fit, judge, rounded, table
from tests.bench.subjects import (
    ANSWERING,
    BEFORE,
    DIRECT,
    INTERCEPTING,
    OURS,
    PROGRAMS,
    SQUID,
    Yard,
    enter_own_world,
    most_files,
    most_tunnels,
)

ROUNDS, SECONDS = 5, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 1, 0.3
LIST_SIZES, QUICK_LIST_SIZES = (10_000, 1_000_000, 10_000_000), (10_000, 100_000)
TUNNELS, QUICK_TUNNELS = (1, 100, 1000, 10_000), (1, 100, 1000)
RELOAD_DOMAINS, QUICK_RELOAD_DOMAINS = 1_000_000, 10_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="compare.py [OPTIONS]"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, to see that it works")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"default {ROUNDS}")
    parser.add_argument("--only", type=_words, metavar="NAME,...", help="these measurements")
    parser.add_argument("--subjects", type=_words, metavar="NAME,...", help=f"these of: {'; '.join(SUBJECTS)}")
    parser.add_argument(
        "--before", type=Path, metavar="PROGRAM", help=f"the 'stoplist' of another build, measured as {BEFORE}"
    )
    parser.add_argument("--list-sizes", type=_numbers, metavar="N,...", help="the smallest is used throughout")
    parser.add_argument("--tunnels", type=_numbers, metavar="N,...", help="how many stand idle")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all values, for machines")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="needs matplotlib")
    chosen = parser.parse_args()
    for option, known in (("only", [*SIDE_BY_SIDE, *ONE_BY_ONE]), ("subjects", SUBJECTS)):
        if unknown := set(getattr(chosen, option) or ()) - set(known):
            parser.error(f"--{option}: unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    if chosen.plot and find_spec("matplotlib") is None:
        parser.error("--plot: needs matplotlib")
    return chosen


def main() -> int:
    options = arguments()
    enter_own_world()
    gc.disable()  # its pauses would be taken for the proxies'
    chosen, about = options.only or [*SIDE_BY_SIDE, *ONE_BY_ONE], machine()
    with tempfile.TemporaryDirectory(prefix="stoplist-bench-") as folder:
        Path(folder).chmod(0o755)  # Squid changes its user
        yard, cores = Yard(Path(folder)), sorted(os.sched_getaffinity(0))
        with yard.origins(cores[:-1] or cores) as origins:
            bench = _bench(options, chosen, yard, origins, cores)
            bench.place_load(bench.load_cores)
            if together := [name for name in chosen if name in SIDE_BY_SIDE]:
                measure.side_by_side(bench, together)
            for name in chosen:
                if name in ONE_BY_ONE:
                    ONE_BY_ONE[name](bench)
    return _report(bench, chosen, about, options)


def _bench(
    options: argparse.Namespace, chosen: Sequence[str], yard: Yard, origins: list[Any], cores: list[int]
) -> Bench:
    quick = options.quick
    left_out = set()
    if options.before is not None:
        PROGRAMS[BEFORE] = options.before.absolute()
    else:
        left_out = {BEFORE}
    bench = Bench(
        yard=yard,
        origins=origins,
        cores=cores,
        rounds=options.rounds or (QUICK_ROUNDS if quick else ROUNDS),
        seconds=QUICK_SECONDS if quick else SECONDS,
        subjects=[name for name in SUBJECTS if name in {DIRECT, *(options.subjects or SUBJECTS)} - left_out],
        list_sizes=options.list_sizes or (QUICK_LIST_SIZES if quick else LIST_SIZES),
        tunnels=sorted({min(n, most_tunnels()) for n in options.tunnels or (QUICK_TUNNELS if quick else TUNNELS)}),
        reload_domains=QUICK_RELOAD_DOMAINS if quick else RELOAD_DOMAINS,
    )
    if "scale" in chosen and max(bench.tunnels) == most_tunnels():
        bench.results.note(f"scale: no more tunnels than {max(bench.tunnels):,}: {most_files():,} files may be open")
    return bench


def bounds(tunnels: Sequence[int], workers: int) -> list[Bound]:
    """What is asked of Stoplist; `tunnels` are the numbers that stand idle."""

    def ratio(name: str, measurement: str, figure: Figure, limits: tuple[float, float], peer: str = SQUID) -> Bound:
        value = partial(Results.ratio, figure=figure, subject=OURS, peer=peer)
        return Bound(f"{name} / {peer}", measurement, value, *limits, at_most=limits[1] < limits[0])

    def value(name: str, measurement: str, figure: Figure, bound: float, stretch: float) -> Bound:
        return Bound(name, measurement, partial(Results.median, figure=figure, subject=OURS), bound, stretch)

    def at(figure: Figure, number: int) -> Figure:
        return figure._replace(number=number)

    return [
        *(
            ratio(f"CPU per new tunnel, {n} at once", "tunnels", at(measure.CPU, n), (1.3, 1.0))
            for n in measure.AT_ONCE
        ),
        ratio(f"new tunnels per second, {workers} workers", "cores", at(measure.RATE, workers), (0.9, 1.1)),
        *(ratio(f"bulk, {n} tunnels", "bulk", at(measure.BULK_RATE, n), (1.0, 1.2)) for n in measure.STREAMS),
        *(ratio(f"CPU per bulk GB, {n} tunnels", "bulk", at(measure.BULK_CPU, n), (1.2, 0.9)) for n in measure.STREAMS),
        ratio("CPU per plain HTTP request", "plain", measure.PLAIN_CPU, (0.5, 0.25), INTERCEPTING),
        ratio("CPU per stop page over HTTPS", "pages", measure.PAGE_CPU, (0.8, 0.5), INTERCEPTING),
        ratio("first byte of a stop page over fresh TLS", "pages", measure.FIRST_BYTE, (3.0, 1.0), ANSWERING),
        *(
            value(f"memory per idle tunnel, {n:,} (KiB)", "scale", at(measure.IDLE_MEMORY, n), 15, 8)
            for n in tunnels
            if n >= measure.STEP
        ),
        value("failed requests of a reload", "reload", measure.RELOAD_FAILED, 0, 0),
        value("reload, p99 over the usual (ms)", "reload", measure.RELOAD_P99, 25, 5),
    ]


def fits(results: Results) -> dict[str, dict[str, float]]:
    """How cost grows with the number of tunnels, and with the size of the list."""
    found: dict[str, dict[str, float]] = {}
    for subject in SUBJECTS:
        opened = [point for point in results.curve(measure.OPENED, subject) if point[0] >= 100]
        if len(opened) > 2:
            found[f"{subject}: CPU seconds of opening n tunnels"] = fit(opened)._asdict()
        by_list = results.curve(measure.LIST_CPU, subject)
        if len(by_list) > 1:
            (small, first), (large, last) = by_list[0], by_list[-1]
            found[f"{subject}: CPU per new tunnel, {large:,} domains / {small:,}"] = {
                "ratio": last / first,
                "us_for_ten_times_the_domains": (last - first) / math.log10(large / small),
            }
    return found


def machine() -> dict[str, str]:
    def first_line(*command: str) -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return "missing"
        return (done.stdout + done.stderr).partition("\n")[0].strip()

    commit = first_line("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{os.cpu_count()} cores, {model.partition(': ')[2]}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "stoplist": f"{version('stoplist')} {commit}",
        "mitmproxy": version("mitmproxy"),
        "squid": first_line("squid", "-v"),
        "tinyproxy": first_line("tinyproxy", "-v"),
        "nginx": first_line("nginx", "-v"),
    }


def _report(bench: Bench, chosen: Sequence[str], about: dict[str, str], options: argparse.Namespace) -> int:
    results, found = bench.results, fits(bench.results)
    asked = [bound for bound in bounds(bench.tunnels, len(bench.cores)) if bound.measurement in chosen]
    judgements = [judge(bound, results) for bound in asked]
    shown = sorted(figure for figure in results.values if figure.what != measure.OPENED.what)
    shown.sort(key=lambda figure: measure.FIGURES.index(figure._replace(number=0)))
    print("; ".join(f"{name}: {value}" for name, value in about.items()))
    print(f"{bench.rounds} rounds of {bench.seconds:g} s; ratios (×) are to {SQUID}\n")
    print(table(results, shown, bench.subjects, SQUID), end="\n\n")
    for name, values in found.items():
        print(f"{name}: {', '.join(f'{key} {rounded(value)}' for key, value in values.items())}")
    for note in results.notes:
        print(f"not measured: {note}")
    print(f"\n{bounds_table(judgements)}")
    if options.json:
        options.json.write_text(json.dumps(as_json(results, judgements, found, about), indent=1) + "\n")
    if options.plot:
        from tests.bench.plot import draw

        curves = [measure.IDLE_CPU, measure.LIST_CPU]
        draw(results, measure.CPU._replace(number=measure.AT_ONCE[-1]), curves, options.plot)
    return int(not all(one.is_met for one in judgements))


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
