"""TLS for stop pages, and to the gate itself: nothing of one connection is kept for the next."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from stoplist import clock
from stoplist.authority import CA_FILE, Source
from stoplist.certificates import CertificateAuthority
from stoplist.core.hosts import Host
from stoplist.core.policy.models import CertificatePolicy
from stoplist.proxy.mitm.tls_settings import HTTP, GateCertificate, accept, accept_quic, refuse

# machine's clock: OpenSSL judges certificates by it

HOST = Host("www.listed.test")


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return Source(tmp_path, tmp_path / CA_FILE, tmp_path / CA_FILE, is_own=True).open_or_make(clock.now())


def shake_hands(server: SSL.Connection, context: ssl.SSLContext, session: ssl.SSLSession | None = None):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=HOST.name, session=session)
    for _ in range(4):
        try:
            client.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            is_done = False
        if data := outgoing.read():
            server.bio_write(data)
        try:
            server.do_handshake()
        except SSL.WantReadError:
            pass
        finally:
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(server.bio_read(65536))
        if is_done:
            break
    return client


def trusting(authority: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate.public_bytes(Encoding.PEM).decode())


def test_no_session_is_kept(authority: CertificateAuthority):
    """It would name its host. A client of TLS 1.2 without tickets asks by the session's id, which nobody knows."""
    context = trusting(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    open_still = accept(authority, HOST, clock.now(), HTTP)  # OpenSSL forgets what was broken off
    first = shake_hands(open_still, context)
    assert first.version() == "TLSv1.2"
    server = accept(authority, HOST, clock.now(), HTTP)
    second = shake_hands(server, context, first.session)
    assert not second.session_reused
    assert server.get_context().get_session_cache_mode() == SSL.SESS_CACHE_OFF


def test_no_session_with_the_gate_itself_is_kept(tmp_path: Path):
    """By its session a client would be known again."""
    authority = trustme.CA()
    authority.issue_cert(HOST.name).private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "gate.pem"))
    own = GateCertificate(CertificatePolicy(cert="gate.pem", key="gate.pem"), tmp_path)
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    open_still = own.accept()
    first = shake_hands(open_still, context)
    assert first.version() == "TLSv1.2"
    assert not shake_hands(own.accept(), context, first.session).session_reused


def test_each_connection_of_a_week_shows_the_same_certificate(authority: CertificateAuthority, tmp_path: Path):
    """Else "Proceed" in a browser without the CA would lead to the same warning for ever."""
    now = clock.now()
    other_process = Source(tmp_path, tmp_path / CA_FILE, tmp_path / CA_FILE, is_own=True).open(now)
    shown = {
        shake_hands(accept(each, HOST, now, HTTP), trusting(authority)).getpeercert(binary_form=True)
        for each in (authority, authority, other_process)
    }
    assert len(shown) == 1


def test_http3_shows_the_certificate_of_tls(authority: CertificateAuthority):
    now = clock.now()
    assert accept_quic(authority, HOST, now).certificate == authority.leaf(HOST, now)


def test_a_refusal_is_an_alert():
    context = ssl.create_default_context()
    with pytest.raises((ssl.SSLError, SSL.Error)):
        shake_hands(refuse(), context)
