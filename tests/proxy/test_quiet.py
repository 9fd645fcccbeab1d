"""What may be written: own records as they are, of others only how many went wrong."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from stoplist.proxy import quiet

PROGRAM = """
import logging, threading, warnings
from stoplist.proxy import quiet
faults = quiet.Faults()
quiet.install(faults)
log = logging.getLogger
log("stoplist").info("own line")
log("stoplist.counts").info('{"event": "counts"}')
log("stoplisted").error("secret.test in a logger that only begins alike")
log("mitmproxy.proxy.server").info("client connect secret.test")
log("mitmproxy.proxy.server").warning("TLS failed for secret.test")
log("mitmproxy.proxy.server").error("secret.test crashed")
for _ in range(2):
    try:
        raise KeyError("secret.test")
    except KeyError as error:
        log("asyncio").error("Task exception with secret.test", exc_info=error)
warnings.warn("secret.test")
threading.Thread(target=lambda: {}["secret.test"]).start()
log("stoplist").info("bad arguments %d", "secret.test")
{end}
"""


def _run(end: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{end}", end)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_only_own_records_are_written_and_faults_are_counted():
    status, lines = _run("faults.report()")
    assert status == 0
    assert lines[:2] == ["stoplist: own line", '{"event": "counts"}']
    assert json.loads(lines[1]) == {"event": "counts"}
    assert lines[2:] == [
        "stoplist: 1 x fault in a thread (KeyError); what it concerned was refused",
        "stoplist: 2 x fault in asyncio (KeyError); what it concerned was refused",
        "stoplist: 1 x fault in mitmproxy.proxy.server (no exception); what it concerned was refused",
        "stoplist: 1 x fault in stoplisted (no exception); what it concerned was refused",
    ]


def test_a_process_that_ends_by_a_fault_says_its_type_and_no_more():
    status, lines = _run('raise ValueError("secret.test")')
    assert status == 1
    assert "stoplist: 1 x fault in the main thread (ValueError); what it concerned was refused" in lines
    assert "secret.test" not in "".join(lines)


def test_faults_are_reported_once(caplog: pytest.LogCaptureFixture):
    faults = quiet.Faults()
    faults.add("requestheaders", ZeroDivisionError("secret.test"))
    with caplog.at_level(logging.INFO):
        faults.report()
        faults.report()
    assert [record.getMessage() for record in caplog.records] == [
        "1 x fault in requestheaders (ZeroDivisionError); what it concerned was refused"
    ]
