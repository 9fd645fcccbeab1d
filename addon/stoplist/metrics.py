"""Metrics: the health of a gate, for Prometheus and OpenMetrics, and for health checks. Owns prometheus_client.

  /metrics   a `Health`, which the endpoint asks for at each scrape
  /healthz   200 while the gate answers; otherwise somebody should start it again
  /readyz    200 while it takes requests

Rules
  - The numbers that anybody may see at any time are about lists, processes and passing traffic. They do not change
    when the gate stops a request. No number tells of the CPU or the memory of the process: stopping takes some of
    both.
  - Requests are those of the period that closed last, as core/counts.py shows them.
  - Labels are names of lists and closed sets of words. The module does not log clients.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stoplist.core.counts import Row
from stoplist.errors import StoplistError

MAX_SCRAPES = 8
"""How many scrapers may ask at once; the server closes the connections of others."""
SCRAPE_SECONDS = 1.5
"""Timeout for a gate that we ask for its metrics, in seconds."""
MAX_SCRAPE = 1024 * 1024
"""Longest answer that `scrape` reads, in bytes."""
ASK_SECONDS = 10
"""Timeout for a client that asks this server, in seconds."""


@dataclass(frozen=True, slots=True)
class ListHealth:
    """One list in force. If a second one of the same name is observed beside it, the `list` of that one says so.
    Times are POSIX seconds. `held` is the serial of a list that waits for release."""

    list: str
    serial: int
    domains: int
    signers: int
    issued: float
    expires: float
    is_enforced: bool
    is_refused: bool
    held: int | None


@dataclass(frozen=True, slots=True)
class WorkersHealth:
    """How many processes serve, how many should, and how often one was started again."""

    serving: int
    wanted: int
    restarts: int


@dataclass(frozen=True, slots=True)
class LaneHealth:
    """The traffic of the lane. `opened` are numbers of tunnels by the time that they took to open: one for each step
    of `opened_within` (seconds), and one for tunnels that took longer. `opened_seconds` is the sum of these times."""

    tunnels: int
    bytes_from_clients: int
    bytes_to_clients: int
    opened_within: Sequence[float]
    opened: Sequence[int]
    opened_seconds: float


@dataclass(frozen=True, slots=True)
class Health:
    """A gate at one moment. `ca_expires` is None if the gate needs no CA. `closed` holds the numbers that may be
    shown of the period that closed last."""

    version: str
    started: float
    is_ready: bool
    lists: Sequence[ListHealth]
    is_change_refused: bool
    reloads: Mapping[str, int]
    reloaded: float
    reload_seconds: float
    workers: WorkersHealth | None
    lane: LaneHealth
    faults: int
    ca_expires: float | None
    has_unwritten_counts: bool
    closed: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Scrape:
    """The metrics that a gate gave: numbers by their names and labels."""

    numbers: Mapping[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 if there is none."""
        return self.numbers.get((name, frozenset(labels.items())), 0.0)

    def has(self, name: str) -> bool:
        return any(name == each for each, _ in self.numbers)

    def labels(self, name: str, label: str) -> list[str]:
        """The values that a label has."""
        return [dict(labels)[label] for each, labels in self.numbers if each == name]

    def steps(self, name: str) -> list[tuple[float, float]]:
        """The steps of a histogram, each with the sum up to it."""
        return sorted(
            (float(dict(labels)["le"]), number) for (each, labels), number in self.numbers.items() if each == name
        )

    @property
    def started(self) -> float:
        """The time at which the gate was started, in POSIX seconds."""
        return self.value("stoplist_start_time_seconds")


