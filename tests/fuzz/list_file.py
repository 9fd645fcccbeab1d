"""A coverage-guided fuzzer for the list file: any bytes give a SignedList or a ListError.

Run: .venv/bin/python -m tests.fuzz.list_file [libFuzzer options] [CORPUS]
For ten minutes from the vectors: cp -r tests/vectors /tmp/corpus, then
     .venv/bin/python -m tests.fuzz.list_file -max_total_time=600 /tmp/corpus

The input is a file; or, where it begins with a zero byte, the payload of one that is properly signed,
so that what stands behind the signatures is reached.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

from tests.fixed_time import NOW

with atheris.instrument_imports(include=["stoplist.core", "json", "base64"]):
    from stoplist.core.hosts import Host
    from stoplist.core.lists.envelope import Envelope
    from stoplist.core.lists.keys import ListKey, TrustedKey
    from stoplist.core.lists.list_header import ListError
    from stoplist.core.lists.signed_list import NO_HISTORY, SignedList
    from tests.vectors.make import AUTHORITY, OPERATOR

VECTORS = Path(__file__).parent.parent / "vectors"
TRUSTED = [TrustedKey.parse((VECTORS / name).read_bytes()) for name in ("authority.pub", "operator.pub")]
LIST_KEY = ListKey.parse((VECTORS / "vectors.listkey").read_bytes())
HOST = Host.parse("www.listed.example")


def open_list(data: bytes) -> SignedList:
    return SignedList.open(data, trusted=TRUSTED, threshold=2, list_keys=[LIST_KEY], now=NOW, history=HISTORY)


HISTORY = NO_HISTORY
HISTORY = NO_HISTORY.expecting(open_list((VECTORS / "history.stoplist.before").read_bytes()))


def test_one_input(data: bytes) -> None:
    if data[:1] == b"\0":
        data = Envelope(data[1:], ()).signed_by(AUTHORITY).signed_by(OPERATOR).to_bytes()
    try:
        signed = open_list(data)
    except ListError as error:
        if not error.message or not error.hint:
            raise AssertionError("an error without a remedy") from error
    else:
        signed.digests.longest_suffix(HOST)
        signed.expired(NOW)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
