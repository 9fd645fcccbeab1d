"""Workers: several processes that are one gate; no death among them, and no renewal, is seen from outside."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from stoplist import clock
from stoplist.core.counts import Outcome
from stoplist.core.lists.envelope import build
from stoplist.state_directory import holder
from tests.e2e.conftest import REDIRECTED
from tests.e2e.desk import Desk
from tests.e2e.network import GATEWAY_ADDRESS, ORIGIN_ADDRESS, SECONDS, STOPLIST, Gate, Network, Process, wait_until
from tests.e2e.processes import children, workers_of
from tests.e2e.ways import Door, View, ask, get, read_answer, read_head, seen, view
from tests.fixed_time import EXPIRES
from tests.published import Publisher

PASSING = get(b"www.pass.test", target=b"http://www.pass.test/", more=b"Connection: close\r\n")
STOPPED = get(b"listed.test", target=b"http://listed.test/", more=b"Connection: close\r\n")
WORDS = ("pass.test", "listed.test", "192.0.2", "198.51.100.2", "Traceback", "fault", "error:")
"""Nothing of what is asked for is in a log, and nothing has broken."""

LONG_DRAIN = "10m"
"""What ends within the time of a test has ended for another reason."""

type Start = Callable[..., Gate]


@pytest.fixture
def start(net: Network, desk: Desk, tmp_path: Path) -> Iterator[Start]:
    """Starts a gate with two workers, or as the options say."""
    gates: list[Gate] = []

    def start(*options: str, policy: Path = desk.policy, **more: object) -> Gate:
        state = tmp_path / f"state{len(gates)}"
        gates.append(net.gate(policy, state, *(options or ("--workers", "2")), **more))
        return gates[-1]

    yield start
    for gate in gates:
        gate.process.end()


# What the system knows of the processes


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _carried(gate: Gate, pid: int) -> int:
    """How many clients' connections a process holds."""
    rows = [line.split() for line in Path(f"/proc/{gate.process.pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[1].endswith(f":{gate.port:04X}") and row[3] == "01"}
    held = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            held.add(str(file.readlink()).removeprefix("socket:[").rstrip("]"))
    return len(inodes & held)


def _renew(gate: Gate) -> set[int]:
    """SIGHUP; the workers that serve after it, once the ones before are told to end."""
    before, seen = workers_of(gate.process.pid), len(gate.process.err)
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for(r"listening on .* workers\)", after=seen)
    wait_until(lambda: len(workers_of(gate.process.pid) - before) == 2, "two new workers")
    return workers_of(gate.process.pid) - before


# What clients see


def _ask(gate: Gate, request: bytes) -> View:
    with gate.connect() as connection:
        return view(ask(connection, request))


def _tunnel(gate: Gate) -> socket.socket:
    connection = gate.connect()
    connection.sendall(b"CONNECT www.pass.test:25 HTTP/1.1\r\n\r\n")
    assert b" 200 " in read_head(connection)
    assert connection.recv(100).startswith(b"220 ")
    return connection


def _talks(tunnel: socket.socket) -> bool:
    try:
        tunnel.sendall(b"hello\r\n")
        return tunnel.recv(100) == b"HELLO\r\n"
    except OSError:
        return False


def _has_ended(connection: socket.socket) -> bool:
    try:
        return bool(select.select([connection], [], [], 0)[0]) and not connection.recv(65536)
    except OSError:
        return True


@dataclass
class Load:
    """Clients that open one new connection after the other, and what went wrong with them."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)
    stopped: int = 0


@contextmanager
def _load(gate: Gate, clients: int = 4, *, seconds: float = SECONDS) -> Iterator[Load]:
    load, over, lock = Load(), threading.Event(), threading.Lock()

    def ask_on_and_on(number: int) -> None:
        request, wanted = ((PASSING, View.ORIGIN), (STOPPED, View.PAGE))[number % 2]
        while not over.is_set():
            outcome = ""
            try:
                with socket.create_connection((gate.address, gate.port), timeout=seconds) as connection:
                    result = view(ask(connection, request))
                    outcome = "" if result is wanted else str(result)
            except OSError as error:
                outcome = repr(error)
            with lock:
                if outcome:
                    load.failures.append(outcome)
                else:
                    load.answers += 1
                    load.stopped += wanted is View.PAGE
            over.wait(0.02)

    def enter(number: int) -> None:
        with Path(f"/proc/{gate.network.gateway.pid}/ns/net").open() as space:
            os.setns(space.fileno(), os.CLONE_NEWNET)
        ask_on_and_on(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _says_nothing_of_anybody(gate: Gate) -> bool:
    return not any(word in gate.log() for word in WORDS) and not gate.process.out


# One gate


@pytest.mark.campaign
def test_connections_are_spread_over_the_workers(start: Start):
    gate = start()
    workers = workers_of(gate.process.pid)
    assert len(workers) == 2
    with ExitStack() as stack:
        for _ in range(40):
            assert _talks(stack.enter_context(_tunnel(gate)))
        carried = [_carried(gate, pid) for pid in workers]
        assert sum(carried) == 40
        assert min(carried) >= 4
        assert _carried(gate, gate.process.pid) == 0


def test_what_all_workers_counted_is_written_once_as_one(start: Start):
    gate = start()
    for _ in range(40):
        assert _ask(gate, STOPPED) is View.PAGE
    gate.process.send(signal.SIGTERM)
    assert gate.process.wait() == 0
    assert +gate.counts() == {("test", Outcome.STOPPED): 40}
    assert set(gate.counts()) == {
        *(("test", Outcome.STOPPED), ("test", Outcome.NOT_SHOWN), (None, Outcome.REFUSED), (None, Outcome.PASSED)),
    }
    assert not gate.told_of_counts_early
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_a_new_list_reaches_every_worker_and_no_request_notices(desk: Desk, start: Start):
    gate = start()
    new = get(b"new.pass.test", target=b"http://new.pass.test/", more=b"Connection: close\r\n")
    with ExitStack() as stack:
        load = stack.enter_context(_load(gate))
        tunnels = [stack.enter_context(_tunnel_to(gate, b"new.pass.test")) for _ in range(20)]
        assert all(_carried(gate, pid) for pid in workers_of(gate.process.pid))
        desk.publish(["listed.test", "new.pass.test"])
        gate.process.wait_for("serial 2 in force")
        wait_until(lambda: all(_has_ended(tunnel) for tunnel in tunnels), "the end of what is listed now")
        assert [_ask(gate, new) for _ in range(20)] == [View.PAGE] * 20
    assert not load.failures
    assert load.answers > 20


def _tunnel_to(gate: Gate, host: bytes) -> socket.socket:
    connection = gate.connect()
    connection.sendall(b"CONNECT %b:22 HTTP/1.1\r\n\r\n" % host)
    assert b" 200 " in read_head(connection)
    assert connection.recv(100) == b"SSH-2.0-origin\r\n"
    return connection


@pytest.mark.campaign
def test_every_mode_is_served_by_all_workers(net: Network, start: Start):
    ports = {"regular": 8380, "socks5": 1380, "transparent": 8381}
    modes = [option for mode, port in ports.items() for option in ("--mode", f"{mode}@{GATEWAY_ADDRESS}:{port}")]
    gate = start("--workers", "2", *modes, address=GATEWAY_ADDRESS)
    with net.redirect(REDIRECTED, ports["transparent"]):
        for mode, port in ports.items():
            door = Door(net, mode, port, gate.ca, net.origin_ca)
            for host, wanted in ((b"www.pass.test", View.ORIGIN), (b"www.listed.test", View.PAGE)):
                results = {seen(lambda door=door, host=host: _through(door, host)) for _ in range(8)}
                assert results == {wanted}, mode
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
@pytest.mark.parametrize("mode", ["regular", "socks5", "transparent", f"upstream:http://{ORIGIN_ADDRESS}:9"])
def test_workers_are_where_the_gate_says_that_it_listens(start: Start, mode: str):
    """It says which free port it found; workers that looked for one themselves would be at another."""
    gate = start("--workers", "2", "--mode", mode)
    with gate.connect() as connection:
        connection.sendall(b"\x05\x01\x00" if mode == "socks5" else get(b"listed.test", target=b"http://listed.test/"))
        with suppress(ConnectionResetError):  # in transparent mode, which has no address to lead to
            assert connection.recv(100) or mode == "transparent"


def _through(door: Door, host: bytes) -> bytes:
    with door.enter(host, 80) as tunnel:
        return ask(tunnel, get(host))


@pytest.mark.campaign
def test_the_bytes_of_a_list_are_in_memory_once(start: Start, tmp_path: Path):
    million = 1_000_000
    publisher = Publisher.new(tmp_path / "publisher", clock.now())
    policy = publisher.policy.read_text()
    publisher.policy.write_text(policy.replace("threshold: 1\n", "threshold: 1\n    guard: {grow: 9999%}\n"))
    publisher.list.write_bytes(publisher.build(1, domains=million // 50))
    gate = start("--workers", "2", policy=publisher.policy)
    _ask(gate, STOPPED)
    processes = [gate.process.pid, *workers_of(gate.process.pid)]
    before = sum(map(_proportional_bytes, processes))
    publisher.list.write_bytes(_large(publisher, million).signed_by(publisher.signer).to_bytes())
    gate.process.wait_for("serial 2 in force")
    for pid in processes:
        wait_until(lambda pid=pid: _shared_bytes(pid) >= 16 * million, "the list in the worker's memory")
    assert all(map(_lives, processes))
    wait_until(lambda: sum(map(_proportional_bytes, processes)) - before < 1.6 * 16 * million, "one list more")


def _large(publisher: Publisher, domains: int):
    names = ["listed.test", *(f"d{number}.test" for number in range(domains - 1))]
    return build(names, list_id="test", serial=2, issued=publisher.now, expires=EXPIRES, list_key=publisher.list_key)


def _proportional_bytes(pid: int) -> int:
    return 1024 * int(re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])


def _shared_bytes(pid: int) -> int:
    """How much memory that has a descriptor is mapped."""
    sizes = re.findall(r"^(\w+)-(\w+) .*memfd:stoplist", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    return sum(int(end, 16) - int(begin, 16) for begin, end in sizes)


# A death


@pytest.mark.campaign
def test_a_worker_that_dies_under_load_is_started_again(start: Start):
    gate = start()
    with _load(gate) as load:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            victim, other = sorted(workers_of(gate.process.pid))
            wait_until(lambda: load.answers > 50, "answers")
            os.kill(victim, number)
            gate.process.wait_for(
                rf"worker \d has ended \(signal {number}\), and its connections are lost; "
                "the supervisor starts it again"
            )
            wait_until(lambda victim=victim: len(workers_of(gate.process.pid) - {victim}) == 2, "another worker")
            assert other in workers_of(gate.process.pid)
            load.answers = 0
        wait_until(lambda: load.answers > 100, "more answers")
    assert len(load.failures) <= 8
    assert [_ask(gate, STOPPED) for _ in range(20)] == [View.PAGE] * 20
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_what_a_worker_counted_outlives_it(start: Start):
    gate = start()
    with ExitStack() as stack:
        for _ in range(40):
            connection = stack.enter_context(gate.connect())
            connection.sendall(get(b"listed.test", target=b"http://listed.test/"))
            assert view(read_answer(connection)) is View.PAGE
        held = {pid: _carried(gate, pid) for pid in workers_of(gate.process.pid)}
        assert sum(held.values()) == 40
        assert all(held.values())
        os.kill(min(held), signal.SIGKILL)
        gate.process.wait_for("the supervisor starts it again")
    gate.process.end()
    assert +gate.counts() == {("test", Outcome.STOPPED): 40}


@pytest.mark.campaign
def test_a_worker_that_hangs_blocks_nobody_not_even_the_end(desk: Desk, start: Start):
    gate = start("--workers", "2", "--drain", LONG_DRAIN)
    stuck = min(workers_of(gate.process.pid))
    os.kill(stuck, signal.SIGSTOP)
    desk.publish(["listed.test", "new.pass.test"])
    gate.process.wait_for("serial 2 in force")
    new = get(b"new.pass.test", target=b"http://new.pass.test/", more=b"Connection: close\r\n")
    results: list[View | None] = []

    def are_pages_shown() -> bool:
        """Ask once more, with more patience: half of the connections are the stuck worker's."""
        results.append(None)
        with gate.connect() as connection, suppress(TimeoutError):
            connection.settimeout(0.3 + len(results) / 20)
            results[-1] = view(ask(connection, new))
        return results.count(View.PAGE) >= 5

    wait_until(are_pages_shown, "pages of the other worker")
    assert set(results) <= {View.PAGE, None}
    os.kill(stuck, signal.SIGCONT)
    wait_until(lambda: [_ask(gate, new) for _ in range(20)] == [View.PAGE] * 20, "the new list in all workers")
    os.kill(stuck, signal.SIGSTOP)
    gate.process.send(signal.SIGTERM)
    time.sleep(0.5)
    assert _lives(gate.process.pid)
    gate.process.send(signal.SIGTERM)
    assert gate.process.wait() == 0
    assert not _lives(stuck)


@pytest.mark.campaign
def test_without_its_supervisor_no_worker_lives_on(net: Network, start: Start):
    gate = start("--workers", "2", "--drain", "1s")
    workers = workers_of(gate.process.pid)
    with _tunnel(gate) as tunnel:
        os.kill(gate.process.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_lives, workers)), "the end of the workers")
        assert _has_ended(tunnel)
    assert not net.listens(gate.port)
    assert "Traceback" not in gate.log()


