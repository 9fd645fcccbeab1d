"""Promise 4: after a mixed session nothing that was asked for is in any sink."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from tests.e2e.desk import Desk
from tests.e2e.network import ORIGIN_ADDRESS, Gate, Network

REQUESTS = 500


def _raw(kind: int, token: str) -> bytes:
    host = f"{token}.listed.test"
    return [
        f"GET http://{host}/{token} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {token}\r\n\r\n".encode(),
        f"CONNECT {host}:443 HTTP/1.1\r\n\r\n{token} is no TLS at all\r\n".encode(),
        f"CONNECT {token}.pass.test:80 HTTP/1.1\r\n\r\nGET /{token} HTTP/1.1\r\nHost: pass.test\r\n\r\n".encode(),
        f"GET http://{host}:99999/{token} HTTP/1.1\r\n\r\n".encode(),
        f"GET /{token} HTTP/1.1\r\n\r\n".encode(),
        f"GET http://{token}.pass.test/ HTTP/1.1\r\nHost: a\r\nHost: {host}\r\n\r\n".encode(),
        f"{token} {token} {token}\r\n\r\n".encode(),
        f"POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: x{token}\r\n\r\n".encode(),
        f"POST http://{host}/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\n{token}".encode(),
        f"CONNECT xn--{token}-\xe9:443 HTTP/1.1\r\n\r\n".encode("latin-1"),
        f"CONNECT [{token}]:443 HTTP/1.1\r\n\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01" + token.encode() * 40,
        f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode() + b"\x16\x03\x01\x01\x00\x01\x00" + token.encode() * 60,
    ][kind % 13]


def _session(net: Network, gate: Gate, chance: random.Random) -> set[str]:
    """Ask for 500 things in many ways; every distinct name, path and user agent that was used."""
    used: set[str] = set()
    for number in range(REQUESTS - 60):
        token = f"t{chance.getrandbits(48):012x}"
        used.add(token)
        with net.connect(gate.port) as connection:
            used.add(f":{connection.getsockname()[1]}")
            connection.settimeout(0.15 if number % 7 else 0.5)
            connection.sendall(_raw(number, token))
            try:
                connection.recv(65536)
                connection.recv(65536)
            except (TimeoutError, ConnectionResetError):
                pass
    for _ in range(20):
        for url, options in (
            ("https://{}.listed.test/{}", ()),
            ("https://{}.listed.test/{}", ("--cacert", str(net.origin_ca))),
            ("https://{}.pass.test/{}", ("--cacert", str(net.origin_ca), "-A", "agent")),
        ):
            token = f"t{chance.getrandbits(48):012x}"
            used.add(token)
            gate.curl(url.format(token, token), *options, "-H", f"X-Token: {token}", "--max-time", "5")
    return used


def test_a_session_leaves_no_trace(net: Network, desk: Desk, own_gate: Gate, tmp_path: Path):
    used = _session(net, own_gate, random.Random(20261121))
    assert own_gate.curl("http://listed.test/").status == 403
    assert own_gate.curl("https://www.pass.test/", trust=net.origin_ca).status == 200
    own_gate.process.end()

    sinks = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    sinks[Path("stdout")] = "".join(own_gate.process.out).encode()
    sinks[Path("stderr")] = own_gate.log().encode()
    assert any(path.name == "ca.pem" for path in sinks)
    words = used | {"listed.test", "pass.test", ORIGIN_ADDRESS}
    allowed = {"domains.txt"}  # the publisher's own input, on the publisher's desk
    found = [
        (path, word)
        for path, data in sinks.items()
        if path.name not in allowed
        for word in words
        if word.encode() in data and not (word.startswith(":") and path.name != "stderr")
    ]
    assert not found
    # The scan finds what is there: the counts, and a name where one was allowed.
    assert b'"event": "counts"' in sinks[Path("stderr")]
    assert any(b"listed.test" in data for path, data in sinks.items() if path.name in allowed)
    ports = {word for word in used if word.startswith(":")}
    assert ports
    subprocess.run(["sync"], check=False)
