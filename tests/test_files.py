"""Files: read whole and capped, written whole or not at all, private from the first byte."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoplist import files
from stoplist.errors import StoplistError
from tests.disks import tiny_disk
from tests.examples import examples


def names(folder: Path) -> list[str]:
    """All that stands in a folder, hidden or not."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refusal(path: Path, limit: int = 100) -> StoplistError:
    with pytest.raises(StoplistError) as caught:
        files.read(path, limit)
    assert caught.value.place == str(path)
    assert caught.value.hint
    return caught.value


# Reading


def test_all_bytes_of_a_file_are_read(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4
    (tmp_path / "file").write_bytes(data)
    assert files.read(tmp_path / "file", 1024) == data


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert files.read(tmp_path / "file", 0) == b""


def test_a_file_one_byte_over_the_cap_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(101))
    error = refusal(tmp_path / "file", 100)
    assert error.message == "larger than 100 bytes, the limit for such a file"
    assert len(files.read(tmp_path / "file", 101)) == 101


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    """Kubernetes publishes a new secret by turning a link."""
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link").symlink_to("file")
    assert files.read(tmp_path / "link", 100) == b"data"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nothing").message == "no such file"


def test_a_link_to_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    assert refusal(tmp_path / "link").message == "no such file"


def test_a_file_taken_for_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be read" in refusal(tmp_path / "file" / "below").message


def test_a_link_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    assert "cannot be read" in refusal(tmp_path / "link").message


def test_a_folder_is_not_read(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert (error.message, error.hint) == ("not a file", "name a file")


@pytest.mark.timeout(60)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").message == "not a file"


@pytest.mark.timeout(60)
def test_a_pipe_is_not_drunk_from(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(pipe, b"data")
        assert refusal(tmp_path / "pipe").message == "not a file"
        assert os.read(pipe, 100) == b"data"
    finally:
        os.close(pipe)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero"])
def test_a_device_is_not_read(device: str) -> None:
    assert refusal(Path(device)).message == "not a file"


def test_a_socket_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 107 bytes only
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal(Path("socket")).message


@pytest.mark.parametrize("name", [pytest.param("a\0b", id="NUL"), pytest.param("a" * 300, id="too long")])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str) -> None:
    assert refusal(tmp_path / name).message


@pytest.mark.parametrize("kind", ["file", "too large", "nothing", "folder", "pipe"])
def test_reading_leaves_no_file_open(tmp_path: Path, kind: str) -> None:
    """A gate looks at its files every few seconds for years."""
    path = tmp_path / "path"
    if kind in ("file", "too large"):
        path.write_bytes(bytes(10 if kind == "file" else 1000))
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)

    def look() -> None:
        files.Reader().read(path, 100)

    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        try:
            look()
        except StoplistError:
            assert kind != "file"
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# What a reader has seen


def test_a_reader_is_current_until_bytes_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    reader = files.Reader()
    assert reader.read(path, 100) == b"one"
    assert reader.is_current(100)
    path.write_bytes(b"two")
    assert not reader.is_current(100)
    path.write_bytes(b"one")
    assert reader.is_current(100)


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, (0, 0))
    reader = files.Reader()
    reader.read(path, 100)
    path.write_bytes(b"two")
    os.utime(path, (0, 0))
    assert not reader.is_current(100)


def test_a_new_time_alone_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    reader = files.Reader()
    reader.read(path, 100)
    os.utime(path, (0, 0))
    assert reader.is_current(100)


