"""The program `stoplist` for tests that start it hundreds of times: each start is a fork of one process.

Nearly all that a short command costs is to import what it needs and to compile the templates of the page. `serve`
does that once, and loads a policy to do it. The program that `preloaded` writes into a folder hands over its
arguments, environment, folder and descriptors on a socket; a child is forked there that takes them and runs the
command line, and the program ends with its status.

Rules
  - A command is a process of its own as ever: it has the caller's environment, folder, stdin, stdout and stderr,
    and the signals that the program is sent.
  - A command whose environment has Python import something else, or that has not all of stdin, stdout and stderr, is
    the real program.

  >>> with preloaded(folder) as programs:          # doctest: +SKIP
  ...     subprocess.run([programs / "stoplist", "--version"])
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stoplist
from stoplist.cli import main
from stoplist.loading import load
from tests.fixed_time import NOW

POLICY = Path(__file__).parents[2] / "policies" / "demo.yaml"
REAL = Path(sys.executable).parent / "stoplist"
_MAX_MESSAGE = 1024 * 1024
_PROGRAM = f"""\
#!/bin/sh
'''exec' '{sys.executable}' -ISS "$0" "$@" # the path may hold a space, which no first line may
' '''
import _signal, array, json, os, socket, sys
is_whole = all(os.path.exists(f"/proc/self/fd/{{file}}") for file in range(3))
if not is_whole or any(name.startswith("PYTHON") for name in os.environ):
    os.execv({str(REAL)!r}, [{str(REAL)!r}, *sys.argv[1:]])
here = os.path.dirname(os.path.abspath(__file__))
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect("\\0stoplist-" + here)
    said = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()])
    files = array.array("i", range(3))
    server.sendmsg([said.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    child = int(server.recv(16))
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
        _signal.signal(number, lambda number, _: os.kill(child, number))
    status = int(server.recv(16) or 1)
sys.exit(status)
"""


@contextmanager
def preloaded(folder: Path) -> Iterator[Path]:
    """A folder with the program `stoplist` in it, for as long as this lasts."""
    folder.mkdir()
    program = folder / "stoplist"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    command = [sys.executable, "-m", __name__, str(folder)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield folder
    finally:
        server.terminate()
        server.communicate()


def serve(folder: str) -> None:
    """Import what commands need and load a policy once, then fork a child for each that comes, until told to end."""
    for module in pkgutil.walk_packages(stoplist.__path__, "stoplist."):
        importlib.import_module(module.name)
    load(POLICY, now=NOW)
    gc.freeze()  # a child that collects garbage would have each page of this copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(f"\0stoplist-{folder}")
        listening.listen(64)
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(connection)
            connection.close()


def _answer(connection: socket.socket) -> None:
    """Fork once more: one process runs the command, this one tells its number, waits for it and tells its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    data, ancillary, *_ = connection.recvmsg(_MAX_MESSAGE, socket.CMSG_SPACE(3 * array.array("i").itemsize))
    files = array.array("i")
    for _, _, handed in ancillary:
        files.frombytes(handed)
    arguments, environment, folder = json.loads(data)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(arguments, environment, folder, list(files))
    for file in files:
        os.close(file)
    connection.send(str(child).encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.send(str(status).encode())
    os._exit(0)


def _run(arguments: list[str], environment: dict[str, str], folder: str, files: list[int]) -> None:
    status: int | str | None = 1
    try:
        for place, file in enumerate(files):
            os.dup2(file, place)
            os.close(file)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [str(REAL), *arguments]
        sys.exit(main(prog_name="stoplist"))
    except SystemExit as error:
        status = error.code
    finally:
        sys.stdout.flush()
        os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    serve(sys.argv[1])
