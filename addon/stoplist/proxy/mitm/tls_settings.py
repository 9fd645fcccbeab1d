"""TLS towards clients: for stop pages, for the gate itself, and where `tls: intercept` asks for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from mitmproxy.proxy.layers.quic import QuicTlsSettings
from OpenSSL import SSL

from stoplist import certificates, clock
from stoplist.certificates import CertificateAuthority
from stoplist.core.hosts import Host
from stoplist.core.policy.models import CertificatePolicy
from stoplist.errors import StoplistError

HTTP = (b"http/1.1", b"h2")
"""The protocols that the gate chooses from a client's offers, the best first.

HTTP/1.1 comes first because its connections can be closed one by one.
"""


def prepare(authority: CertificateAuthority | None) -> None:
    """Make the objects that all connections share, so that the first connection takes no longer than the next.

    Otherwise a client could measure that it is the first to see a page.
    """
    _context((), None)
    _nobody()
    if authority is not None:
        _context(HTTP, authority)


def accept(authority: CertificateAuthority, host: Host, now: datetime, protocols: Sequence[bytes]) -> SSL.Connection:
    """A connection that shows a certificate for `host`, made on the spot, and speaks one of `protocols`."""
    connection = SSL.Connection(_context(tuple(protocols), authority))
    connection.use_certificate(authority.leaf(host, now))
    connection.set_accept_state()
    return connection


def accept_quic(authority: CertificateAuthority, host: Host, now: datetime) -> QuicTlsSettings:
    """The same for HTTP/3."""
    return QuicTlsSettings(
        alpn_protocols=["h3"],
        certificate=authority.leaf(host, now),
        certificate_chain=list(authority.chain),
        certificate_private_key=authority.leaf_key,
    )


def refuse() -> SSL.Connection:
    """A connection without a certificate: the client's handshake ends in an alert."""
    connection = SSL.Connection(_context((), None))
    connection.set_accept_state()
    return connection


def refuse_quic() -> QuicTlsSettings:
    """The same for HTTP/3: the gate offers no protocol that clients speak, so the handshake ends in an alert."""
    certificate, key = _nobody()
    return QuicTlsSettings(alpn_protocols=["refused"], certificate=certificate, certificate_private_key=key)


class GateCertificate:
    """The operator's certificate for the gate itself, for clients that speak TLS to it."""

    def __init__(self, policy: CertificatePolicy, folder: Path) -> None:
        """Paths are relative to `folder`. Raises StoplistError."""
        cert, key = folder / policy.cert, folder / policy.key
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.set_min_proto_version(SSL.TLS1_2_VERSION)
        self._context.set_alpn_select_callback(_selector((b"http/1.1",)))
        self._context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # clients resume with session tickets
        for path, use in (
            (cert, self._context.use_certificate_chain_file),
            (key, self._context.use_privatekey_file),
        ):
            if not path.is_file():
                raise StoplistError("no such file", hint="name it under 'certificate'", place=str(path))
            try:
                use(str(path))
            except SSL.Error:
                raise StoplistError(
                    "not a certificate or key in PEM", hint="convert it to PEM", place=str(path)
                ) from None
        try:
            self._context.check_privatekey()
        except SSL.Error:
            raise StoplistError("not the key of the certificate", hint="name its key", place=str(key)) from None

    def accept(self) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        connection.set_accept_state()
        return connection


@functools.lru_cache(maxsize=16)  # the CA can change
def _context(protocols: tuple[bytes, ...], authority: CertificateAuthority | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # a session names its host (docs/decisions/0014)
    if authority is not None:
        context.use_privatekey(authority.leaf_key)
        for certificate in authority.chain:
            context.add_extra_chain_cert(certificate)
    context.set_alpn_select_callback(_selector(protocols))
    return context


@functools.cache
def _nobody() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and a key, which aioquic requires of a server and never shows."""
    return certificates.new(clock.now())[0], ec.generate_private_key(ec.SECP256R1())


def _selector(protocols: tuple[bytes, ...]) -> Any:
    def select(_: SSL.Connection, offered: list[bytes]) -> Any:
        return next((protocol for protocol in protocols if protocol in offered), SSL.NO_OVERLAPPING_PROTOCOLS)

    return select
