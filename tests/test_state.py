"""State: what is remembered, and what is said when it cannot be; counts that leave no trace but their sum."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import threading
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from stoplist.core.counts import Cell, Count, Outcome, Period, cells_of
from stoplist.core.lists.keys import ListKey
from stoplist.core.lists.signed_list import NO_HISTORY, Seen
from stoplist.errors import StoplistError
from stoplist.state import State
from stoplist.state_database import DATABASE, VERSION
from stoplist.state_records import JOURNAL_ROWS
from tests.disks import tiny_disk
from tests.fixed_time import NOW
from tests.keys import LIST_KEY, make_list, new_ed25519, open_list

SIGNER = new_ed25519()
SIGNED_DATA = make_list(["listed.example"], SIGNER)
SIGNED = open_list(SIGNED_DATA, SIGNER)
FILE = Path("/lists/worst-of.stoplist")
OTHER = Path("/lists/other.stoplist")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def state(folder: Path):
    state = State.open(folder, NOW)
    yield state
    state.close()


def activate(
    state: State,
    serial: int,
    file: Path = FILE,
    list_key: ListKey = LIST_KEY,
    list_id: str = "worst-of",
    **options: object,
):
    data = make_list(["listed.example"], SIGNER, serial=serial, list_key=list_key, list_id=list_id)
    signed = open_list(data, SIGNER, list_key=list_key)
    state.activate(file, signed, data, NOW, **options)
    return signed


def test_a_new_state_says_that_it_remembers_nothing(state: State, folder: Path):
    assert state.notes == ("this state directory remembers no list yet; the gate remembers serials from now on",)
    assert state.history(FILE, {LIST_KEY.key_id}) == NO_HISTORY
    assert state.in_force(FILE) is None
    assert stat.S_IMODE((folder / DATABASE).stat().st_mode) == 0o600


def test_what_was_in_force_is_remembered_when_opened_again(state: State, folder: Path):
    signed = activate(state, 5)
    state.close()
    again = State.open(folder, NOW)
    assert again.notes == ()
    assert again.history(FILE, {LIST_KEY.key_id}) == NO_HISTORY.expecting(signed)
    remembered = again.in_force(FILE)
    assert remembered.header == signed.header
    assert remembered.signers == signed.signers
    assert remembered.since == "2026-11-21T12:00:00Z"
    assert open_list(again.copy_of(FILE).read_bytes(), SIGNER) == signed
    again.close()


def test_serials_are_remembered_for_each_list_key(state: State):
    """Copies for two recipients under one list id do not stand in each other's way."""
    other = ListKey(b"\7" * 32)
    activate(state, 9, OTHER, other)
    assert state.history(FILE, {LIST_KEY.key_id}).seen == {}
    activate(state, 5)
    seen = state.history(FILE, {LIST_KEY.key_id, other.key_id}).seen
    assert seen["worst-of"].serial == 9


def test_the_highest_serial_stays(state: State):
    activate(state, 9, OTHER)
    activate(state, 5)
    assert state.history(FILE, {LIST_KEY.key_id}).seen["worst-of"].serial == 9
    assert state.in_force(FILE).header.serial == 5


def test_a_list_that_is_observed_does_not_make_another_file_old(state: State):
    activate(state, 1)
    activate(state, 2, OTHER, is_observed=True)
    assert state.history(FILE, {LIST_KEY.key_id}).seen["worst-of"].serial == 1
    assert state.history(OTHER, {LIST_KEY.key_id}, own_file_only=True).seen["worst-of"].serial == 2


def test_a_list_that_was_observed_is_the_measure_once_it_is_enforced(state: State):
    activate(state, 1)
    observed = activate(state, 2, OTHER, is_observed=True)
    assert state.history(OTHER, {LIST_KEY.key_id}).seen["worst-of"].serial == 2
    state.enforce([observed])
    assert state.history(FILE, {LIST_KEY.key_id}).seen["worst-of"].serial == 2
    state.enforce([open_list(make_list(["listed.example"], SIGNER, serial=1), SIGNER)])
    assert state.history(FILE, {LIST_KEY.key_id}).seen["worst-of"].serial == 2


