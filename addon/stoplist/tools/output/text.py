"""Text for a terminal: numbers that may be hidden, lines of a width, columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime

from stoplist.core.counts import Shown
from stoplist.core.times import format_time

_WIDTH = 80
NOTHING = "-"


def write(shown: Shown | None, hide_below: int) -> str:
    """A number in the form in which a result shows it."""
    if shown is None:
        return NOTHING
    if shown.requests is None:
        return f"under {hide_below}"
    return f"{shown.requests:,}{'' if shown.is_complete else '*'}"


def write_total(shown: Shown) -> str:
    """A sum in the form in which a result shows it."""
    return "hidden" if shown.requests is None else f"{shown.requests:,}"


def numbered(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def wrapped(text: str, indent: str = "  ") -> list[str]:
    """A paragraph for a terminal, indented."""
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=2 * indent, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], head: Sequence[str], sides: str) -> list[str]:
    """Cells in columns. If a row has fewer cells than the head, it has a remark after its first one."""
    whole = [head, *(row for row in rows if len(row) == len(head))]
    widths = [max(len(row[at]) for row in whole) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        if len(row) < len(head):
            return f"  {'  '.join(row)}"
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
        return f"  {'  '.join(cells)}".rstrip()

    return [line(row) for row in [head, *rows]]


def utc(seconds: int) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))
