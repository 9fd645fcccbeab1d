"""Reading: an input of any format as batches of requests, counted by stamp and host.

Rules
  - A batch holds the whole lines of one block of the input: memory is that of a block, whatever the input.
  - How an input is cut into blocks changes nothing. A line longer than `MAX_LINE` is unparsable, wherever it is cut.
  - If a line cannot be read, the module gives its number, never its text.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from stoplist.errors import StoplistError
from stoplist.tools.trial.logs import flows, formats, har, table
from stoplist.tools.trial.logs.formats import Hit, LineFormat
from stoplist.tools.trial.logs.inputs import BLOCK, Input

MAX_LINE = BLOCK
_TOLD = 3
"""How many unparsable lines of an input the module gives by number."""
_HITS = 8192
_SOMETHING = re.compile(rb"^[ \t\r]*[^#\s]", re.MULTILINE)
"""Finds a line that is not empty and no comment."""
_LINE_FORMATS = {each.name: each for each in formats.LINE_FORMATS}


@dataclass(frozen=True, slots=True, repr=False)
class Batch:
    """Some requests, by stamp and host; and how many lines hold none, or cannot be read.

    `consumed` is how many bytes of the input's file were read for it.
    """

    requests: Mapping[Hit, int]
    ignored: int
    unparsable: int
    told: tuple[int, ...]
    consumed: int


@dataclass(slots=True)
class Reading:
    """The reading of one input. `format` is None until it is known, and also if the input holds only comments."""

    source: Input
    format: str | None = None
    column: str | None = None
    _consumed: int = 0
    _told: int = 0

    def begin(self) -> Iterator[bytes]:
        """Find out the format; return the blocks of the input. Raises StoplistError if no format can be told."""
        blocks = self.source.blocks()
        head = next(blocks, b"")
        if self.format is None and _SOMETHING.search(head):
            self.format = self._recognise(head)
        return itertools.chain((head,), blocks) if head else iter(())

    def batches(self) -> Iterator[Batch]:
        """Read it all. Raises StoplistError if no format can be told."""
        blocks = self.begin()
        match self.format:
            case None:
                return
            case formats.HAR:
                yield from self._few(enumerate(har.read(self.source, blocks), 1), tells_lines=False)
            case formats.FLOWS:
                yield from self._few(enumerate(flows.read(self.source, blocks), 1), tells_lines=False)
            case formats.CSV:
                yield from self._few(table.read(self.source, blocks, self.column or ""), tells_lines=True)
            case name:
                yield from self._lines(_LINE_FORMATS[name], blocks)

    def _recognise(self, head: bytes) -> str:
        found = formats.CSV if self.column else formats.recognise(head, PurePath(self.source.name).name)
        names = ", ".join(formats.NAMES)
        if found is None:
            raise StoplistError(
                f"the format is not known; the known formats are {names}",
                hint="name it with --log-format",
                place=self.source.name,
            )
        if found == formats.CSV and not self.column:
            raise StoplistError("a CSV file", hint="name its column of hosts with --column", place=self.source.name)
        return found

    def _few(self, hits: Iterable[tuple[int, Hit | None]], *, tells_lines: bool) -> Iterator[Batch]:
        """Batches of items that are read one by one. If `tells_lines`, an item without a request is unparsable."""
        for group in itertools.batched(hits, _HITS):
            found = Counter(hit for _, hit in group if hit is not None)
            without = [number for number, hit in group if hit is None]
            if tells_lines:
                yield self._batch(found, 0, len(without), without)
            else:
                yield self._batch(found, len(without), 0, ())

    def _lines(self, wanted: LineFormat, blocks: Iterator[bytes]) -> Iterator[Batch]:
        number = 1
        for lines, is_too_long in _whole_lines(self.source, blocks):
            if is_too_long:
                yield self._batch(Counter(), 0, 1, [number])
                number += 1
                continue
            count = lines.count(b"\n")
            hits = wanted.request.findall(lines)
            ignored = 0
            faulty: list[int] = []
            if len(hits) < count:
                _, ignored = wanted.ignored.subn(b"", lines)
            if len(hits) + ignored < count:
                for other in wanted.other.finditer(lines):
                    found = wanted.parse(other[0].removesuffix(b"\n")) if wanted.parse else None
                    if found is None:
                        faulty.append(number + lines.count(b"\n", 0, other.start()) if len(faulty) < _TOLD else 0)
                    else:
                        hits += found
                        ignored += not found
            yield self._batch(Counter(hits), ignored, len(faulty), faulty)
            number += count

    def _batch(self, requests: Counter[Hit], ignored: int, unparsable: int, faulty: Iterable[int]) -> Batch:
        told = tuple(itertools.islice(faulty, _TOLD - self._told))
        self._told += len(told)
        consumed, self._consumed = self.source.consumed - self._consumed, self.source.consumed
        return Batch(requests, ignored, unparsable, told, consumed)


def _whole_lines(source: Input, blocks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Whole lines, each with its end; a line that is too long comes alone and empty."""
    rest = b""
    is_skipping = False
    for block in blocks:
        data = rest + block
        if is_skipping:
            _, end, data = data.partition(b"\n")
            is_skipping = not end
        first = data.find(b"\n", 0, MAX_LINE + 1)
        if first < 0 and len(data) > MAX_LINE:
            # Only the first line can be that long: the others are within one block.
            yield b"", True
            _, end, data = data.partition(b"\n")
            is_skipping = not end
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut], False
        rest = data[cut:]
    # If a fault cut off a line, drop it: its host may be another's.
    if rest and source.fault is None and not is_skipping:
        yield rest + b"\n", False
