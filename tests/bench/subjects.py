"""What is compared: proxies and origins as processes, each with the same list, and what they use.

Every proxy runs with its defaults but for the list, no log, no cache, and as many connections as the machine
allows. mitmproxy has no list. They find the sites of the load in /etc/hosts, which is this bench's own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from stoplist.core.lists.envelope import build
from tests.bench.load import LOOPBACK, SITES, BrokenError
from tests.e2e.network import MITMDUMP, STOPLIST, Process
from tests.published import POLICY, Publisher

DIRECT, SQUID, TINYPROXY = "direct", "squid", "tinyproxy"
PASSING, INTERCEPTING, ANSWERING = "mitmproxy-pass", "mitmproxy-intercept", "mitmproxy-answer"
OURS, BEFORE = "stoplist", "stoplist-before"
PROGRAMS = {OURS: STOPLIST}
"""The builds of Stoplist that run: this one, and where one is named, another as `BEFORE`."""
HTTP_PORT, TLS_PORT, REPLAY_PORT = 8080, 8443, 8444
"""Of the origins: nginx with HTTP, nginx with TLS, the one that replays TLS records."""
START_SECONDS = 300
WANTED_FILES = 65536
WORLD = "STOPLIST_BENCH_WORLD"
"""Set in the environment of a command that runs in namespaces of its own, to its process id there."""
CACHE = Path(tempfile.gettempdir()) / f"stoplist-bench-{os.getuid()}"
"""Lists, kept from run to run."""
CACHE_DAYS = 30


def enter_own_world() -> None:
    """Run this command again in a mount, network and PID namespace, with an /etc/hosts of its own.

    There all ports and settings are its own, and whatever it started ends with it. Needs root.
    """
    if os.environ.get(WORLD) == str(os.getpid()):
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the first process of a namespace ignores it
        raise_limits()
        return
    if os.getuid():
        sys.exit("needs root, for namespaces of its own")
    with tempfile.NamedTemporaryFile("w", prefix="stoplist-bench-hosts-", delete=False) as hosts:
        hosts.write(f"127.0.0.1 localhost {' '.join(SITES)}\n")
    Path(hosts.name).chmod(0o644)
    root = Path(__file__).parent.parent.parent
    script = """
        mount --bind "$0" /etc/hosts && rm "$0" && ip link set lo up && mount -t tmpfs tmpfs /dev/shm &&
        if [ -d /run/squid ]; then mount -t tmpfs tmpfs /run/squid && chown proxy /run/squid; fi &&
        exec "$@"
    """
    spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*spaces, "sh", "-c", script, hosts.name, sys.executable, *sys.argv]
    os.execvpe("unshare", command, {**os.environ, WORLD: "1", "PYTHONPATH": str(root)})


def raise_limits() -> None:
    """As many open files as this process may have, for it and for all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (WANTED_FILES, max(hard, WANTED_FILES)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_tunnels() -> int:
    """How many tunnels a proxy can hold: two files each, and some to spare."""
    return (most_files() - 1000) // 2


@dataclass(frozen=True)
class ListFiles:
    """One list of domains as each proxy reads it."""

    domains: int
    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "files" / "policy.yaml"

    @property
    def squid(self) -> Path:
        return self.folder / "squid.txt"

    @property
    def tinyproxy(self) -> Path:
        return self.folder / "tinyproxy.txt"


def domain(number: int) -> str:
    """What the list holds in this place, counted from 0."""
    return f"d{number}.listed{number % 97}.test" if number else "listed.test"


def domains(count: int) -> Iterator[str]:
    return map(domain, range(count))


def publish(publisher: Publisher, count: int, serial: int, days: float = 1) -> bytes:
    """The bytes of a list of so many domains."""
    now = datetime.now(UTC)
    envelope = build(
        domains(count),
        list_id="test",
        serial=serial,
        issued=now,
        expires=now + timedelta(days=days),
        list_key=publisher.list_key,
    )
    return envelope.signed_by(publisher.signer).to_bytes()


def new_publisher(folder: Path) -> Publisher:
    """A publisher with a policy that lets clients reach an origin on loopback, and polls as by default."""
    publisher = Publisher.new(folder, datetime.now(UTC))
    policy = re.sub(r"^watch:.*\n", "", POLICY, flags=re.MULTILINE)
    publisher.policy.write_text(policy + "upstream: {allow: [127.0.0.0/8]}\n")
    return publisher


def list_files(count: int) -> ListFiles:
    """A list of so many domains, from the cache or made anew (10 M take some minutes)."""
    CACHE.mkdir(mode=0o700, exist_ok=True)
    if CACHE.stat().st_uid != os.getuid():
        sys.exit(f"{CACHE}: not ours; remove it")
    files = ListFiles(count, CACHE / str(count))
    complete = files.folder / "complete"
    if not complete.exists() or time.time() - complete.stat().st_mtime > (CACHE_DAYS - 1) * 86400:
        shutil.rmtree(files.folder, ignore_errors=True)
        files.folder.mkdir()
        publisher = new_publisher(files.policy.parent)
        publisher.list.write_bytes(publish(publisher, count, 1, CACHE_DAYS))
        files.squid.write_text("".join(f".{domain}\n" for domain in domains(count)))
        files.tinyproxy.write_text("".join(f"{domain}\n*.{domain}\n" for domain in domains(count)))
        complete.touch()
    return files


@dataclass
class Subject:
    """A proxy or an origin that runs, or nothing (a direct connection) where it has no process."""

    name: str
    port: int | None = None
    process: Process | None = None
    ca: Path | None = None
    start_seconds: float = 0

    @property
    def keeps_connections(self) -> bool:
        """Whether a client can send a second HTTP request on one connection."""
        return self.name != TINYPROXY

    def pids(self) -> list[int]:
        return _tree(self.process.pid) if self.process else []

    def cpu_seconds(self) -> float:
        """What all processes have used, those that ended and were waited for included."""
        return sum(_own_cpu_seconds(pid) + _ended_cpu_seconds(pid) for pid in self.pids())

    def memory_bytes(self) -> int:
        """The proportional set size: what processes share counts once."""
        return sum(_pss_bytes(pid) for pid in self.pids())

    def wait_until_it_listens(self, port: int) -> None:
        start = time.monotonic()
        while time.monotonic() - start < START_SECONDS:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((LOOPBACK, port)).close()
                self.start_seconds = time.monotonic() - start
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.01)
                break
        raise BrokenError(f"it does not listen: {''.join(self.process.err)[-500:].strip()}")

    def end(self) -> None:
        pids = self.pids()
        try:
            self.process.end()
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@dataclass
class Yard:
    """Where subjects are started: a folder for their files, and ports that nobody else has."""

    folder: Path
    _ports: Iterator[int] = field(default_factory=lambda: iter(range(20000, 30000)))

    @contextlib.contextmanager
    def proxy(self, name: str, files: ListFiles, cores: Iterable[int], workers: int = 1) -> Iterator[Subject]:
        """A proxy that listens, on these cores."""
        if name == DIRECT:
            yield Subject(DIRECT)
            return
        port = next(self._ports)
        folder = self.folder / str(port)
        folder.mkdir()
        command, ca = COMMANDS[name](folder, port, files, workers)
        with _started(name, command, cores, port) as subject:
            subject.port, subject.ca = port, ca
            yield subject

    @contextlib.contextmanager
    def origins(self, cores: Iterable[int]) -> Iterator[list[Subject]]:
        """nginx and the replaying origin."""
        certificate = trustme.CA().issue_cert(*SITES)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "origin.pem"))
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(folder=self.folder, http=HTTP_PORT, tls=TLS_PORT, files=most_files()))
        nginx = ["nginx", "-c", str(config), "-e", f"{self.folder}/nginx.log"]
        replaying = [sys.executable, "-m", "tests.bench.origin", str(REPLAY_PORT)]
        with (
            _started("nginx", nginx, cores, TLS_PORT) as first,
            _started("origin", replaying, cores, REPLAY_PORT) as second,
        ):
            yield [first, second]