def test_a_file_that_comes_or_goes_is_a_change(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.write_bytes(b"one")
    reader = files.Reader()
    reader.read(there, 100)
    with pytest.raises(StoplistError):
        reader.read(missing, 100)
    assert set(reader.seen) == {there, missing}
    assert reader.seen[missing] is None
    assert reader.is_current(100)
    missing.write_bytes(b"")
    assert not reader.is_current(100)
    missing.unlink()
    assert reader.is_current(100)
    there.unlink()
    assert not reader.is_current(100)


# Writing


@pytest.mark.parametrize("replace", [True, False])
def test_a_written_file_holds_the_bytes_and_nothing_is_left_beside_it(tmp_path: Path, replace: bool) -> None:
    files.write(tmp_path / "file", b"data", mode=files.PUBLIC, replace=replace)
    assert (tmp_path / "file").read_bytes() == b"data"
    assert names(tmp_path) == ["file"]


def test_an_existing_file_is_kept_without_replace(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StoplistError) as caught:
        files.write(tmp_path / "file", b"new", mode=files.PUBLIC, replace=False)
    assert str(caught.value) == f"{tmp_path / 'file'}: exists already; use --force to overwrite it"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_link_to_nothing_counts_as_existing_without_replace(tmp_path: Path) -> None:
    """Otherwise a key could be written to wherever somebody's link leads."""
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(StoplistError, match="exists already"):
        files.write(tmp_path / "link", b"new", mode=files.PRIVATE, replace=False)
    assert names(tmp_path) == ["link"]


def test_an_existing_file_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        files.write(path, b"new", mode=files.PUBLIC, replace=True)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_link_is_replaced_and_what_it_leads_to_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    files.write(tmp_path / "link", b"new", mode=files.PUBLIC, replace=True)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert (tmp_path / "link").read_bytes() == b"new"


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_is_not_overwritten(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoplistError):
        files.write(tmp_path / "folder", b"new", mode=files.PUBLIC, replace=replace)
    assert names(tmp_path) == ["folder"]
    assert names(tmp_path / "folder") == []


@pytest.mark.parametrize("parent", [pytest.param("file", id="a file"), pytest.param("nothing", id="nothing")])
def test_where_no_folder_is_nothing_is_written(tmp_path: Path, parent: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    path = tmp_path / parent / "new"
    with pytest.raises(StoplistError, match="cannot be written") as caught:
        files.write(path, b"new", mode=files.PUBLIC, replace=True)
    assert caught.value.place == str(path)
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize("replace", [True, False])
def test_a_write_that_fails_halfway_leaves_no_file(tmp_path: Path, replace: bool) -> None:
    with tiny_disk(), pytest.raises(StoplistError, match="cannot be written"):
        files.write(tmp_path / "file", bytes(5000), mode=files.PUBLIC, replace=replace)
    assert names(tmp_path) == []


def test_a_write_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with tiny_disk(), pytest.raises(StoplistError, match="cannot be written"):
        files.write(tmp_path / "file", bytes(5000), mode=files.PUBLIC, replace=True)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("wanted", [files.PRIVATE, files.PUBLIC])
@pytest.mark.parametrize("replace", [True, False])
def test_a_file_has_the_mode_that_was_asked_for_whatever_the_umask(
    tmp_path: Path, umask: int, wanted: int, replace: bool
) -> None:
    before = os.umask(umask)
    try:
        files.write(tmp_path / "file", b"data", mode=wanted, replace=replace)
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == wanted


def test_a_private_file_does_not_inherit_the_mode_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o666)
    files.write(tmp_path / "file", b"new", mode=files.PRIVATE, replace=True)
    assert mode(tmp_path / "file") == 0o600


@settings(max_examples=examples(30))
@given(st.binary(max_size=2000))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("written") / "file"
    files.write(path, data, mode=files.PUBLIC, replace=False)
    assert files.read(path, len(data)) == data


# Folders and modes


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b", files.PRIVATE_FOLDER)
    assert mode(tmp_path / "a" / "b") == 0o700


def test_an_existing_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a" / "file").touch()
    files.make_folder(tmp_path / "a", files.PRIVATE_FOLDER)
    assert mode(tmp_path / "a") == 0o755
    assert names(tmp_path / "a") == ["file"]


@pytest.mark.parametrize("path", [pytest.param("file", id="a file"), pytest.param("file/below", id="below a file")])
def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoplistError, match="cannot be made") as caught:
        files.make_folder(tmp_path / path, files.PRIVATE_FOLDER)
    assert caught.value.place == str(tmp_path / path)


@pytest.mark.parametrize(
    ("bits", "readable"),
    [
        pytest.param(0o600, False, id="owner alone"),
        pytest.param(0o400, False, id="owner, to read"),
        pytest.param(0o640, True, id="group"),
        pytest.param(0o604, True, id="everybody"),
        pytest.param(0o622, False, id="others may write only"),
    ],
)
def test_a_file_that_others_can_read_is_known(tmp_path: Path, bits: int, readable: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(bits)
    assert files.is_readable_by_others(tmp_path / "file") is readable


def test_nobody_reads_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert files.is_readable_by_others(tmp_path / "nothing") is False


def test_what_a_kill_leaves_of_a_write_is_private_whatever_was_asked_for(tmp_path: Path) -> None:
    """It stands beside the file that it was to become, until somebody removes it."""
    program = """
import os, signal, sys
from pathlib import Path
from stoplist import files
os.chmod = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
files.write(Path(sys.argv[1]), b"exact", mode=files.PUBLIC, replace=True)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.file\.\w+", left.name)
    assert (left.read_bytes(), mode(left)) == (b"exact", 0o600)
