"""A driver for kill -9: starts, updates and publishing, each killed at a random moment, many times.

Run as ``python -m tests.e2e.crash FOLDER ROUNDS SEED``. Children are forked from one process that has
imported everything, so that most of a child's short life is the work that is to be interrupted. After
each kill a new child opens the same files and state, and must find a whole list, never an older one
than was in force before. Prints one JSON object; status 1 at the first violation.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stoplist.core.hosts import Host
from stoplist.core.signedlist import Envelope
from stoplist.proxy.store import RulesetStore
from stoplist.state import State
from stoplist.tools import publish
from tests.published import Publisher


class Child:
    """A forked process. `exit` is its status, or minus the signal that ended it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                work()
                status = 0
            finally:
                os._exit(status)

    def kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


def _store(publisher: Publisher, state: Path) -> RulesetStore:
    return RulesetStore(publisher.policy, State.open(state, datetime.now(UTC)))


def _update(publisher: Publisher, state: Path, lists: list[bytes]) -> None:
    """Start a store, and put one list after the other in its way: renamed and written in place."""
    store = _store(publisher, state)
    store.watch()
    for number, data in enumerate(lists):
        if number % 3 == 2:
            publisher.list.write_bytes(data)
        else:
            new = publisher.folder / "new"
            new.write_bytes(data)
            new.replace(publisher.list)
        time.sleep(0.03)
    time.sleep(0.3)


def _publish(publisher: Publisher, first: int) -> None:
    """Build one list after the other over the same file, with the publishing tool."""
    for serial in range(first, first + 50):
        names = frozenset({"listed.test", f"serial{serial}.test", *(f"p{number}.test" for number in range(5))})
        now = datetime.now(UTC)
        publish.build_list(
            publish.Domains(names, 0, 0),
            list_id="test",
            serial=serial,
            expires=now + timedelta(days=1),
            list_key=publisher.folder / "test.listkey",
            signers=[publisher.folder / "authority"],
            recipient="",
            output=publisher.list,
            now=now,
        )


def _check(publisher: Publisher, state: Path, at_least: int, report: Path) -> None:
    """Start once more: a whole list, not older than before; the report says which."""
    store = _store(publisher, state)
    (signed,) = store.current.ruleset.lists
    serial = signed.header.serial
    for name, listed in (("listed.test", True), (f"serial{serial}.test", True), (f"serial{serial + 1}.test", False)):
        assert bool(signed.digests.longest_suffix(Host.parse(name))) is listed, name
    assert serial >= at_least, f"serial {serial} after {at_least}"
    store.watch()
    store.close()
    report.write_text(str(serial))


def main() -> int:
    folder, rounds, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    logging.disable(logging.CRITICAL)
    chance = random.Random(seed)
    publisher = Publisher.new(folder / "files", datetime.now(UTC))
    (publisher.folder / "authority").write_bytes(publisher.signer.private_bytes)
    state = folder / "state"
    state.mkdir()
    report = folder / "report"
    serial = 1
    kinds = {"start": 0, "update": 0, "publish": 0}
    for number in range(rounds):
        kind = ("start", "update", "publish")[number % 3]
        kinds[kind] += 1
        if kind == "publish":
            # What is there may be torn: an update before this was killed while it wrote in place.
            before = publisher.list.read_bytes()
            child = Child(lambda first=serial + 1: _publish(publisher, first))
            child.kill_after(chance.uniform(0, 0.1))
            after = publisher.list.read_bytes()
            if after != before:
                Envelope.parse(after)
        else:
            count = 0 if kind == "start" else 6
            lists = [publisher.build(serial + step) for step in range(1, count + 1)]
            child = Child(lambda lists=lists: _update(publisher, state, lists))
            child.kill_after(chance.uniform(0, 0.03 if kind == "start" else 0.4))
        report.unlink(missing_ok=True)
        status = Child(lambda at_least=serial: _check(publisher, state, at_least, report)).wait()
        if status != 0:
            print(json.dumps({"failed": kind, "round": number, "seed": seed}))
            return 1
        serial = int(report.read_text())
    print(json.dumps({"rounds": rounds, "serial": serial, **kinds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