def test_a_file_that_is_observed_is_measured_by_itself_alone(state: State):
    activate(state, 9)
    assert state.history(OTHER, {LIST_KEY.key_id}, own_file_only=True) == NO_HISTORY


def test_the_journal_says_what_changed(state: State):
    activate(state, 1)
    activate(state, 2, changed="after serial 1: 3 added, 0 removed")
    state.change(FILE, ["mode", "lists[1].threshold"], NOW)
    state.change(FILE, [], NOW)
    assert [(entry.result, entry.why) for entry in state.journal(10)] == [
        ("changed", "mode, lists[1].threshold"),
        ("activated", "after serial 1: 3 added, 0 removed"),
        ("activated", ""),
    ]


def test_each_file_has_its_own_expected_list(state: State):
    activate(state, 1, FILE, list_id="worst-of")
    activate(state, 1, OTHER, list_id="national")
    assert state.history(FILE, {LIST_KEY.key_id}).expected == "worst-of"
    assert state.history(OTHER, {LIST_KEY.key_id}).expected == "national"
    assert state.copy_of(FILE) != state.copy_of(OTHER)


def test_the_journal_tells_what_happened_newest_first(state: State):
    activate(state, 1)
    state.refuse(FILE, "torn", NOW + timedelta(hours=1))
    state.refuse(FILE, "torn", NOW + timedelta(hours=2))
    state.refuse(OTHER, "missing", NOW + timedelta(hours=3))
    activate(state, 2)
    assert [(entry.result, entry.serial, entry.why) for entry in state.journal(10)] == [
        ("activated", 2, ""),
        ("refused", None, "missing"),
        ("refused", None, "torn"),
        ("activated", 1, ""),
    ]
    assert [entry.result for entry in state.journal(10, OTHER)] == ["refused"]
    assert state.journal(1)[0].signers == (SIGNER.public_key.keyid,)


def test_the_same_list_again_is_no_news(state: State):
    activate(state, 1)
    activate(state, 1)
    assert len(state.journal(10)) == 1


def test_a_refusal_is_the_last_one_until_a_list_is_in_force(state: State):
    state.refuse(FILE, "torn", NOW)
    assert state.last_refusal(FILE).why == "torn"
    activate(state, 1)
    assert state.last_refusal(FILE) is None


def test_a_held_list_is_released_by_its_payload_only(state: State):
    signed = open_list(make_list(["listed.example"], SIGNER, serial=7), SIGNER)
    state.hold(FILE, signed, "it grows", NOW)
    state.hold(FILE, signed, "it grows", NOW)
    (held,) = state.held()
    assert (held.file, held.list, held.serial, held.why) == (str(FILE), "worst-of", 7, "it grows")
    assert not state.is_released(held.payload_digest)
    state.release(held, NOW)
    assert state.is_released(held.payload_digest)
    assert not state.is_released(bytes(32))
    assert state.release_stamp.exists()
    activate(state, 7)
    assert state.held() == []
    assert [entry.result for entry in state.journal(10)] == ["activated", "released", "held"]


def test_exceptions_are_journalled_when_they_come_and_go(state: State):
    policy = Path("/etc/stoplist/policy.yaml")
    upheld, other = "appeal 14 upheld (until 2026-12-31)", "appeal 15 upheld (until 2026-12-31)"
    for wanted in ([upheld], [upheld], [upheld, other, other], [other], [], []):
        state.except_(policy, wanted, NOW)
    assert [(entry.result, entry.why) for entry in reversed(state.journal(20, policy))] == [
        *(("excepted", upheld), ("excepted", other), ("excepted", other)),
        *(("withdrawn", upheld), ("withdrawn", other), ("withdrawn", other)),
    ]
    assert {(entry.list, entry.serial, entry.signers) for entry in state.journal(20)} == {(None, None, ())}


