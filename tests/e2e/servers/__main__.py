"""Search for conversations that a gate carries to a listed host, for as long as is said.

Prints what was done and what was found. The exit status is 1 if anything was.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.conftest import MODES, gate_with_every_mode, parent_proxy
from tests.e2e.network import network
from tests.e2e.servers.comparison import Comparison, Report, comparing, search, summary
from tests.e2e.servers.conversations import SEEDS
from tests.e2e.servers.every_server import SERVERS
from tests.e2e.servers.fuzzer import Fuzzer
from tests.e2e.servers.server import serving
from tests.e2e.servers.ways import WAYS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.servers", description=__doc__)
    parser.add_argument("--mode", action="append", choices=list(MODES))
    parser.add_argument("--server", action="append", help="the name of a server; all of them by default")
    parser.add_argument("--seconds", type=float, default=60, help="how long to search, after the seeds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-seeds", action="store_true", help="do not try the known findings first")
    parser.add_argument("--small", type=int, default=10, help="how many findings to make as small as they get")
    options = parser.parse_args()
    ways = [way for way in WAYS if options.mode is None or way.mode in options.mode]
    with tempfile.TemporaryDirectory() as folder, _rig(Path(folder), options.server) as comparison:
        known = Report()
        if not options.no_seeds:
            known = comparison.compare(list(SEEDS.values()), ways)
            print(
                f"seeds: {known}\n{summary(known.findings, {each: name for name, each in SEEDS.items()})}", flush=True
            )
        report = search(comparison, Fuzzer(options.seed), ways, seconds=options.seconds)
        print(f"search with seed {options.seed}: {report}\n{summary(report.findings)}", flush=True)
        for finding in comparison.distinct(report.findings, options.small):
            print(f"small: {finding}", flush=True)
    return 1 if known.findings or report.findings else 0


@contextmanager
def _rig(folder: Path, names: Sequence[str] | None) -> Iterator[Comparison]:
    servers = [server for server in SERVERS if names is None or server.name in names]
    for server in servers:
        if server.lacks:
            print(f"{server.name} is left out: it needs {server.lacks}")
    with (
        network(folder / "net") as net,
        parent_proxy(net),
        gate_with_every_mode(net, folder, net.folder / "signed") as gate,
        serving(net, servers) as present,
        net.redirect([port for each in present for port in (each.port, each.other_port)], MODES["transparent"]),
        comparing(net, present) as comparison,
    ):
        yield comparison
    for line in gate.process.err:
        if '"fault"' in line:
            print(f"the gate says: {line.strip()}")


if __name__ == "__main__":
    sys.exit(main())
