"""State: the memory of a gate across restarts. It and state_database.py are the only owners of SQLite.

In the state directory, beside the CA:
  - ``state.db``: for each list the highest serial that was in force and the digest of its payload; the list in force
    for each list file; the lists that are held, and those that were released; the journal of activations, refusals
    and exceptions; and the counts (see core/counts.py). Nothing in it is personal, and it holds no entry of a list.
  - ``lists/``: the last good copy of each list file, named by the path of that file.

Rules
  - The gate remembers a list after it verified and before it tells anybody. It first renames the copy into its
    place, then records it in one transaction. A crash in between leaves a newer copy, which verifies by itself.
  - The module sets aside a database that it cannot read. It never overwrites it, and it announces the loss.
  - If the state cannot be written, that is an error for the caller to announce. It is never a reason to end
    enforcement.
  - The size and time of the files do not depend on the counts. Data that was deleted or written over leaves no copy
    in the files.
  - Any thread may use a state; only one does at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from stoplist import files, state_database
from stoplist.core.counts import Cell, Count, Outcome, Period
from stoplist.core.lists.list_header import ListHeader
from stoplist.core.lists.signed_list import History, Seen, SignedList
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.state_records import CHANGED, EXCEPTED, EXCEPTIONS, JOURNAL_ROWS, WITHDRAWN, Entry, Held, RememberedList

COPIES = "lists"
RELEASE_STAMP = "released"
"""The file that the state writes when a person releases a held list, so that a running gate looks again."""


class State:
    """A state directory. `notes` are messages to the operator about the condition in which it was found."""

    def __init__(self, folder: Path, database: sqlite3.Connection, notes: tuple[str, ...]) -> None:
        self._folder = folder
        self._database = database
        self._lock = threading.RLock()
        self.notes = notes

    @classmethod
    def open(cls, folder: Path, now: datetime) -> State:
        """Open the state in `folder`; make it if there is none. `now` gives its name to a database that is set
        aside.

        If it cannot write the folder, it opens the state as it is, with a note. Raises StoplistError if the state is
        not of this version, or cannot be opened at all.
        """
        path = folder / state_database.DATABASE
        notes: list[str] = []
        if path.exists():
            try:
                return cls(folder, state_database.connect(path), ())
            except sqlite3.OperationalError as error:
                notes.append(
                    f"the state cannot be written ({error}): the gate will forget changes from now on at a restart"
                )
                return cls(folder, state_database.connect_read_only(path), tuple(notes))
            except sqlite3.DatabaseError as error:
                aside = f"{state_database.DATABASE}.unreadable-{now:%Y%m%dT%H%M%SZ}"
                notes.append(f"the state could not be read ({error}) and was set aside as {folder / aside}")
                state_database.set_aside(folder, aside)
        if any((folder / COPIES).glob("*")):
            notes.append(
                "the remembered serials were lost: the gate restores them from the last good copies of the lists"
            )
        else:
            notes.append("this state directory remembers no list yet; the gate remembers serials from now on")
        try:
            for each in (folder, folder / COPIES):
                files.make_folder(each, files.PRIVATE_FOLDER)
            return cls(folder, state_database.create(path), tuple(notes))
        except (sqlite3.Error, StoplistError) as error:
            notes.append(
                f"the state cannot be written ({error}): the gate will forget changes from now on at a restart"
            )
            return cls(folder, state_database.in_memory(), tuple(notes))

    @classmethod
    def open_read_only(cls, folder: Path) -> State:
        """Open an existing state to read it. Raises StoplistError if there is none."""
        path = folder / state_database.DATABASE
        if not path.exists():
            raise StoplistError(
                "no state", hint="name the gate's --state-dir; a gate makes it when it runs", place=str(folder)
            )
        return cls(folder, state_database.connect_read_only(path), ())

    def close(self) -> None:
        self._database.close()

    # Lists in force

    def history(self, file: Path, key_ids: Collection[str], *, own_file_only: bool = False) -> History:
        """The lists that a new list in `file`, under one of the list keys `key_ids`, must not be behind: those that
        were in force in this file and, unless `own_file_only`, in any other."""
        seen: dict[str, Seen] = {}
        now = self.in_force(file)
        if now is not None and now.header.key_id in key_ids:
            seen[now.header.list] = now.seen
        for list_id, key_id, serial, payload in self._rows("SELECT list, key_id, serial, payload FROM seen"):
            is_asked = key_id in key_ids and not own_file_only
            if is_asked and (list_id not in seen or seen[list_id].serial < serial):
                seen[list_id] = Seen(list_id, serial, payload)
        return History(now.header.list if now else None, seen)

    def in_force(self, file: Path) -> RememberedList | None:
        for payload, header, signers, since in self._rows(
            "SELECT payload, header, signers, since FROM in_force WHERE file = ?", str(file)
        ):
            return RememberedList(ListHeader.parse(header.encode()), tuple(json.loads(signers)), since, payload)
        return None

    def copy_of(self, file: Path) -> Path:
        """Path of the last good copy of a list file."""
        name = hashlib.sha256(os.fsencode(file)).hexdigest()[:32]
        return self._folder / COPIES / f"{name}.stoplist"

    def activate(
        self,
        file: Path,
        signed: SignedList,
        data: bytes,
        now: datetime,
        *,
        changed: str = "",
        is_observed: bool = False,
    ) -> None:
        """Remember that `signed` is in force; `data` are the bytes of `file`, which holds it. Raises StoplistError.

        `changed` says in words how it differs from the one before. If `is_observed`, the state remembers the list
        for its own file only: it is no measure for others.
        """
        was = self.in_force(file)
        if was is not None and was.payload_digest == signed.payload_digest and self.copy_of(file).exists():
            return
        files.write(self.copy_of(file), data, mode=files.PRIVATE, replace=True)
        header = signed.header
        with self._transaction():
            if not is_observed:
                self._see(signed)
            self._database.execute(
                "INSERT OR REPLACE INTO in_force VALUES (?, ?, ?, ?, ?)",
                (
                    str(file),
                    signed.payload_digest,
                    header.to_line().decode().rstrip("\n"),
                    json.dumps(signed.signers),
                    format_time(now),
                ),
            )
            self._database.execute("DELETE FROM held WHERE file = ?", (str(file),))
            self._note(now, file, "activated", header.list, header.serial, changed, signed.signers)

    def enforce(self, lists: Iterable[SignedList]) -> None:
        """Remember that these lists are enforced; they may have been observed before. Raises StoplistError."""
        known = {row[:2]: row[2] for row in self._rows("SELECT list, key_id, serial FROM seen")}
        news = [each for each in lists if known.get((each.header.list, each.header.key_id), 0) < each.header.serial]
        if news:
            with self._transaction():
                for signed in news:
                    self._see(signed)

    def _see(self, signed: SignedList) -> None:
        header = signed.header
        self._database.execute(
            "INSERT INTO seen VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET serial = excluded.serial, payload = excluded.payload WHERE excluded.serial >= serial",
            (header.list, header.key_id, header.serial, signed.payload_digest),
        )

    def refuse(self, file: Path, why: str, now: datetime) -> None:
        """Remember that the list in `file` was refused. The method ignores a repetition. Raises StoplistError."""
        last = self.last_refusal(file)
        if last is None or last.why != why:
            with self._transaction():
                self._note(now, file, "refused", None, None, why, ())

    def last_refusal(self, file: Path) -> Entry | None:
        """The newest entry of `file`, if it is a refusal."""
        for entry in self.journal(1, file):
            return entry if entry.result == "refused" else None
        return None

    # Held lists

    def hold(self, file: Path, signed: SignedList, why: str, now: datetime) -> None:
        """Remember that a list waits for release. The method ignores a repetition. Raises StoplistError."""
        if any(held.file == str(file) and held.payload_digest == signed.payload_digest for held in self.held()):
            return
        header = signed.header
        with self._transaction():
            self._database.execute(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?, ?, ?)",
                (str(file), header.list, header.serial, signed.payload_digest, why, format_time(now)),
            )
            self._note(now, file, "held", header.list, header.serial, why, signed.signers)

    def held(self) -> list[Held]:
        return [Held(*row) for row in self._rows("SELECT file, list, serial, payload, why, since FROM held")]

    def release(self, held: Held, now: datetime) -> None:
        """Let a held list come into force. Raises StoplistError."""
        with self._transaction():
            self._database.execute(
                "INSERT OR IGNORE INTO released VALUES (?, ?)", (held.payload_digest, format_time(now))
            )
            self._note(now, Path(held.file), "released", held.list, held.serial, held.why, ())
        files.write(self._folder / RELEASE_STAMP, format_time(now).encode(), mode=files.PRIVATE, replace=True)

    def is_released(self, payload_digest: bytes) -> bool:
        return any(self._rows("SELECT 1 FROM released WHERE payload = ?", payload_digest))

    @property
    def release_stamp(self) -> Path:
        return self._folder / RELEASE_STAMP

    # Exceptions

    def except_(self, policy: Path, exceptions: Iterable[str], now: datetime) -> None:
        """Remember the exceptions of a policy, each by its reason and end and not by its domain. The method ignores
        a repetition. Raises StoplistError."""
        wanted, known = Counter(exceptions), Counter[str]()
        for result, why in self._rows(
            "SELECT result, why FROM journal WHERE file = ? AND result IN (?, ?)", str(policy), *EXCEPTIONS
        ):
            known[why] += 1 if result == EXCEPTED else -1
        news = [(EXCEPTED, why) for why in (wanted - known).elements()]
        news += [(WITHDRAWN, why) for why in (known - wanted).elements()]
        if news:
            with self._transaction():
                for result, why in news:
                    self._note(now, policy, result, None, None, why, ())

    # Policies

    def change(self, policy: Path, keys: Iterable[str], now: datetime) -> None:
        """Remember the names of the keys of a policy that changed while it was in force. Raises StoplistError."""
        if names := ", ".join(keys):
            with self._transaction():
                self._note(now, policy, CHANGED, None, None, names, ())

    # The journal

    def journal(self, limit: int, file: Path | None = None) -> list[Entry]:
        """The newest entries, newest first, of one list file or of all."""
        return [
            Entry(time, name, result, list_id, serial, why, tuple(json.loads(signers)))
            for time, name, result, list_id, serial, why, signers in self._rows(
                "SELECT time, file, result, list, serial, why, signers FROM journal "
                "WHERE ? OR file = ? ORDER BY id DESC LIMIT ?",
                file is None,
                str(file),
                limit,
            )
        ]

    def _note(
        self,
        now: datetime,
        file: Path,
        result: str,
        list_id: str | None,
        serial: int | None,
        why: str,
        signers: tuple[str, ...],
    ) -> None:
        self._database.execute(
            "INSERT INTO journal (time, file, result, list, serial, why, signers) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (format_time(now), str(file), result, list_id, serial, why, json.dumps(signers)),
        )
        self._database.execute("DELETE FROM journal WHERE id <= (SELECT max(id) FROM journal) - ?", (JOURNAL_ROWS,))

    # Counts

    def count(self, counts: Iterable[Count]) -> None:
        """Add to the stored counts, all of `counts` or nothing. Raises StoplistError."""
        with self._transaction():
            self._database.executemany(
                "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, printf('%012d', ?), ?, ?) ON CONFLICT DO UPDATE SET "
                "requests = printf('%012d', requests + excluded.requests), "
                "fresh = fresh + excluded.fresh, expired = expired + excluded.expired",
                [
                    (
                        *(each.period.starts, each.period.ends, each.period.name),
                        *(each.cell.list or "", each.cell.serial or 0, each.cell.outcome),
                        *(each.requests, each.fresh, each.expired),
                    )
                    for each in counts
                ],
            )
        self._forget_overwritten()

    def counts(self, since: float, until: float) -> list[Count]:
        """The counts of the periods that lie between two POSIX times. They are exact: nobody may be shown them."""
        if not self._has_counts():
            return []
        return [
            Count(
                Period(starts, ends, period),
                Cell(list_id or None, serial or None, Outcome(outcome)),
                int(requests),
                fresh,
                expired,
            )
            for starts, ends, period, list_id, serial, outcome, requests, fresh, expired in self._rows(
                "SELECT * FROM counts WHERE starts >= ? AND ends <= ? ORDER BY starts", int(since), int(until)
            )
        ]

    def reported_until(self) -> int:
        """The POSIX time up to which closed periods were written to the log."""
        if not self._has_counts():
            return 0
        return max((int(until) for (until,) in self._rows("SELECT until FROM reported")), default=0)

    def report_until(self, ends: int, forget_before: float) -> None:
        """Remember that the log has the periods up to the POSIX time `ends`; forget old ones. Raises StoplistError."""
        with self._transaction():
            self._database.execute("UPDATE reported SET until = ?", (ends,))
            self._database.execute("DELETE FROM counts WHERE ends < ?", (int(forget_before),))
        self._forget_overwritten()

    def _has_counts(self) -> bool:
        """Whether the state has counts; false if a gate of version 1 made it and still runs."""
        return any(self._rows("SELECT 1 FROM sqlite_schema WHERE name = 'counts'"))

    def _forget_overwritten(self) -> None:
        """Empty the write-ahead log of the database, which holds each page as it was at each write."""
        with self._lock, suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise state_database.state_error(self._folder, "read", error) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with self._lock, self._database:
                yield
        except sqlite3.Error as error:
            raise state_database.state_error(self._folder, "written", error) from None