# The end


@pytest.mark.campaign
@pytest.mark.parametrize("workers", [("--workers", "2"), ()], ids=["two workers", "one process"])
def test_open_connections_may_end_by_themselves(net: Network, start: Start, workers: tuple[str, ...]):
    gate = start(*workers, "--drain", LONG_DRAIN)
    with ExitStack() as stack:
        tunnels = [stack.enter_context(_tunnel(gate)) for _ in range(12)]
        gate.process.send(signal.SIGTERM)
        wait_until(lambda: not net.listens(gate.port), "nobody that listens")
        time.sleep(1)
        assert all(map(_talks, tunnels))
    assert gate.process.wait() == 0
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_processes_that_are_all_told_at_once_end_as_one(start: Start):
    """As systemd does by itself (KillMode=control-group)."""
    gate = start("--workers", "2", "--drain", LONG_DRAIN)
    workers = workers_of(gate.process.pid)
    with ExitStack() as stack:
        tunnels = [stack.enter_context(_tunnel(gate)) for _ in range(12)]
        for pid in (*workers, gate.process.pid):
            os.kill(pid, signal.SIGTERM)
        time.sleep(1)
        assert all(map(_talks, tunnels))
    assert gate.process.wait() == 0
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
@pytest.mark.parametrize("workers", [("--workers", "2"), ()], ids=["two workers", "one process"])
def test_connections_that_do_not_end_are_ended_in_time(start: Start, workers: tuple[str, ...]):
    gate = start(*workers, "--drain", "3s")
    with ExitStack() as stack:
        tunnels = [stack.enter_context(_tunnel(gate)) for _ in range(12)]
        told = time.monotonic()
        gate.process.send(signal.SIGTERM)
        while time.monotonic() - told < 2:
            assert all(map(_talks, tunnels)) or time.monotonic() - told > 3, "ended too early"
            time.sleep(0.1)
        assert gate.process.wait() == 0
        assert time.monotonic() - told > 3
        assert all(map(_has_ended, tunnels))


