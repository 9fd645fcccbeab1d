"""How many hosts a second `stoplist lookup POLICY -` answers. Run: .venv/bin/python tests/bench/lookup.py [--json]

The real command on a million lines of each kind, its start included, the best of some rounds. The bound is 100,000 a
second; status 1 if it is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

POLICY = Path(__file__).parent.parent.parent / "policies" / "demo.yaml"
LINES = 1_000_000
ROUNDS = 3
BOUND = 100_000
KINDS = {
    "hosts": ("www.shop{}.site{}.test", ()),
    "hosts, --json": ("www.shop{}.site{}.test", ("--json",)),
    "URLs": ("https://www.shop{}.site{}.test/path?query", ()),
}


def per_second(form: str, options: tuple[str, ...]) -> float:
    command = [str(Path(sys.executable).parent / "stoplist"), "lookup", str(POLICY), "-", *options]
    with tempfile.TemporaryFile() as lines:
        lines.writelines(f"{form}\n".format(number, number % 1000).encode() for number in range(LINES))

        def once() -> float:
            lines.seek(0)
            start = time.perf_counter()
            done = subprocess.run(command, stdin=lines, capture_output=True, check=True)
            assert done.stdout.count(b"\n") == LINES
            return time.perf_counter() - start

        return LINES / min(once() for _ in range(ROUNDS))


def main() -> int:
    rows = {kind: per_second(form, options) for kind, (form, options) in KINDS.items()}
    if "--json" in sys.argv:
        print(
            json.dumps(
                [{"what": kind, "value": value, "unit": "per second", "bound": BOUND} for kind, value in rows.items()]
            )
        )
    else:
        for kind, value in rows.items():
            print(f"lookup, {kind:15} {value:9.0f} a second  bound {BOUND}")
    return int(min(rows.values()) < BOUND)


if __name__ == "__main__":
    sys.exit(main())
