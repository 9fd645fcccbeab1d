"""What may be written: records of ours, whoever logs them; of all else only how often it went wrong."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from stoplist.core.counts import Outcome, Period, Row, Shown
from stoplist.errors import Problems, StoplistError
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.log.log_allowlist import AllowlistFilter, Faults, LogFormat
from stoplist.proxy.log.records import Counts, Fault, Listening, ListRefused, Record, Renewing
from tests.rulesets import signed

ERROR = StoplistError("the file is torn", hint="ask the publisher", place="/lists/worst-of.stoplist")
SECRET = "secret.test"

# Programs that install what is tested, each in a process of its own

HEAD = """
import logging, os, signal, sys, threading, warnings
from stoplist.errors import StoplistError
from stoplist.proxy.log import records
from stoplist.proxy.log import log_allowlist
log = logging.getLogger
faults = log_allowlist.Faults()
log_allowlist.install(faults, log_allowlist.LogFormat({wanted!r}))
"""


@dataclasses.dataclass(frozen=True)
class Ended:
    status: int
    lines: list[str]

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def texts(self) -> list[str]:
        return [each["text"] for each in self.said]


def run(
    body: str,
    wanted: str = "json",
    *,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
) -> Ended:
    """How a program ends, and what it writes to stderr, which is a pipe."""
    done = subprocess.run(
        [sys.executable, *options, "-c", HEAD.format(wanted=wanted) + body],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=_environment(environment or {}),
        cwd=folder,
    )
    assert done.stdout == ""
    return Ended(done.returncode, done.stderr.splitlines())


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("JOURNAL_STREAM", "PYTHONFAULTHANDLER")}
    return kept | more


# What is written


def test_a_record_is_written_whoever_logs_it():
    ended = run("""
log_allowlist.say(records.Renewing())
log("stoplist").error(records.NotRenewed())
log("stoplist.proxy").info(records.NoPasswords())
log("mitmproxy.proxy.server").error(records.NoPolicy())
log().warning(records.Intercepting())
""")
    assert ended.status == 0
    assert [each["event"] for each in ended.said] == [
        *("renewing", "not renewed", "no passwords", "no policy", "tls intercept"),
    ]


OTHERS = {
    "a text to our logger": 'log("stoplist").info("secret.test")',
    "an error to our logger": 'log("stoplist").error("secret.test")',
    "a text that looks like a record": """log("stoplist").error('{"event": "counts", "list": "secret.test"}')""",
    "a text to a logger below ours": 'log("stoplist.counts").error("secret.test")',
    "a text to a logger that begins alike": 'log("stoplisted").error("secret.test")',
    "mitmproxy's note": 'log("mitmproxy.proxy.server").info("client connect secret.test")',
    "mitmproxy's warning": 'log("mitmproxy.proxy.server").warning("TLS failed for secret.test")',
    "mitmproxy's error": 'log("mitmproxy.proxy.server").error("secret.test crashed")',
    "what watchdog calls an error when it is ended": 'log("watchdog.observers.inotify").error("secret.test")',
    "what mitmproxy calls an error when a UDP port is closed": 'log("mitmproxy_rs.udp_client").error("secret.test")',
    "a critical one": 'log("asyncio").critical("secret.test")',
    "the root's": 'logging.error("secret.test")',
    "a warning of Python's": 'warnings.warn("secret.test")',
    "arguments that do not fit": 'log("stoplist").error("bad arguments %d", "secret.test")',
    "an exception as the message": 'log("stoplist").error(KeyError("secret.test"))',
    "an error of ours as the message": 'log("stoplist").error(StoplistError("secret.test"))',
    "a class of records": 'log("stoplist").error(records.NoPolicy)',
    "a record as an argument": 'log("stoplist").error("%s secret.test", records.NoPolicy())',
    "a traceback": """
try:
    {}["secret.test"]
except KeyError:
    log("stoplist").exception("secret.test")
