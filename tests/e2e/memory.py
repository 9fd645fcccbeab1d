"""A gate whose memory can be asked what its objects hold (see holding.py)."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import LOAD
from tests.e2e.desk import Desk
from tests.e2e.network import MITMDUMP, SECONDS, STOPLIST, Gate, Network

HOST = "127.0.0.1"
"""Where it must listen, on any port."""
FORGOTTEN_SECONDS = 600
"""How long after its connection a request may be held: a gate that is quiet clears up each minute, if the machine has
time."""
LOOK_SECONDS = 15
"""How long it is left alone: while it is looked through, all that is there is held, and cannot be cleared up."""


@dataclass(frozen=True)
class Memory:
    """That of a gate: what its objects hold."""

    gate: Gate
    ear: Path

    def find(self, pattern: str) -> dict[str, list[str]]:
        """All that is held of what a regular expression finds, in lower case, with the types of what holds each."""
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(SECONDS)
            asker.connect(str(self.ear))
            with asker.makefile("rw") as words:
                words.write(f"{pattern}\n")
                words.flush()
                found: dict[str, list[str]] = json.loads(words.readline())
        return found

    def kept(self, pattern: str, known: Collection[str], *, seconds: float = FORGOTTEN_SECONDS) -> dict[str, list[str]]:
        """What of `known` it does not forget in that time."""
        deadline = time.monotonic() + seconds
        while True:
            held = {each: by for each, by in self.find(pattern).items() if each in known}
            if not held or time.monotonic() > deadline:
                return held
            time.sleep(LOOK_SECONDS)


@contextmanager
def running(net: Network, desk: Desk, folder: Path, *modes: str, program: str = "stoplist") -> Iterator[Memory]:
    state = folder / "state"
    commands = {
        "stoplist": (str(STOPLIST), "run", str(desk.policy), "--state-dir", str(state), "--drain", "0s"),
        "mitmdump": (
            *(str(MITMDUMP), "-s", str(LOAD), "--set", "flow_detail=0"),
            *("--set", f"stoplist_policy={desk.policy}", "--set", f"stoplist_state_dir={state}"),
        ),
    }
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has a limit
        ear = Path(short) / "ear"
        holding = (sys.executable, str(Path(__file__).parent / "holding.py"), str(ear))
        ways = [argument for mode in modes for argument in ("--mode", mode)]
        process = net.start("env", f"HOME={folder}", *holding, *commands[program], *ways)
        try:
            port = int(process.wait_for(rf"listening on {HOST}:(\d+)")[1])
            yield Memory(Gate(net, process, port, state, HOST), ear)
        finally:
            process.end()
