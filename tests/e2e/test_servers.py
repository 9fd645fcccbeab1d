"""Real web servers behind a gate: what one of them takes for a request for a listed host never reaches it.

The gate and a server may read the same bytes differently. So each conversation is had with each server directly; where
the server then serves the listed host, it is had through the gate, and must not bring that back. `servers` says how;
as a program it goes on for as long as it is told.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import MODES
from tests.e2e.network import Gate, Network
from tests.e2e.servers.comparison import Comparison, comparing, search, summary
from tests.e2e.servers.conversations import LISTED_HOST, PASS_HOST, SEEDS, ordinary
from tests.e2e.servers.every_server import SERVERS
from tests.e2e.servers.fuzzer import Fuzzer
from tests.e2e.servers.server import SERVED_AS_PASS, Server, serving
from tests.e2e.servers.ways import WAYS, Form, one_of_each

pytestmark = pytest.mark.campaign
CONVERSATIONS = 800
"""So many take about a minute on a machine that does nothing else."""


@pytest.fixture(scope="module")
def comparison(net: Network, gate_of_doors: Gate) -> Iterator[Comparison]:
    """The servers that this machine has, behind a gate with every mode."""
    with serving(net, SERVERS) as present:
        ports = [port for server in present for port in (server.port, server.other_port)]
        with net.redirect(ports, MODES["transparent"]), comparing(net, present) as comparison:
            yield comparison


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_an_unlisted_host_is_served_through_the_gate(comparison: Comparison, server: Server):
    server.need()
    ways = [way for way in WAYS if way.form is not Form.PLAIN or server.speaks != "h2"]
    answers = comparison.answers(server, ways, ordinary(server.speaks, PASS_HOST))
    failed = [str(way) for way, answer in zip(ways, answers, strict=True) if SERVED_AS_PASS not in answer]
    assert failed == []
    assert comparison.served([(server, ordinary(server.speaks, LISTED_HOST))]) == [True]


@pytest.mark.parametrize("mode", ["regular", "secure", "socks5", "transparent", "upstream"])
def test_no_known_conversation_reaches_a_listed_host(comparison: Comparison, mode: str):
    ways = [way for way in WAYS if way.mode == mode]
    report = comparison.compare(list(SEEDS.values()), ways, one_of_each)
    print(report)
    names = {conversation: name for name, conversation in SEEDS.items()}
    assert report.findings == [], f"{report}\n{summary(report.findings, names)}"


@pytest.mark.timeout(1800)
def test_no_generated_conversation_reaches_a_listed_host(comparison: Comparison):
    report = search(comparison, Fuzzer(1), WAYS, number=CONVERSATIONS)
    print(report)
    small = "\n".join(str(each) for each in comparison.distinct(report.findings, 5))
    assert report.findings == [], f"{report}\n{summary(report.findings)}\nmade small:\n{small}"