@pytest.mark.campaign
@pytest.mark.parametrize("workers", [("--workers", "2"), ()], ids=["two workers", "one process"])
def test_told_twice_it_ends_at_once(net: Network, start: Start, workers: tuple[str, ...]):
    gate = start(*workers, "--drain", LONG_DRAIN)
    with _tunnel(gate) as tunnel:
        gate.process.send(signal.SIGTERM)
        wait_until(lambda: not net.listens(gate.port), "nobody that listens")
        assert _talks(tunnel)
        gate.process.send(signal.SIGTERM)
        assert gate.process.wait() == 0
        assert _has_ended(tunnel)


# A new beginning


@pytest.mark.campaign
def test_no_connection_fails_while_the_gate_is_renewed(start: Start):
    gate = start("--workers", "2", "--drain", LONG_DRAIN)
    pid = gate.process.pid
    with ExitStack() as stack:
        load = stack.enter_context(_load(gate, clients=6))
        tunnels = [stack.enter_context(_tunnel(gate)) for _ in range(10)]
        first = workers_of(gate.process.pid)
        second = _renew(gate)
        assert all(map(_talks, tunnels))
        third = _renew(gate)
        assert len(first | second | third) == 6
        answers = load.answers
        wait_until(lambda: load.answers > answers + 50, "more answers")
        assert all(map(_talks, tunnels))
        for tunnel in tunnels:
            tunnel.close()
        wait_until(lambda: workers_of(gate.process.pid) == third, "the end of the old workers")
    assert not load.failures
    assert gate.process.pid == pid
    holds = holder(gate.state_dir)
    assert holds is not None
    assert holds.pid == pid
    gate.process.end()
    assert gate.counts()["test", Outcome.STOPPED] == load.stopped
    assert not gate.told_of_counts_early
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_old_connections_are_ended_when_the_time_to_drain_is_over(start: Start):
    gate = start("--workers", "2", "--drain", "2s")
    first = workers_of(gate.process.pid)
    with _tunnel(gate) as tunnel:
        second = _renew(gate)
        wait_until(lambda: not any(map(_lives, first)), "the end of the old workers")
        assert _has_ended(tunnel)
    assert workers_of(gate.process.pid) == second
    wait_until(lambda: set(children(gate.process.pid)) == second, "nobody else")