def scrape(host: str, port: int) -> Scrape:
    """Ask the gate that listens for metrics at `host` and `port`. Raises StoplistError if none answers."""
    connection = HTTPConnection(host, port, timeout=SCRAPE_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read(MAX_SCRAPE).decode()
        if answer.status != 200:
            raise StoplistError(f"no answer from the gate (status {answer.status})", hint="look at its log")
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    except (OSError, HTTPException, ValueError):
        raise StoplistError(
            f"no answer at port {port} of {host}",
            hint="start the gate, and check that its policy has this 'metrics' address",
        ) from None
    finally:
        connection.close()
    return Scrape({(each.name, frozenset(each.labels.items())): each.value for each in samples})


class Endpoint:
    """Listens at `host` and `port` (0: any free one) as soon as it is made; answers once `serve` was called.

    Raises StoplistError if it cannot listen.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, address[:2])
        except OSError as error:
            raise StoplistError(
                f"cannot listen for metrics on port {port} ({error.strerror})",
                hint="choose another address with 'metrics: {listen: ADDRESS:PORT}'",
            ) from None
        self._thread = threading.Thread(target=self._server.serve_forever, name="stoplist-metrics", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port on which it listens."""
        host, port = self._server.socket.getsockname()[:2]
        return host, port

    def serve(self, health: Callable[[], Health]) -> None:
        """Answer with the result of `health`. Threads call `health`; it raises if the gate does not answer."""
        self._server.health = health
        self._server.registry.register(_Collector(health))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A server with a thread for each client, a few at once; it writes nothing to any log."""

    def __init__(self, family: int, address: Any) -> None:
        self.address_family = family
        self.registry = CollectorRegistry()
        self.health: Callable[[], Health] | None = None
        self._free = threading.BoundedSemaphore(MAX_SCRAPES)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # http.server would ask the DNS for its own name

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do nothing: the client is gone, or sent nothing that the server can read."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "stoplist"
    sys_version = ""
    timeout = ASK_SECONDS

    def do_GET(self) -> None:
        assert self.server.health is not None
        path = urlsplit(self.path).path
        if path not in ("/metrics", "/healthz", "/readyz"):
            self._answer(404, "try /metrics, /healthz or /readyz\n")
            return
        try:
            is_ready = self.server.health().is_ready
        except Exception:  # any exception means that the gate does not answer as it should
            self._answer(503, "the gate does not answer\n")
            return
        if path == "/healthz":
            self._answer(200, "alive\n")
        elif path == "/readyz":
            self._answer(*((200, "ready\n") if is_ready else (503, "not ready\n")))
        else:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), kind)

    def _answer(self, status: int, content: str | bytes, kind: str = "text/plain; charset=utf-8") -> None:
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  as http.server calls it
        """Do nothing: the server does not log clients."""


class _Collector(Collector):
    """Turns a Health into metrics, in a fixed order."""

    def __init__(self, health: Callable[[], Health]) -> None:
        self._health = health

    def describe(self) -> Iterable[Metric]:
        return []  # the metrics depend on the gate

    def collect(self) -> Iterator[Metric]:
        health = self._health()
        yield _gauge("build_info", "The version of the gate.", {(("version", health.version),): 1})
        yield _gauge("start_time_seconds", "When the gate was started.", {(): health.started})
        yield _gauge("ready", "Whether the gate takes requests.", {(): health.is_ready})
        yield from _lists(health.lists)
        yield _gauge(
            "change_refused",
            "1 if the files on disk have a fault and the last good state stays in force.",
            {(): health.is_change_refused},
        )
        yield _counter(
            "reloads",
            "Changed files, by result: activated, refused or held.",
            {(("result", k),): n for k, n in health.reloads.items()},
        )
        yield _gauge("reload_timestamp_seconds", "When the gate last put a change in force.", {(): health.reloaded})
        yield _gauge(
            "reload_duration_seconds", "The duration of the last look at changed files.", {(): health.reload_seconds}
        )
        if health.workers is not None:
            yield _gauge("workers", "Workers that serve clients.", {(): health.workers.serving})
            yield _gauge("workers_wanted", "Workers that should serve clients.", {(): health.workers.wanted})
            yield _counter(
                "worker_restarts", "Workers that ended, and were started again.", {(): health.workers.restarts}
            )
        yield from _lane(health.lane)
        yield _counter(
            "faults", "Faults, which the gate answers by refusing; counted once a minute.", {(): health.faults}
        )
        ca_expires: dict[_Labels, float] = {} if health.ca_expires is None else {(): health.ca_expires}
        yield _gauge("ca_expires_timestamp_seconds", "When the gate's CA ends, if it needs one.", ca_expires)
        yield _gauge(
            "counts_unwritten", "1 if counts could not be written to disk yet.", {(): health.has_unwritten_counts}
        )
        yield from _closed(health.closed)


type _Labels = tuple[tuple[str, str], ...]


def _lists(lists: Sequence[ListHealth]) -> Iterator[Metric]:
    def each(name: str, text: str, value: Callable[[ListHealth], float | None]) -> Metric:
        values = {(("list", entry.list),): value(entry) for entry in lists}
        return _gauge(f"list_{name}", text, {labels: number for labels, number in values.items() if number is not None})

    yield each("serial", "The serial of the list in force.", lambda entry: entry.serial)
    yield each("domains", "How many domains the list in force holds.", lambda entry: entry.domains)
    yield each("signers", "How many trusted keys have signed the list in force.", lambda entry: entry.signers)
    yield each("issued_timestamp_seconds", "When the list in force was issued.", lambda entry: entry.issued)
    yield each("expires_timestamp_seconds", "When the list in force expires.", lambda entry: entry.expires)
    yield each("enforced", "1 where the list is enforced, 0 where it is observed.", lambda entry: entry.is_enforced)
    yield each("refused", "Whether the list's file on disk is refused.", lambda entry: entry.is_refused)
    yield each("held_serial", "The serial of a list that waits for release.", lambda entry: entry.held)


def _lane(lane: LaneHealth) -> Iterator[Metric]:
    yield _gauge("lane_tunnels", "Open tunnels in the lane, each counted from its first bytes on.", {(): lane.tunnels})
    yield _counter(
        "lane_bytes",
        "Bytes relayed in the lane's tunnels.",
        {(("from", "client"),): lane.bytes_from_clients, (("from", "server"),): lane.bytes_to_clients},
    )
    sums = list(accumulate(lane.opened))
    steps = [*map(str, lane.opened_within), "+Inf"]
    opened = HistogramMetricFamily(
        "stoplist_lane_open_duration_seconds",
        "The time to open a tunnel that passes: from its request through name lookup and connection to the answer.",
        buckets=list(zip(steps, sums, strict=True)),
        sum_value=lane.opened_seconds,
    )
    yield opened


def _closed(rows: Sequence[Row]) -> Iterator[Metric]:
    """The numbers that may be shown of the period that closed last."""
    ends: dict[_Labels, float] = {(): rows[0].period.ends} if rows else {}
    yield _gauge("period_end_timestamp_seconds", "The end of the last closed period.", ends)
    shown: dict[_Labels, float] = {}
    hidden: dict[_Labels, float] = {}
    for row in rows:
        labels = (("list", row.list or ""), ("outcome", str(row.outcome)))
        hidden[labels] = row.shown.requests is None
        if row.shown.requests is not None:
            shown[labels] = row.shown.requests
    yield _gauge("period_requests", "Requests of the last closed period, rounded; missing if hidden.", shown)
    yield _gauge("period_requests_hidden", "1 if the number of the last closed period is hidden.", hidden)


def _gauge(name: str, text: str, values: Mapping[_Labels, float]) -> Metric:
    return _filled(GaugeMetricFamily, name, text, values)


def _counter(name: str, text: str, values: Mapping[_Labels, float]) -> Metric:
    return _filled(CounterMetricFamily, name, text, values)


def _filled(
    kind: type[GaugeMetricFamily | CounterMetricFamily], name: str, text: str, values: Mapping[_Labels, float]
) -> Metric:
    labels = [label for label, _ in next(iter(values), ())]
    family = kind(f"stoplist_{name}", text, labels=labels)
    for key, number in values.items():
        family.add_metric([value for _, value in key], float(number))
    return family