def test_the_journal_is_bounded(state: State):
    with state._transaction():
        state._database.executemany(
            "INSERT INTO journal (time, file, result, why, signers) VALUES ('', '', 'refused', ?, '[]')",
            ((str(number),) for number in range(JOURNAL_ROWS + 50)),
        )
    state.refuse(FILE, "torn", NOW)
    assert len(state.journal(2 * JOURNAL_ROWS)) == JOURNAL_ROWS
    assert state.journal(1)[0].why == "torn"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no database" * 500, id="garbage"),
        pytest.param(b"SQLite format 3\0" + bytes(4096), id="a header and zeros"),
    ],
)
def test_a_database_that_cannot_be_read_is_set_aside_and_announced(state: State, folder: Path, damage: bytes):
    activate(state, 5)
    state.close()
    (folder / DATABASE).write_bytes(damage)
    again = State.open(folder, NOW)
    assert again.notes[0].startswith("the state could not be read")
    assert again.notes[1].startswith("the remembered serials were lost")
    assert (folder / f"{DATABASE}.unreadable-20261121T120000Z").read_bytes() == damage
    assert again.copy_of(FILE).exists()
    again.close()


def test_a_state_of_a_newer_version_is_an_error_and_stays(state: State, folder: Path):
    state.close()
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoplistError, match="made by a newer Stoplist"):
        State.open(folder, NOW)
    assert not list(folder.glob("*.unreadable-*"))


def test_a_creation_that_was_cut_off_is_made_again(folder: Path):
    (folder / f".{DATABASE}.new").write_bytes(b"half")
    state = State.open(folder, NOW)
    activate(state, 1)
    state.close()
    assert not (folder / f".{DATABASE}.new").exists()


