"""Records: a gate can write these records to its log, and nothing else (see log_allowlist.py).

Rules
  - A record has fields: numbers, names of lists, and texts about the operator's files (paths, keys of a policy, reasons
    to refuse a file). No field comes from a request or a client.
  - `event` is its name for programs, `str()` its sentence for people.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Self

from stoplist.core import counts
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.times import format_time
from stoplist.errors import StoplistError


@dataclass(frozen=True, slots=True)
class Record:
    """The base of all records."""

    event: ClassVar[str]
    level: ClassVar[int] = logging.INFO


# Lists, policies and CAs: in force, or refused


@dataclass(frozen=True, slots=True)
class ListInForce(Record):
    event = "list in force"
    list: str
    serial: int
    action: str
    domains: int
    expires: str

    @classmethod
    def of(cls, signed: SignedList, action: str) -> Self:
        header = signed.header
        return cls(header.list, header.serial, action, header.count, format_time(header.expires))

    def __str__(self) -> str:
        return (
            f"list {self.list} serial {self.serial} in force ({self.action}): {self.domains} domains, "
            f"expires {self.expires}"
        )


@dataclass(frozen=True, slots=True)
class ChangeRefused(Record):
    event = "change refused"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"the change is refused; the last good state stays in force\n{self.error}"


@dataclass(frozen=True, slots=True)
class ListRefused(Record):
    event = "list refused"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"a list is refused; the last good one stays in force\n{self.error}"


@dataclass(frozen=True, slots=True)
class ListHeld(Record):
    event = "list held"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"a list is held; the last good one stays in force\n{self.error}"


@dataclass(frozen=True, slots=True)
class ListExpired(Record):
    event = "list expired"
    level = logging.ERROR
    list: str
    consequence: str

    def __str__(self) -> str:
        return f"list {self.list} has expired, {self.consequence}; fetch a fresh one"


@dataclass(frozen=True, slots=True)
class Warned(Record):
    """A problem in the operator's files that the operator should fix."""

    event = "warning"
    level = logging.WARNING
    error: StoplistError

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True, slots=True)
class Noted(Record):
    """A remark on the state directory at the start."""

    event = "state"
    level = logging.WARNING
    note: str

    def __str__(self) -> str:
        return self.note


@dataclass(frozen=True, slots=True)
class NotRemembered(Record):
    event = "state not written"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"the gate cannot save its state for a restart\n{self.error}"


@dataclass(frozen=True, slots=True)
class ReadAtStart(Record):
    event = "restart needed"
    level = logging.WARNING
    key: str

    def __str__(self) -> str:
        return f"'{self.key}' has changed in the policy; restart the gate to apply it"


@dataclass(frozen=True, slots=True)
class FilesNotChecked(Record):
    event = "files not looked at"
    level = logging.ERROR
    kind: str

    def __str__(self) -> str:
        return f"the gate could not check the files for changes ({self.kind}); it will try again"


@dataclass(frozen=True, slots=True)
class NoEvents(Record):
    event = "no file events"
    level = logging.WARNING
    why: str
    poll: int

    def __str__(self) -> str:
        return f"the file system reports no changes ({self.why}); the gate looks for them every {self.poll} s"


@dataclass(frozen=True, slots=True)
class Intercepting(Record):
    event = "tls intercept"
    level = logging.WARNING

    def __str__(self) -> str:
        return "'tls: intercept' decrypts the TLS of every site; clients lose the end-to-end protection of TLS"


@dataclass(frozen=True, slots=True)
class CaInForce(Record):
    event = "ca in force"
    name: str
    ends: str

    def __str__(self) -> str:
        return f"the CA {self.name} is in force until {self.ends}"


@dataclass(frozen=True, slots=True)
class CaRefused(Record):
    event = "ca refused"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"the CA on disk is refused; the last good one stays in force\n{self.error}"


@dataclass(frozen=True, slots=True)
class CaNeedsPerson(Record):
    event = "ca needs a person"
    level = logging.WARNING
    need: str

    def __str__(self) -> str:
        return self.need


# Counts and faults


