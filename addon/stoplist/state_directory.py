"""State directory: the place where a gate keeps its CA and its state, and the lock with which it keeps other gates out.

Two gates that write to one directory would mix their counts and journals. So a gate holds a lock on the file `lock`
in it (flock(2)), and writes there who it is. The system gives the lock back when the process ends, however it ends.

Rules
  - The commands that read a state directory, or that act beside a running gate, take no lock.
  - A directory that nobody can write to needs no lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stoplist import files
from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError

LOCK_FILE = "lock"
_TRIES = 20
_PAUSE_SECONDS = 0.05
"""Somebody who asks whether a gate is running holds the lock for a moment."""
_MAX_SIZE = 64 * 1024


def of_policy(path: Path, policy: Policy) -> Path:
    """The state directory of a gate with the policy in the file `path`: the one that the policy names, or else the
    default: systemd's STATE_DIRECTORY, or below XDG_STATE_HOME."""
    if policy.state_dir is not None:
        return path.absolute().parent / policy.state_dir
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "stoplist"


@dataclass(frozen=True, slots=True)
class Holder:
    """The gate that uses a state directory: its process, and the addresses at which it listens."""

    pid: int | None = None
    listening: tuple[str, ...] = ()

    @property
    def process(self) -> str:
        return f"process {self.pid}" if self.pid is not None else "an unknown process"

    def __str__(self) -> str:
        return self.process + (f", listening at {', '.join(self.listening)}" if self.listening else "")


class StateLock:
    """The lock on a state directory, `folder`. `handle` is its open file.

    There is no handle where nobody can write the directory, and no folder where no lock was taken.
    """

    def __init__(self, folder: Path | None = None, handle: int | None = None) -> None:
        self.folder = folder
        self._handle = handle

    @classmethod
    def take(cls, folder: Path, inherited: int | None = None) -> StateLock:
        """Lock a state directory; make it if there is none. `inherited` is the handle that this process kept when it
        executed itself anew. Raises StoplistError if another gate holds the lock."""
        if inherited is not None:
            os.set_inheritable(inherited, False)
            return cls(folder, inherited)
        with suppress(StoplistError):
            files.make_folder(folder, files.PRIVATE_FOLDER)
        try:
            handle = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.PRIVATE)
        except OSError:
            return cls(folder, None)
        for _ in range(_TRIES):
            if _try(handle, fcntl.LOCK_EX):
                lock = cls(folder, handle)
                lock.say(())
                return lock
            time.sleep(_PAUSE_SECONDS)
        found = _said(handle)
        os.close(handle)
        raise StoplistError(
            f"another gate uses this state directory: {found}",
            hint="end that gate, or give this one its own: --state-dir, or 'state_dir' in its policy",
            place=str(folder),
        )

    def say(self, listening: Iterable[str]) -> None:
        """Write who holds the lock, and the addresses at which it listens."""
        if self._handle is None:
            return
        data = json.dumps({"pid": os.getpid(), "listening": list(listening)}).encode()
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, data, 0)

    def keep(self) -> int | None:
        """The handle, for the program that this process executes next."""
        if self._handle is not None:
            os.set_inheritable(self._handle, True)
        return self._handle

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def holder(folder: Path) -> Holder | None:
    """The gate that uses a state directory now; None if there is none. Raises StoplistError if nobody can know."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoplistError(
            f"cannot be read ({(error.strerror or 'unknown').lower()})",
            hint="run this command as the gate's account",
            place=str(folder / LOCK_FILE),
        ) from None
    try:
        return None if _try(handle, fcntl.LOCK_SH) else _said(handle)
    finally:
        os.close(handle)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _said(handle: int) -> Holder:
    """What the holder of the lock has written of itself."""
    try:
        found = json.loads(os.pread(handle, _MAX_SIZE, 0))
        return Holder(int(found["pid"]), tuple(map(str, found["listening"])))
    except (OSError, ValueError, KeyError, TypeError):
        return Holder()