def test_a_folder_that_cannot_be_written_is_a_note_and_no_error(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    state = State.open(blocked / "state", NOW)
    assert "the state cannot be written" in state.notes[1]
    assert state.in_force(FILE) is None
    with pytest.raises(StoplistError, match="cannot be written"):
        activate(state, 1)
    state.close()


def test_reading_makes_nothing(tmp_path: Path):
    with pytest.raises(StoplistError, match="no state; name the gate's --state-dir"):
        State.open_read_only(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_reader_sees_what_a_gate_wrote_meanwhile(state: State, folder: Path):
    reader = State.open_read_only(folder)
    signed = activate(state, 3)
    assert reader.in_force(FILE).seen == Seen("worst-of", 3, signed.payload_digest)
    with pytest.raises(StoplistError, match="cannot be written"):
        reader.refuse(FILE, "torn", NOW)
    reader.close()


def test_nothing_in_the_state_names_a_listed_domain(state: State, folder: Path):
    activate(state, 1)
    state.close()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not [path for path in files if b"listed.example" in path.read_bytes()]


# Counts


HOUR = Period.at(NOW.timestamp(), "hour")
NEXT = Period.at(HOUR.ends, "hour")
CELLS = cells_of({("worst-of", 7): True, ("own", 1): False})
STOPPED = Cell("worst-of", 7, Outcome.STOPPED)
EVER = (0, NEXT.ends + 1)


def counts(requests: int, cells: Iterable[Cell] = CELLS, period: Period = HOUR) -> list[Count]:
    return [Count(period, cell, requests, fresh=60, expired=0) for cell in cells]


def requests_of(state: State) -> dict[tuple[str, Cell], int]:
    return {(count.period.name, count.cell): count.requests for count in state.counts(*EVER)}


def sizes(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_size) for path in folder.glob(f"{DATABASE}*"))


def test_counts_are_added_up_cell_by_cell(state: State):
    state.count([Count(HOUR, STOPPED, 3, fresh=50, expired=10), *counts(1, CELLS[:1])])
    state.count([Count(HOUR, STOPPED, 4, fresh=0, expired=60), Count(NEXT, STOPPED, 5, fresh=0, expired=60)])
    state.count([])
    first, second, third = sorted(state.counts(*EVER), key=lambda count: (count.period, count.requests))
    assert (first.cell, first.requests, first.fresh, first.expired) == (CELLS[0], 1, 60, 0)
    assert (second.cell, second.requests, second.fresh, second.expired) == (STOPPED, 7, 50, 70)
    assert (third.period, third.requests, third.fresh, third.expired) == (NEXT, 5, 0, 60)


def test_a_count_comes_back_as_it_was_also_after_a_restart(state: State, folder: Path):
    counted = [replace(count, requests=at) for at, count in enumerate(counts(0), 2**31)]
    state.count(counted)
    state.close()
    again = State.open(folder, NOW)
    assert again.notes == ()
    assert sorted(again.counts(*EVER), key=lambda count: count.requests) == counted
    again.close()


@pytest.mark.parametrize(
    ("since", "until", "found"),
    [
        pytest.param(HOUR.starts, NEXT.ends, [HOUR, NEXT], id="both"),
        pytest.param(HOUR.starts, NEXT.ends - 1, [HOUR], id="one that has not closed"),
        pytest.param(HOUR.starts, HOUR.ends + 0.5, [HOUR], id="one that has just closed"),
        pytest.param(HOUR.starts + 1, NEXT.ends, [NEXT], id="one that began before"),
        pytest.param(HOUR.starts + 1, NEXT.ends - 1, [], id="none is whole"),
    ],
)
def test_whole_periods_are_found_between_two_times(state: State, since: float, until: float, found: list[Period]):
    state.count([*counts(1, [STOPPED], NEXT), *counts(1, [STOPPED], HOUR)])
    assert [count.period for count in state.counts(since, until)] == found


def test_counts_are_written_whole_or_not_at_all(state: State):
    state.count(counts(1))
    before = state.counts(*EVER)
    with pytest.raises(StoplistError, match="cannot be written"):
        state.count([*counts(5), Count(HOUR, STOPPED, 1, fresh=None, expired=0)])  # type: ignore[arg-type]
    assert state.counts(*EVER) == before


def test_what_was_reported_is_remembered_and_old_counts_are_forgotten(state: State, folder: Path):
    assert state.reported_until() == 0
    state.count(counts(1) + counts(2, period=NEXT))
    state.report_until(HOUR.ends, forget_before=HOUR.ends)
    assert len(state.counts(*EVER)) == 2 * len(CELLS)
    state.report_until(NEXT.ends, forget_before=HOUR.ends + 0.5)
    assert len(state.counts(*EVER)) == 2 * len(CELLS)
    state.report_until(NEXT.ends, forget_before=HOUR.ends + 1)
    assert set(requests_of(state).values()) == {2}
    state.close()
    again = State.open(folder, NOW)
    assert again.reported_until() == NEXT.ends
    again.close()


# What the files show of counts


@pytest.fixture(params=["one gate", "many lists"])
def lists(request: pytest.FixtureRequest) -> dict[tuple[str, int], bool]:
    return {(f"list-{number}", number): True for number in range(1 if request.param == "one gate" else 40)}


def live(folder: Path, numbers: Iterable[int], lists: dict[tuple[str, int], bool]) -> list[tuple[str, int]]:
    """Count in an hour after another, each of them for a while, and forget the old ones: the sizes after each step."""
    state, period, seen = State.open(folder, NOW), HOUR, []
    for number in numbers:
        for _ in range(3):
            state.count(counts(number, cells_of(lists), period))
            seen += sizes(folder)
        state.report_until(period.ends, forget_before=period.starts - 5 * 3600)
        seen += sizes(folder)
        period = Period.at(period.ends, "hour")
    state.close()
    return seen + sizes(folder)


def test_the_sizes_of_files_do_not_tell_how_much_was_counted(tmp_path: Path, lists: dict[tuple[str, int], bool]):
    nothing = live(tmp_path / "nothing", [0] * 20, lists)
    assert live(tmp_path / "much", range(10**9, 10**9 + 20), lists) == nothing
    assert live(tmp_path / "some", [0, 0, 1, 0, 12345] * 4, lists) == nothing


def test_the_log_of_the_database_is_empty_after_each_count(state: State, folder: Path):
    for number in (0, 7, 1237):
        state.count(counts(number))
        assert (folder / f"{DATABASE}-wal").stat().st_size == 0
        state.report_until(HOUR.ends, 0)
        assert (folder / f"{DATABASE}-wal").stat().st_size == 0


def test_the_file_is_written_whether_or_not_anything_was_counted(state: State, folder: Path):
    state.count(counts(0))
    for number in (0, 1, 1237):
        os.utime(folder / DATABASE, (0, 0))
        state.count(counts(number))
        assert (folder / DATABASE).stat().st_mtime > 0


def twelve_digits(folder: Path) -> set[int]:
    """All numbers that stand anywhere in the files of the database, written as counts are."""
    raw = b"".join(path.read_bytes() for path in folder.glob(f"{DATABASE}*"))
    return {int(digits) for digits in re.findall(rb"(?=(\d{12}))", raw)}


def test_a_number_that_was_written_over_is_nowhere_in_the_files(folder: Path, lists: dict[tuple[str, int], bool]):
    """Pages are split and joined meanwhile, and cells leave and come back; each number is one of its own."""
    state, period, kept = State.open(folder, NOW), HOUR, {}
    for step in range(1, 200):
        cells = cells_of(dict(list(lists.items())[: 1 + step % len(lists)]))
        counted = [Count(period, cell, 10**8 * step + at, 60, 0) for at, cell in enumerate(cells)]
        state.count(counted)
        for count in counted:
            kept[period, count.cell] = kept.get((period, count.cell), 0) + count.requests
        if step % 3 == 0:
            forgotten = period.starts - 3600 * (step % 40)
            state.report_until(period.ends, forgotten)
            kept = {key: number for key, number in kept.items() if key[0].ends >= forgotten}
            period = Period.at(period.ends, "hour")
        large = {number for number in twelve_digits(folder) if 10**8 <= number < 10**11}
        assert large == set(kept.values())
    state.close()


def test_the_search_for_numbers_finds_what_a_database_leaves_behind(state: State, folder: Path):
    """It is its setting that forgets: without it the test above would fail."""
    state._database.execute("PRAGMA secure_delete = OFF")
    state.count(counts(123_456_789, [STOPPED]))
    state.report_until(HOUR.ends, HOUR.ends + 1)
    assert state.counts(*EVER) == []
    assert 123_456_789 in twelve_digits(folder)


def test_who_reads_meanwhile_delays_the_forgetting_to_the_next_count(state: State, folder: Path):
    state._database.execute("PRAGMA busy_timeout = 10")
    state.count(counts(100_000_001))
    reader = State.open_read_only(folder)
    reader._database.execute("BEGIN")
    assert len(reader.counts(*EVER)) == len(CELLS)
    state.count(counts(100_000_002))
    assert set(requests_of(reader).values()) == {100_000_001}
    assert set(requests_of(state).values()) == {200_000_003}
    reader._database.rollback()
    reader.close()
    state.count(counts(100_000_004))
    assert {number for number in twelve_digits(folder) if number > 10**8} == {300_000_007}


def copied(folder: Path, to: Path) -> dict[str, list[dict[str, object]]]:
    """The rows of each table in a copy of a state directory; how long each of its files is."""
    shutil.copytree(folder, to)
    found: dict[str, list[dict[str, object]]] = {
        "files": [{"name": str(path.relative_to(to)), "size": path.stat().st_size} for path in sorted(to.rglob("*"))]
    }
    with closing(sqlite3.connect(to / DATABASE)) as database:
        database.row_factory = sqlite3.Row
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            found[table] = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
    return found


@pytest.mark.parametrize("requests", [0, 1, 1237])
def test_copies_of_a_state_differ_in_the_numbers_counted_between_them_and_in_nothing_else(
    tmp_path: Path, requests: int
):
    folder = tmp_path / "state"
    state = State.open(folder, NOW)
    activate(state, 5)
    state.refuse(OTHER, "torn", NOW)
    state.hold(OTHER, open_list(make_list(["listed.example"], SIGNER, serial=9), SIGNER), "it adds much", NOW)
    state.release(state.held()[0], NOW)
    state.except_(FILE, ["appeal 14 upheld (until 2026-12-31)"], NOW)
    state.change(FILE, ["mode"], NOW)
    state.count(counts(3))
    before = copied(folder, tmp_path / "before")
    state.count(counts(requests))
    after = copied(folder, tmp_path / "after")
    state.close()
    assert {"counts", "files", "held", "in_force", "journal", "released", "reported", "seen"} == before.keys()
    assert all(before.values())
    assert before.keys() == after.keys()
    assert {table for table in before if before[table] != after[table]} == {"counts"}
    for was, now in zip(before["counts"], after["counts"], strict=True):
        more = {name: int(now[name]) - int(was[name]) for name in ("requests", "fresh", "expired")}
        assert more == {"requests": requests, "fresh": 60, "expired": 0}
        assert now | {name: was[name] for name in more} == was


def test_whatever_was_counted_the_files_differ_in_digits_only(tmp_path: Path):
    seen = []
    for requests in (0, 7, 10**11 + 1):
        state = State.open(tmp_path / f"state{requests}", NOW)
        state.activate(FILE, SIGNED, SIGNED_DATA, NOW)
        for period in (HOUR, NEXT):
            state.count(counts(0, period=period))
            state.count(counts(requests, period=period))
            state.report_until(period.ends, 0)
        state.close()
        seen.append((tmp_path / f"state{requests}" / DATABASE).read_bytes())
    for other in seen[1:]:
        assert len(other) == len(seen[0])
        differing = {pair for pair in zip(seen[0], other, strict=True) if pair[0] != pair[1]}
        assert differing
        assert all(bytes(pair).isdigit() for pair in differing)


# Counts that cannot be written


MANY = [Cell(f"list-{number}", number, Outcome.STOPPED) for number in range(200)]


def test_a_full_database_leaves_what_was_there(state: State):
    state.count(counts(3))
    (pages,) = state._database.execute("PRAGMA page_count").fetchone()
    state._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoplistError, match=r"cannot be written \(database or disk is full\); check the disk"):
        state.count(counts(4, [*CELLS, *MANY]))
    assert set(requests_of(state).values()) == {3}
    state._database.execute(f"PRAGMA max_page_count = {10 * pages}")
    state.count(counts(4, [*CELLS, *MANY]))
    assert set(requests_of(state).values()) == {4, 7}


