"""The gate's memory of its lists, the exceptions of its policy, and the release of a list that the guard holds.

Rules
  - Reads the policy for the names of its list files and its exceptions, and the state; no list, no key.
  - Says for each list whether a person is needed, and why.
  - Identifies an exception by its place and its reason, never by its domain: people paste this output into tickets.
    An exception that has ended does nothing any more, so it needs nobody; only a person removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from stoplist import loading
from stoplist.errors import StoplistError
from stoplist.state import State
from stoplist.state_records import JOURNAL_ROWS, Entry, Held, RememberedList


@dataclass(frozen=True, slots=True)
class ListStatus:
    """The facts about one list file of a policy."""

    file: Path
    in_force: RememberedList | None
    refusal: Entry | None
    held: Held | None
    is_enforced: bool
    """Whether the policy enforces the list; if not, it observes it."""
    now: datetime

    @property
    def age(self) -> timedelta:
        """The time since the list in force was issued; 0 if there is none."""
        return self.now - self.in_force.header.issued if self.in_force else timedelta()

    @property
    def needs(self) -> list[str]:
        """The matters that need a person, in words; empty if there are none."""
        found = []
        if self.in_force is None:
            found.append("no list has been in force")
        elif self.in_force.header.expired(self.now):
            found.append("the list has expired")
        if self.held is not None:
            found.append(f"serial {self.held.serial} waits for release")
        if self.refusal is not None:
            found.append("the file on disk is refused")
        return found


@dataclass(frozen=True, slots=True)
class ExceptionStatus:
    """One exception of a policy: its number from 1 on, and its place (``file:line``)."""

    number: int
    place: str
    reason: str
    until: date
    has_ended: bool


def exceptions(policy: Path, now: datetime) -> list[ExceptionStatus]:
    """The exceptions of a policy, also those that have ended. Raises StoplistError."""
    text = loading.read_policy(policy)
    return [
        ExceptionStatus(
            number,
            str(text.place("exceptions", number - 1)),
            each.reason,
            each.until,
            each.ends(text.policy.time_zone) <= now.timestamp(),
        )
        for number, each in enumerate(text.policy.exceptions, 1)
    ]


def status(policy: Path, state_dir: Path, now: datetime) -> list[ListStatus]:
    """The status of each list of a policy. Raises StoplistError if there is no state to read."""
    state = State.open_read_only(state_dir)
    try:
        held = {entry.file: entry for entry in state.held()}
        return [
            ListStatus(file, state.in_force(file), state.last_refusal(file), held.get(str(file)), is_enforced, now)
            for file, is_enforced in _lists(policy)
        ]
    finally:
        state.close()


def journal(policy: Path, state_dir: Path, limit: int) -> list[Entry]:
    """The newest entries about the lists and the exceptions of a policy, the oldest first. Raises StoplistError."""
    state = State.open_read_only(state_dir)
    try:
        files = {str(policy.absolute()), *map(str, _list_files(policy))}
        return [entry for entry in reversed(state.journal(JOURNAL_ROWS)) if entry.file in files][-limit:]
    finally:
        state.close()


def release(policy: Path, serial: int, state_dir: Path, now: datetime) -> Held:
    """Release the list with `serial` that is held for a policy. Raises StoplistError if there is none."""
    State.open_read_only(state_dir).close()
    state = State.open(state_dir, now)
    try:
        files = {str(file) for file in _list_files(policy)}
        held = [entry for entry in state.held() if entry.file in files]
        for entry in held:
            if entry.serial == serial:
                state.release(entry, now)
                return entry
        waiting = ", ".join(f"{entry.list} serial {entry.serial}" for entry in held) or "none"
        raise StoplistError(
            f"no list with serial {serial} is held",
            hint=f"held now: {waiting}; see 'stoplist status'",
            place=str(policy),
        )
    finally:
        state.close()


def _lists(policy: Path) -> list[tuple[Path, bool]]:
    """The list files of a policy, and whether each list is enforced."""
    read = loading.read_policy(policy).policy
    return [(loading.list_file(policy, wanted), read.enforces(wanted)) for wanted in read.lists]


def _list_files(policy: Path) -> list[Path]:
    return [file for file, _ in _lists(policy)]
