"""A network of one's own: three namespaces in a row, with a real DNS server and a real origin at the end.

    client               gateway, where gates run           world
    198.51.100.2 ------- 198.51.100.1     192.0.2.1 ------- 192.0.2.2, 192.0.2.3

Every name under .test, .example and .invalid resolves to the origin's address, so that a request
that should have been stopped would arrive there, and its DNS query would be logged. What the gateway
sends to any address but its own reaches the world, and the links carry no packet of their own (no ARP,
no IPv6): one that reaches the world was sent by what a test did. The gateway forwards nothing: the client
reaches the world through a gate only.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path

import pytest
import trustme

from stoplist import clock
from stoplist.core.counts import Outcome
from stoplist.state import State

CLIENT_ADDRESS = "198.51.100.2"
GATEWAY_ADDRESS = "198.51.100.1"
"""The gateway's, towards the client."""
OUTER_ADDRESS = "192.0.2.1"
"""The gateway's, towards the world."""
ORIGIN_ADDRESS = "192.0.2.2"
LISTED_ADDRESS = "192.0.2.3"
"""The origin's too, for a server that a test says is a listed one."""
META_ADDRESS = "169.254.169.254"
"""The origin's too, for a cloud's metadata server."""
DEAD_ADDRESS = "203.0.113.250"
"""Nobody's: what is sent there reaches the world, and is never answered. getaddrinfo puts it first (it
prefers what is on no network of its own, RFC 6724 rule 9 as glibc has it)."""
RECORDS = {
    "loop.test": ["127.0.0.1"],
    "meta.test": [META_ADDRESS],
    "gate.test": [OUTER_ADDRESS],
    "rebind.test": ["127.0.0.1", ORIGIN_ADDRESS],
    "two.test": [DEAD_ADDRESS, ORIGIN_ADDRESS],
}
"""Names that resolve to something else than the origin's address, in the order of the answer."""
NO_ADDRESS = "gone.test"
"""A name that does not exist (NXDOMAIN), with all names below it."""
STOPLIST = Path(sys.executable).parent / "stoplist"
MITMDUMP = Path(sys.executable).parent / "mitmdump"
SECONDS = 60
"""How long anything may take at all, on a machine that is slow or busy: no test says how fast something is."""
QUIET_SECONDS = 0.15
"""After this long without a packet, earlier connections have closed."""
LATE_SECONDS = 0.3
"""After this long, what was done has had its effect."""
EVER = 2**40
"""Later than any period, in POSIX seconds."""