@pytest.mark.parametrize("room", [1000, 5000])
def test_a_full_disk_leaves_what_was_there(state: State, folder: Path, room: int):
    """The log of the database cannot begin, or breaks off."""
    state.count(counts(3))
    with tiny_disk(room), pytest.raises(StoplistError, match="cannot be written"):
        state.count(counts(4, [*CELLS, *MANY]))
    assert set(requests_of(state).values()) == {3}
    state.count(counts(5))
    assert set(requests_of(state).values()) == {8}
    state.close()
    again = State.open(folder, NOW)
    assert (again.notes, set(requests_of(again).values())) == ((), {8})
    again.close()


def test_a_disk_that_is_full_after_the_log_loses_no_count(state: State, folder: Path):
    """The log holds what was counted, and cannot be emptied: it is by the next count."""
    state.count(counts(100_000_003))
    with tiny_disk(5000):
        state.count(counts(100_000_004))
    assert set(requests_of(state).values()) == {200_000_007}
    assert (folder / f"{DATABASE}-wal").stat().st_size > 0
    state.count(counts(100_000_005))
    assert {number for number in twelve_digits(folder) if number > 10**8} == {300_000_012}


def test_two_threads_lose_no_count(state: State):
    start = threading.Barrier(3)
    failed = []

    def work(cell: Cell) -> None:
        start.wait()
        try:
            for _ in range(100):
                state.count(counts(1, [cell, STOPPED]))
        except StoplistError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(cell,)) for cell in CELLS[:2]]
    for thread in threads:
        thread.start()
    start.wait()
    seen = [requests_of(state).get((HOUR.name, STOPPED), 0) for _ in range(50)]
    for thread in threads:
        thread.join()
    assert failed == []
    assert seen == sorted(seen)
    assert requests_of(state) == {
        (HOUR.name, STOPPED): 200,
        (HOUR.name, CELLS[0]): 100,
        (HOUR.name, CELLS[1]): 100,
    }


