"""The vectors in tests/vectors: each file ends as its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoplist.core.hosts import Host
from stoplist.core.lists.keys import ListKey, TrustedKey
from stoplist.core.lists.list_header import ListError
from stoplist.core.lists.signed_list import NO_HISTORY, History, SignedList
from tests.fixed_time import NOW
from tests.vectors import make

FOLDER = Path(__file__).parent.parent / "vectors"
FILES = sorted(FOLDER.glob("*.stoplist"))
TRUSTED = [TrustedKey.parse((FOLDER / name).read_bytes()) for name in ("authority.pub", "operator.pub")]
LIST_KEY = ListKey.parse((FOLDER / "vectors.listkey").read_bytes())


def _open(path: Path, history: History) -> SignedList:
    return SignedList.open(
        path.read_bytes(), trusted=TRUSTED, threshold=2, list_keys=[LIST_KEY], now=NOW, history=history
    )


HISTORY = NO_HISTORY.expecting(_open(FOLDER / "history.stoplist.before", NO_HISTORY))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_ends_as_its_name_says(path: Path):
    fault, _, what = path.stem.partition("--")
    if fault != "good":
        with pytest.raises(ListError) as caught:
            _open(path, HISTORY)
        assert caught.value.fault == fault.replace("-", " ")
        assert caught.value.hint
        return
    signed = _open(path, HISTORY)
    listed = {"no-domain": [], "300-domains": ["d0.example", "d299.example"]}.get(
        what, ["listed.example", "www.listed.test", "xn--bcher-kva.example"]
    )
    assert all(signed.digests.longest_suffix(Host.parse(name)) == 2 for name in listed)
    assert not signed.digests.longest_suffix(Host.parse("notlisted.example"))
    assert signed.expired(NOW) == (what == "expired")


def test_every_check_has_vectors():
    faults = {path.stem.partition("--")[0] for path in FILES}
    assert faults == {
        *("good", "size", "envelope", "payload-type", "signatures", "header"),
        *("serial", "clock", "digests", "list-key"),
    }
    assert len(FILES) >= 80


def test_the_files_are_those_that_the_script_makes():
    assert {path.stem: path.read_bytes() for path in FILES} == make.vectors()
