"""All that a gate leaves: what it says when it is asked, what it wrote, and its files."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.desk import Desk
from tests.e2e.network import STOPLIST, Gate
from tests.e2e.ways import read_all

METRICS = "metrics: {listen: 127.0.0.1:0}\n"
"""A line of a policy, without which nobody can ask."""


def left_by(gate: Gate, desk: Desk, home: Path) -> dict[str, bytes]:
    """Asks a gate, ends it, and looks at every file in `home`, where its state directory is; by where it was found."""
    left = _said(gate, desk)
    gate.process.end()
    left |= {"stdout": "".join(gate.process.out).encode(), "stderr": "".join(gate.process.err).encode()}
    left |= {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert {gate.state_dir / "state.db", gate.state_dir / "ca.pem"} <= set(map(Path, left))
    return left


def _said(gate: Gate, desk: Desk) -> dict[str, bytes]:
    port = int(gate.process.wait_for(r"metrics at http://127\.0\.0\.1:(\d+)")[1])
    with gate.network.connect(port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        said = {"metrics": read_all(connection)}
    for command, *options in (("report",), ("report", "--format", "html"), ("status",), ("status", "--journal", "100")):
        state = ("--state-dir", str(gate.state_dir))
        answer = gate.network.gateway.run(str(STOPLIST), command, str(desk.policy), *state, *options)
        said[" ".join((command, *options))] = answer.encode()
    assert all(said.values())
    return said