# Of an older version


VERSION_1 = """
CREATE TABLE seen (
  list TEXT, key_id TEXT, serial INTEGER NOT NULL, payload BLOB NOT NULL, PRIMARY KEY (list, key_id)
) STRICT;
CREATE TABLE in_force (
  file TEXT PRIMARY KEY, payload BLOB NOT NULL, header TEXT NOT NULL, signers TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE held (
  file TEXT PRIMARY KEY, list TEXT NOT NULL, serial INTEGER NOT NULL, payload BLOB NOT NULL,
  why TEXT NOT NULL, since TEXT NOT NULL
) STRICT;
CREATE TABLE released (payload BLOB PRIMARY KEY, time TEXT NOT NULL) STRICT;
CREATE TABLE journal (
  id INTEGER PRIMARY KEY, time TEXT NOT NULL, file TEXT NOT NULL, result TEXT NOT NULL,
  list TEXT, serial INTEGER, why TEXT NOT NULL, signers TEXT NOT NULL
) STRICT;
INSERT INTO seen VALUES ('worst-of', 'a key', 5, x'00');
INSERT INTO journal VALUES (1, '2016-06-01T00:00:00Z', '/a.stoplist', 'activated', 'worst-of', 5, '', '[]');
PRAGMA user_version = 1;
"""


