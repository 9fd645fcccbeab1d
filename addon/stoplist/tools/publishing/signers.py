"""Private keys that sign lists: in files, in an HSM or in a cloud KMS. The one adapter of securesystemslib's
signers.

Rules
  - A path names a key file. A URI of securesystemslib names any other key, and a PEM file beside it names its public
    key: the gate's tools do not trust the device to say which key it holds.
  - The module verifies a signature before it uses it.
  - A PIN comes from the environment or from a terminal, never from an argument, and stands in no message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer

from stoplist import files
from stoplist.core.lists.envelope import Envelope
from stoplist.core.lists.keys import MAX_KEY_SIZE, KeyFileError, TrustedKey
from stoplist.errors import StoplistError

PIN_VARIABLE = "STOPLIST_HSM_PIN"

type AskSecret = Callable[[str], str]
"""Asks the person at the terminal for the secret of this name. Raises StoplistError if there is no terminal."""

# Leave out GnuPG: its keys are no PEM files, so a policy could not name them.
_SCHEMES = SIGNER_FOR_URI_SCHEME.keys() - {"gnupg"}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
_HSM_LIBRARY = "PYKCS11LIB"
_PACKAGES = {
    "hsm": "stoplist[hsm]",
    "awskms": "securesystemslib[awskms]",
    "azurekms": "securesystemslib[azurekms]",
    "gcpkms": "securesystemslib[gcpkms]",
    "hv": "securesystemslib[vault]",
    "tkey": "securesystemslib[tkey]",
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, wherever it is. `name` is its path or URI; `public` verifies its signatures."""

    name: str
    public: TrustedKey
    signer: Signer = field(repr=False)
    secrets: list[str] = field(default_factory=list, repr=False, compare=False)

    def sign(self, envelope: Envelope) -> Envelope:
        """The envelope with one more signature. Raises StoplistError."""
        try:
            signed = envelope.signed_by(self.signer)
        except StoplistError:
            raise
        except Exception as error:  # signers of securesystemslib raise any error of their libraries
            _explain(self.name, error, self.secrets)
        if self.public not in signed.signers([self.public]):
            raise StoplistError(
                "its signatures do not verify with the public key",
                hint="name the public key that belongs to this private key",
                place=_place(self.name),
            )
        return signed


def is_uri(name: str) -> bool:
    """Whether the name of a private key is a URI. For a file with such a name, write ``./hsm:2``."""
    scheme = _SCHEME.match(name)
    return scheme is not None and scheme[1] in _SCHEMES


def pair(names: Sequence[str], public_keys: Sequence[Path]) -> list[tuple[str, Path | None]]:
    """Give each URI among `names` its public key, in order. Raises ValueError with the reason."""
    uris = sum(map(is_uri, names))
    if uris != len(public_keys):
        raise ValueError(
            f"{uris} of the private keys are named by URI, but {len(public_keys)} public keys are given: name a "
            f"--public-key for each URI, in the same order, and none for a key file"
        )
    rest = iter(public_keys)
    return [(name, next(rest) if is_uri(name) else None) for name in names]


def open_key(name: str, public_key: Path | None, ask: AskSecret) -> SigningKey:
    """A private key by its path, or by its URI with its public key. Raises StoplistError."""
    if public_key is not None:
        return from_uri(name, public_key, ask)
    scheme = _SCHEME.match(name)
    if scheme is not None and not os.path.lexists(name):
        known = ", ".join(f"{other}:" for other in sorted(_SCHEMES))
        raise StoplistError(
            f"no such file, and no signer for {scheme[0]!r}", hint=f"write a path, or a URI with {known}", place=name
        )
    return from_file(Path(name))


def from_file(path: Path) -> SigningKey:
    """A private key in a PEM file: Ed25519, ECDSA or RSA (which signs with PSS). Raises StoplistError."""
    pem = files.read(path, MAX_KEY_SIZE)
    try:
        signer = CryptoSigner(load_pem_private_key(pem, None))
        public = TrustedKey.parse(public_pem(signer))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        hint = "use the private key that 'stoplist list keygen' wrote"
        if b"PUBLIC KEY" in pem:
            hint = "this is a public key: name the private one, without .pub"
        message = "not a private key in PEM (Ed25519, ECDSA or RSA)"
        raise KeyFileError(message, hint=hint).at(str(path)) from None
    return SigningKey(str(path), public, signer)


def from_uri(uri: str, public_key: Path, ask: AskSecret) -> SigningKey:
    """A private key by a URI of securesystemslib. `public_key` is its PEM file. Raises StoplistError.

    The PIN of an HSM comes from the environment variable STOPLIST_HSM_PIN, or else from the person asked.
    """
    try:
        public = TrustedKey.parse(files.read(public_key, MAX_KEY_SIZE))
    except StoplistError as error:
        raise error.at(str(public_key)) from None
    secrets: list[str] = []

    def secret(name: str) -> str:
        try:
            secrets.append(os.environ.get(PIN_VARIABLE) or ask("PIN" if name == "pin" else name))
        except StoplistError as error:
            raise error.at(_place(uri)) from None
        return secrets[-1]

    try:
        signer = Signer.from_priv_key_uri(uri, public.key, secret)
    except Exception as error:  # signers of securesystemslib raise any error of their libraries
        _explain(uri, error, secrets)
    return SigningKey(uri, public, signer, secrets)


def public_pem(signer: CryptoSigner) -> bytes:
    private = load_pem_private_key(signer.private_bytes, None)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _explain(name: str, error: Exception, secrets: Sequence[str]) -> NoReturn:
    """Raise a library's error about a key as a StoplistError, without the secrets."""
    scheme = name.partition(":")[0]
    if isinstance(error, UnsupportedLibraryError):
        package = _PACKAGES.get(scheme, "securesystemslib")
        message, hint = f"the library for {scheme}: keys is not installed", f"pip install '{package}'"
        raise StoplistError(message, hint=hint, place=_place(name)) from None
    text = " ".join(str(error).split())
    for secret in secrets:
        text = text.replace(secret, "...") if secret else text
    kind = type(error).__name__
    # A ValueError is securesystemslib's own and explains itself; for others the name says the most.
    said = text if text and isinstance(error, ValueError) else f"{kind}: {text}".removesuffix(": ")
    raise StoplistError(f"cannot sign ({said})", hint=_hint(scheme, kind), place=_place(name)) from None


def _hint(scheme: str, kind: str) -> str:
    if scheme != "hsm":
        return "check the URI, the kind of its public key, the credentials and the network"
    if kind in {"PinIncorrect", "PinLenRange", "PinInvalid"}:
        return f"check the PIN ({PIN_VARIABLE}): an HSM locks itself after a few wrong ones"
    if not os.environ.get(_HSM_LIBRARY):
        return f"set {_HSM_LIBRARY} to the PKCS#11 library of the HSM, such as /usr/lib/softhsm/libsofthsm2.so"
    return f"check {_HSM_LIBRARY}, and key id and label in 'hsm:ID?label=TOKEN'; the key must be ECDSA P-256 or P-384"


def _place(name: str) -> str:
    """A path or URI for a message; without the query, in which somebody may have written a PIN."""
    return name.partition("?")[0] if is_uri(name) else name