@pytest.mark.campaign
def test_many_signals_at_once_are_one_or_a_few(start: Start):
    gate = start("--workers", "2", "--drain", "30s")
    first, seen = workers_of(gate.process.pid), len(gate.process.err)
    with _load(gate) as load:
        for _ in range(5):
            gate.process.send(signal.SIGHUP)
            time.sleep(0.3)
        gate.process.wait_for(r"listening on .* workers\)", after=seen)
        wait_until(
            lambda: len(workers_of(gate.process.pid)) == 2 and not workers_of(gate.process.pid) & first,
            "two workers, both new",
        )
        time.sleep(1)
    assert not load.failures
    assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_a_broken_policy_is_not_taken_up(desk: Desk, start: Start):
    gate = start()
    workers = workers_of(gate.process.pid)
    desk.policy.write_text("nonsense")
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for("the gate cannot start from the program and policy on disk; the running gate goes on")
    assert workers_of(gate.process.pid) == workers
    assert [_ask(gate, STOPPED) for _ in range(5)] == [View.PAGE] * 5


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The code of a gate of one's own, to change."""
    return Path(shutil.copytree(Path("addon/stoplist").absolute(), tmp_path / "code" / "stoplist"))


@pytest.mark.campaign
def test_new_code_is_taken_up_and_broken_code_is_not(start: Start, code: Path):
    gate = start("--workers", "2", program=("env", f"PYTHONPATH={code.parent}", str(STOPLIST)))
    workers = workers_of(gate.process.pid)
    module = code / "proxy" / "mitm" / "gate_process.py"
    text = module.read_text()
    module.write_text(text + "\nraise SystemExit('broken')\n")
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for("the gate cannot start from the program and policy on disk; the running gate goes on")
    assert workers_of(gate.process.pid) == workers
    assert _ask(gate, STOPPED) is View.PAGE
    module.write_text(text)
    records = code / "proxy" / "log" / "records.py"
    records.write_text(records.read_text().replace('f"listening{where}', 'f"the new code is listening{where}'))
    _renew(gate)
    assert "the new code is listening" in gate.log()
    assert _ask(gate, STOPPED) is View.PAGE


