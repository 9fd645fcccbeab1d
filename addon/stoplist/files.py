"""Files: the one module that reads and writes them.

Rules
  - A read is one capped read of one open file; the caller gets all of it or an error. Only `open_stream` gives a
    file without a cap, for logs.
  - A written file appears whole or not at all: the module writes it beside its place, syncs it, and renames it.
  - Others can never read a private file, not even while it is written.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from io import FileIO
from pathlib import Path

from stoplist.errors import StoplistError

PRIVATE = 0o600
PUBLIC = 0o644
PRIVATE_FOLDER = 0o700


class Reader:
    """Reads files and remembers them: for each path the SHA-256 of its bytes, None if it could not be read. Two
    readers saw the same exactly when their `seen` are equal."""

    def __init__(self) -> None:
        self.seen: dict[Path, bytes | None] = {}

    def read(self, path: Path, limit: int) -> bytes:
        """All bytes of a regular file of at most `limit` bytes. Raises StoplistError."""
        self.seen[path] = None
        data = read(path, limit)
        self.seen[path] = hashlib.sha256(data).digest()
        return data

    def is_current(self, limit: int) -> bool:
        """Whether every file that was read still holds the same bytes."""
        again = Reader()
        for path in self.seen:
            with contextlib.suppress(StoplistError):
                again.read(path, limit)
        return again.seen == self.seen


def read(path: Path, limit: int) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises StoplistError."""
    try:
        # With O_NONBLOCK, opening a pipe does not wait until somebody writes to it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StoplistError("not a file", hint="name a file", place=str(path))
        with open(handle, "rb") as file:
            data = file.read(limit + 1)
    except ValueError:
        raise StoplistError("no file can have this name", hint="correct the path", place=str(path)) from None
    except FileNotFoundError:
        raise StoplistError("no such file", hint="put it there, or correct the path", place=str(path)) from None
    except OSError as error:
        hint = "check its owner and mode" if isinstance(error, PermissionError) else "check the path and the disk"
        raise StoplistError(f"cannot be read ({error.strerror})", hint=hint, place=str(path)) from None
    if len(data) > limit:
        raise StoplistError(
            f"larger than {limit} bytes, the limit for such a file",
            hint="check that this is the right file",
            place=str(path),
        )
    return data


def open_stream(path: Path) -> FileIO:
    """A file, or a pipe, that is too large to read whole: the caller reads it piece by piece and closes it. Raises
    StoplistError."""
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or "no file can have this name").lower()
        raise StoplistError(f"cannot be read ({why})", hint="check the path", place=str(path)) from None


def write(path: Path, data: bytes, *, mode: int, replace: bool) -> None:
    """Write a whole file with `mode`, or none. Without `replace`, an existing file is an error."""
    write_all((path, data, mode), replace=replace)


def write_all(*wanted: tuple[Path, bytes, int], replace: bool) -> None:
    """Write files that belong together, each whole with its mode, or none of them.

    The function writes and syncs all of them beside their places before it puts the first in place. Without
    `replace`, an existing file is an error.
    """
    besides: list[str] = []
    placed: list[Path] = []
    path = wanted[0][0]
    try:
        for path, data, mode in wanted:
            besides.append(_write_beside(path, data, mode))
            # A rename cannot replace a folder. Find that out before any file is put in place.
            if replace and os.path.isdir(path) and not os.path.islink(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        for beside, (path, _, _) in zip(besides, wanted, strict=True):
            if replace:
                os.replace(beside, path)
            else:
                os.link(beside, path)
                placed.append(path)
        placed.clear()
    except FileExistsError:
        raise StoplistError("exists already", hint="use --force to overwrite it", place=str(path)) from None
    except OSError as error:
        raise StoplistError(
            f"cannot be written ({error.strerror})", hint="check the folder, its owner and the disk", place=str(path)
        ) from None
    finally:
        for leftover in [Path(beside) for beside in besides] + placed:
            leftover.unlink(missing_ok=True)


def _write_beside(path: Path, data: bytes, mode: int) -> str:
    handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, mode)
    except BaseException:
        os.unlink(beside)
        raise
    return beside


def move(path: Path, to: Path) -> None:
    """Move a file to `to` in the same folder, replacing the file that may be there."""
    try:
        os.replace(path, to)
    except OSError as error:
        raise StoplistError(
            f"cannot be moved to {to.name} ({error.strerror})",
            hint="check the folder, its owner and the disk",
            place=str(path),
        ) from None


def make_folder(path: Path, mode: int) -> None:
    """Make a folder and its parents; leave an existing one as it is."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StoplistError(
            f"cannot be made ({error.strerror})", hint="choose a folder that you may write to", place=str(path)
        ) from None


def is_readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False
