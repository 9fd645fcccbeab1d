"""How far a long step has come, for who sits at a terminal. Elsewhere nothing is drawn, and nothing is slower."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import click

_EVERY = 4096
"""Items from one look at the bar to the next: a look costs more than an item."""


def shown(
    items: Iterable[str], step: str, total: int | None, size: Callable[[str], int] | None = None
) -> Iterable[str]:
    """The same items, and on a terminal a bar on stderr.

    `total` is the sum of their sizes; without `size` each counts as one. If nobody knows the total, they
    are counted.
    """
    if not sys.stderr.isatty():
        return items
    return _drawn(items, step, total, size if size and total is not None else _one)


def size_of(stream: BinaryIO) -> int | None:
    """The bytes of a regular file; None of a pipe, or of what is no file at all."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _drawn(items: Iterable[str], step: str, total: int | None, size: Callable[[str], int]) -> Iterator[str]:
    passed = 0
    endless = itertools.repeat(None)
    with click.progressbar(endless, length=total, show_pos=total is None, label=f"{step:<9}", file=sys.stderr) as bar:
        for number, item in enumerate(items, 1):
            yield item
            passed += size(item)
            if number % _EVERY == 0:
                bar.update(passed)
                passed = 0
        bar.update(passed)


def _one(_: str) -> int:
    return 1