@pytest.mark.campaign
def test_workers_that_cannot_start_leave_the_old_ones_as_they_are(desk: Desk, start: Start):
    """What a worker alone finds out; lists are followed all the same."""
    gate = start()
    workers, text = workers_of(gate.process.pid), desk.policy.read_text()
    desk.policy.write_text(text + "\ncertificate: {cert: gone.pem, key: gone.pem}\n")
    gate.process.wait_for("has changed in the policy")
    seen = len(gate.process.err)
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for(r"no such file", after=seen)
    assert workers <= workers_of(gate.process.pid)
    desk.publish(["stopped.example", "new.pass.test"])
    gate.process.wait_for("serial 2 in force", after=seen)
    new = get(b"new.pass.test", target=b"http://new.pass.test/", more=b"Connection: close\r\n")
    wait_until(lambda: [_ask(gate, new) for _ in range(10)] == [View.PAGE] * 10, "the new list in all workers")
    desk.policy.write_text(text)
    seen = len(gate.process.err)
    wait_until(lambda: _ends_well(gate, workers, seen), "new workers once the fault is gone")
    assert [_ask(gate, new) for _ in range(10)] == [View.PAGE] * 10


def _ends_well(gate: Gate, old: set[int], seen: int) -> bool:
    return len(workers_of(gate.process.pid)) == 2 and not workers_of(gate.process.pid) & old