def need(*programs: str) -> None:
    """Skip where a program is missing; in CI that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"missing in CI: {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


class Process:
    """A process whose output is collected line by line."""

    def __init__(self, command: list[str], **options: object) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self._threads = [
            threading.Thread(target=self._collect, args=args, daemon=True)
            for args in ((self._process.stdout, self.out), (self._process.stderr, self.err))
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _collect(stream, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line)  # noqa: PERF402  seen at once by other threads

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, pattern: str, *, seconds: float = SECONDS, after: int = 0) -> re.Match[str]:
        """The first match in the output from line `after` of stderr on, or a failure that shows it."""
        deadline = time.monotonic() + seconds
        while True:
            ended = self._process.poll() is not None
            if ended:
                self._join()
            if match := re.search(pattern, "".join(self.out) + "".join(self.err[after:])):
                return match
            if ended or time.monotonic() > deadline:
                pytest.fail(f"{pattern!r} not in:\n{''.join(self.out)}{''.join(self.err)}")
            time.sleep(0.01)

    def wait(self, seconds: float = SECONDS) -> int:
        status = self._process.wait(seconds)
        self._join()
        return status

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        if self._process.poll() is None:
            self.send(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(SECONDS)


@dataclass
class Answer:
    """What curl saw."""

    status: int
    body: str
    headers: str
    exit_code: int
    error: str
    proxy_status: int


@dataclass(frozen=True)
class Space:
    """A network namespace and its mount namespace, kept by the process `pid`."""

    pid: int
    folder: Path
    ending: ExitStack
    """Ends what was started here, with the network."""

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wd={self.folder}", *command]

    def start(self, *command: str, **options: object) -> Process:
        process = Process(self.enter(*command), **options)
        self.ending.callback(process.end)
        return process

    def run(self, *command: str, stdin: str = "") -> str:
        """The output of a command that succeeds."""
        done = subprocess.run(
            self.enter(*command), input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def call[T](self, function: Callable[[], T]) -> T:
        """What the function returns in a thread in this network namespace; its sockets can be used anywhere."""

        def enter_and_call() -> T:
            with Path(f"/proc/{self.pid}/ns/net").open() as space:
                os.setns(space.fileno(), os.CLONE_NEWNET)
            return function()

        # A namespace belongs to a thread: one that ends afterwards leaves this one where it is.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(enter_and_call).result()

    def connect(self, address: str, port: int, *, seconds: float = SECONDS) -> socket.socket:
        """A TCP connection from this namespace, usable from here; `address` is numeric."""
        return self.call(lambda: socket.create_connection((address, port), timeout=seconds))


@dataclass
class Gate:
    network: Network
    process: Process
    port: int
    state_dir: Path
    address: str = "127.0.0.1"
    started: date = field(default_factory=lambda: clock.now().date())

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    @property
    def ca(self) -> Path:
        return self.state_dir / "ca-cert.pem"

    def curl(self, url: str, *options: str, trust: Path | None = None, space: Space | None = None) -> Answer:
        """Ask for `url` through the gate. `trust` is the CA that the client knows, the gate's if None."""
        return self.network.curl(url, "--proxy", self.url, "--cacert", str(trust or self.ca), *options, space=space)

    def connect(self, *, space: Space | None = None) -> socket.socket:
        """A TCP connection to the gate, from the gateway if `space` is None."""
        return (space or self.network.gateway).connect(self.address, self.port)

    def send(self, request: bytes, *, space: Space | None = None) -> bytes:
        """Send raw bytes to the gate; what comes back until it closes, or is silent for a second after an answer."""
        answer = b""
        with self.connect(space=space) as connection:
            connection.sendall(request)
            try:
                while data := connection.recv(65536):
                    answer += data
                    if _is_whole(answer):
                        connection.settimeout(1)
            except TimeoutError:
                pass
        return answer

    def log(self) -> str:
        return "".join(self.process.err)

    @property
    def told_of_counts_early(self) -> bool:
        """Whether it said counts on the day on which it was started, which is not over."""
        return '"event": "counts"' in self.log() and clock.now().date() == self.started

    def counts(self) -> Counter[tuple[str | None, Outcome]]:
        """What it has counted once it has ended."""
        return counted(self.state_dir)


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return bool(end) and len(body) >= (int(length[1]) if length else 0)


def counted(state_dir: Path) -> Counter[tuple[str | None, Outcome]]:
    """What is counted in a state directory, exactly, whatever period it was in."""
    state = State.open_read_only(state_dir)
    sums = Counter[tuple[str | None, Outcome]]()
    for each in state.counts(0, EVER):
        sums[each.cell.list, each.cell.outcome] += each.requests
    state.close()
    return sums


@dataclass(frozen=True)
class Traffic:
    """What has reached the world so far; all of it only grows."""

    packets: int
    journal: int
    """Bytes of the origin's journal."""
    queries: int
    """Bytes of the DNS server's log."""


