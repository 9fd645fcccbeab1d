"""Metrics of a real gate: what it says while lists change, workers die and it drains; and who cannot reach them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import EITHER_WAY
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, OUTER_ADDRESS, Gate, Network, need, wait_until
from tests.e2e.processes import workers_of
from tests.e2e.ways import read_all

KINDS = pytest.mark.parametrize("options", EITHER_WAY)

type Start = Callable[..., tuple[Gate, int]]


@pytest.fixture
def start(net: Network, desk: Desk, tmp_path) -> Iterator[Start]:
    """Starts a gate with metrics on loopback, or elsewhere; the port of them."""
    gates: list[Gate] = []

    def start(*options: str, listen: str = "127.0.0.1:0") -> tuple[Gate, int]:
        desk.policy.write_text(f"{desk.policy.read_text()}metrics: {{listen: '{listen}'}}\n")
        gates.append(net.gate(desk.policy, tmp_path / "state", *options))
        return gates[-1], int(gates[-1].process.wait_for(r"metrics at http://[^ ]*:(\d+)/metrics")[1])

    yield start
    for gate in gates:
        gate.process.end()


def _ask(net: Network, port: int, path: str = "/metrics") -> tuple[int, str]:
    """Status and body of an answer; 0 where nobody answers."""
    try:
        with net.connect(port) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().decode().partition("\r\n\r\n")
    except ConnectionError:
        return 0, ""
    return int(head.split()[1]), body


def _says(net: Network, port: int, metric: str, value: float) -> bool:
    match = re.search(rf"^{re.escape(metric)} (\S+)$", _ask(net, port)[1], re.MULTILINE)
    return match is not None and float(match[1]) == value


@KINDS
def test_a_gate_says_what_becomes_of_its_lists(net: Network, desk: Desk, start: Start, options: tuple[str, ...]):
    _, port = start(*options)

    def says(metric: str, value: float) -> None:
        wait_until(lambda: _says(net, port, metric, value), f"{metric} {value}")

    says('stoplist_list_serial{list="test"}', 1)
    says('stoplist_list_signers{list="test"}', 2)
    says('stoplist_list_enforced{list="test"}', 1)
    assert "stoplist_list_held_serial{" not in _ask(net, port)[1]
    desk.publish(["listed.test", "second.test"])
    says('stoplist_list_serial{list="test"}', 2)
    says('stoplist_reloads_total{result="activated"}', 1)
    good = desk.list.read_bytes()
    desk.list.write_bytes(b"junk")
    says('stoplist_list_refused{list="test"}', 1)
    says('stoplist_reloads_total{result="refused"}', 1)
    desk.list.write_bytes(good)
    says('stoplist_list_refused{list="test"}', 0)
    desk.publish([f"d{number}.listed.example" for number in range(50)])
    says('stoplist_list_held_serial{list="test"}', 3)
    says('stoplist_list_refused{list="test"}', 0)
    says('stoplist_reloads_total{result="held"}', 1)
    desk.policy.write_text(desk.policy.read_text() + "nonsense: true\n")
    says("stoplist_change_refused", 1)
    desk.policy.write_text(desk.policy.read_text().replace("nonsense: true\n", ""))
    says("stoplist_change_refused", 0)
    says('stoplist_list_serial{list="test"}', 2)


def test_what_a_gate_says_is_what_prometheus_takes(net: Network, start: Start):
    need("promtool")
    _, port = start("--workers", "2")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=_ask(net, port)[1], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.campaign
def test_a_worker_that_dies_is_seen(net: Network, start: Start):
    gate, port = start("--workers", "2")
    wait_until(lambda: _says(net, port, "stoplist_workers", 2), "two workers")
    assert _says(net, port, "stoplist_worker_restarts_total", 0)
    os.kill(min(workers_of(gate.process.pid)), signal.SIGKILL)
    wait_until(lambda: _says(net, port, "stoplist_worker_restarts_total", 1), "a restart")
    wait_until(lambda: _says(net, port, "stoplist_workers", 2), "two workers again")


@pytest.mark.campaign
def test_one_endpoint_stands_for_all_workers_and_goes_on_after_a_renewal(net: Network, start: Start):
    gate, port = start("--workers", "2")
    tunnels = [gate.connect() for _ in range(10)]
    for tunnel in tunnels:
        tunnel.sendall(b"CONNECT www.pass.test:25 HTTP/1.1\r\n\r\n")
        assert tunnel.recv(65536)
    wait_until(lambda: _says(net, port, "stoplist_lane_tunnels", 10), "ten tunnels")
    assert _says(net, port, "stoplist_lane_open_duration_seconds_count", 10)
    for tunnel in tunnels:
        tunnel.close()
    wait_until(lambda: _says(net, port, "stoplist_lane_tunnels", 0), "no tunnel")
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for(r"metrics at http://.*\n(.*\n)*.*metrics at http://127\.0\.0\.1:(\d+)")
    again = int(re.findall(r"metrics at http://127\.0\.0\.1:(\d+)", gate.log())[-1])
    wait_until(lambda: _says(net, again, "stoplist_workers", 2), "two workers")


@KINDS
def test_a_gate_that_drains_lives_and_is_not_ready(net: Network, start: Start, options: tuple[str, ...]):
    gate, port = start(*options, "--drain", "10m")
    assert _ask(net, port, "/readyz") == (200, "ready\n")
    with gate.connect() as tunnel:
        tunnel.sendall(b"CONNECT www.pass.test:25 HTTP/1.1\r\n\r\n")
        assert tunnel.recv(65536)
        gate.process.send(signal.SIGTERM)
        wait_until(lambda: _ask(net, port, "/readyz") == (503, "not ready\n"), "no more requests")
        assert _ask(net, port, "/healthz") == (200, "alive\n")
    assert gate.process.wait() == 0
    assert _ask(net, port) == (0, "")


@pytest.mark.campaign
def test_a_gate_that_hangs_is_not_well(net: Network, start: Start):
    gate, port = start("--workers", "2")
    assert _ask(net, port, "/healthz")[0] == 200
    with net.connect(port) as connection:
        gate.process.send(signal.SIGSTOP)
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        connection.settimeout(1)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        gate.process.send(signal.SIGCONT)


def _listens(gate: Gate) -> set[int]:
    """The TCP ports where a gate listens."""
    sockets = gate.network.gateway.run("ss", "-Hltnp").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in sockets if f"pid={gate.process.pid}," in line}


def test_without_them_in_the_policy_a_gate_listens_for_clients_only(net: Network, own_gate: Gate):
    need("ss")
    assert _listens(own_gate) == {own_gate.port}


@pytest.mark.parametrize(("listen", "is_reached"), [("127.0.0.1:0", False), ("0.0.0.0:0", True)])
def test_others_reach_them_only_where_the_policy_says_so(net: Network, start: Start, listen: str, is_reached: bool):
    need("ss")
    gate, port = start(listen=listen)
    assert _listens(gate) == {gate.port, port}
    for address in (GATEWAY_ADDRESS, OUTER_ADDRESS):
        try:
            with net.client.connect(address, port) as connection:
                connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert b"\nstoplist_ready 1.0\n" in read_all(connection)
        except OSError:
            assert not is_reached
        else:
            assert is_reached


@KINDS
def test_no_client_reaches_them_through_the_gate(net: Network, start: Start, options: tuple[str, ...]):
    gate, port = start(*options, listen="0.0.0.0:0")
    assert _ask(net, port)[0] == 200
    for host in ("127.0.0.1", OUTER_ADDRESS, "gate.test", "loop.test"):
        answer = gate.curl(f"http://{host}:{port}/metrics")
        assert answer.status in (403, 502) or "This is an egress proxy, and no site." in answer.body, host
        assert "stoplist_ready" not in answer.body
        assert gate.curl(f"https://{host}:{port}/metrics").proxy_status == 403, host


@KINDS
def test_where_the_port_is_taken_it_does_not_start(net: Network, desk: Desk, options: tuple[str, ...]):
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    desk.policy.write_text(f"{desk.policy.read_text()}metrics: {{listen: '127.0.0.1:{port}'}}\n")
    done = desk.run("--listen", "127.0.0.1:0", *options)
    taken.close()
    assert done.returncode == 1
    assert f"cannot listen for metrics on port {port}" in done.stderr
    assert "choose another address" in done.stderr
    assert "listening" not in done.stderr


@pytest.mark.campaign
def test_a_policy_whose_port_is_taken_is_not_taken_up(net: Network, desk: Desk, start: Start):
    gate, port = start("--workers", "2")
    with net.gateway.call(lambda: socket.create_server(("127.0.0.1", 0))) as taken:
        text = desk.policy.read_text()
        desk.policy.write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}"))
        gate.process.wait_for("'metrics' has changed in the policy; restart the gate to apply it")
        gate.process.send(signal.SIGHUP)
        gate.process.wait_for("not renewed")
    assert _ask(net, port, "/readyz")[0] == 200
    desk.policy.write_text(text)
