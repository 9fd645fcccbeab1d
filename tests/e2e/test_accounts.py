"""Another account on the gate's machine: what it can see of a gate at work."""

from __future__ import annotations

import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.desk import Desk
from tests.e2e.network import ORIGIN_ADDRESS, Network, need
from tests.e2e.traces import METRICS
from tests.e2e.ways import get, read_head, receive

ALL_OF_IT = """
find "$@" -path '/proc/*/task' -prune -o -type f -print 2>/dev/null | while read -r file; do
  echo "$file"
  timeout 2 cat "$file" 2>/dev/null | tr -cd '[:print:]\\n'
done
"""
"""Every file below some folders that can be read, with its name."""
PRIVATE = ("environ", "maps", "mem", "fd/0", "cwd/.", "root/.", "stack", "io")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that every account of the machine may look into, as far as its path goes."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _address(host: str) -> str:
    """As /proc/net/tcp has it."""
    return f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}"


@pytest.mark.parametrize("made_by", ["the gate", "somebody else"])
def test_another_account_sees_addresses_as_of_any_program_and_nothing_of_the_gates_own(
    net: Network, desk: Desk, open_folder: Path, made_by: str
):
    need("setpriv", "find", "timeout")
    state = open_folder / "state"
    if made_by == "somebody else":
        state.mkdir(mode=0o755)
    desk.policy.write_text(desk.policy.read_text() + METRICS)
    gate = net.gate(desk.policy, state)
    token = secrets.token_hex(8)

    def as_nobody(*command: str) -> str:
        return net.gateway.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command)

    try:
        with gate.connect() as tunnel, gate.connect() as page:
            tunnel.sendall(f"CONNECT {token}.pass.test:22 HTTP/1.1\r\n\r\n".encode())
            assert b" 200 " in read_head(tunnel)
            assert receive(tunnel, 4) == b"SSH-"
            page.sendall(get(f"{token}.listed.test".encode(), target=f"http://{token}.listed.test/{token}".encode()))
            assert b" 403 " in read_head(page)
            readable = as_nobody("sh", "-c", f"cd /; {ALL_OF_IT}:", "sh", f"/proc/{gate.process.pid}", str(open_folder))
            for name in PRIVATE:
                denied = as_nobody(
                    "sh", "-c", 'cd /; cat "$0" 2>&1 >/dev/null || ls "$0" 2>&1; :', f"/proc/{gate.process.pid}/{name}"
                )
                assert "ermission denied" in denied or "not permitted" in denied, name
        assert f"/proc/{gate.process.pid}/cmdline\n" in readable
        assert str(desk.policy) in readable
        assert _address(ORIGIN_ADDRESS) in readable, "the system tells everybody who is connected to whom"
        assert token not in readable
        assert ("BEGIN CERTIFICATE" in readable) == (made_by == "somebody else"), "ca-cert.pem is for all"
        assert "PRIVATE KEY" not in readable
        assert "SQLite format" not in readable
        assert "vnd.stoplist.list" not in readable
    finally:
        gate.process.end()