@pytest.mark.campaign
def test_old_workers_that_die_while_the_gate_is_renewed_have_one_successor_each(start: Start):
    gate = start()
    before, seen = workers_of(gate.process.pid), len(gate.process.err)
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for("serial 1 in force", after=seen)  # by what the gate is now
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    gate.process.wait_for(r"listening on .* workers\)", after=seen)
    time.sleep(1)
    wait_until(lambda: len(workers_of(gate.process.pid)) == 2, "two workers")
    assert [_ask(gate, STOPPED) for _ in range(10)] == [View.PAGE] * 10


@pytest.mark.campaign
def test_told_to_end_while_it_is_renewed_it_ends_and_counts_once(start: Start):
    for moment in (0.3, 0.8, 1.4):
        gate = start()
        for _ in range(20):
            assert _ask(gate, STOPPED) is View.PAGE
        gate.process.send(signal.SIGHUP)
        time.sleep(moment)
        gate.process.send(signal.SIGTERM)
        assert gate.process.wait() == 0
        assert +gate.counts() == {("test", Outcome.STOPPED): 20}
        assert _says_nothing_of_anybody(gate)


@pytest.mark.campaign
def test_a_port_in_use_does_not_end_what_runs(net: Network, desk: Desk, tmp_path: Path):
    desk.policy.write_text(desk.policy.read_text() + "\nlisten: 127.0.0.1:8480\n")
    command = (str(STOPLIST), "run", str(desk.policy), "--state-dir", str(tmp_path / "state"), "--workers", "2")
    process = net.start(*command, "--drain", "0s")
    process.wait_for("listening on 127.0.0.1:8480")
    gate = Gate(net, process, 8480, tmp_path / "state")
    taken = net.gateway.call(lambda: socket.create_server(("127.0.0.1", 8481)))
    with taken:
        desk.policy.write_text(desk.policy.read_text().replace(":8480", ":8481"))
        process.wait_for("'listen' has changed")
        seen = len(process.err)
        process.send(signal.SIGHUP)
        process.wait_for("cannot listen", after=seen)
        time.sleep(1)
        assert [_ask(gate, STOPPED) for _ in range(5)] == [View.PAGE] * 5
    process.end()


