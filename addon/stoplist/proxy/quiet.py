"""What may be written: only records that this project builds. An allow-list, not a filter of words.

mitmproxy's and the libraries' records hold client addresses, hosts and tracebacks with values in
them, and one that appears when a request is stopped tells the moment of a hit. None is written as
it came, or when it came: records below ERROR are dropped, others are counted by logger and type of
exception, and the numbers are written on a fixed beat.

Rules
  - A record is written as it is only if its logger is `stoplist` or below it.
  - `stoplist.counts` is written as it is, one JSON object a line; other lines begin ``stoplist:``.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from types import TracebackType

OWN_LOGGER = "stoplist"
COUNTS_LOGGER = "stoplist.counts"
# mitmproxy's loggers that speak of the proxy as a whole, never of a connection, at INFO.
_HARMLESS = {"mitmproxy.proxy.mode_servers", "mitmproxy.addons.script"}

log = logging.getLogger(OWN_LOGGER)


class Faults:
    """Counts what went wrong since they were last taken: (where, type of exception)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, where: str, error: BaseException | type[BaseException] | None) -> None:
        kind = error if isinstance(error, type) else type(error)
        name = "no exception" if error is None else kind.__name__
        with self._lock:
            self._counts[where, name] += 1

    def report(self) -> None:
        """Log the faults since the last report, one line for each kind."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        for (where, kind), count in sorted(counts.items()):
            log.error("%d x fault in %s (%s); what it concerned was refused", count, where, kind)


class Quiet(logging.Filter):
    """Lets a handler write own records only; everything else at ERROR is counted in `faults`."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name == OWN_LOGGER or record.name.startswith(f"{OWN_LOGGER}."):
            return True
        if record.name in _HARMLESS and record.levelno == logging.INFO:
            return True
        if record.levelno >= logging.ERROR:
            self._faults.add(record.name, record.exc_info[1] if record.exc_info else None)
        return False


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        return message if record.name == COUNTS_LOGGER else f"stoplist: {message}"


def install(faults: Faults) -> None:
    """Make stderr the only sink, for own records only, and no traceback of any thread."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    handler.addFilter(Quiet(faults))
    handler.addFilter(lambda record: record.name.startswith(OWN_LOGGER))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
    logging.raiseExceptions = False

    def count_exception(
        kind: type[BaseException], _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        faults.add("the main thread", kind)
        faults.report()

    sys.excepthook = count_exception
    threading.excepthook = lambda args: faults.add("a thread", args.exc_type)
    sys.unraisablehook = lambda args: faults.add("a destructor", args.exc_type)


def hush(faults: Faults) -> None:
    """Under mitmdump: put the allow-list on the sinks that are there."""
    for handler in logging.getLogger().handlers:
        if not any(isinstance(known, Quiet) for known in handler.filters):
            handler.addFilter(Quiet(faults))
    log.setLevel(logging.INFO)
