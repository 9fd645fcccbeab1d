"""`stoplist lookup` and the running gate say the same of every host."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import STOPLIST, Gate, Network

EXCEPTIONS = """\
exceptions:
  - {domain: open.stopped.example, reason: "appeal upheld", until: 2099-12-31}
  - {domain: ended.stopped.example, reason: "appeal upheld", until: 2020-12-31}
"""
HOSTS = [
    *("listed.test", "www.listed.test", "a.b.c.listed.test", "LISTED.Test", "listed.test.", "www.listed.test."),
    *("stopped.example", "open.stopped.example", "www.open.stopped.example", "ended.stopped.example"),
    *("pass.test", "www.pass.test", "notlisted.test", "listed.test.pass.test", "listeds.test", "liste.test", "test"),
    *("%6cisted.test", "listed%2etest", "ｌｉｓｔｅｄ.test", "listed。test", "lis\u00adted.test", "listеd.test"),
    *("127.0.0.1", "0x7f.1", "2130706433", "[::1]", "169.254.169.254", "0.0.0.0", "[fe80::1]"),
    *("a_b.pass.test", "xn--bcher-kva.pass.test", "xn--.test", "pass..test", "%00.test", "1.2.3.4.5", "a%b.test"),
]


def by_the_gate(gate: Gate, host: str) -> str:
    """What the gate does with a request for a host."""
    written = host.encode()
    answer = gate.send(
        b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\nAccept: text/html\r\nConnection: close\r\n\r\n" % (written, written)
    )
    status = answer.split(b" ", 2)[1]
    if b"Access to this site was stopped" in answer:
        return "stop"
    return "refuse" if status in (b"400", b"403") else "pass"


@pytest.fixture
def desk(desk: Desk) -> Desk:
    with desk.policy.open("a") as policy:
        policy.write(EXCEPTIONS)
    return desk


def test_lookup_and_the_gate_say_the_same(net: Network, own_gate: Gate, desk: Desk) -> None:
    for form in ("{}", "http://{}/path"):
        done = subprocess.run(
            [STOPLIST, "lookup", str(desk.policy), "-", "--json"],
            input="\n".join(form.format(host) for host in HOSTS).encode(),
            capture_output=True,
            check=True,
        )
        said = [json.loads(line)["action"] for line in done.stdout.splitlines()]
        assert dict(zip(HOSTS, said, strict=True)) == {host: by_the_gate(own_gate, host) for host in HOSTS}
        assert {"stop", "pass", "refuse"} <= set(said)
