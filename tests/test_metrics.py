"""Metrics: what a gate says of itself, in the formats of Prometheus, and nothing else to anybody."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from stoplist.core.counts import Outcome, Period, Row, Shown
from stoplist.errors import StoplistError
from stoplist.metrics import MAX_SCRAPES, Endpoint, Health, LaneHealth, ListHealth, WorkersHealth
from tests.e2e.network import SECONDS, need, wait_until
from tests.fixed_time import NOW

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DAY = Period.at(NOW.timestamp(), "day")


def row(list_id: str | None, outcome: Outcome, requests: int | None) -> Row:
    return Row(DAY, list_id, outcome, (7,) if list_id else (), Shown(requests, is_complete=True))


HEALTH = Health(
    version="1.2.3",
    started=1.0,
    is_ready=True,
    lists=(
        ListHealth("worst-of", 7, 2500, 2, 1.0, 2.0, is_enforced=True, is_refused=False, held=8),
        ListHealth("own", 3, 12, 1, 1.5, 2.5, is_enforced=False, is_refused=True, held=None),
    ),
    is_change_refused=False,
    reloads={"activated": 3, "refused": 2, "held": 1},
    reloaded=101.0,
    reload_seconds=0.25,
    workers=WorkersHealth(serving=1, wanted=2, restarts=4),
    lane=LaneHealth(5, 1000, 2000, (0.01, 0.1), (3, 2, 1), 1.5),
    faults=6,
    ca_expires=4_000_000_000.0,
    has_unwritten_counts=True,
    closed=(
        row("worst-of", Outcome.STOPPED, 125),
        row("worst-of", Outcome.NOT_SHOWN, None),
        row(None, Outcome.PASSED, 40_000),
    ),
)


def busy() -> Health:
    return HEALTH


@dataclass
class Answer:
    status: int
    kind: str
    body: str


def scrape(endpoint: Endpoint, path: str = "/metrics", method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection(*endpoint.address, timeout=SECONDS)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers.get("Content-Type", ""), response.read().decode())
    connection.close()
    return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., Endpoint]]:
    """Serves a Health, or what a function says."""
    with ExitStack() as ending:

        def serve(health: Callable[[], Health] = busy) -> Endpoint:
            endpoint = Endpoint("127.0.0.1", 0)
            endpoint.serve(health)
            ending.callback(endpoint.close)
            return endpoint

        yield serve


def samples(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_a_gate_says_how_it_is(serve: Callable[..., Endpoint]):
    assert samples(scrape(serve()).body) == {
        "stoplist_build_info 1.2.3": 1,
        "stoplist_start_time_seconds": 1,
        "stoplist_ready": 1,
        "stoplist_list_serial worst-of": 7,
        "stoplist_list_serial own": 3,
        "stoplist_list_domains worst-of": 2500,
        "stoplist_list_domains own": 12,
        "stoplist_list_signers worst-of": 2,
        "stoplist_list_signers own": 1,
        "stoplist_list_issued_timestamp_seconds worst-of": 1,
        "stoplist_list_issued_timestamp_seconds own": 1.5,
        "stoplist_list_expires_timestamp_seconds worst-of": 2,
        "stoplist_list_expires_timestamp_seconds own": 2.5,
        "stoplist_list_enforced worst-of": 1,
        "stoplist_list_enforced own": 0,
        "stoplist_list_refused worst-of": 0,
        "stoplist_list_refused own": 1,
        "stoplist_list_held_serial worst-of": 8,
        "stoplist_change_refused": 0,
        "stoplist_reloads_total activated": 3,
        "stoplist_reloads_total refused": 2,
        "stoplist_reloads_total held": 1,
        "stoplist_reload_timestamp_seconds": 101,
        "stoplist_reload_duration_seconds": 0.25,
        "stoplist_workers": 1,
        "stoplist_workers_wanted": 2,
        "stoplist_worker_restarts_total": 4,
        "stoplist_lane_tunnels": 5,
        "stoplist_lane_bytes_total client": 1000,
        "stoplist_lane_bytes_total server": 2000,
        "stoplist_lane_open_duration_seconds_bucket 0.01": 3,
        "stoplist_lane_open_duration_seconds_bucket 0.1": 5,
        "stoplist_lane_open_duration_seconds_bucket +Inf": 6,
        "stoplist_lane_open_duration_seconds_count": 6,
        "stoplist_lane_open_duration_seconds_sum": 1.5,
        "stoplist_faults_total": 6,
        "stoplist_ca_expires_timestamp_seconds": 4_000_000_000,
        "stoplist_counts_unwritten": 1,
        "stoplist_period_end_timestamp_seconds": DAY.ends,
        "stoplist_period_requests worst-of stopped": 125,
        "stoplist_period_requests  passed": 40_000,
        "stoplist_period_requests_hidden worst-of stopped": 0,
        "stoplist_period_requests_hidden worst-of page not shown": 1,
        "stoplist_period_requests_hidden  passed": 0,
    }


def test_a_gate_without_a_ca_says_nothing_of_its_end(serve: Callable[..., Endpoint]):
    body = scrape(serve(lambda: replace(HEALTH, ca_expires=None))).body
    assert "\nstoplist_ca_expires" not in body
    assert "stoplist_ready 1.0" in body


def test_each_metric_is_in_the_documents(serve: Callable[..., Endpoint]):
    text = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    families = {family.name for family in parse(scrape(serve()).body)}
    for name in families:
        of_a_list = name.removeprefix("stoplist_list")
        assert name in text or (of_a_list != name and f"`{of_a_list}" in text), name


def test_a_gate_of_one_process_says_nothing_of_workers_and_a_new_one_nothing_of_a_period(
    serve: Callable[..., Endpoint],
):
    said = samples(scrape(serve(lambda: replace(HEALTH, workers=None, closed=()))).body)
    assert not [name for name in said if "worker" in name or "period" in name]


def test_nothing_is_said_of_the_process_itself(serve: Callable[..., Endpoint]):
    """CPU and memory rise when a page is served."""
    assert all(name.startswith("stoplist_") for name in samples(scrape(serve()).body))


def test_prometheus_takes_it(serve: Callable[..., Endpoint]):
    need("promtool")
    answer = scrape(serve())
    assert answer.kind.startswith("text/plain; version=")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=answer.body, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_asks_for_openmetrics_gets_them(serve: Callable[..., Endpoint]):
    answer = scrape(serve(), Accept=OPENMETRICS)
    assert answer.kind.startswith("application/openmetrics-text")
    assert answer.body.endswith("# EOF\n")
    found = {sample.name for family in parse_openmetrics(answer.body) for sample in family.samples}
    assert {"stoplist_ready", "stoplist_faults_total", "stoplist_lane_open_duration_seconds_bucket"} <= found


@pytest.mark.parametrize(
    ("path", "is_ready", "status", "body"),
    [
        pytest.param("/healthz", True, 200, "alive\n", id="alive"),
        pytest.param("/healthz", False, 200, "alive\n", id="alive, and not ready"),
        pytest.param("/readyz", True, 200, "ready\n", id="ready"),
        pytest.param("/readyz", False, 503, "not ready\n", id="not ready"),
        pytest.param("/readyz?verbose", True, 200, "ready\n", id="with a query"),
        pytest.param("/", True, 404, "try /metrics, /healthz or /readyz\n", id="nothing there"),
        pytest.param("/metrics/", True, 404, "try /metrics, /healthz or /readyz\n", id="nothing below"),
    ],
)
def test_each_path_has_its_answer(serve: Callable[..., Endpoint], path: str, is_ready: bool, status: int, body: str):
    answer = scrape(serve(lambda: replace(HEALTH, is_ready=is_ready)), path)
    assert (answer.status, answer.body) == (status, body)


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_a_gate_that_does_not_answer_is_not_well(serve: Callable[..., Endpoint], path: str):
    def hang() -> Health:
        raise TimeoutError

    assert scrape(serve(hang), path).status == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
def test_only_get_is_answered(serve: Callable[..., Endpoint], method: str):
    assert scrape(serve(), method=method).status == 501


def test_more_than_a_few_at_once_are_hung_up_on_and_the_others_served(serve: Callable[..., Endpoint]):
    endpoint = serve()
    with ExitStack() as held:
        for _ in range(MAX_SCRAPES):
            held.enter_context(socket.create_connection(endpoint.address)).sendall(b"GET /me")
        with socket.create_connection(endpoint.address, timeout=SECONDS) as late:
            late.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            with suppress(ConnectionResetError):
                assert late.recv(100) == b""
    wait_until(lambda: _is_served(endpoint), "a free place")  # a thread may not have seen yet that its client is gone


def _is_served(endpoint: Endpoint) -> bool:
    try:
        return scrape(endpoint).status == 200
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return False


def test_who_asks_is_in_no_log(serve: Callable[..., Endpoint], capfd: pytest.CaptureFixture[str]):
    endpoint = serve()
    scrape(endpoint, "/secret.test")
    for data in (b"", b"\x16\x03\x01", b"GET /secret.test\r\n\r\n", b"SECRET / HTTP/1.1\r\nX: secret.test\r\n\r\n"):
        with socket.create_connection(endpoint.address, timeout=SECONDS) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
    assert capfd.readouterr() == ("", "")


def test_an_address_that_is_taken_is_an_error_with_a_remedy(serve: Callable[..., Endpoint]):
    host, port = serve().address
    with pytest.raises(StoplistError) as caught:
        Endpoint(host, port)
    assert str(caught.value) == (
        f"cannot listen for metrics on port {port} (Address already in use); "
        "choose another address with 'metrics: {listen: ADDRESS:PORT}'"
    )


def test_a_closed_endpoint_listens_no_more():
    endpoint = Endpoint("127.0.0.1", 0)
    address = endpoint.address
    endpoint.serve(busy)
    endpoint.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_an_endpoint_that_never_served_can_be_closed():
    Endpoint("127.0.0.1", 0).close()


def test_it_listens_on_ipv6():
    endpoint = Endpoint("::1", 0)
    endpoint.serve(busy)
    assert scrape(endpoint, "/readyz").status == 200
    endpoint.close()