""",
    "the stack": 'log("mitmproxy").error("x", stack_info=True)',
}


NO_FAULTS = {
    *("a text to our logger", "mitmproxy's note", "mitmproxy's warning", "a warning of Python's"),
    "what watchdog calls an error when it is ended",
    "what mitmproxy calls an error when a UDP port is closed",
}
"""Those of no consequence."""


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_record_is_not_written(kind: str):
    assert run(OTHERS[kind]) == Ended(0, [])


@pytest.mark.parametrize("wanted", ["human", "json", "syslog", "auto"])
def test_only_records_are_written_and_faults_are_counted(wanted: str):
    """All of the above, in a process that has something to say as well."""
    body = "\nlog_allowlist.say(records.Renewing())\n".join(OTHERS.values())
    ended = run(body + "\nfaults.report()", wanted)
    assert ended.status == 0
    assert SECRET not in "".join(ended.lines)
    renewing = [line for line in ended.lines if "checking whether the program and policy on disk start" in line]
    faults = [int(times) for line in ended.lines for times in re.findall(r"(\d+) x fault in", line)]
    assert len(renewing) == len(OTHERS) - 1
    assert len(renewing) + len(faults) == len(ended.lines)
    assert sum(faults) == len(OTHERS) - len(NO_FAULTS)


def test_what_goes_wrong_is_counted_by_its_type_and_where():
    ended = run("""
log("mitmproxy.proxy.server").info("secret.test")
log("mitmproxy.proxy.server").warning("secret.test")
log("mitmproxy.proxy.server").error("secret.test")
for _ in range(2):
    try:
        raise KeyError("secret.test")
    except KeyError as error:
        log("asyncio").error("secret.test", exc_info=error)
log("stoplist").error("secret.test")
log("stoplisted").critical("secret.test")
assert faults.report() == 5
assert faults.report() == 0
""")
    assert [(each["where"], each["kind"], each["times"]) for each in ended.said] == [
        ("asyncio", "KeyError", 2),
        ("mitmproxy.proxy.server", "no exception", 1),
        ("stoplist", "no exception", 1),
        ("stoplisted", "no exception", 1),
    ]
    assert {each["event"] for each in ended.said} == {"fault"}
    assert ended.texts[0] == "2 x fault in asyncio (KeyError); the gate refused the requests or connections concerned"


def test_nothing_is_written_at_the_moment_something_goes_wrong():
    assert run('log("mitmproxy").error("secret.test", exc_info=ValueError("secret.test"))') == Ended(0, [])


@pytest.mark.parametrize(
    ("body", "where", "kind", "status"),
    [
        pytest.param('raise ValueError("secret.test")', "the main thread", "ValueError", 1, id="the main thread"),
        pytest.param(
            'raise ExceptionGroup("secret.test", [OSError("secret.test")])',
            *("the main thread", "ExceptionGroup", 1),
            id="a group",
        ),
        pytest.param(
            """
def run():
    raise LookupError("secret.test")
thread = threading.Thread(target=run, name="secret.test")
thread.start()
thread.join()
faults.report()
""",
            *("a thread", "LookupError", 0),
            id="a thread",
        ),
        pytest.param(
            """
class Ends:
    def __del__(self):
        raise RuntimeError("secret.test")
Ends()
faults.report()
""",
            *("a destructor", "RuntimeError", 0),
            id="a destructor",
        ),
        pytest.param(
            """
import asyncio
async def fail():
    raise KeyError("secret.test")
async def main():
    task = asyncio.create_task(fail(), name="secret.test")
    await asyncio.sleep(0)
    del task
asyncio.run(main())
faults.report()
""",
            *("asyncio", "KeyError", 0),
            id="a task that nobody waits for",
        ),
    ],
)
def test_what_nobody_catches_is_said_by_its_type_and_no_more(body: str, where: str, kind: str, status: int):
    ended = run(body)
    assert ended.status == status
    assert [(each["where"], each["kind"], each["times"]) for each in ended.said] == [(where, kind, 1)]


def test_what_a_thread_of_watchdog_raises_when_it_is_ended_is_no_fault():
    ended = run("""
from watchdog.observers.api import EventEmitter
class Fails(EventEmitter):
    __module__ = "watchdog.observers.inotify"
    def run(self):
        raise OSError(9, "secret.test")
