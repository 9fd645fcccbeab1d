"""RulesetStore: the ruleset in force, kept equal to the newest good files on disk.

Two threads of its own: watchdog's, which is told when something happens in a folder, and the
store's, which reads, verifies and swaps. The event loop only ever reads `current`.

Rules
  - `current` is replaced by one assignment; a request takes it once and is judged by it whole.
  - What has changed is decided by the digests of the files, never by events or times: an event
    only says "look", and every `POLL_SECONDS` the store looks without one.
  - What does not verify changes nothing, and is reported once, with what to do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from stoplist import files, loading
from stoplist.core.decide import Ruleset
from stoplist.core.signedlist import format_time
from stoplist.errors import Problems
from stoplist.proxy.page import StopPage

POLL_SECONDS = 10.0
"""How often the files are looked at without an event, for file systems that send none."""
SETTLE_SECONDS = 0.1
"""How long an event is waited on for others: one save makes several."""
_READ_EVENTS = {"opened", "closed_no_write"}

log = logging.getLogger("stoplist")


@dataclass(frozen=True, slots=True)
class InForce:
    """What requests are judged and answered by: a ruleset and the stop page of its policy."""

    ruleset: Ruleset
    page: StopPage


class RulesetStore:
    """Loads a policy when it is made, raising Problems if that fails; `watch` keeps it current."""

    def __init__(self, path: Path, on_change: Callable[[InForce], None] = lambda _: None) -> None:
        self.path = path.absolute()
        self._on_change = on_change
        self._reader = files.Reader()
        self._look = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._observer: BaseObserver | None = None
        self._folders: set[Path] = set()
        loaded = loading.load(self.path, now=loading.now(), reader=self._reader)
        self.warnings = loaded.warnings
        self.current = InForce(loaded.ruleset, StopPage.render(loaded.ruleset.policy))

    def watch(self) -> None:
        """Start to keep `current` equal to the files."""
        self._thread = threading.Thread(target=self._run, name="stoplist-store", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End both threads. The last ruleset stays in `current`."""
        self._stopped = True
        self._look.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._stop_observer()

    def _run(self) -> None:
        while not self._stopped:
            self._keep_observing()
            if self._look.wait(POLL_SECONDS):
                self._look.clear()
                if not self._stopped and self._look.wait(SETTLE_SECONDS):
                    self._look.clear()
            if not self._stopped:
                try:
                    self._refresh()
                except Exception as error:  # the thread must live: without it no list is taken up again
                    log.error("the files could not be looked at (%s); they will be again", type(error).__name__)

    def _refresh(self) -> None:
        if self._reader.is_current(loading.MAX_INPUT_SIZE):
            return
        reader = files.Reader()
        before = self.current.ruleset
        try:
            loaded = loading.load(self.path, now=loading.now(), previous=before, reader=reader)
            in_force = InForce(loaded.ruleset, StopPage.render(loaded.ruleset.policy))
        except Problems as error:
            self._reader = reader
            log.error("the change is refused, the last good state stays in force\n%s", error)
            return
        self._reader = reader
        if in_force.ruleset.policy != before.policy or in_force.ruleset.lists != before.lists:
            self.current = in_force
            self._on_change(in_force)
            report(in_force.ruleset)
            if in_force.ruleset.policy.listen != before.policy.listen:
                log.warning("'listen' has changed in the policy; restart the gate to listen there")
        for fault in loaded.faults:
            log.error("a list is refused, the last good one stays enforced\n%s", fault)
        for warning in loaded.warnings:
            log.warning("%s", warning)

    def _keep_observing(self) -> None:
        """Watch the folders of all files that were looked at. Where that fails, polling remains."""
        folders = {path.parent for path in self._reader.seen}
        alive = self._observer is not None and self._observer.is_alive()
        if alive and folders == self._folders and all(folder.exists() for folder in folders):
            return
        self._stop_observer()
        observer = Observer()
        try:
            for folder in folders:
                observer.schedule(_Nudge(self._look), str(folder))
            observer.start()
            self._look.set()  # for what changed before the observer listened
        except OSError as error:
            observer.unschedule_all()
            if self._folders != folders:
                log.warning(
                    "no events from the file system (%s); changes are seen within %d s", error.strerror, POLL_SECONDS
                )
        self._observer, self._folders = observer, folders

    def _stop_observer(self) -> None:
        if self._observer is not None and self._observer.is_alive():
            self._observer.stop()
            self._observer.join(timeout=5)
        self._observer = None


class _Nudge(FileSystemEventHandler):
    """Says "look" for every event but those that looking itself causes."""

    def __init__(self, look: threading.Event) -> None:
        self._look = look

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in _READ_EVENTS:
            self._look.set()


def report(ruleset: Ruleset) -> None:
    """Log what is in force: each list with its serial, size and end; nothing of its contents."""
    for signed, verdict in ruleset.entries:
        header = signed.header
        log.info(
            "list %s serial %d in force (%s): %d domains, expires %s",
            header.list,
            header.serial,
            verdict.action,
            header.count,
            format_time(header.expires),
        )