@dataclass
class Network:
    """The three namespaces.

    `origin_ca` signed the origin's certificate, which is in `certificate` (PEM). The origin accepts
    `client_certificate` (a PEM file with key and certificate, whose common name is "client").
    """

    client: Space
    gateway: Space
    world: Space
    folder: Path
    origin_ca: Path
    certificate: bytes
    client_certificate: Path
    _last: Traffic = field(default_factory=lambda: Traffic(0, 0, 0), init=False)
    _since: float = field(default=0, init=False)
    """When `_last` was first seen."""

    def enter(self, *command: str) -> list[str]:
        return self.gateway.enter(*command)

    def start(self, *command: str, **options: object) -> Process:
        return self.gateway.start(*command, **options)

    def gate(
        self,
        policy: Path,
        state_dir: Path,
        *options: str,
        address: str = "127.0.0.1",
        program: Sequence[str] = (str(STOPLIST),),
    ) -> Gate:
        """A gate that listens on an address of the gateway; the client reaches GATEWAY_ADDRESS.

        With STOPLIST_TEST_WORKERS=N in the environment, N workers serve it. It does not wait for connections
        to end.
        """
        if workers := os.environ.get("STOPLIST_TEST_WORKERS"):
            options = ("--workers", workers, *options)
        process = self.start(
            *(*program, "run", str(policy), "--listen", f"{address}:0", "--state-dir", str(state_dir)),
            *("--drain", "0s", *options),
        )
        port = int(process.wait_for(rf"listening on {re.escape(address)}:(\d+)")[1])
        return Gate(self, process, port, state_dir, address)

    def curl(self, url: str, *options: str, space: Space | None = None) -> Answer:
        """What curl gets, run in the gateway if `space` is None."""
        body, headers = self.folder / "body", self.folder / "headers"
        for file in (body, headers):
            file.unlink(missing_ok=True)
        done = subprocess.run(
            (space or self.gateway).enter(
                *("curl", "-sS", "--globoff", "--max-time", str(SECONDS), "-o", str(body), "-D", str(headers)),
                *("-w", "%{http_code} %{http_connect}", *options, "--", url),
            ),
            capture_output=True,
            text=True,
            timeout=10 * SECONDS,
            check=False,
        )
        status, proxy_status = done.stdout.split()
        return Answer(
            int(status),
            body.read_text(errors="replace") if body.exists() else "",
            headers.read_text(errors="replace") if headers.exists() else "",
            done.returncode,
            done.stderr,
            int(proxy_status),
        )

    def connect(self, port: int) -> socket.socket:
        """A TCP connection to a port of 127.0.0.1 in the gateway, usable from here."""
        return self.gateway.connect("127.0.0.1", port)

    def listens(self, port: int) -> bool:
        """Whether something listens on a port of 127.0.0.1 in the gateway."""
        try:
            self.connect(port).close()
        except OSError:
            return False
        return True

    @contextmanager
    def redirect(self, ports: Collection[int], to_port: int) -> Iterator[None]:
        """What the client sends to these TCP ports of anywhere arrives at `to_port` of GATEWAY_ADDRESS."""
        need("nft")
        name = f"diverted_{min(ports)}"
        table = f"""
            table ip {name} {{
              chain from_client {{
                type nat hook prerouting priority dstnat
                iifname client tcp dport {{ {", ".join(map(str, ports))} }} redirect to :{to_port}
              }}
            }}
        """
        self.gateway.run("nft", "-f", "-", stdin=table)
        try:
            yield
        finally:
            self.gateway.run("nft", f"delete table ip {name}")

    def packets(self) -> int:
        """How many packets have reached the world."""
        devices = Path(f"/proc/{self.world.pid}/net/dev").read_text()
        return int(re.search(r"gateway: *\d+ +(\d+)", devices)[1])

    @contextmanager
    def nothing_reaches_the_origin(self) -> Iterator[None]:
        """What is done inside sends no packet into the world: no connection to the origin and no DNS query."""
        before = self._settled()
        yield
        time.sleep(LATE_SECONDS)
        after = self._traffic()
        assert after == before, (
            f"{after.packets - before.packets} packets reached the world: "
            f"{self._journal()[before.journal :]!r} {self._dns_log()[before.queries :]!r}"
        )

    def requests(self) -> list[str]:
        """What the origin was asked for: lines such as ``request GET www.pass.test /``."""
        return [line for line in self.journal() if line.startswith("request")]

    def journal(self) -> list[str]:
        """What the origin noted; see `origin`."""
        return [line.decode() for line in self._journal().splitlines()]

    def queries(self) -> list[str]:
        """What the DNS server was asked: lines such as ``query[A] www.pass.test from 192.0.2.1``."""
        return re.findall(r"query\[.*", self._dns_log().decode())

    def _settled(self) -> Traffic:
        """The traffic so far, once there was none for a while: earlier connections may still be closing."""
        deadline = time.monotonic() + SECONDS
        while True:
            traffic, now = self._traffic(), time.monotonic()
            if traffic != self._last:
                self._last, self._since = traffic, now
            elif now - self._since >= QUIET_SECONDS:
                return traffic
            if now > deadline:
                pytest.fail("packets of earlier connections keep reaching the world")
            time.sleep(0.01)

    def _traffic(self) -> Traffic:
        return Traffic(
            self.packets(), (self.folder / "journal").stat().st_size, (self.folder / "dns.log").stat().st_size
        )

    def _journal(self) -> bytes:
        return (self.folder / "journal").read_bytes()

    def _dns_log(self) -> bytes:
        return (self.folder / "dns.log").read_bytes()


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    need("unshare", "nsenter", "ip", "mount", "dnsmasq", "curl")
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text(f"nameserver {ORIGIN_ADDRESS}\noptions timeout:5 attempts:1\n")
    (folder / "journal").touch()
    (folder / "dns.log").touch()
    authority, client_authority = trustme.CA(), trustme.CA()
    leaf = authority.issue_cert(
        *("pass.test", "*.pass.test", "notlisted.test", "localhost", "two.test", "rebind.test"),
        *("xlisted.test", "listed.test.pass.test", "listed.example", "not-stopped.example"),
        *("bucher.example", "buecher.example", "fass.example"),
        *(ORIGIN_ADDRESS, LISTED_ADDRESS),
    )
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "origin.pem"))
    authority.cert_pem.write_to_path(str(folder / "origin-ca.pem"))
    client_authority.cert_pem.write_to_path(str(folder / "client-ca.pem"))
    client_leaf = client_authority.issue_cert("client.test", common_name="client")
    client_leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    with ExitStack() as ending:
        client, gateway, world = (_space(folder, ending) for _ in range(3))
        _link(client, gateway, world)
        net = Network(
            *(client, gateway, world, folder, folder / "origin-ca.pem"),
            *(leaf.cert_chain_pems[0].bytes(), folder / "client.pem"),
        )
        _serve(world, folder)
        wait_until(lambda: net.curl("http://up.test/").status == 200, "the origin")
        yield net


