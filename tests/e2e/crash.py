"""A driver for kill -9: starts, updates and publishing, each killed at a random moment, many times.

Run as ``python -m tests.e2e.crash FOLDER KILLS LISTS SEED``. Children are forked from one process that has
imported everything, so that most of a child's short life is the work that is to be interrupted. When to kill one
is drawn from how long its kind takes on this machine when nobody kills it. After each kill a new child opens the
same files and state, and must find a whole list, never an older one than was in force before. It goes on until
there were KILLS, and LISTS times a newer list in force. Prints one JSON object; status 1 at the first violation.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stoplist.core.hosts import Host
from stoplist.core.lists.envelope import Envelope
from stoplist.proxy.reload.ruleset_store import RulesetStore
from stoplist.state import State
from stoplist.tools.publishing import publish, signers
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
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def kill_after(self, seconds: float) -> bool:
        """Whether that ended it: it may be done before, and well."""
        time.sleep(seconds)
        os.kill(self._pid, signal.SIGKILL)
        ended = self.wait()
        assert ended in (0, -signal.SIGKILL), "it failed by itself"
        return ended != 0

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])


KINDS = ("start", "update", "publish")
UPDATES = 6
"""How many lists one child that updates puts in the way of its store."""
MOST_ROUNDS = 20
"""For each kill that is asked for."""
SECONDS = 60
"""How long a list may take to come into force."""


def _store(publisher: Publisher, state: Path) -> RulesetStore:
    return RulesetStore(publisher.policy, State.open(state, datetime.now(UTC)))


def _update(publisher: Publisher, state: Path, lists: list[bytes], last: int) -> None:
    """Start a store, and put one list after the other in its way: renamed, written in place. It ends with the last."""
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
    late = time.monotonic() + SECONDS
    while store.current.ruleset.lists[0].header.serial < last:
        assert time.monotonic() < late
        time.sleep(0.01)
    store.close()


def _publish(publisher: Publisher, first: int) -> None:
    """Build one list after the other over the same file, with the publishing tool."""
    key = signers.from_file(publisher.folder / "authority")
    for serial in range(first, first + 20):
        names = frozenset({"listed.test", f"serial{serial}.test", *(f"p{number}.test" for number in range(5))})
        now = datetime.now(UTC)
        publish.build_list(
            publish.Domains(names, 0, 0),
            list_id="test",
            serial=serial,
            expires=now + timedelta(days=1),
            list_key=publisher.folder / "test.listkey",
            signing_keys=[key],
            recipient="",
            output=publisher.list,
            now=now,
            force=True,
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


def _start(publisher: Publisher, state: Path) -> None:
    store = _store(publisher, state)
    store.watch()
    store.close()


def main() -> int:
    folder, wanted_kills, wanted_lists, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    logging.disable(logging.CRITICAL)
    chance = random.Random(seed)
    publisher = Publisher.new(folder / "files", datetime.now(UTC))
    (publisher.folder / "authority").write_bytes(publisher.signer.private_bytes)
    state = folder / "state"
    state.mkdir()
    report = folder / "report"

    def begin(kind: str, serial: int) -> Child:
        """A child that works with lists that follow the one with this serial."""
        if kind == "start":
            return Child(lambda: _start(publisher, state))
        if kind == "publish":
            return Child(lambda: _publish(publisher, serial + 1))
        lists = [publisher.build(serial + step) for step in range(1, UPDATES + 1)]
        return Child(lambda: _update(publisher, state, lists, serial + UPDATES))

    def in_force(at_least: int) -> int | None:
        """The serial that a new start finds in force; None where what it finds is wrong."""
        report.unlink(missing_ok=True)
        done = Child(lambda: _check(publisher, state, at_least, report)).wait()
        return int(report.read_text()) if done == 0 else None

    serial: int | None = 1
    seconds: dict[str, float] = {}
    for kind in KINDS:
        child, begun = begin(kind, serial), time.monotonic()
        assert child.wait() == 0, kind
        seconds[kind] = time.monotonic() - begun
        serial = in_force(serial)
        assert serial is not None, kind
    kills, lists = dict.fromkeys(KINDS, 0), 0
    for number in range(MOST_ROUNDS * wanted_kills):
        if sum(kills.values()) >= wanted_kills and lists >= wanted_lists:
            break
        kind, before = KINDS[number % len(KINDS)], serial
        # What is there may be torn: an update before this was killed while it wrote in place.
        found = publisher.list.read_bytes()
        kills[kind] += begin(kind, before).kill_after(chance.uniform(0, seconds[kind]))
        left = publisher.list.read_bytes()
        if kind == "publish" and left != found:
            Envelope.parse(left)
        serial = in_force(before)
        if serial is None:
            print(json.dumps({"failed": kind, "round": number, "seed": seed}))
            return 1
        lists += serial > before
    print(json.dumps({"rounds": number, "kills": sum(kills.values()), "lists": lists, "serial": serial, **kills}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