@contextlib.contextmanager
def _started(name: str, command: list[str], cores: Iterable[int], port: int) -> Iterator[Subject]:
    process = Process(["taskset", "--cpu-list", ",".join(map(str, cores)), *command])
    subject = Subject(name, process=process)
    try:
        subject.wait_until_it_listens(port)
        yield subject
    finally:
        subject.end()


NGINX = """\
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log crit;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; client_header_timeout 1h;
  server {{ listen 127.0.0.1:{http} backlog=4096; return 200 "origin\\n"; }}
  server {{
    listen 127.0.0.1:{tls} ssl backlog=4096; ssl_certificate {folder}/origin.pem;
    ssl_certificate_key {folder}/origin.pem; ssl_session_tickets off; return 200 "origin\\n";
  }}
}}
"""
SQUID_CONFIG = """\
http_port 127.0.0.1:{port}
workers {workers}
acl listed dstdomain "{files.squid}"
http_access deny listed
http_access allow all
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
client_db off
pinger_enable off
netdb_filename none
pid_filename {pid}
max_filedescriptors {most}
shutdown_lifetime 0 seconds
visible_hostname squid.test
"""
TINYPROXY_CONFIG = """\
Listen 127.0.0.1
Port {port}
User root
Timeout 3600
MaxClients 20000
LogLevel Critical
Filter "{files.tinyproxy}"
FilterType fnmatch
FilterDefaultDeny No
FilterCaseSensitive Yes
"""
ANSWER = """\
from mitmproxy import http

def request(flow):
    if flow.request.host == "www.listed.test":
        flow.response = http.Response.make(403, b"x" * 6000, {"Content-Type": "text/html"})
"""