thread = Fails(None, None)
thread.start()
thread.join()
faults.report()
""")
    assert ended == Ended(0, [])


def test_who_interrupts_a_process_sees_no_traceback():
    ended = run("os.kill(os.getpid(), signal.SIGINT)")
    assert [each["kind"] for each in ended.said] == ["KeyboardInterrupt"]


# Faults


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Record]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.msg for record in caplog.records]


def test_faults_are_said_once(log: Callable[[], list[Record]]):
    faults = Faults()
    faults.add("requestheaders", ZeroDivisionError(SECRET))
    assert faults.report() == 1
    assert faults.report() == 0
    assert log() == [Fault("requestheaders", "ZeroDivisionError", 1)]


def test_faults_are_told_apart_by_where_and_by_type(log: Callable[[], list[Record]]):
    faults = Faults()
    for where, error in (
        *(("lane", OSError(SECRET)), ("lane", OSError(5, SECRET)), ("lane", PermissionError(SECRET))),
        *(("beat", OSError), ("beat", None), ("lane", KeyError)),
    ):
        faults.add(where, error)
    assert faults.report() == 6
    assert log() == [
        Fault("beat", "OSError", 1),
        Fault("beat", "no exception", 1),
        Fault("lane", "KeyError", 1),
        Fault("lane", "OSError", 2),
        Fault("lane", "PermissionError", 1),
    ]


def test_a_fault_says_nothing_of_what_was_raised(log: Callable[[], list[Record]]):
    faults = Faults()
    try:
        raise ValueError(SECRET) from KeyError(SECRET)
    except ValueError as error:
        error.add_note(SECRET)
        faults.add("lane", error)
    faults.report()
    assert SECRET not in repr(log()) + str(log()[0])


# How records are written


def written(record: Record, wanted: LogFormat, stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_allowlist._formatter(wanted, stream))
    handler.handle(logging.LogRecord("stoplist", record.level, "", 0, record, None, None))
    return stream.getvalue()


def test_people_get_a_sentence():
    assert written(Listening("127.0.0.1:8080", "regular"), LogFormat.HUMAN) == (
        "stoplist: listening on 127.0.0.1:8080 (regular)\n"
    )


def test_people_get_an_error_over_several_lines():
    assert written(ListRefused(ERROR), LogFormat.HUMAN) == (
        "stoplist: a list is refused; the last good one stays in force\n"
        "/lists/worst-of.stoplist: the file is torn; ask the publisher\n"
    )


def test_programs_get_one_object_a_line():
    before = datetime.now(UTC).replace(microsecond=0)  # machine's clock: a record has the time at which it is written
    line = written(Listening("127.0.0.1:8080", "regular", workers=4), LogFormat.JSON)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    said = json.loads(line)
    assert before <= datetime.fromisoformat(said.pop("time"))
    assert said == {
        "level": "info",
        "event": "listening",
        "address": "127.0.0.1:8080",
        "mode": "regular",
        "workers": 4,
        "text": "listening on 127.0.0.1:8080 (regular, 4 workers)",
    }
    assert list(json.loads(line))[:3] == ["time", "level", "event"]
    assert list(json.loads(line))[-1] == "text"


@pytest.mark.parametrize(
    ("record", "level"),
    [
        pytest.param(Renewing(), "info", id="information"),
        pytest.param(records.NothingToRenew(), "warning", id="a warning"),
        pytest.param(records.NotRenewed(), "error", id="an error"),
    ],
)
def test_programs_get_the_level(record: Record, level: str):
    assert json.loads(written(record, LogFormat.JSON))["level"] == level


def test_an_error_over_several_lines_is_one_object():
    errors = Problems([StoplistError("one", hint="mend it"), StoplistError("two", hint="mend\nit")])
    line = written(records.ChangeRefused(errors), LogFormat.JSON)
    assert line.count("\n") == 1
    said = json.loads(line)
    assert said["error"] == str(errors)
    assert said["text"].endswith(str(errors))
    assert said["error"].count("\n") == 2


def _row(requests: int | None, list_id: str | None = "worst-of") -> Row:
    period = Period(0, 86400, "2026-11-21")
    return Row(period, list_id, Outcome.STOPPED, (3, 4) if list_id else (), Shown(requests, is_complete=True))


@pytest.mark.parametrize(
    ("row", "fields", "text"),
    [
        pytest.param(
            _row(None),
            {"list": "worst-of", "serials": [3, 4], "requests": None, "hidden_below": 10},
            "counts of 2026-11-21: fewer than 10 requests stopped by list worst-of",
            id="hidden",
        ),
        pytest.param(
            _row(35),
            {"list": "worst-of", "serials": [3, 4], "requests": 35},
            "counts of 2026-11-21: about 35 requests stopped by list worst-of",
            id="shown",
        ),
        pytest.param(
            _row(None, None),
            {"serials": [], "requests": None, "hidden_below": 10},
            "counts of 2026-11-21: fewer than 10 requests stopped",
            id="of no list",
        ),
    ],
)
def test_a_number_that_is_hidden_is_null_and_what_is_not_there_is_left_out(
    row: Row, fields: dict[str, object], text: str
):
    said = json.loads(written(Counts.of(row, 10), LogFormat.JSON))
    del said["time"]
    wanted = {"level": "info", "event": "counts", "period": "2026-11-21", "outcome": "stopped", **fields, "text": text}
    assert said == wanted


def test_where_nobody_knows_an_address_none_is_said():
    said = json.loads(written(Listening(None, "wireguard"), LogFormat.JSON))
    assert "address" not in said
    assert "workers" not in said
    assert said["text"] == "listening (wireguard)"


@pytest.mark.parametrize(
    ("record", "lines"),
    [
        pytest.param(
            Renewing(), ["<6>stoplist: checking whether the program and policy on disk start"], id="information"
        ),
        pytest.param(
            records.Noted("the state could not be read"), ["<4>stoplist: the state could not be read"], id="a warning"
        ),
        pytest.param(
            ListRefused(ERROR),
            [
                "<3>stoplist: a list is refused; the last good one stays in force",
                "<3>stoplist: /lists/worst-of.stoplist: the file is torn; ask the publisher",
            ],
            id="an error over several lines",
        ),
    ],
)
def test_the_journal_gets_the_severity_of_each_line(record: Record, lines: list[str]):
    assert written(record, LogFormat.SYSLOG).splitlines() == lines


def test_letters_of_any_script_come_as_they_are_to_people_and_escaped_to_programs():
    record = records.Warned(StoplistError("keys/école.pub: no such file\u2028\x1b[31m"))
    assert "école" in written(record, LogFormat.HUMAN)
    line = written(record, LogFormat.JSON)
    assert line.isascii()
    assert line.isprintable() or line[:-1].isprintable()
    assert json.loads(line)["error"] == str(record.error)


# What a stream gets by itself


def test_a_terminal_gets_sentences():
    leader, terminal = pty.openpty()
    program = HEAD.format(wanted="auto") + "log_allowlist.say(records.Renewing())"
    subprocess.run([sys.executable, "-c", program], stderr=terminal, timeout=60, check=True, env=_environment({}))
    os.close(terminal)
    assert os.read(leader, 1000) == b"stoplist: checking whether the program and policy on disk start\r\n"
    os.close(leader)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def _auto(stream: int, journal: str | None) -> None:
    environment = {} if journal is None else {"JOURNAL_STREAM": journal}
    program = HEAD.format(wanted="auto") + "log_allowlist.say(records.Renewing())"
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=stream, timeout=60, check=False, env=_environment(environment)
    )
    assert done.returncode == 0


def _named(stream: int) -> str:
    """A stream as systemd names it in $JOURNAL_STREAM."""
    status = os.fstat(stream)
    return f"{status.st_dev}:{status.st_ino}"


def test_the_journal_gets_lines_with_a_severity(pipe: tuple[int, int]):
    _auto(pipe[1], _named(pipe[1]))
    assert os.read(pipe[0], 1000) == b"<6>stoplist: checking whether the program and policy on disk start\n"


@pytest.mark.parametrize(
    "journal",
    [
        pytest.param(None, id="nothing said of a journal"),
        pytest.param("", id="nothing named"),
        pytest.param("8:12345", id="a journal elsewhere: stderr was redirected since"),
        pytest.param("nonsense", id="no stream at all"),
    ],
)
def test_a_pipe_gets_objects(pipe: tuple[int, int], journal: str | None):
    _auto(pipe[1], journal)
    assert json.loads(os.read(pipe[0], 1000))["event"] == "renewing"


def test_a_file_gets_objects(tmp_path: Path):
    with (tmp_path / "log").open("wb") as file:
        _auto(file.fileno(), None)
    assert json.loads((tmp_path / "log").read_bytes())["event"] == "renewing"


def test_a_terminal_that_is_named_as_a_journal_is_a_terminal():
    leader, terminal = pty.openpty()
    _auto(terminal, _named(terminal))
    assert os.read(leader, 1000).startswith(b"stoplist: ")
    os.close(terminal)
    os.close(leader)


@pytest.mark.parametrize(
    ("wanted", "begin"),
    [
        pytest.param("human", "stoplist: ", id="human"),
        pytest.param("json", '{"time"', id="json"),
        pytest.param("syslog", "<6>stoplist: ", id="syslog"),
    ],
)
def test_who_says_how_gets_it_so_whatever_the_stream_is(wanted: str, begin: str):
    (line,) = run("log_allowlist.say(records.Renewing())", wanted).lines
    assert line.startswith(begin)


def test_a_stream_without_a_descriptor_gets_objects():
    assert json.loads(written(Renewing(), LogFormat.AUTO))["event"] == "renewing"


def test_a_stream_that_is_closed_breaks_nothing():
    ended = run("sys.stderr.close(); log_allowlist.say(records.Renewing()); faults.add('x', None); faults.report()")
    assert ended == Ended(0, [])


# Every record there is

KINDS = sorted(
    (kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)),
    key=lambda kind: kind.__name__,
)
VALUES: dict[object, tuple[object, ...]] = {
    str: ("a text",),
    int: (7,),
    StoplistError: (ERROR, Problems([ERROR, ERROR])),
    str | None: ("a text", None),
    int | None: (7, None),
    tuple[int, ...]: ((), (1, 2)),
}


def _some(kind: type[Record]) -> list[Record]:
    """Records of a kind, with each value that a field can have."""
    hints = get_type_hints(kind, vars(records) | {"tuple": tuple})
    fields = [hints[field.name] for field in dataclasses.fields(kind)]
    most = max((len(VALUES[hint]) for hint in fields), default=1)
    return [kind(*(VALUES[hint][number % len(VALUES[hint])] for hint in fields)) for number in range(most)]


SOME = [
    pytest.param(record, id=f"{kind.__name__}-{number}")
    for kind in KINDS
    if kind is not Record
    for number, record in enumerate(_some(kind))
]


@pytest.mark.parametrize("record", SOME)
def test_every_record_has_a_name_a_level_and_a_sentence(record: Record):
    assert re.fullmatch(r"[a-z]+( [a-z]+)*", record.event)
    assert record.level in (logging.INFO, logging.WARNING, logging.ERROR)
    assert str(record).strip() == str(record) != ""
    assert "Record" not in str(record)
    assert type(record).__name__ not in str(record).split()


@pytest.mark.parametrize("record", SOME)
def test_every_record_can_be_written_in_every_form(record: Record):
    said = json.loads(written(record, LogFormat.JSON))
    assert (said["event"], said["text"]) == (record.event, str(record))
    fields = {field.name for field in dataclasses.fields(record)}
    assert not fields & {"time", "level", "event", "text"}, "a field would be hidden by what each line has"
    assert set(said) <= fields | {"time", "level", "event", "text"}
    assert set(said) >= {name for name in fields if getattr(record, name) is not None}
    assert written(record, LogFormat.HUMAN) == f"stoplist: {record}\n"
    for line in written(record, LogFormat.SYSLOG).splitlines():
        assert re.match(r"<[346]>stoplist: ", line)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_record_is_frozen(kind: type[Record]):
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    for record in _some(kind) if kind is not Record else ():
        with pytest.raises((AttributeError, TypeError)):
            record.more = 1


def test_no_two_kinds_of_record_of_one_level_have_one_name():
    """Who looks for an event finds the same thing each time: only what it says may differ."""
    named = [(kind.event, kind.level) for kind in KINDS if kind is not Record]
    assert len(set(named)) == len(named)


def test_a_list_in_force_is_said_without_its_domains():
    record = records.ListInForce.of(signed("listed.example", serial=9), "stop")
    assert str(record) == ("list worst-of serial 9 in force (stop): 1 domains, expires 2096-01-01T00:00:00Z")
    assert "listed.example" not in repr(record) + written(record, LogFormat.JSON)


# In somebody else's process


def test_sinks_that_are_there_write_records_only():
    program = """
