"""What a new list costs while requests run. Run: .venv/bin/python tests/bench/reload.py [--domains N]

A real gate with a list of a million domains, a real origin (nginx), one client that asks for the same
unlisted page again and again over a kept connection. A list with one domain more is renamed over the
old one several times. Printed: seconds from the rename to the first stopped request for the new
domain; the usual p99 of a request, and the latest request while a list was taken up.

Needs nginx. All of it on loopback. Status 1 if a bound of the design is missed.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stoplist.core.signedlist import build
from tests.e2e.network import STOPLIST, Process
from tests.published import Publisher

SWAPS = 5
ORIGIN_PORT = 18080
NGINX = """\
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ }}
http {{ access_log off; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; return 200 "origin\\n"; }} }}
"""


class Client(threading.Thread):
    """Asks for the page until told to end; (start, seconds) of each request, in order."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.requests: list[tuple[float, float]] = []
        self.failures = 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            start = time.perf_counter()
            self._connection.request("GET", f"http://127.0.0.1:{ORIGIN_PORT}/")
            answer = self._connection.getresponse()
            answer.read()
            self.failures += answer.status != 200
            self.requests.append((start, time.perf_counter() - start))
            time.sleep(0.001)


def is_stopped(port: int, host: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", f"http://{host}:1/")
    status = connection.getresponse().status
    connection.close()
    return status == 403


def signed(publisher: Publisher, domains: int, serial: int) -> bytes:
    now = datetime.now(UTC)
    envelope = build(
        (f"d{number}.listed{number % 97}.test" for number in range(domains + serial)),
        list_id="test",
        serial=serial,
        issued=now,
        expires=now + timedelta(days=1),
        list_key=publisher.list_key,
    )
    return envelope.signed_by(publisher.signer).to_bytes()


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--domains", type=int, default=1_000_000)
    domains = arguments.parse_args().domains
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publisher = Publisher.new(folder / "files")
        publisher.list.write_bytes(signed(publisher, domains, 1))
        news = []
        for serial in range(2, 2 + SWAPS):
            news.append(publisher.folder / f"list{serial}")
            news[-1].write_bytes(signed(publisher, domains, serial))
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=ORIGIN_PORT))
        origin = subprocess.Popen(["nginx", "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"])
        gate = Process(
            [str(STOPLIST), "run", str(publisher.policy), "--listen", "127.0.0.1:0", "--state-dir", f"{folder}/state"]
        )
        try:
            port = int(gate.wait_for(r"listening on 127\.0\.0\.1:(\d+)", seconds=60)[1])
            client = Client(port)
            client.start()
            time.sleep(5)
            usual = [seconds for _, seconds in client.requests]
            delays, late = [], []
            for serial, new in enumerate(news, 2):
                start = time.perf_counter()
                new.replace(publisher.list)
                number = domains + serial - 1
                while not is_stopped(port, f"d{number}.listed{number % 97}.test"):
                    time.sleep(0.02)
                delays.append(time.perf_counter() - start)
                time.sleep(2)
                late.append(max(seconds for began, seconds in client.requests if began >= start - 0.05))
            client.ended.set()
            client.join()
        finally:
            gate.end()
            origin.terminate()
            origin.wait()
    p99 = statistics.quantiles(usual, n=100)[98]
    print(f"domains                                   {domains:9d}")
    print(f"requests, failed                          {len(client.requests):9d} {client.failures}")
    print(
        f"usual median, p99, latest                 {statistics.median(usual) * 1e3:9.1f} "
        f"{p99 * 1e3:.1f} {max(usual) * 1e3:.1f} ms"
    )
    print(f"renamed to enforced, median, latest       {statistics.median(delays):9.3f} {max(delays):.3f} s   bound 1")
    print(f"latest request during it, median, worst   {statistics.median(late) * 1e3:9.1f} {max(late) * 1e3:.1f} ms")
    over = statistics.median(late) - p99
    print(f"  over the usual p99                      {over * 1e3:9.1f} ms        bound 25")
    return int(statistics.median(delays) > 1 or over > 0.025 or client.failures > 0)


if __name__ == "__main__":
    sys.exit(main())
