"""Output that several commands share."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from stoplist.core.lists.list_header import ListHeader
from stoplist.core.times import format_time


def header_fields(header: ListHeader) -> dict[str, object]:
    """The header of a list, for JSON or for lines."""
    fields = dataclasses.asdict(header)
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def printable(text: str) -> str:
    """A text from a file that nobody has verified, without characters that could control the terminal."""
    return text if text.isprintable() else ascii(text)


def number(count: int, noun: str) -> str:
    """A number of things: 1 list, 2 lists."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
