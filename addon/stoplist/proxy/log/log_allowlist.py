"""What may be written: the records of this project, and nothing else. An allow-list, not a filter of words.

mitmproxy's and the libraries' records hold client addresses, hosts and tracebacks with values in them, and one that
appears when a request is stopped tells the moment of it. None is written as it came, or when it came: those
below ERROR are dropped, others are counted by logger and type of exception, and the numbers are written on a
fixed beat. A process that crashes leaves no picture of its memory.

Rules
  - What is written is an instance of `records.Record`, whoever logs it; a text is not, whatever its logger.
  - A terminal gets sentences, journald sentences with their level, and any other stream one JSON object a line.
"""

from __future__ import annotations

import ctypes
import dataclasses
import faulthandler
import json
import logging
import os
import resource
import sys
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType
from typing import IO, Any

from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.proxy.log.records import Fault, Record

_PR_SET_DUMPABLE = 4
"""Of prctl(2), as <linux/prctl.h> has it."""
_SEVERITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""Numerical codes of severities (RFC 5424, section 6.2.1)."""

_NO_FAULT = "watchdog."
"""Whose errors are none: it logs and raises some when it is ended. The store polls as well."""

_log = logging.getLogger("stoplist")


class LogFormat(StrEnum):
    """How records are written. AUTO looks at what the stream is."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"
    SYSLOG = "syslog"


def say(record: Record) -> None:
    """Write a record to the log."""
    _log.log(record.level, record)


class Faults:
    """Counts what went wrong since the last report: (where, type of exception)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, where: str, error: BaseException | type[BaseException] | None) -> None:
        kind = error if isinstance(error, type) else type(error)
        name = "no exception" if error is None else kind.__name__
        with self._lock:
            self._counts[where, name] += 1

    def report(self) -> int:
        """Write the faults since the last report, one record for each kind; how many there were."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (where, kind), count in sorted(counts.items()):
            say(Fault(where, kind, count))
        return counts.total()


class Quiet(logging.Filter):
    """Lets a handler write records of ours only; everything else at ERROR is counted in `faults`."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, Record):
            return True
        if record.levelno >= logging.ERROR and not record.name.startswith(_NO_FAULT):
            self._faults.add(record.name, record.exc_info[1] if record.exc_info else None)
        return False


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"stoplist: {record.getMessage()}"


class _Syslog(logging.Formatter):
    """Each line begins with its severity, as journald and `logger --prio-prefix` read it (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        severity = _SEVERITIES[record.levelno]
        return "\n".join(f"<{severity}>stoplist: {line}" for line in record.getMessage().splitlines())


class _Json(logging.Formatter):
    """One object a line: time, level, event, the record's fields, and its sentence as `text`."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.msg
        assert isinstance(said, Record)
        fields = {field.name: _plain(getattr(said, field.name)) for field in dataclasses.fields(said)}
        return json.dumps(
            {
                "time": format_time(datetime.fromtimestamp(record.created, UTC).replace(microsecond=0)),
                "level": record.levelname.lower(),
                "event": said.event,
                **{name: value for name, value in fields.items() if value is not None or name == "requests"},
                "text": str(said),
            }
        )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, StoplistError) else value


def _formatter(wanted: LogFormat, stream: IO[str]) -> logging.Formatter:
    if wanted is LogFormat.AUTO:
        if stream.isatty():
            wanted = LogFormat.HUMAN
        else:
            wanted = LogFormat.SYSLOG if _leads_to_journald(stream) else LogFormat.JSON
    return {LogFormat.HUMAN: _Human, LogFormat.SYSLOG: _Syslog, LogFormat.JSON: _Json}[wanted]()


def _leads_to_journald(stream: IO[str]) -> bool:
    """Whether systemd has connected this very stream to its journal (systemd.exec(5), $JOURNAL_STREAM)."""
    with suppress(OSError, ValueError):
        status = os.fstat(stream.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False


def install(faults: Faults, wanted: LogFormat = LogFormat.AUTO) -> None:
    """Make stderr the only sink, for own records only, and have no traceback or memory written by any thread."""
    leave_no_memory()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(wanted, sys.stderr))
    handler.addFilter(Quiet(faults))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False

    def count_exception(
        kind: type[BaseException], _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        faults.add("the main thread", kind)
        faults.report()

    def count_thread(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith(_NO_FAULT):
            faults.add("a thread", args.exc_type)

    sys.excepthook = count_exception
    threading.excepthook = count_thread
    sys.unraisablehook = lambda args: faults.add("a destructor", args.exc_type)


def hush(faults: Faults) -> None:
    """Under mitmdump: put the allow-list on the sinks that are there."""
    leave_no_memory()
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, Quiet) for known in handler.filters):
            handler.addFilter(Quiet(faults))
    _log.setLevel(logging.INFO)


def leave_no_memory() -> None:
    """A crash writes neither a core dump, whoever asks for one, nor Python's view of its threads."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":  # a core limit does not bind a program that core_pattern pipes to (core(5))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