@pytest.fixture
def version_1(folder: Path) -> Path:
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(VERSION_1)
    database.close()
    return folder


def version_of(folder: Path) -> int:
    with sqlite3.connect(folder / DATABASE) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
    database.close()
    return version


def test_a_state_of_version_1_keeps_what_it_remembers_and_counts_from_now_on(version_1: Path):
    state = State.open(version_1, NOW)
    assert state.notes == ()
    assert state.history(FILE, {"a key"}).seen == {"worst-of": Seen("worst-of", 5, b"\0")}
    assert [entry.serial for entry in state.journal(10)] == [5]
    assert (state.counts(*EVER), state.reported_until()) == ([], 0)
    state.count(counts(3))
    state.close()
    assert version_of(version_1) == VERSION == 2
    again = State.open(version_1, NOW)
    assert set(requests_of(again).values()) == {3}
    again.close()


def test_a_state_of_version_1_is_read_as_it_is(version_1: Path):
    reader = State.open_read_only(version_1)
    assert (reader.counts(*EVER), reader.reported_until()) == ([], 0)
    assert len(reader.journal(10)) == 1
    reader.close()
    assert version_of(version_1) == 1


def test_two_processes_that_open_a_state_of_version_1_bring_it_to_version_2_once(version_1: Path):
    """The second one has seen version 1, and waits while the first is at it."""
    first = sqlite3.connect(version_1 / DATABASE)
    first.execute("BEGIN IMMEDIATE")
    opened: list[State] = []
    second = threading.Thread(target=lambda: opened.append(State.open(version_1, NOW)))
    second.start()
    second.join(0.3)
    assert not opened
    first.execute("CREATE TABLE counts (starts, ends, period, list, serial, outcome, requests, fresh, expired)")
    first.execute("CREATE TABLE reported (until)")
    first.execute("INSERT INTO reported VALUES (0)")
    first.execute("PRAGMA user_version = 2")
    first.commit()
    first.close()
    second.join()
    assert opened[0].notes == ()
    opened[0].close()


def test_a_version_1_state_on_a_full_disk_is_read_with_a_note(version_1: Path):
    with tiny_disk(1000):
        state = State.open(version_1, NOW)
    assert [note[:31] for note in state.notes] == ["the state cannot be written (di"]
    assert (state.counts(*EVER), state.reported_until()) == ([], 0)
    with pytest.raises(StoplistError, match="cannot be written"):
        state.count(counts(1))
    state.close()
    assert version_of(version_1) == 1
