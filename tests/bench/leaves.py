"""What a certificate for a stop page costs, and what keeping it would save. Prints microseconds of CPU.

Run as ``PYTHONPATH=. .venv/bin/python tests/bench/leaves.py`` on a quiet machine. A handshake is TLS 1.3 in memory,
client and server in one process, the client verifying; "server" is its half of it. Stock is mitmproxy's own
certificate store and TLS context: the first time it signs, then it has the certificate.
"""

from __future__ import annotations

import contextlib
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from mitmproxy import certs
from mitmproxy.addons.tlsconfig import AppData, alpn_select_callback
from mitmproxy.net import tls as stock_tls
from OpenSSL import SSL

from stoplist import clock
from stoplist.authority import CA_FILE, Source
from stoplist.certificates import CertificateAuthority
from stoplist.core.hosts import Host
from stoplist.proxy.mitm.tls_settings import HTTP, accept
from tests import pki

TIMES = 300
NOW = datetime.now(UTC)
HOST = Host("www.listed.test")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        own = Source(folder, folder / CA_FILE, folder / CA_FILE, is_own=True).open_or_make(NOW)
        authorities = {"own CA, P-256": (own, own.certificate)}
        root = pki.new(now=clock.now())
        for kind in ("P-256", "P-384", "RSA-2048"):
            ca = pki.new("Example Gate CA", root, kind=kind, now=clock.now())
            parsed = CertificateAuthority.parse(ca.pem, ca.key_pem(), place="", key_place="")
            authorities[f"intermediate, {kind}"] = (parsed, root.certificate)
        print(f"{'':24}{'leaf':>8}{'server':>8}{'both':>8}")
        for title, (authority, trusted) in authorities.items():
            leaf = _microseconds(lambda authority=authority: authority.leaf(HOST, NOW))
            server, both = _handshakes(lambda authority=authority: accept(authority, HOST, NOW, HTTP), trusted)
            print(f"{title:24}{leaf:8.0f}{server:8.0f}{both:8.0f}")
        _stock(folder)


def _stock(folder: Path) -> None:
    store = certs.CertStore.from_store(folder, "mitmproxy", 2048)
    trusted = store.default_ca.to_cryptography()
    names = (f"host{number}.listed.test" for number in range(10**6))

    def entry(name: str) -> certs.CertStoreEntry:
        return store.get_cert(name, [certs.x509.DNSName(name)])

    def connection(name: str) -> SSL.Connection:
        found = entry(name)
        context = stock_tls.create_client_proxy_context(
            method=stock_tls.Method.TLS_SERVER_METHOD,
            min_version=stock_tls.Version.TLS1_2,
            max_version=stock_tls.Version.UNBOUNDED,
            cipher_list=None,
            ecdh_curve=None,
            chain_file=found.chain_file,
            request_client_cert=False,
            alpn_select_callback=alpn_select_callback,
            extra_chain_certs=(),
            dhparams=store.dhparams,
        )
        made = SSL.Connection(context)
        made.use_certificate(found.cert.to_cryptography())
        made.use_privatekey(found.privatekey)
        made.set_app_data(AppData(client_alpn=None, server_alpn=None, http2=True))
        made.set_accept_state()
        return made

    for title, one in (("stock, first time", lambda: next(names)), ("stock, kept", lambda: HOST.name)):
        leaf = _microseconds(lambda one=one: entry(one()))
        server, both = _handshakes(lambda one=one: connection(one()), trusted, check=title == "stock, kept")
        print(f"{title:24}{leaf:8.0f}{server:8.0f}{both:8.0f}")


def _microseconds(work: Callable[[], object]) -> float:
    return statistics.median(_timed(work) for _ in range(TIMES)) * 1e6


def _timed(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def _handshakes(
    connection: Callable[[], SSL.Connection], trusted: certs.x509.Certificate, *, check: bool = True
) -> tuple[float, float]:
    """What the server's half takes, and both."""
    client = ssl.create_default_context(cadata=trusted.public_bytes(certs.serialization.Encoding.PEM).decode())
    client.check_hostname = check
    client.set_alpn_protocols(["http/1.1"])
    taken = [_handshake(connection, client) for _ in range(TIMES)]
    servers, all_of_it = zip(*taken, strict=True)
    return statistics.median(servers) * 1e6, statistics.median(all_of_it) * 1e6


def _handshake(connection: Callable[[], SSL.Connection], context: ssl.SSLContext) -> tuple[float, float]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=HOST.name)
    began = time.process_time()
    server_time = 0.0

    def step() -> bool:
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    step()
    at = time.process_time()
    server = connection()
    server_time += time.process_time() - at
    for _ in range(4):
        at = time.process_time()
        if data := outgoing.read():
            server.bio_write(data)
        try:
            server.do_handshake()
            is_done = True
        except SSL.WantReadError:
            is_done = False
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(65536))
        server_time += time.process_time() - at
        if step() and is_done:
            return server_time, time.process_time() - began
    raise AssertionError("no handshake")


if __name__ == "__main__":
    main()
