"""RulesetStore: the ruleset in force, kept equal to the newest good files on disk.

The store has two threads. The thread of watchdog gets the events of folders. The thread of the store reads and
verifies the files, puts another ruleset into force, and remembers it. The event loop only reads `current`.

Rules
  - One assignment replaces `current`. A request takes it once, and is judged by that ruleset only.
  - The digests of the files tell whether they have changed, never events or times. An event only says "look". Every
    `watch: poll` the store looks without an event.
  - Files that do not verify change nothing. The store reports them once, with what to do.
  - The store remembers in the state what is in force. It reports a state that it cannot write, and enforcement goes on.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from stoplist import clock, files, loading
from stoplist.core.decide import Ruleset
from stoplist.core.lists.keys import is_signature_of
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.differences import changed_keys
from stoplist.errors import Problems, StoplistError
from stoplist.page.answers import StopPage
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.reload.signature_process import is_signature_of_large
from stoplist.proxy.reload.watched_paths import ChangeHandler, WatchedPaths
from stoplist.state import State

SETTLE_SECONDS = 0.1
"""How long the store waits after an event for more: one save makes several events."""
_MAX_STAMP_SIZE = 1024
_M_MMAP_THRESHOLD = -3
"""A parameter of mallopt(3), with the value from <malloc.h>."""
_LARGE = 1024 * 1024
"""In bytes."""
_AT_START = ("listen", "state_dir", "certificate", "proxy_auth", "upstream.ca", "metrics")
"""Keys of a policy that the gate reads once, at its start."""


@dataclass(frozen=True, slots=True)
class InForce:
    """A ruleset and the stop page of its policy. The gate judges and answers requests with them."""

    ruleset: Ruleset
    page: StopPage


@dataclass(frozen=True, slots=True)
class Reload:
    """The results of changed files so far.

    `results` counts them by result. `time` is when a change was last put into force, in POSIX seconds, and `seconds`
    how long that took to load. `is_refused` says whether the present files are refused as a whole. `kept_out` are the
    list files whose list is not in force, with its serial where the list waits for release.
    """

    results: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(("activated", "refused", "held"), 0))
    time: float = 0.0
    seconds: float = 0.0
    is_refused: bool = False
    kept_out: Mapping[Path, int | None] = field(default_factory=dict)

    def after(self, result: str, **changed: Any) -> Reload:
        """The same, with one more of `result` and with the `changed` fields."""
        results = {**self.results, result: self.results[result] + 1}
        return dataclasses.replace(self, results=results, **changed)


class RulesetStore:
    """Loads a policy when it is made, and raises Problems if that fails. `watch` keeps the ruleset current.

    The store owns the `state` from then on, and closes it. `observer` makes the observer of events in folders. `place`
    puts a ruleset where the process keeps it. The store calls `on_accept` with each ruleset just before it is in force,
    and `on_change` when another one is in force.
    """

    def __init__(
        self,
        path: Path,
        state: State,
        on_change: Callable[[InForce], None] = lambda _: None,
        observer: Callable[[], BaseObserver] = Observer,
        place: Callable[[Ruleset], Ruleset] = lambda ruleset: ruleset,
        on_accept: Callable[[Ruleset], None] = lambda _: None,
    ) -> None:
        _return_large_memory()
        self._on_accept = on_accept
        self._place = place
        self.path = path.absolute()
        self._state = state
        self._on_change = on_change
        self._make_observer = observer
        self._look = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._observer: BaseObserver | None = None
        self._places = WatchedPaths(frozenset())
        self._expired: set[tuple[str, int]] = set()
        """Expired lists that were reported, by name and serial."""
        self.reload = Reload()
        self._reader = files.Reader()
        now = clock.now()
        try:
            loaded = self._load(now, None)
        except loading.NotLoaded as error:
            self._remember((), error.faults, now)
            self._state.close()
            raise
        in_force = InForce(loaded.ruleset, loaded.page)
        on_accept(loaded.ruleset)
        self.current = in_force
        self._at_start: loading.Loaded | None = loaded

    def watch(self) -> None:
        """Log the ruleset in force, and start to keep it equal to the files."""
        for note in self._state.notes:
            log_allowlist.say(records.Noted(note))
        report(self.current.ruleset)
        if self._at_start is not None:
            self._settle(self._at_start, clock.now())
            self._at_start = None  # this frees the bytes of every list file
        self._thread = threading.Thread(target=self._run, name="stoplist-store", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End both threads. The last ruleset stays in `current`."""
        self._stopped = True
        self._look.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._stop_observer()

    def close(self) -> None:
        """Stop, and close the state."""
        self.stop()
        self._state.close()

    def _run(self) -> None:
        while not self._stopped:
            self._keep_observing()
            if self._look.wait(self.current.ruleset.policy.watch.poll):
                self._look.clear()
                if not self._stopped and self._look.wait(SETTLE_SECONDS):
                    self._look.clear()
            if not self._stopped:
                try:
                    self._refresh(clock.now())
                except Exception as error:  # the thread must live: without it no new list comes into force
                    log_allowlist.say(records.FilesNotChecked(type(error).__name__))

    def _load(self, now: datetime, previous: Ruleset | None) -> loading.Loaded:
        """Load everything, and note which files were read. Raises Problems.

        Any other exception leaves the note as it was, so that the store tries again.
        """
        reader = files.Reader()
        with contextlib.suppress(StoplistError):
            reader.read(self._state.release_stamp, _MAX_STAMP_SIZE)
        # At the start no client waits for an answer yet.
        judge = is_signature_of if previous is None else is_signature_of_large
        try:
            loaded = loading.load(self.path, now=now, previous=previous, state=self._state, reader=reader, judge=judge)
        except Problems:
            self._reader = reader
            raise
        self._reader = reader
        return dataclasses.replace(loaded, ruleset=self._place(loaded.ruleset))

    def _refresh(self, now: datetime) -> None:
        if self._reader.is_current(loading.MAX_INPUT_SIZE):
            self._report_expiry(now)
            return
        was, began = self.current, time.monotonic()
        before = was.ruleset
        try:
            loaded = self._load(now, before)
            in_force = InForce(loaded.ruleset, loaded.page)
        except Problems as error:
            log_allowlist.say(records.ChangeRefused(error))
            self.reload = self.reload.after("refused", is_refused=True)
            if isinstance(error, loading.NotLoaded):
                self._remember((), error.faults, now)
            return
        is_same = (loaded.ruleset.policy, loaded.ruleset.lists) == (before.policy, before.lists)
        if not is_same or loaded.page != was.page:
            self._on_accept(loaded.ruleset)
            self.current = in_force
            seconds = time.monotonic() - began
            self.reload = self.reload.after("activated", time=now.timestamp(), seconds=seconds)
            keys = changed_keys(before.policy, loaded.ruleset.policy)
            with self._telling():  # `_settle` remembers exceptions
                self._state.change(self.path, (key for key in keys if not key.startswith("exceptions")), now)
            self._on_change(in_force)
            report(loaded.ruleset)
            for key in _AT_START:
                if attrgetter(key)(loaded.ruleset.policy) != attrgetter(key)(before.policy):
                    log_allowlist.say(records.ReadAtStart(key))
        self._settle(loaded, now)

    def _settle(self, loaded: loading.Loaded, now: datetime) -> None:
        """Report and remember the result of loading."""
        kept_out = {fault.file: fault.held.header.serial if fault.held else None for fault in loaded.faults}
        self.reload = dataclasses.replace(self.reload, is_refused=False, kept_out=kept_out)
        for fault in loaded.faults:
            self.reload = self.reload.after("held" if fault.held else "refused")
            log_allowlist.say(records.ListHeld(fault.error) if fault.held else records.ListRefused(fault.error))
        for warning in loaded.warnings:
            log_allowlist.say(records.Warned(warning))
        self._expired = {_name_of(signed) for signed in loaded.ruleset.lists if signed.expired(now)}
        self._remember(loaded.fresh, loaded.faults, now)
        self._remember_enforced(loaded.ruleset)
        exceptions = loaded.ruleset.policy.exceptions
        with self._telling():
            self._state.except_(self.path, (f"{each.reason} (until {each.until})" for each in exceptions), now)

    def _remember(self, fresh: Iterable[loading.Fresh], faults: Iterable[loading.FaultyList], now: datetime) -> None:
        with self._telling():
            for list_ in fresh:
                self._state.activate(
                    *(list_.file, list_.signed, list_.data, now), changed=list_.changed, is_observed=list_.is_observed
                )
            for fault in faults:
                if fault.held is not None:
                    self._state.hold(fault.file, fault.held, fault.error.message, now)
                else:
                    self._state.refuse(fault.file, fault.error.message, now)

    def _remember_enforced(self, ruleset: Ruleset) -> None:
        """Remember the enforced lists: the policy may enforce an observed list without a change of its file."""
        pairs = zip(ruleset.policy.lists, ruleset.lists, strict=True)
        with self._telling():
            self._state.enforce(signed for wanted, signed in pairs if wanted.mode != "observe")

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Where the state cannot be written, log that and go on."""
        try:
            yield
        except StoplistError as error:
            log_allowlist.say(records.NotRemembered(error))

    def _report_expiry(self, now: datetime) -> None:
        """Log once that a list has expired while it was in force."""
        ruleset = self.current.ruleset
        for wanted, signed in zip(ruleset.policy.lists, ruleset.lists, strict=True):
            if signed.expired(now) and _name_of(signed) not in self._expired:
                self._expired.add(_name_of(signed))
                log_allowlist.say(records.ListExpired(signed.header.list, wanted.once_expired))

    def _keep_observing(self) -> None:
        """Observe every folder in which a change can matter. Where that fails, polling remains."""
        places = WatchedPaths.of(self._reader.seen)
        if _is_alive(self._observer) and places == self._places:
            return
        self._stop_observer()
        try:
            self._observer = self._make_observer()
            for folder in places.folders:
                self._observer.schedule(ChangeHandler(places, self._look.set), str(folder))
            self._observer.start()
            self._look.set()  # there may have been changes before the observer started
        except Exception as error:  # inotify raises OSError; observers of other platforms raise others
            self._stop_observer()
            if WatchedPaths.of(self._reader.seen) != places:
                self._look.set()  # a folder went away meanwhile: look at once, and then observe the folders that exist
            elif self._places != places:
                why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
                poll = self.current.ruleset.policy.watch.poll
                log_allowlist.say(records.NoEvents(why, poll))
        self._places = places

    def _stop_observer(self) -> None:
        if self._observer is not None:
            with contextlib.suppress(Exception):
                self._observer.unschedule_all()
            if self._observer.is_alive():
                self._observer.stop()
                self._observer.join(timeout=5)
        self._observer = None


def _return_large_memory() -> None:
    """Make glibc return the memory of loading to the system at once. Loading takes several times the size of the list.

    By default glibc raises its threshold when the first large block is freed, and then keeps such blocks for the
    thread (mallopt(3), M_MMAP_THRESHOLD).
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library, or another system
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def _name_of(signed: SignedList) -> tuple[str, int]:
    return signed.header.list, signed.header.serial


def _is_alive(observer: BaseObserver | None) -> bool:
    return observer is not None and observer.is_alive() and all(e.is_alive() for e in observer.emitters)


def report(ruleset: Ruleset) -> None:
    """Log the ruleset in force: each list with its serial, size and expiry, but nothing of its contents."""
    for signed, verdict in ruleset.entries:
        log_allowlist.say(records.ListInForce.of(signed, verdict.action))
    if ruleset.policy.tls == "intercept":
        log_allowlist.say(records.Intercepting())
