"""A signature is judged alike here and in a process apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature

from stoplist.core.lists.keys import is_signature_of
from stoplist.proxy.reload import signature_process
from tests.keys import new_ecdsa, new_ed25519

LARGE = bytes(signature_process.LARGE)
SMALL = b"small"


@pytest.mark.parametrize("signer", [new_ed25519(), new_ecdsa()], ids=["ed25519", "ecdsa"])
@pytest.mark.parametrize("signed", [SMALL, LARGE], ids=["small", "large"])
def test_a_signature_is_one_and_another_is_none(signer: CryptoSigner, signed: bytes):
    signature = signer.sign(signed)
    other = signer.sign(signed + b"x")
    empty = Signature(signature.keyid, "")
    for judge in (is_signature_of, signature_process.is_signature_of_large):
        assert judge(signer.public_key, signature, signed)
        assert not judge(signer.public_key, other, signed)
        assert not judge(signer.public_key, empty, signed)
        assert not judge(new_ed25519().public_key, signature, signed)


@pytest.mark.parametrize(("signed", "started"), [(SMALL, 0), (LARGE, 1)], ids=["small", "large"])
def test_only_large_ones_start_a_process(monkeypatch: pytest.MonkeyPatch, signed: bytes, started: int):
    processes: list[object] = []
    real = subprocess.Popen

    def counting(*args: object, **options: object) -> object:
        processes.append(args)
        return real(*args, **options)

    monkeypatch.setattr(subprocess, "Popen", counting)
    signer = new_ed25519()
    assert signature_process.is_signature_of_large(signer.public_key, signer.sign(signed), signed)
    assert len(processes) == started


def test_a_process_that_hangs_is_killed_and_it_is_judged_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 100000\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hanging))
    monkeypatch.setattr(signature_process, "SECONDS", 0.5)
    signer = new_ed25519()
    assert signature_process.is_signature_of_large(
        signer.public_key, signer.sign(LARGE), LARGE
    )  # the process would hang for ever


@pytest.mark.parametrize("program", ["/nonexistent", "/bin/false", "/bin/cat"])
def test_where_the_process_fails_it_is_judged_here(monkeypatch: pytest.MonkeyPatch, program: str):
    monkeypatch.setattr(sys, "executable", program)
    signer = new_ed25519()
    assert signature_process.is_signature_of_large(signer.public_key, signer.sign(LARGE), LARGE)
    assert not signature_process.is_signature_of_large(signer.public_key, signer.sign(SMALL), LARGE)
