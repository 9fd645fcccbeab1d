"""A progress bar for a long step, for a person at a terminal. Elsewhere it draws nothing and slows nothing down."""

from __future__ import annotations

import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

import click

_EVERY = 4096
"""Number of items between two updates of the bar: an update costs more than an item."""


def shown[T](
    items: Iterable[T],
    step: str,
    total: int | None,
    size: Callable[[T], int] | None = None,
    *,
    every: int = _EVERY,
) -> Iterable[T]:
    """The same items; on a terminal, also a bar on stderr.

    `total` is the sum of their sizes; without `size` each counts as one. If nobody knows the total, the bar counts
    them. The bar updates after `every` items.
    """
    if not sys.stderr.isatty():
        return items
    return _drawn(items, step, total, size if size and total is not None else _one, every)


def size_of(stream: BinaryIO) -> int | None:
    """The size of a regular file in bytes; None for a pipe, or for a stream that is no file at all."""
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
