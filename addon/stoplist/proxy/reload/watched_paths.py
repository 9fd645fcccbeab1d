"""Watched paths: the places in the file system at which a change can affect some files.

A path leads to a file, and each part of the path can be replaced: the file, its folder, a symbolic link on the way.
Kubernetes swaps a link named ``..data``; administrators swap ``current``. Every such part is a place: a folder, and a
name in it.

Rules
  - A place outlives the file that it names. A file that does not exist has places too, where it would appear.
  - Two places are the same only if their folders are the same: a replaced folder is another one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler

_MAX_LINKS = 40
_READ_EVENTS = {"opened", "closed_no_write"}


@dataclass(frozen=True, slots=True)
class WatchedPath:
    """A name in a folder; `identity` is the folder's device and inode."""

    folder: Path
    name: str
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class WatchedPaths:
    places: frozenset[WatchedPath]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> WatchedPaths:
        """The places of absolute `paths`, of which the folders exist now."""
        return cls(frozenset(place for path in paths for place in _places(path)))

    @property
    def folders(self) -> set[Path]:
        return {place.folder for place in self.places}

    def hold(self, path: str) -> bool:
        """Whether a change at `path` can affect the files."""
        folder, name = os.path.split(path)
        return any(place.name == name and str(place.folder) == folder for place in self.places)


class ChangeHandler(FileSystemEventHandler):
    """Calls `look` for each event at one of `places`, except events that reading the files causes."""

    def __init__(self, places: WatchedPaths, look: Callable[[], None]) -> None:
        self._places = places
        self._look = look

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _READ_EVENTS:
            return
        paths = (os.fsdecode(event.src_path), os.fsdecode(event.dest_path))
        if any(path and self._places.hold(path) for path in paths):
            self._look()


def _places(path: Path) -> Iterator[WatchedPath]:
    """The places of the file and its folder, and the same for the target of each symbolic link on the way."""
    pending, links = [path], 0
    while pending:
        path = pending.pop()
        yield from _place(path)
        yield from _place(path.parent)
        link = next((part for part in (path, *path.parents) if part.is_symlink()), None)
        if link is not None and links < _MAX_LINKS:
            links += 1
            yield from _place(link)
            target = Path(os.path.normpath(link.parent / link.readlink()))
            pending.append(target / path.relative_to(link))


def _place(path: Path) -> Iterator[WatchedPath]:
    """The place of one part of a path, if its folder exists."""
    try:
        status = path.parent.stat()
    except OSError:
        return
    if path.name:
        yield WatchedPath(path.parent, path.name, (status.st_dev, status.st_ino))
