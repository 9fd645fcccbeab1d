"""The allow-list of the log: only the records of this project are written. It is no filter of words.

The log records of mitmproxy and other libraries hold client addresses, hosts, and tracebacks with values in them. A
record that appears when a request is stopped shows the moment of the request. So the gate writes none of these
records, and nothing at their time. It drops records below ERROR. It counts the others by logger and type of
exception, and writes the numbers at fixed intervals. A process that crashes leaves no core dump.

Rules
  - The log takes only instances of `records.Record`, from any logger. It takes no plain text, whatever its logger.
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
"""An operation of prctl(2), with the value from <linux/prctl.h>."""
_SEVERITIES = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""Numerical codes of severities (RFC 5424, section 6.2.1)."""

_NO_FAULT = ("watchdog.", "mitmproxy_rs.udp_client")
"""Loggers whose errors are no faults.

watchdog logs and raises some when it ends; the store polls as well. mitmproxy's UDP client logs one when a server's
system says that nothing listens at a port: any client can ask for such a port.
"""

_log = logging.getLogger("stoplist")


class LogFormat(StrEnum):
    """The format of written records. AUTO chooses it by the kind of the stream."""

    AUTO = "auto"
    HUMAN = "human"
    JSON = "json"
    SYSLOG = "syslog"


def say(record: Record) -> None:
    """Write a record to the log."""
    _log.log(record.level, record)


class Faults:
    """Counts the faults since the last report, by (where, type of exception)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, where: str, error: BaseException | type[BaseException] | None) -> None:
        kind = error if isinstance(error, type) else type(error)
        name = "no exception" if error is None else kind.__name__
        with self._lock:
            self._counts[where, name] += 1

    def report(self) -> int:
        """Write the faults since the last report, one record for each kind. Returns how many there were."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (where, kind), count in sorted(counts.items()):
            say(Fault(where, kind, count))
        return counts.total()


class AllowlistFilter(logging.Filter):
    """Lets a handler write instances of `Record` only. It counts all others at ERROR or above in `faults`."""

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


def write(record: Record, wanted: LogFormat) -> None:
    """Write one record to stderr, in a process whose log is not installed."""
    entry = logging.LogRecord(_log.name, record.level, "", 0, record, (), None)
    sys.stderr.write(f"{_formatter(wanted, sys.stderr).format(entry)}\n")


def install(faults: Faults, wanted: LogFormat = LogFormat.AUTO) -> None:
    """Make stderr the only sink of the log, for instances of `Record` only.

    From then on no thread writes a traceback, and no crash writes memory.
    """
    leave_no_memory()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(wanted, sys.stderr))
    handler.addFilter(AllowlistFilter(faults))
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
    """Under mitmdump: put the allow-list on the log handlers that exist."""
    leave_no_memory()
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, AllowlistFilter) for known in handler.filters):
            handler.addFilter(AllowlistFilter(faults))
    _log.setLevel(logging.INFO)


def leave_no_memory() -> None:
    """Turn off core dumps and Python's dump of its threads (faulthandler), whatever the system's settings are."""
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":  # a core limit does not bind a program that core_pattern pipes to (core(5))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
