"""Verifies Ed25519 signatures of large lists in a separate process.

The library holds the interpreter while it hashes the signed bytes: 25 ms for a million domains. The gate could
answer no request meanwhile. (Other schemes hash faster.) A separate process takes longer, but requests go on.

Rules
  - Two exit statuses, which a failing interpreter never has, mean a valid or an invalid signature. After any other
    status, this process verifies the signature itself.
  - The separate process gets a public key, a signature and the signed bytes: nothing secret, nothing of a request.
"""

from __future__ import annotations

import subprocess
import sys

from securesystemslib.signer import Signature, SSlibKey

from stoplist.core.lists.keys import is_signature_of

LARGE = 1024 * 1024
"""From this many signed bytes on, a separate process is worth its start."""
SECONDS = 60
"""How long the separate process may take, from its start to its end. After that it is killed."""

_PROGRAM = """
import sys
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
public, signature = (bytes.fromhex(word) for word in sys.stdin.buffer.readline().decode().split())
try:
    Ed25519PublicKey.from_public_bytes(public).verify(signature, sys.stdin.buffer.read())
except InvalidSignature:
    sys.exit(41)
sys.exit(40)
"""
_SIGNATURE, _NONE, _UNKNOWN = 40, 41, 1


def is_signature_of_large(key: SSlibKey, signature: Signature, signed: bytes) -> bool:
    """Whether `signature` is a signature by `key` over the bytes `signed`."""
    status = _UNKNOWN
    if key.scheme == "ed25519" and len(signed) >= LARGE:
        status = _verify_in_process(f"{key.keyval['public']} {signature.signature}\n".encode(), signed)
    return status == _SIGNATURE if status in (_SIGNATURE, _NONE) else is_signature_of(key, signature, signed)


def _verify_in_process(asked: bytes, signed: bytes) -> int:
    """The exit status of the separate process; _UNKNOWN if it could not run or took too long."""
    command = [sys.executable, "-I", "-c", _PROGRAM]
    try:
        return subprocess.run(  # noqa: S603  our own program
            command,
            input=asked + signed,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return _UNKNOWN
