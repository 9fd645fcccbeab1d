"""State: what is remembered, and what is said when it cannot be."""

from __future__ import annotations

import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stoplist.core.signedlist import NO_HISTORY, ListKey, Seen
from stoplist.errors import StoplistError
from stoplist.state import DATABASE, JOURNAL_ROWS, State
from tests.keys import LIST_KEY, make_list, new_ed25519, open_list

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SIGNER = new_ed25519()
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


def activate(state: State, serial: int, file: Path = FILE, list_key: ListKey = LIST_KEY, list_id: str = "worst-of"):
    data = make_list(["listed.example"], SIGNER, serial=serial, list_key=list_key, list_id=list_id)
    signed = open_list(data, SIGNER, list_key=list_key)
    state.activate(file, signed, data, NOW)
    return signed


def test_a_new_state_says_that_it_remembers_nothing(state: State, folder: Path):
    assert state.notes == ("this state directory remembers no list yet; serials are remembered from now on",)
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
    assert again.notes[1].startswith("the memory of serials was lost")
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
