"""RulesetStore: whatever happens to the files, the newest good ones end up in force.

A real file system and real threads; the clock is the machine's. The store polls once an hour, so that what comes into
force does so by an event, but where a test takes the `polling` publisher.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from watchdog.events import FileSystemEventHandler
from watchdog.observers.api import BaseObserver, ObservedWatch

from stoplist import clock
from stoplist.core.decide import Ruleset
from stoplist.core.lists.signed_list import History
from stoplist.errors import Problems
from stoplist.proxy.log import records
from stoplist.proxy.log.records import ChangeRefused, ListRefused, Noted, ReadAtStart
from stoplist.proxy.reload.ruleset_store import InForce, RulesetStore
from stoplist.proxy.reload.shared_rulesets import SharedDigests, share
from stoplist.state import State
from tests.e2e.network import SECONDS
from tests.published import Publisher

# machine's clock: the store loads by it


@pytest.fixture
def polling(tmp_path: Path) -> Publisher:
    """A publisher whose policy has the store look each second."""
    return Publisher.new(tmp_path / "files", clock.now())


@pytest.fixture
def publisher(polling: Publisher) -> Publisher:
    """A publisher whose policy has the store look at events only, within the time of a test."""
    polling.poll_by_the_hour()
    return polling


type Open = Callable[..., RulesetStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Open]:
    stores: list[RulesetStore] = []

    def open_store(policy: Path, **options: object) -> RulesetStore:
        state = State.open(_made(tmp_path / "state"), clock.now())
        stores.append(RulesetStore(policy, state, **options))
        stores[-1].watch()
        assert _until(lambda: _is_observing(stores[-1]))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _is_observing(store: RulesetStore) -> bool:
    return store._observer is not None and store._observer.is_alive()


def _until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return holds()


def _serial(store: RulesetStore) -> int:
    return store.current.ruleset.lists[0].header.serial


def _becomes(store: RulesetStore, serial: int) -> bool:
    return _until(lambda: _serial(store) == serial)


def _rename_over(publisher: Publisher, data: bytes) -> None:
    new = publisher.folder / "new"
    new.write_bytes(data)
    new.replace(publisher.list)


def _rename_from_another_folder(publisher: Publisher, data: bytes) -> None:
    new = _made(publisher.folder.parent / "elsewhere") / "new"
    new.write_bytes(data)
    new.replace(publisher.list)


def _write_in_place(publisher: Publisher, data: bytes) -> None:
    publisher.list.write_bytes(data)


def _write_in_pieces(publisher: Publisher, data: bytes) -> None:
    with publisher.list.open("wb", buffering=0) as file:
        for start in range(0, len(data), len(data) // 7):
            file.write(data[start : start + len(data) // 7])
            time.sleep(0.02)


def _delete_and_create(publisher: Publisher, data: bytes) -> None:
    publisher.list.unlink()
    time.sleep(0.3)
    publisher.list.write_bytes(data)


def _with_the_same_mtime(publisher: Publisher, data: bytes) -> None:
    before = publisher.list.stat()
    publisher.list.write_bytes(data)
    os.utime(publisher.list, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace_the_folder(publisher: Publisher, data: bytes) -> None:
    new = publisher.folder.with_name("files.new")
    shutil.copytree(publisher.folder, new)
    (new / publisher.list.name).write_bytes(data)
    publisher.folder.rename(publisher.folder.with_name("files.old"))
    new.rename(publisher.folder)


@pytest.mark.parametrize(
    "change",
    [
        _rename_over,
        _rename_from_another_folder,
        _write_in_place,
        _write_in_pieces,
        _delete_and_create,
        _with_the_same_mtime,
        _replace_the_folder,
    ],
    ids=lambda change: change.__name__.strip("_"),
)
def test_a_change_is_in_force_by_its_event(publisher: Publisher, open_store: Open, change):
    store = open_store(publisher.policy)
    change(publisher, publisher.build(2))
    assert _becomes(store, 2)
    _rename_over(publisher, publisher.build(3))
    assert _becomes(store, 3), "the change after it is not seen"


def _kubernetes(folder: Path, publisher: Publisher) -> Path:
    """A volume as kubelet makes it: files are links into ``..data``, itself a link to a dated folder."""
    shutil.copytree(publisher.folder, folder / "..2026_1")
    (folder / "..data").symlink_to("..2026_1")
    for path in publisher.folder.iterdir():
        (folder / path.name).symlink_to(Path("..data") / path.name)
    return folder / publisher.policy.name


def test_a_kubernetes_volume_swap_is_in_force_by_its_event(publisher: Publisher, open_store: Open, tmp_path: Path):
    volume = _made(tmp_path / "volume")
    store = open_store(_kubernetes(volume, publisher))
    for serial in (2, 3):
        shutil.copytree(volume / f"..2026_{serial - 1}", volume / f"..2026_{serial}")
        (volume / f"..2026_{serial}" / publisher.list.name).write_bytes(publisher.build(serial))
        (volume / "..data_tmp").symlink_to(f"..2026_{serial}")
        (volume / "..data_tmp").rename(volume / "..data")
        shutil.rmtree(volume / f"..2026_{serial - 1}")
        assert _becomes(store, serial)


def test_a_swapped_link_to_the_whole_folder_is_in_force_by_its_event(
    publisher: Publisher, open_store: Open, tmp_path: Path
):
    current = tmp_path / "current"
    current.symlink_to(publisher.folder)
    store = open_store(current / publisher.policy.name)
    for serial in (2, 3):
        new = tmp_path / f"version{serial}"
        shutil.copytree(publisher.folder, new)
        (new / publisher.list.name).write_bytes(publisher.build(serial))
        (tmp_path / "link").symlink_to(new)
        (tmp_path / "link").rename(current)
        assert _becomes(store, serial)


def test_a_hundred_changes_a_second_end_with_the_newest(publisher: Publisher, open_store: Open):
    store = open_store(publisher.policy)
    lists = [publisher.build(serial) for serial in range(2, 102)]
    for data in lists:
        _rename_over(publisher, data)
        time.sleep(0.01)
    assert _becomes(store, 101)


def test_chmod_and_reading_change_nothing(publisher: Publisher, open_store: Open):
    changes: list[InForce] = []
    store = open_store(publisher.policy, on_change=changes.append)
    for _ in range(20):
        publisher.list.chmod(0o600)
        publisher.list.read_bytes()
        publisher.list.chmod(0o644)
    assert _serial(store) == 1
    _rename_over(publisher, publisher.build(2))
    assert _becomes(store, 2)
    assert _until(lambda: bool(changes))
    assert [change.ruleset.lists[0].header.serial for change in changes] == [2]


def test_what_happens_to_other_files_is_not_looked_at(publisher: Publisher, open_store: Open):
    store = open_store(publisher.policy)
    _rename_over(publisher, publisher.build(2))
    assert _becomes(store, 2), "the observer does not listen"
    time.sleep(0.5)
    looks = 0
    look = store._look

    class Counting:
        def set(self) -> None:
            nonlocal looks
            looks += 1
            look.set()

        def __getattr__(self, name: str) -> object:
            return getattr(look, name)

    store._look = Counting()
    for number in range(50):
        (publisher.folder / f"other{number}").write_bytes(b"x")
    time.sleep(0.5)
    assert looks == 0


def test_keys_and_policy_are_watched_too(publisher: Publisher, open_store: Open):
    store = open_store(publisher.policy)
    publisher.policy.write_text(publisher.policy.read_text().replace("threshold: 1", "threshold: 1\n    mode: observe"))
    assert _until(lambda: store.current.ruleset.policy.lists[0].mode == "observe")
    key = publisher.folder / "authority.pub"
    good = key.read_bytes()
    refused = store.reload.results["refused"]
    key.write_bytes(b"no key")
    assert _until(lambda: store.reload.results["refused"] > refused)
    assert _serial(store) == 1
    publisher.list.write_bytes(publisher.build(2))
    time.sleep(0.4)
    assert _serial(store) == 1
    key.write_bytes(good)
    assert _becomes(store, 2)


def test_an_observer_that_died_is_replaced(polling: Publisher, open_store: Open):
    store = open_store(polling.policy)
    store._observer.stop()
    store._observer.join()
    polling.poll_by_the_hour()
    polling.list.write_bytes(polling.build(2))
    assert _becomes(store, 2)
    assert store.current.ruleset.policy.watch.poll == 3600
    polling.list.write_bytes(polling.build(3))
    assert _becomes(store, 3), "no event of the new observer"


class Silent(BaseObserver):
    """An observer on a file system that sends no events, as NFS and CIFS do."""

    def __init__(self) -> None:
        super().__init__(type(self))

    def schedule(self, handler: FileSystemEventHandler, path: str, **_: object) -> ObservedWatch:
        return ObservedWatch(path, recursive=False)


def test_without_events_a_change_is_in_force_by_the_poll(polling: Publisher, open_store: Open):
    store = open_store(polling.policy, observer=Silent)
    polling.list.write_bytes(polling.build(2))
    assert _becomes(store, 2)


WITHOUT_INOTIFY = """
import logging, os, sys, time
from pathlib import Path