def test_without_workers_a_hang_up_is_only_answered(start: Start):
    gate = start("--drain", "0s")
    gate.process.send(signal.SIGHUP)
    gate.process.wait_for("SIGHUP loads new code only with --workers")
    assert _ask(gate, STOPPED) is View.PAGE
    assert not children(gate.process.pid)


# What only one process can serve


@pytest.mark.campaign
def test_dns_is_served_through_every_change(net: Network, start: Start):
    port = 5380
    gate = start(
        *("--workers", "2", "--mode", f"dns@{GATEWAY_ADDRESS}:{port}"),
        *("--mode", f"regular@{GATEWAY_ADDRESS}:8382"),
        address=GATEWAY_ADDRESS,
    )
    assert sum(_has_udp(pid, gate, port) for pid in workers_of(gate.process.pid)) == 1
    assert _is_blocked(net, port)

    _renew(gate)
    wait_until(lambda: sum(_has_udp(pid, gate, port) for pid in workers_of(gate.process.pid)) == 1, "one that serves")
    wait_until(lambda: _is_blocked(net, port), "answers after a renewal")

    (server,) = (pid for pid in workers_of(gate.process.pid) if _has_udp(pid, gate, port))
    os.kill(server, signal.SIGKILL)
    wait_until(
        lambda: sum(_has_udp(pid, gate, port) for pid in workers_of(gate.process.pid)) == 1, "another that serves"
    )
    wait_until(lambda: _is_blocked(net, port), "answers after a death")
    assert _says_nothing_of_anybody(gate)


def _is_blocked(net: Network, port: int) -> bool:
    query = dns.message.make_query("listed.test", "A")
    try:
        answer = net.client.call(lambda: dns.query.udp(query, GATEWAY_ADDRESS, port=port, timeout=5))
    except (OSError, dns.exception.Timeout):
        return False
    return answer.rcode() == dns.rcode.NXDOMAIN


def _has_udp(pid: int, gate: Gate, port: int) -> bool:
    rows = [line.split() for line in Path(f"/proc/{gate.process.pid}/net/udp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}
    with suppress(OSError):
        return any(_link_of(file) in inodes for file in Path(f"/proc/{pid}/fd").iterdir())
    return False


def _link_of(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


# Wrong usage


def test_an_address_in_use_is_a_clear_error(desk: Desk):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = desk.run("--workers", "2", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", seconds=60)
    assert done.returncode == 1
    assert "cannot listen" in done.stderr
    assert "--listen HOST:PORT" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.campaign
def test_a_fault_that_only_workers_find_is_a_clear_error(desk: Desk):
    desk.policy.write_text(desk.policy.read_text() + "\nupstream: {ca: gone.pem}\n")
    done = desk.run("--workers", "2", "--listen", "127.0.0.1:0", seconds=60)
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert "a worker could not start (status 1)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Aborted" not in done.stderr


@pytest.mark.campaign
def test_told_to_end_before_it_serves_it_ends_without_a_word_of_python(net: Network, desk: Desk, tmp_path: Path):
    for moment in (0.6, 1.0, 1.4):
        process = Process(
            net.enter(
                *(str(STOPLIST), "run", str(desk.policy), "--listen", "127.0.0.1:0", "--workers", "2"),
                *("--state-dir", str(tmp_path / f"state{moment}")),
            )
        )
        wait_until(lambda process=process: bool(children(process.pid)), "the first worker")
        time.sleep(moment)
        process.send(signal.SIGINT)
        assert process.wait() == 0
        assert "Traceback" not in "".join(process.err)
        assert "Aborted" not in "".join(process.err)