type Command = tuple[list[str], Path | None]
"""What to run, and the CA that it signs with."""


def _squid(folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    config = folder / "squid.conf"
    pid = "none" if workers == 1 else "/run/squid/squid.pid"
    config.write_text(SQUID_CONFIG.format(port=port, workers=workers, files=files, pid=pid, most=most_files()))
    return ["squid", "-N" if workers == 1 else "--foreground", "-f", str(config)], None


def _tinyproxy(folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    config = folder / "tinyproxy.conf"
    config.write_text(TINYPROXY_CONFIG.format(port=port, files=files))
    return ["tinyproxy", "-d", "-c", str(config)], None


def _mitmproxy(folder: Path, port: int, *options: str) -> Command:
    settings = [f"confdir={folder}", "flow_detail=0", "ssl_insecure=true"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    command = [str(MITMDUMP), "-q", "--listen-host", LOOPBACK, "--listen-port", str(port), *chosen, *options]
    return command, folder / "mitmproxy-ca-cert.pem"


def _passing(folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    return _mitmproxy(folder, port, "--ignore-hosts", ".*")


def _intercepting(folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    return _mitmproxy(folder, port)


def _answering(folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    """The fastest that mitmproxy gives a page: an add-on answers by itself, and no server is asked for anything."""
    script = folder / "answer.py"
    script.write_text(ANSWER)
    return _mitmproxy(
        folder, port, "-s", str(script), "--set", "upstream_cert=false", "--set", "connection_strategy=lazy"
    )


def _stoplist(build: str, folder: Path, port: int, files: ListFiles, workers: int) -> Command:
    state = folder / "state"
    command = [str(PROGRAMS[build]), "run", str(files.policy), "--listen", f"{LOOPBACK}:{port}"]
    command += ["--state-dir", str(state)]
    return [*command, *(("--workers", str(workers)) if workers > 1 else ())], state / "ca-cert.pem"


COMMANDS: dict[str, Callable[[Path, int, ListFiles, int], Command]] = {
    SQUID: _squid,
    TINYPROXY: _tinyproxy,
    PASSING: _passing,
    INTERCEPTING: _intercepting,
    ANSWERING: _answering,
    OURS: functools.partial(_stoplist, OURS),
    BEFORE: functools.partial(_stoplist, BEFORE),
}


@functools.cache
def has_workers() -> bool:
    """Whether this build of Stoplist can run more than one."""
    done = subprocess.run([str(STOPLIST), "run", "--help"], capture_output=True, text=True, check=True)
    return "--workers" in done.stdout


def _tree(pid: int) -> list[int]:
    """A process and all that descend from it; none where it has ended."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(found for child in children for found in _tree(int(child)))]


def _own_cpu_seconds(pid: int) -> float:
    """To the nanosecond, ended threads included; /proc/PID/stat knows hundredths of a second."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # the clock's id is what clock_getcpuclockid(3) returns
    except OSError:
        return 0


def _ended_cpu_seconds(pid: int) -> float:
    """What children used that the process has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    try:
        return int(re.search(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1]) * 1024
    except OSError:
        return 0
