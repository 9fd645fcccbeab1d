"""The README's commands do what it says, from a bare clone in a folder whose path has a space."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.network import Process
from tests.e2e.origin import Origin

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROXY = "http://127.0.0.1:8080"


def _command(end: str) -> str:
    (command,) = re.findall(rf"^python3 -m venv .*{re.escape(end)}$", README, re.MULTILINE)
    return command


def test_the_two_commands_are_there():
    assert _command(".venv/bin/stoplist run").count("&&") == 2
    assert _command(".venv/bin/pytest").count("&&") == 2


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """The run command, started in a fresh clone; the folder of its state."""
    if not os.environ.get("CI") and not os.environ.get("STOPLIST_TEST_CLONE"):
        pytest.skip("installs a clone from the package registry: in CI, or with STOPLIST_TEST_CLONE=1")
    clone = tmp_path / "a bare clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    command = _command(".venv/bin/stoplist run")
    process = Process(
        ["bash", "-c", command.replace(".venv/bin/stoplist", "exec .venv/bin/stoplist")],
        cwd=clone,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state home")},
    )
    process.wait_for(r"listening on 127\.0\.0\.1:8080", seconds=300)
    yield tmp_path / "state home" / "stoplist"
    process.send(signal.SIGTERM)
    assert process.wait() == 0


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[tuple[int, bytes, Path]]:
    """An HTTPS origin on this machine: its port, its certificate (DER), its journal."""
    leaf = trustme.CA().issue_cert("localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    journal = tmp_path / "journal"
    with Origin(("127.0.0.1", 0), journal, context) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode()), journal
        server.shutdown()


def _curl(*options: str) -> str:
    return subprocess.run(
        ["curl", "-sS", "-x", PROXY, *options], capture_output=True, text=True, timeout=60, check=False
    ).stdout


@pytest.mark.timeout(600)
def test_run_command_serves_from_a_bare_clone(running: Path, origin: tuple[int, bytes, Path]):
    for url in (
        "http://listed.example/",
        "http://www.listed.example/",
        "https://listed.example/",
        "https://a.listed.test/",
    ):
        seen = _curl("--cacert", str(running / "ca-cert.pem"), "-H", "Accept: text/html", "-w", "%{http_code}", url)
        assert "Access to this site was stopped" in seen
        assert seen.endswith("403")

    port, certificate, journal = origin
    assert journal.read_text() == ""
    shown = subprocess.run(
        [
            "openssl",
            "s_client",
            "-proxy",
            "127.0.0.1:8080",
            "-connect",
            f"localhost:{port}",
            "-servername",
            "localhost",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout
    pem = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.DOTALL)[0]
    assert hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest() == hashlib.sha256(certificate).digest()
    assert journal.read_text().startswith("connection ")
