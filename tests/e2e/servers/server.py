"""A web server under test, and how all of them are started in the origin's network namespace.

A server listens on one port of the web ports, 8000 + its number. An nftables rule in the origin's namespace makes it
reachable from outside on 9000 + its number too, which the gate does not take for a web port.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.network import ORIGIN_ADDRESS, SECONDS, Network, Process, need
from tests.e2e.servers.conversations import LISTED_HOST, PASS_HOST, ordinary

SERVED_AS_PASS = b"served as pass"
SERVED_AS_LISTED = b"served as listed"
ROOT = Path(__file__).parent.parent.parent.parent


@dataclass(frozen=True)
class Server:
    """In `command`, `files` and `environment`, {port}, {other_port}, {folder} and {sites} are replaced.

    {folder} is the server's own, where `files` are written; {sites} holds a folder with an index.html for each virtual
    host. A server whose `speaks` is "h2" knows HTTP/2 without TLS and nothing else.
    """

    name: str
    number: int
    command: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    build: Sequence[str] = ()
    """A command that runs to its end before the server is started."""
    modules: Sequence[str] = ()
    """Python modules that it needs."""
    paths: Sequence[str] = ()
    """Files of other packages that it needs."""
    speaks: str = "http/1.1"

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def port(self) -> int:
        """The port that it listens on, a web port."""
        return 8000 + self.number

    @property
    def other_port(self) -> int:
        """The port that is redirected to `port`; no web port."""
        return 9000 + self.number

    @property
    def lacks(self) -> str:
        """What this machine does not have, or ""."""
        programs = [line[0] for line in (self.build, self.command) if line and "{" not in line[0]]
        missing = [program for program in programs if shutil.which(program) is None]
        missing += [f"the Python module {name}" for name in self.modules if importlib.util.find_spec(name) is None]
        missing += [path for path in self.paths if not Path(path).exists()]
        return ", ".join(missing)

    def need(self) -> None:
        """Skip where something is missing; in CI that is a failure."""
        need(*(line[0] for line in (self.build, self.command) if line and "{" not in line[0]))
        if self.lacks and os.environ.get("CI"):
            pytest.fail(f"missing in CI: {self.lacks}")
        if self.lacks:
            pytest.skip(f"{self.name} needs {self.lacks}")


def python(*arguments: str) -> tuple[str, ...]:
    """A command of the Python that runs the tests."""
    return (sys.executable, *arguments)


@contextmanager
def serving(net: Network, servers: Sequence[Server]) -> Iterator[list[Server]]:
    """Start the servers that this machine has, wait until each answers, and end them."""
    need("nft")
    present = [server for server in servers if not server.lacks]
    present.sort(key=lambda server: bool(server.build))  # the others start meanwhile
    ports = ", ".join(f"{server.other_port} : {server.port}" for server in present)
    table = f"""
        table ip other_ports {{
          chain from_gateway {{
            type nat hook prerouting priority dstnat
            iifname gateway ip protocol tcp redirect to : tcp dport map {{ {ports} }}
          }}
        }}
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # some servers give up root
        net.world.run("nft", "-f", "-", stdin=table)
        _write_sites(Path(folder) / "sites")
        processes: list[_Started] = []
        try:
            processes += (_start(net, server, Path(folder)) for server in present)
            for server, process in zip(present, processes, strict=True):
                _wait_for_answer(net, server, process)
            yield present
        finally:
            for process in processes:
                process.stop()
            net.world.run("nft", "delete table ip other_ports")


class _Started(Process):
    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        """End it, and do not wait for the connections that it has."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.wait()


def _write_sites(sites: Path) -> None:
    for host, marker in (
        (PASS_HOST, SERVED_AS_PASS),
        (LISTED_HOST, SERVED_AS_LISTED),
        ("other", b"served as another"),
    ):
        (sites / host).mkdir(parents=True)
        (sites / host / "index.html").write_bytes(marker + b"\n")


def _start(net: Network, server: Server, parent: Path) -> _Started:
    folder = parent / server.name.replace(" ", "-")
    folder.mkdir()
    values = {
        "port": str(server.port),
        "other_port": str(server.other_port),
        "folder": str(folder),
        "sites": f"{parent}/sites",
    }

    def fill(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    for name, text in server.files.items():
        path = folder / fill(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(fill(text))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    environment |= {name: fill(value) for name, value in server.environment.items()}

    def start(command: Sequence[str]) -> _Started:
        return _Started(net.world.enter("env", f"--chdir={folder}", *map(fill, command)), env=environment)

    if server.build:
        build = start(server.build)
        assert build.wait(4 * SECONDS) == 0, "".join(build.err)
    return start(server.command)


def _wait_for_answer(net: Network, server: Server, process: _Started) -> None:
    deadline = time.monotonic() + SECONDS
    answer = b""
    while time.monotonic() < deadline and not process.ended:
        try:
            with net.world.connect(ORIGIN_ADDRESS, server.port, seconds=2) as connection:
                connection.sendall(ordinary(server.speaks, PASS_HOST).sends[0])
                while SERVED_AS_PASS not in answer and (part := connection.recv(65536)):
                    answer += part
        except OSError:
            pass
        if SERVED_AS_PASS in answer:
            return
        time.sleep(0.05)
    pytest.fail(f"{server.name} does not answer: {answer!r} {''.join(process.out)}{''.join(process.err)}")
