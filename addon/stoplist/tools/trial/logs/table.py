"""Table: the hosts in a named column of CSV with a header row. They have no time."""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Iterator

from stoplist.errors import StoplistError
from stoplist.tools.trial.logs.formats import Hit
from stoplist.tools.trial.logs.inputs import Input
from stoplist.tools.trial.logs.targets import authority_of


def read(source: Input, blocks: Iterator[bytes], column: str) -> Iterator[tuple[int, Hit | None]]:
    """A line number and a hit for each row; None for a row that is unparsable. Leaves out blank rows.

    Raises StoplistError if the header has no such column.
    """
    rows = csv.reader(_lines(source, blocks))
    try:
        header = [name.strip() for name in next(filter(None, rows), [])]
    except csv.Error:
        header = []
    if header.count(column) != 1:
        raise _no_column(source.name, rows.line_num, header, column)
    position = header.index(column)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, None
            continue
        if any(cell.strip() for cell in row):
            text = row[position].strip() if position < len(row) else ""
            host = authority_of(text) or text.encode("utf-8", "surrogateescape")
            yield rows.line_num, (b"", host) if host else None


def _lines(source: Input, blocks: Iterator[bytes]) -> Iterator[str]:
    """Lines with their ends. If a fault of the input cut off a line, leave it out."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
    rest = ""
    for block in itertools.chain(blocks, (b"",)):
        *lines, rest = (rest + decode(block, not block)).split("\n")
        yield from (f"{line}\n" for line in lines)
        if len(rest) > csv.field_size_limit():
            yield rest  # too long for a field; csv.reader raises an error
            rest = ""
    if rest and source.fault is None:
        yield rest


def _no_column(name: str, line: int, header: list[str], column: str) -> StoplistError:
    # Do not show the header: if the file has none, it is a row of hosts that somebody requested.
    problem = f"two columns {column!r}" if column in header else f"no column {column!r} among {len(header)}"
    return StoplistError(problem, hint="name one of the header row with --column", place=f"{name}:{line}")
