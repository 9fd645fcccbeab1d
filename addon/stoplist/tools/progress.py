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


def shown[T](
    items: Iterable[T],
    step: str,
    total: int | None,
    size: Callable[[T], int] | None = None,
    *,
    every: int = _EVERY,
) -> Iterable[T]:
    """The same items, and on a terminal a bar on stderr.

    `total` is the sum of their sizes; without `size` each counts as one. If nobody knows the total, they
    are counted. The bar is looked at after so many items.
    """
    if not sys.stderr.isatty():
        return items
    return _drawn(items, step, total, size if size and total is not None else _one, every)


def size_of(stream: BinaryIO) -> int | None:
    """The bytes of a regular file; None of a pipe, or of what is no file at all."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _drawn[T](items: Iterable[T], step: str, total: int | None, size: Callable[[T], int], every: int) -> Iterator[T]:
    passed = 0
    endless = itertools.repeat(None)
    with click.progressbar(endless, length=total, show_pos=total is None, label=f"{step:<9}", file=sys.stderr) as bar:
        for number, item in enumerate(items, 1):
            yield item
            passed += size(item)
            if number % every == 0:
                bar.update(passed)
                passed = 0
        bar.update(passed)


def _one(_: object) -> int:
    return 1
