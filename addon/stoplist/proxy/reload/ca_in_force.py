"""CurrentCa: the CA in force in a process, kept equal to its files.

Rules
  - Files that do not load change nothing: the last good CA stays in force, and the gate logs that once.
  - The digests of the files tell whether they have changed. While a CA is in force, the gate never makes a missing
    file of that CA anew: no client would trust the new CA.
  - One process of a gate writes to the log: a worker is silent.
"""

from __future__ import annotations

import contextlib
import threading
from datetime import datetime, timedelta
from pathlib import Path

from stoplist import authority
from stoplist.authority import Source
from stoplist.certificates import name_of
from stoplist.core.policy.models import Policy
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.proxy.log import log_allowlist, records

WARN_EVERY = timedelta(days=1)


class CurrentCa:
    """Opens the CA of a policy in the file `path`. It makes the gate's own CA where there is none.

    `current` is None where the policy needs no CA. Raises StoplistError where it needs one and none can be used.
    """

    def __init__(self, policy: Policy, path: Path, state_dir: Path, now: datetime, *, speaks: bool) -> None:
        self._path = path
        self._state_dir = state_dir
        self._speaks = speaks
        self._source = Source.of(policy, path, state_dir)
        if self._source is not None:
            self._source.make_missing(now)
        self._seen = _digests(self._source)
        self.current = self._source.open(now) if self._source is not None else None
        self._warned: datetime | None = None
        self._looking = threading.Lock()

    def look(self, policy: Policy, now: datetime) -> None:
        """Take up changes of the policy or the files. If the CA ends soon, log that once a day."""
        with self._looking:
            source = Source.of(policy, self._path, self._state_dir)
            seen = _digests(source)
            has_changed = (source, seen) != (self._source, self._seen)
            if has_changed or (source is not None and self.current is None):
                self._take(source, now, is_news=has_changed)
                self._source, self._seen = source, seen
            self._warn(now)

    def _take(self, source: Source | None, now: datetime, *, is_news: bool) -> None:
        if source is None:
            self.current = None
            return
        try:
            has_one = self.current is not None and source == self._source
            opened = source.open(now) if has_one else source.open_or_make(now)
        except StoplistError as error:
            if is_news:
                self._say(records.CaRefused(error))
            return
        if self.current is None or opened.certificates != self.current.certificates:
            self._say(records.CaInForce(name_of(opened.certificate), format_time(opened.ends)))
            self.current, self._warned = opened, None

    def _warn(self, now: datetime) -> None:
        if self.current is None or self._source is None or (self._warned and now - self._warned < WARN_EVERY):
            return
        if not authority.needs(self.current, None, is_own=self._source.is_own, now=now):
            return
        self._warned, following = now, None
        with contextlib.suppress(StoplistError):
            following = self._source.following()
        for need in authority.needs(self.current, following, is_own=self._source.is_own, now=now):
            self._say(records.CaNeedsPerson(need))

    def _say(self, record: records.Record) -> None:
        if self._speaks:
            log_allowlist.say(record)


def _digests(source: Source | None) -> dict[Path, bytes | None] | None:
    return source.digests() if source is not None else None