import io, logging
from stoplist.proxy.log import records
from stoplist.proxy.log import log_allowlist
streams = [io.StringIO(), io.StringIO()]
logging.getLogger().handlers[:] = [logging.StreamHandler(stream) for stream in streams]
faults = log_allowlist.Faults()
log_allowlist.hush(faults)
log_allowlist.hush(faults)
assert all(len(handler.filters) == 1 for handler in logging.getLogger().handlers)
log_allowlist.say(records.Renewing())
logging.getLogger("mitmproxy").error("secret.test")
logging.getLogger("stoplist").error("secret.test")
assert [stream.getvalue() for stream in streams] == ["checking whether the program and policy on disk start\\n"] * 2
print(faults.report())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "4\n"  # once for each sink


def test_the_filter_lets_records_through_and_counts_errors(log: Callable[[], list[Record]]):
    faults = Faults()
    filter_ = AllowlistFilter(faults)

    def passes(message: object, level: int, error: BaseException | None = None) -> bool:
        info = (type(error), error, None) if error is not None else None
        return bool(filter_.filter(logging.LogRecord("some.where", level, "", 0, message, None, info)))

    assert passes(Renewing(), logging.DEBUG)
    assert not passes("text", logging.WARNING)
    assert not passes("text", logging.ERROR)
    assert not passes("text", logging.CRITICAL, OSError(SECRET))
    faults.report()
    assert log() == [Fault("some.where", "OSError", 1), Fault("some.where", "no exception", 1)]