@dataclass(frozen=True, slots=True)
class Counts(Record):
    """One number of a closed period, as far as it may be shown (see core/counts.py)."""

    event = "counts"
    period: str
    list: str | None
    serials: tuple[int, ...]
    outcome: str
    requests: int | None
    hidden_below: int | None

    @classmethod
    def of(cls, row: counts.Row, hide_below: int) -> Self:
        requests = row.shown.requests
        hidden_below = hide_below if requests is None else None
        return cls(row.period.name, row.list, row.serials, row.outcome, requests, hidden_below)

    def __str__(self) -> str:
        of_list = f" by list {self.list}" if self.list else ""
        number = f"fewer than {self.hidden_below}" if self.requests is None else f"about {self.requests}"
        return f"counts of {self.period}: {number} requests {self.outcome}{of_list}"


@dataclass(frozen=True, slots=True)
class CountsNotWritten(Record):
    event = "counts not written"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"counts cannot be written; the gate keeps them in memory and tries again\n{self.error}"


@dataclass(frozen=True, slots=True)
class Fault(Record):
    """How often a fault happened since the last report, and where. Of its record, only the type is kept."""

    event = "fault"
    level = logging.ERROR
    where: str
    kind: str
    times: int

    def __str__(self) -> str:
        return (
            f"{self.times} x fault in {self.where} ({self.kind}); the gate refused the requests or connections "
            "concerned"
        )


# The processes


@dataclass(frozen=True, slots=True)
class Listening(Record):
    event = "listening"
    address: str | None
    mode: str
    workers: int | None = None

    def __str__(self) -> str:
        where = f" on {self.address}" if self.address else ""
        workers = f", {self.workers} workers" if self.workers is not None else ""
        return f"listening{where} ({self.mode}{workers})"


@dataclass(frozen=True, slots=True)
class MetricsAt(Record):
    event = "metrics"
    address: str

    def __str__(self) -> str:
        return f"metrics at http://{self.address}/metrics"


@dataclass(frozen=True, slots=True)
class WorkerEnded(Record):
    event = "worker ended"
    level = logging.ERROR
    worker: int
    how: str

    def __str__(self) -> str:
        return (
            f"worker {self.worker} has ended ({self.how}), and its connections are lost; the supervisor starts it again"
        )


@dataclass(frozen=True, slots=True)
class WorkerNotStarted(Record):
    event = "worker not started"
    level = logging.ERROR
    worker: int
    why: str

    def __str__(self) -> str:
        return f"worker {self.worker} cannot be started ({self.why}); the supervisor will try again"


@dataclass(frozen=True, slots=True)
class WorkerUnresponsive(Record):
    event = "worker does not listen"
    level = logging.ERROR
    worker: int

    def __str__(self) -> str:
        return f"worker {self.worker} does not answer the supervisor, which ends it"


@dataclass(frozen=True, slots=True)
class Renewing(Record):
    event = "renewing"

    def __str__(self) -> str:
        return "checking whether the program and policy on disk start"


@dataclass(frozen=True, slots=True)
class NotStarted(Record):
    event = "not started"
    level = logging.ERROR
    error: StoplistError

    def __str__(self) -> str:
        return f"the gate cannot start: {self.error}"


@dataclass(frozen=True, slots=True)
class NotRenewed(Record):
    event = "not renewed"
    level = logging.ERROR

    def __str__(self) -> str:
        return "the gate cannot start from the program and policy on disk; the running gate goes on"


@dataclass(frozen=True, slots=True)
class NothingToRenew(Record):
    event = "not renewed"
    level = logging.WARNING

    def __str__(self) -> str:
        return "SIGHUP loads new code only with --workers; restart this gate instead"


# Inside mitmproxy


@dataclass(frozen=True, slots=True)
class NoPolicy(Record):
    event = "no policy"
    level = logging.ERROR

    def __str__(self) -> str:
        return "no policy is in force, so every request is refused; use --set stoplist_policy=FILE"


@dataclass(frozen=True, slots=True)
class NoPasswords(Record):
    event = "no passwords"
    level = logging.ERROR

    def __str__(self) -> str:
        return "passwords cannot be checked, so every request is refused; check the option proxyauth"


@dataclass(frozen=True, slots=True)
class Hazard(Record):
    """An option, variable or add-on of mitmproxy that can break a promise of Stoplist."""

    event = "hazard"
    level = logging.WARNING
    what: str
    does: str

    def __str__(self) -> str:
        return f"mitmproxy's {self.what} {self.does}"
