"""A network of one's own: a namespace with a real DNS server and a real origin, and gates in it.

Every name under .test, .example and .invalid resolves to the origin's address, so that a request
that should have been stopped would arrive there, and its DNS query would be logged.
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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

ORIGIN_ADDRESS = "127.0.0.2"
STOPLIST = Path(sys.executable).parent / "stoplist"
MITMDUMP = Path(sys.executable).parent / "mitmdump"
SECONDS = 15
"""How long anything may take to start or to end."""


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
            thread.join(5)


@dataclass
class Answer:
    """What curl saw."""

    status: int
    body: str
    headers: str
    exit_code: int
    error: str
    proxy_status: int


@dataclass
class Gate:
    network: Network
    process: Process
    port: int
    state_dir: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.state_dir / "ca-cert.pem"

    def curl(self, url: str, *options: str, trust: Path | None = None) -> Answer:
        """Ask for `url` through the gate. `trust` is the CA that the client knows, the gate's if None."""
        return self.network.curl(url, "--proxy", self.url, "--cacert", str(trust or self.ca), *options)

    def send(self, request: bytes) -> bytes:
        """Send raw bytes to the gate; all that comes back until it closes or is silent for a second."""
        answer = b""
        with self.network.connect(self.port) as connection:
            connection.sendall(request)
            connection.settimeout(1)
            try:
                while data := connection.recv(65536):
                    answer += data
            except TimeoutError:
                pass
        return answer

    def log(self) -> str:
        return "".join(self.process.err)


@dataclass
class Network:
    """The namespace. `origin_ca` signed the origin's certificate, whose DER bytes are in `certificate`."""

    pid: int
    folder: Path
    origin_ca: Path
    certificate: bytes

    def enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", f"--wd={self.folder}", *command]

    def start(self, *command: str, **options: object) -> Process:
        return Process(self.enter(*command), **options)

    def gate(self, policy: Path, state_dir: Path, *options: str) -> Gate:
        process = self.start(
            str(STOPLIST), "run", str(policy), "--listen", "127.0.0.1:0", "--state-dir", str(state_dir), *options
        )
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        return Gate(self, process, port, state_dir)

    def curl(self, url: str, *options: str) -> Answer:
        body, headers = self.folder / "body", self.folder / "headers"
        for file in (body, headers):
            file.unlink(missing_ok=True)
        done = subprocess.run(
            self.enter(
                *("curl", "-sS", "--globoff", "--max-time", "20", "-o", str(body), "-D", str(headers)),
                *("-w", "%{http_code} %{http_connect}", *options, "--", url),
            ),
            capture_output=True,
            text=True,
            timeout=60,
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
        """A TCP connection to a port of 127.0.0.1 in the namespace, usable from here."""

        def enter_and_connect() -> socket.socket:
            with Path(f"/proc/{self.pid}/ns/net").open() as space:
                os.setns(space.fileno(), os.CLONE_NEWNET)
            return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)

        # A namespace belongs to a thread: one that ends afterwards leaves this one where it is.
        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(enter_and_connect).result()

    @contextmanager
    def nothing_reaches_the_origin(self) -> Iterator[None]:
        """What is done inside must cause no connection to the origin and no DNS query."""
        before = self._journal(), self._queries()
        yield
        time.sleep(0.3)
        assert (self._journal(), self._queries()) == before

    def requests(self) -> list[str]:
        """What the origin was asked for: lines such as ``request GET www.pass.test /``."""
        return [line for line in self._journal() if line.startswith("request")]

    def _journal(self) -> list[str]:
        return (self.folder / "journal").read_text().splitlines()

    def _queries(self) -> list[str]:
        return re.findall(r"query\[.*", (self.folder / "dns.log").read_text())


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    need("unshare", "nsenter", "ip", "mount", "dnsmasq", "curl")
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    (folder / "journal").touch()
    (folder / "dns.log").touch()
    authority = trustme.CA()
    leaf = authority.issue_cert("pass.test", "*.pass.test", "notlisted.test", "localhost", ORIGIN_ADDRESS)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / "origin.pem"))
    authority.cert_pem.write_to_path(str(folder / "origin-ca.pem"))
    processes: list[Process] = []
    space = Process(
        [
            *("unshare", "--net", "--mount", "sh", "-c"),
            'ip link set lo up && mount --bind "$0" /etc/resolv.conf && echo ready && exec sleep 3600',
            str(folder / "resolv.conf"),
        ]
    )
    processes.append(space)
    try:
        space.wait_for("ready")
        net = Network(space.pid, folder, folder / "origin-ca.pem", leaf.cert_chain_pems[0].bytes())
        processes.append(
            net.start(
                *("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=root"),
                *("--listen-address=127.0.0.1", "--bind-interfaces", "--pid-file=", "--log-queries"),
                *(f"--address=/{zone}/{ORIGIN_ADDRESS}" for zone in ("test", "example", "invalid")),
                f"--log-facility={folder}/dns.log",
            )
        )
        origin = net.start(
            sys.executable, str(Path(__file__).parent / "origin.py"), ORIGIN_ADDRESS, f"{folder}/origin.pem",
            f"{folder}/journal",
        )  # fmt: skip
        processes.append(origin)
        origin.wait_for("ready")
        deadline = time.monotonic() + SECONDS
        while net.curl("http://up.test/").status != 200:
            if time.monotonic() > deadline:
                pytest.fail("the origin cannot be reached")
        yield net
    finally:
        for process in reversed(processes):
            process.end()
