"""Keys and lists for tests: signing keys, a list key, and list files made in one call.

Lists made here are valid from 2026 to 2096 unless told, so that tests with the real clock can use them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.dsse import Envelope as DsseEnvelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from stoplist.core.hosts import CHECK_HOST
from stoplist.core.lists.envelope import PAYLOAD_TYPE, Envelope, build
from stoplist.core.lists.keys import ListKey, TrustedKey
from stoplist.core.lists.signed_list import NO_HISTORY, SignedList
from tests.fixed_time import EXPIRES, ISSUED, NOW

LIST_KEY = ListKey(bytes(range(32)))


def new_ed25519() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


def new_ecdsa(scheme: str = "ecdsa-sha2-nistp256") -> CryptoSigner:
    return CryptoSigner.generate_ecdsa(scheme=scheme)


def new_rsa() -> CryptoSigner:
    return CryptoSigner.generate_rsa(size=2048)


def under_key_id(signer: CryptoSigner, key_id: str) -> CryptoSigner:
    """The same private key, signing under another key id."""
    private = load_pem_private_key(signer.private_bytes, None)
    return CryptoSigner(private, SSlibKey.from_crypto(private.public_key(), keyid=key_id))


def public_pem(signer: CryptoSigner) -> bytes:
    public = load_pem_private_key(signer.private_bytes, None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def trusted(*signers: CryptoSigner) -> tuple[TrustedKey, ...]:
    """What a policy would trust to believe these signers."""
    return tuple(TrustedKey.parse(public_pem(signer)) for signer in signers)


def make_list(
    domains: Iterable[str],
    *signers: CryptoSigner,
    list_id: str = "worst-of",
    serial: int = 1,
    issued: datetime = ISSUED,
    expires: datetime = EXPIRES,
    list_key: ListKey = LIST_KEY,
    recipient: str = "",
    check_host: str = CHECK_HOST,
) -> bytes:
    """The bytes of a list file of canonical `domains`, signed by each of `signers`."""
    envelope = build(
        domains,
        list_id=list_id,
        serial=serial,
        issued=issued,
        expires=expires,
        list_key=list_key,
        recipient=recipient,
        check_host=check_host,
    )
    for signer in signers:
        envelope = envelope.signed_by(signer)
    return envelope.to_bytes()


def sign(payload: bytes, *signers: CryptoSigner, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """A list file with any payload at all and good signatures, made without our own builder."""
    signatures = {}
    for signer in signers:
        signature = signer.sign(DsseEnvelope(payload, payload_type, {}).pae())
        signatures[signature.keyid] = signature
    return Envelope(payload, tuple(signatures.values())).to_bytes()


def open_list(
    data: bytes,
    *signers: CryptoSigner,
    threshold: int | None = None,
    now: datetime = NOW,
    list_key: ListKey = LIST_KEY,
    previous: SignedList | None = None,
) -> SignedList:
    """Open a list file, trusting exactly `signers`, all of whom are needed unless `threshold` says less."""
    return SignedList.open(
        data,
        trusted=trusted(*signers),
        threshold=len(signers) if threshold is None else threshold,
        list_keys=[list_key],
        now=now,
        history=NO_HISTORY if previous is None else NO_HISTORY.expecting(previous),
    )