os.unshare(os.CLONE_NEWUSER)
Path("/proc/sys/user/max_inotify_instances").write_text("0")

from stoplist import clock
from stoplist.proxy.reload.ruleset_store import RulesetStore
from stoplist.state import State

logging.basicConfig(stream=sys.stdout, format="%(message)s")
policy, new, deadline = Path(sys.argv[1]), Path(sys.argv[2]), time.monotonic() + float(sys.argv[3])
store = RulesetStore(policy, State.open(policy.parent, clock.now()))
store.watch()
new.replace(policy.with_name("test.stoplist"))
while store.current.ruleset.lists[0].header.serial < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
print("serial", store.current.ruleset.lists[0].header.serial)
store.close()
"""
"""A store in a user namespace that may have no inotify instance: to use up those of the machine would be felt by
every other test that runs."""


def test_with_inotify_exhausted_it_polls_and_says_so(polling: Publisher, tmp_path: Path):
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode:
        assert not os.environ.get("CI"), "CI cannot make a user namespace"
        pytest.skip("needs the right to make a user namespace")
    new = tmp_path / "new"
    new.write_bytes(polling.build(2))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_INOTIFY, polling.policy, new, str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=True,
    )
    assert "the file system reports no changes" in done.stdout
    assert done.stdout.endswith("serial 2\n")


class FailingOnce(State):
    """A state that fails, once it is told to, in a way that nobody expects."""

    fails = False

    def history(self, file: Path, key_ids: Collection[str], *, own_file_only: bool = False) -> History:
        if self.fails:
            self.fails = False
            raise MemoryError
        return super().history(file, key_ids, own_file_only=own_file_only)


def test_after_an_unexpected_failure_a_change_is_tried_again(polling: Publisher, tmp_path: Path):
    state = FailingOnce.open(_made(tmp_path / "state"), clock.now())
    store = RulesetStore(polling.policy, state)
    store.watch()
    try:
        assert _until(lambda: _is_observing(store))
        state.fails = True
        polling.list.write_bytes(polling.build(2))
        assert _until(lambda: not state.fails)
        assert _becomes(store, 2)
    finally:
        store.close()


def test_a_running_store_keeps_no_list_file_in_memory(publisher: Publisher, open_store: Open):
    domains = 200_000
    publisher.list.write_bytes(publisher.build(2, domains=domains))
    tracemalloc.start()
    try:
        store = open_store(publisher.policy)
        assert _serial(store) == 2
        gc.collect()
        assert _until(lambda: tracemalloc.get_traced_memory()[0] < 20 * domains + 1_000_000)
    finally:
        tracemalloc.stop()


def test_a_list_that_expires_while_in_force_is_said_once(polling: Publisher, open_store: Open, caplog):
    store = open_store(polling.policy)
    for serial, seconds in ((2, 2), (3, 8), (4, 32)):  # a slow machine puts it in force in time, too
        ends = clock.now() + timedelta(seconds=seconds)
        _rename_over(polling, polling.build(serial, seconds=(ends - polling.now).total_seconds()))
        _until(lambda serial=serial, ends=ends: _serial(store) == serial or clock.now() > ends)
        if clock.now() < ends - timedelta(seconds=1):
            break
    assert _serial(store) == serial
    assert _until(lambda: "list test has expired, it stays in force" in caplog.text)
    time.sleep(2.2)
    assert caplog.text.count("has expired") == 1
    assert _serial(store) == serial


# Who is told of what


def test_each_ruleset_is_accepted_just_before_it_is_in_force(publisher: Publisher, open_store: Open):
    """Whoever counts by a ruleset must have a place for it when the first request is judged by it."""
    accepted: list[tuple[int, int | None]] = []
    stores: list[RulesetStore] = []

    def accept(rules: Ruleset) -> None:
        accepted.append((rules.lists[0].header.serial, _serial(stores[0]) if stores else None))

    stores.append(open_store(publisher.policy, on_accept=accept))
    assert accepted == [(1, None)]
    for serial in (2, 3):
        _rename_over(publisher, publisher.build(serial))
        assert _becomes(stores[0], serial)
    assert accepted == [(1, None), (2, 1), (3, 2)]


def test_what_is_refused_is_neither_accepted_nor_told_of(publisher: Publisher, open_store: Open, caplog):
    accepted: list[Ruleset] = []
    changes: list[InForce] = []
    store = open_store(publisher.policy, on_accept=accepted.append, on_change=changes.append)
    publisher.list.write_bytes(b"{}")
    assert _until(lambda: any(isinstance(record.msg, ListRefused) for record in caplog.records))
    assert accepted == [store.current.ruleset]
    assert not changes


def test_a_policy_that_does_not_load_accepts_nothing(publisher: Publisher, tmp_path: Path):
    publisher.list.write_bytes(b"{}")
    accepted: list[Ruleset] = []
    state = State.open(_made(tmp_path / "state"), clock.now())
    with pytest.raises(Problems):
        RulesetStore(publisher.policy, state, on_accept=accepted.append)
    assert not accepted


def test_what_is_accepted_is_where_it_shall_be_kept(publisher: Publisher, open_store: Open):
    accepted: list[Ruleset] = []
    store = open_store(publisher.policy, place=share, on_accept=accepted.append)
    assert accepted == [store.current.ruleset]
    assert all(isinstance(signed.digests, SharedDigests) for signed in accepted[0].lists)


def test_all_that_is_said_is_a_record(publisher: Publisher, open_store: Open, caplog):
    """From a good list over a bad one to a good one again, with a policy that changes."""
    caplog.set_level("INFO")

    def said() -> list[type]:
        return [type(record.msg) for record in caplog.records if record.name.startswith("stoplist")]

    store = open_store(publisher.policy)
    publisher.list.write_bytes(b"{}")
    assert _until(lambda: ListRefused in said())
    publisher.list.write_bytes(publisher.build(2))
    assert _becomes(store, 2)
    publisher.policy.write_text(publisher.policy.read_text() + "listen: 127.0.0.1:9999\n")
    assert _until(lambda: ReadAtStart in said())
    publisher.policy.write_text("version: 2\n")
    assert _until(lambda: ChangeRefused in said())
    assert set(said()) == {Noted, records.ListInForce, ListRefused, ReadAtStart, ChangeRefused}