# A crash

NO_CORE = "a system that hands core dumps to a program"


def _leaves_cores() -> bool:
    return not Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "@", "/"))


MORE_SIGNALS = [signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGQUIT, signal.SIGSYS, signal.SIGXCPU]
UNLIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def crash(folder: Path, body: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """How a process ends that may leave a core, as big as it likes, in its folder."""
    return subprocess.run(
        [sys.executable, *options, "-c", UNLIMITED + body],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=_environment(environment),
    )


def _kill(number: int) -> str:
    return f"\nimport os\nos.kill(os.getpid(), {int(number)})\n"


@pytest.mark.skipif(not _leaves_cores(), reason=NO_CORE)
def test_without_it_a_crash_leaves_a_core_and_python_says_where_it_was(tmp_path: Path):
    """Or the tests below would show nothing."""
    done = crash(tmp_path, _kill(signal.SIGSEGV), "-X", "faulthandler")
    assert done.returncode == -signal.SIGSEGV
    assert "Current thread" in done.stderr
    assert [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT], ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("options", "environment"),
    [
        pytest.param((), {}, id="as it is"),
        pytest.param(("-X", "faulthandler"), {}, id="-X faulthandler"),
        pytest.param((), {"PYTHONFAULTHANDLER": "1"}, id="PYTHONFAULTHANDLER"),
        pytest.param(("-X", "dev"), {}, id="-X dev"),
    ],
)
@pytest.mark.parametrize("how", ["install", "hush"])
def test_a_crash_leaves_no_memory(
    tmp_path: Path, how: str, options: tuple[str, ...], environment: dict[str, str], number: signal.Signals
):
    body = f"from stoplist.proxy.log import log_allowlist; log_allowlist.{how}(log_allowlist.Faults())" + _kill(number)
    done = crash(tmp_path, body, *options, **environment)
    assert done.returncode == -number
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", MORE_SIGNALS, ids=lambda number: number.name)
def test_whatever_ends_it_leaves_no_core(tmp_path: Path, number: signal.Signals):
    body = "from stoplist.proxy.log import log_allowlist; log_allowlist.install(log_allowlist.Faults())" + _kill(number)
    done = crash(tmp_path, body, "-X", "faulthandler")
    assert (done.returncode, done.stderr) == (-number, "")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_it_starts_leaves_no_core_either(tmp_path: Path):
    """A limit is inherited, whatever that program is."""
    body = """
from stoplist.proxy.log import log_allowlist
import subprocess, sys
log_allowlist.install(log_allowlist.Faults())
subprocess.run([sys.executable, "-c", "import os; os.abort()"])
"""
    done = crash(tmp_path, body)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_nobody_can_have_a_picture_of_its_memory_made():
    """A program that core_pattern names gets one whatever the limit is, but not of what is not dumpable (core(5))."""
    body = """
import ctypes, resource
PR_GET_DUMPABLE = 3
assert ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0
assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
"""
    assert run(body) == Ended(0, [])
