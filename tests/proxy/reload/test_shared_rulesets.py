"""Sharing: a ruleset that was passed on judges as the one it was made of, and nobody can change it."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from stoplist.core.counts import Cell, Outcome
from stoplist.core.decide import Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.signed_list import SignedList
from stoplist.proxy.counting.shared_counters import FIRST_CELL, NUMBERS
from stoplist.proxy.reload import shared_rulesets
from stoplist.proxy.reload.shared_rulesets import SharedDigests, pack, share, unpack
from stoplist.proxy.workers.worker_channel import MAX_FILES, Word, WorkerChannel
from tests.fixed_time import EXPIRES, NOW
from tests.rulesets import page_of, ruleset, signed

LAYOUT = {Cell("worst-of", 1, Outcome.STOPPED): 64, Cell(None, None, Outcome.PASSED): 4095}
EACH = 4
"""How many descriptors a list has here: two, and one more of each where it is mapped."""
MANY = tuple(f"d{number}.test" for number in range(3000))
HOSTS = [
    Host.parse(name)
    for name in (
        *("listed.test", "www.listed.test", "a.b.listed.test", "xlisted.test", "test", "appeal.test", "other.test"),
        *("d0.test", "d2999.test", "d3000.test", "www.d1234.test", "check.stoplist.invalid", "192.0.2.2"),
    )
]
TIMES = [when.timestamp() for when in (NOW, NOW + timedelta(days=365), EXPIRES + timedelta(days=1))]


def _passed_on(shared: Ruleset, layout: Mapping[Cell, int] = LAYOUT) -> Ruleset:
    """What another process makes of it: the descriptors go through a socket, as they do."""
    ours, theirs = WorkerChannel.pair()
    page = page_of(shared.policy)
    with theirs:
        files = pack(shared, page, layout)
        ours.send(Word.RULESET, files=files)
        os.close(files[0])
        message = WorkerChannel(theirs).receive()
    ours.close()
    assert message is not None
    received, page_received, layout_received = unpack(message[1])
    assert (page_received, layout_received) == (page, layout)
    return received


def _files() -> list[str]:
    """The memory that this process has descriptors of."""
    gc.collect()
    found = []
    for file in Path("/proc/self/fd").iterdir():
        try:
            target = str(file.readlink())
        except FileNotFoundError:
            continue
        if "memfd:stoplist" in target:
            found.append(target)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = len(_files())
    yield
    assert len(_files()) == before


RULESETS = {
    "one list": lambda: ruleset(signed("listed.test", "other.test")),
    "an empty list": lambda: ruleset(signed()),
    "many domains": lambda: ruleset(signed("listed.test", *MANY)),
    "several lists": lambda: ruleset(
        signed("listed.test", list_id="a", serial=7),
        signed(list_id="b"),
        signed("other.test", *MANY, list_id="c", check_host="check.other.invalid"),
        modes=("observe", "enforce", "enforce"),
    ),
    "an exception": lambda: ruleset(signed("appeal.test"), exceptions={"appeal.test": "2099-12-31"}),
    "refused once expired": lambda: ruleset(signed("listed.test"), when_expired="refuse-all"),
    "observed": lambda: ruleset(signed("listed.test"), mode="observe", upstream={"deny": ["192.0.2.0/24"]}),
}


@pytest.mark.parametrize("kind", RULESETS)
def test_a_ruleset_that_was_passed_on_judges_as_before(kind: str):
    original = RULESETS[kind]()
    shared = share(original)
    received = _passed_on(shared)
    again = _passed_on(received)
    for each in (shared, received, again):
        assert each.policy == original.policy
        assert each.lists == original.lists
        for one, other in zip(each.lists, original.lists, strict=True):
            assert (one.header, one.signers, one.payload_digest) == (other.header, other.signers, other.payload_digest)
            assert bytes(one.digests.payload) == bytes(other.digests.payload)
            assert list(one.digests.index) == list(other.digests.index)
        for now in TIMES:
            assert [decide(each, host, now) for host in HOSTS] == [decide(original, host, now) for host in HOSTS]


@pytest.mark.parametrize("count", [0, 1, NUMBERS - FIRST_CELL])
def test_where_cells_stand_is_passed_on_with_a_ruleset(count: int):
    layout = {Cell("worst-of", number, Outcome.STOPPED): FIRST_CELL + number for number in range(count)}
    received = _passed_on(share(ruleset(signed("listed.test"))), layout)
    assert decide(received, HOSTS[0], TIMES[0]).list == "worst-of"


def test_a_list_that_is_shared_already_stays_where_it_is():
    first = share(ruleset(signed("listed.test", list_id="a"), signed("other.test", list_id="b")))
    kept = first.lists[0]
    second = share(Ruleset.of(first.policy, (kept, signed("new.test", list_id="b", serial=2))))
    assert second.lists[0].digests is kept.digests
    assert second.lists[1].digests is not first.lists[1].digests
    assert len(_files()) == 3 * EACH
    del first
    assert len(_files()) == 2 * EACH


def test_descriptors_are_closed_with_the_ruleset():
    before = len(_files())
    shared = share(ruleset(signed("listed.test", *MANY)))
    assert len(_files()) == before + EACH
    received = _passed_on(shared)
    assert len(_files()) == before + 2 * EACH
    del shared
    assert len(_files()) == before + EACH
    assert decide(received, HOSTS[0], TIMES[0]) != decide(received, HOSTS[6], TIMES[0])
    del received
    assert len(_files()) == before


def test_what_is_packed_twice_is_not_there_twice():
    shared = share(ruleset(signed("listed.test")))
    files = [pack(shared, page_of(shared.policy), LAYOUT) for _ in range(5)]
    assert {tuple(each[1:]) for each in files} == {shared.lists[0].digests.files}
    for each in files:
        os.close(each[0])


def _digests() -> tuple[SignedList, SharedDigests]:
    (shared,) = share(ruleset(signed("listed.test"))).lists
    assert isinstance(shared.digests, SharedDigests)
    return shared, shared.digests


@pytest.mark.parametrize("number", [0, 1], ids=["digests", "index"])
def test_nobody_who_has_the_descriptor_can_write(number: int):
    _, digests = _digests()
    file = digests.files[number]
    size = os.fstat(file).st_size
    before = os.pread(file, size, 0)
    for harm in (
        lambda: os.write(file, b"x"),
        lambda: os.pwrite(file, b"x", 0),
        lambda: os.ftruncate(file, 0),
        lambda: os.ftruncate(file, size + 1),
        lambda: os.posix_fallocate(file, 0, size + 4096),
        lambda: mmap.mmap(file, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE),
        lambda: Path(f"/proc/self/fd/{file}").write_bytes(b"x"),
    ):
        with pytest.raises(PermissionError):
            harm()
    assert os.pread(file, size, 0) == before


def test_a_private_copy_can_be_written_and_changes_nothing():
    _, digests = _digests()
    size = os.fstat(digests.files[0]).st_size
    before = bytes(digests.payload)
    with mmap.mmap(digests.files[0], size, access=mmap.ACCESS_COPY) as copy:
        copy[:] = bytes(size)
    assert bytes(digests.payload) == before


def test_what_judges_cannot_be_written_by_its_own_process():
    _, digests = _digests()
    for data in (digests.payload, digests.index):
        assert memoryview(data).readonly
    with pytest.raises(TypeError):
        digests.payload[0] = 0
    maps = re.findall(r"^\S+ (\S+) .*memfd:stoplist", Path("/proc/self/maps").read_text(), re.MULTILINE)
    assert maps
    assert set(maps) == {"r--p"}


def test_the_seals_cannot_be_taken_off():
    _, digests = _digests()
    for file in digests.files:
        seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
        wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        assert seals & wanted == wanted


def test_no_descriptor_is_inherited_by_a_program():
    shared = share(ruleset(signed("listed.test")))
    files = pack(shared, page_of(shared.policy), LAYOUT)
    assert not any(os.get_inheritable(file) for file in files)
    os.close(files[0])


def test_large_lists_are_written_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_rulesets, "_PIECE", 1000)
    original = ruleset(signed("listed.test", *MANY))
    assert bytes(share(original).lists[0].digests.payload) == bytes(original.lists[0].digests.payload)


@pytest.mark.parametrize("missing", [1, 2, 4])
def test_a_message_that_lost_descriptors_is_no_ruleset(missing: int):
    """As the system delivers it to a process that has none left (recvmsg, MSG_CTRUNC)."""
    shared = share(ruleset(signed("a.test", list_id="a"), signed("b.test", list_id="b")))
    description, *files = pack(shared, page_of(shared.policy), LAYOUT)
    left = [os.dup(file) for file in files[: len(files) - missing]]
    with pytest.raises(ValueError, match="not enough values"):
        unpack([description, *left])
    gc.collect()
    for file in left:
        with contextlib.suppress(OSError):
            os.close(file)


def test_as_many_lists_as_one_message_holds_are_passed_on():
    lists = [signed(f"{number}.test", list_id=f"l{number}") for number in range((MAX_FILES - 1) // 2)]
    received = _passed_on(share(ruleset(*lists)))
    assert len(received.lists) == 126
    assert decide(received, Host.parse("www.125.test"), TIMES[0]).list == "l125"