def _space(folder: Path, ending: ExitStack) -> Space:
    """A namespace that forwards nothing and whose interfaces, but for `lo`, have no IPv6."""
    command = """
        mount --bind "$0" /etc/resolv.conf && ip link set lo up && cd /proc/sys/net &&
        echo 0 >ipv4/ip_forward && if [ -e ipv6 ]; then echo 1 >ipv6/conf/default/disable_ipv6; fi &&
        cd / && echo ready && exec sleep 3600
    """
    process = Process(["unshare", "--net", "--mount", "sh", "-c", command, f"{folder}/resolv.conf"])
    ending.callback(process.end)
    process.wait_for("ready")
    return Space(process.pid, folder, ending)


def _link(client: Space, gateway: Space, world: Space) -> None:
    """Two pairs of interfaces, each named for what is at its other end."""
    origin = [ORIGIN_ADDRESS, LISTED_ADDRESS]
    _ip(
        gateway,
        f"link add name client type veth peer name gateway netns {client.pid}",
        f"link add name world type veth peer name gateway netns {world.pid}",
        *_interface("client", [GATEWAY_ADDRESS], [CLIENT_ADDRESS]),
        *_interface("world", [OUTER_ADDRESS], origin),
        f"route add default via {ORIGIN_ADDRESS}",
    )
    _ip(
        client,
        *_interface("gateway", [CLIENT_ADDRESS], [GATEWAY_ADDRESS]),
        f"route add default via {GATEWAY_ADDRESS}",
    )
    _ip(
        world,
        *_interface("gateway", origin, [OUTER_ADDRESS]),
        f"address add {META_ADDRESS}/32 dev gateway",
        f"route add default via {OUTER_ADDRESS}",
    )
    for space, device in ((gateway, "client"), (gateway, "world"), (client, "gateway"), (world, "gateway")):
        wait_until(partial(_is_up, space, device), f"the link to the {device}")


def _interface(device: str, addresses: list[str], neighbours: list[str]) -> Iterator[str]:
    """Lines for ``ip -batch``. With ARP off, a frame for who is no neighbour is sent, and nobody takes it."""
    yield f"link set {device} address {_hardware(addresses[0])} arp off"
    yield from (f"address add {address}/24 dev {device}" for address in addresses)
    yield f"link set {device} up"
    owner = _hardware(neighbours[0])
    yield from (f"neigh add {address} lladdr {owner} dev {device} nud permanent" for address in neighbours)


def _hardware(address: str) -> str:
    return "02:00:" + socket.inet_aton(address).hex(":")


def _is_up(space: Space, device: str) -> bool:
    return " UP " in space.run("ip", "-brief", "link", "show", device)


def _ip(space: Space, *lines: str) -> None:
    space.run("ip", "-batch", "-", stdin="\n".join(lines))


def wait_until(claim: Callable[[], bool], what: str) -> None:
    """Wait for a state, however long the machine takes to reach it."""
    deadline = time.monotonic() + SECONDS
    while not claim():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {SECONDS} s: {what}")
        time.sleep(0.01)


def _serve(world: Space, folder: Path) -> None:
    """Start the DNS server and the origin."""
    names = {zone: [ORIGIN_ADDRESS] for zone in ("test", "example", "invalid")} | RECORDS
    world.start(
        *("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"),
        *(f"--listen-address={ORIGIN_ADDRESS}", "--bind-interfaces", "--pid-file=", "--log-queries"),
        *(f"--address=/{name}/{address}" for name, addresses in names.items() for address in reversed(addresses)),
        *(f"--local=/{NO_ADDRESS}/", f"--log-facility={folder}/dns.log"),
    )
    origin = world.start(
        *(sys.executable, str(Path(__file__).parent / "origin.py"), f"{folder}/origin.pem"),
        *(f"{folder}/client-ca.pem", f"{folder}/journal"),
    )
    origin.wait_for("ready")
