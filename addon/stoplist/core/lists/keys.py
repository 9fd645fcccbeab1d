"""Keys of a list: the public keys that may sign it, and the secret key of its digests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature, SSlibKey

from stoplist.errors import StoplistError

MAX_KEY_SIZE = 64 * 1024
"""Largest file of a trusted key or a list key, in bytes."""
LIST_KEY_SIZE = 32


class KeyFileError(StoplistError):
    """The gate cannot use this key file."""


@dataclass(frozen=True, slots=True)
class ListKey:
    """The secret key of the digests in one recipient's list: 32 bytes."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: bytes) -> ListKey:
        """Read a list key as `to_text` wrote it. Raises KeyFileError, which never shows the key.

        >>> ListKey.parse(b"00" * 32).key_id
        '245e7336749c6bb5'
        >>> ListKey.parse(b"00")
        Traceback (most recent call last):
        stoplist.core.lists.keys.KeyFileError: not a list key: 64 hexadecimal digits are expected; ...
        """
        try:
            secret = bytes.fromhex(text.decode("ascii").strip())
        except ValueError:
            secret = b""
        if len(secret) != LIST_KEY_SIZE:
            raise KeyFileError(
                f"not a list key: {2 * LIST_KEY_SIZE} hexadecimal digits are expected",
                hint="use the list key that came with the list, or make one with 'stoplist list keygen --list-key'",
            )
        return cls(secret)

    def to_text(self) -> bytes:
        return self.secret.hex().encode() + b"\n"

    @property
    def key_id(self) -> str:
        """A name for the key that does not show it: 16 hexadecimal digits of a keyed hash of nothing."""
        return hashlib.blake2b(digest_size=8, key=self.secret, person=b"stoplist-key-id").hexdigest()


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that may sign a list. Two are equal when their key material is."""

    material: bytes = field(repr=False)
    key: SSlibKey = field(compare=False, repr=False)

    @classmethod
    def parse(cls, pem: bytes) -> TrustedKey:
        """Read a PEM public key (Ed25519, ECDSA P-256/384/521 or RSA). Raises KeyFileError.

        >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        >>> pem = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes(
        ...     Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ... )
        >>> TrustedKey.parse(pem).key_id[:16]
        '4cc3f338069d638e'
        >>> TrustedKey.parse(b"ssh-ed25519 AAAA")
        Traceback (most recent call last):
        stoplist.core.lists.keys.KeyFileError: not a PEM public key (Ed25519, ECDSA or RSA); ...
        """
        try:
            public = load_pem_public_key(pem)
            key = SSlibKey.from_crypto(public)
            material = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            hint = "use the .pub file that 'stoplist list keygen' wrote"
            if b"PRIVATE KEY" in pem:
                hint = "this is a private key: take it off this machine and name its .pub file here"
            raise KeyFileError("not a PEM public key (Ed25519, ECDSA or RSA)", hint=hint) from None
        return cls(hashlib.sha256(material).digest(), key)

    @property
    def key_id(self) -> str:
        return str(self.key.keyid)


type SignatureJudge = Callable[[SSlibKey, Signature, bytes], bool]


def is_signature_of(key: SSlibKey, signature: Signature, signed: bytes) -> bool:
    """Whether `signature` is that of `key` over the bytes `signed`."""
    try:
        key.verify_signature(signature, signed)
    except UnverifiedSignatureError:
        return False
    return True
