"""Domains to list, read from text or CSV: canonical, each once; or every fault, each with its line.

Rules
  - One run reports all faults of the input, with file, line, value and remedy; then there is no result.
  - The reader refuses an entry that would stop more than the domain of one owner. These are public suffixes, also
    those of the private section, whose domains belong to anybody's customers. A person can allow one by name.
  - Line numbers are those of an editor.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

from publicsuffixlist import PSLFILE, PublicSuffixList

from stoplist import files
from stoplist.core.hosts import Host, HostError
from stoplist.errors import Problems, StoplistError

_MAX_SUFFIX_LIST = 16 * 1024 * 1024
_MAX_SHOWN = 300
_ALLOW_SUFFIX = "--allow-suffix"
# Two labels or more, in the lengths that DNS can hold (RFC 1035, section 2.3.4).
_DNS_NAME = re.compile(r"(?=.{1,253}\Z)[^.]{1,63}(?:\.[^.]{1,63})+")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_ESCAPED_BYTE = re.compile(r"\\udc([89a-f][0-9a-f])")


class DomainError(StoplistError):
    """A line of the publisher's input that is no domain to list. `place` is ``file:line``."""


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains to list, canonical, and the numbers of entries left out: repetitions, and those that a parent
    covers."""

    names: AbstractSet[str]
    duplicates: int
    covered: int


def as_text(stream: BinaryIO) -> TextIO:
    """A file of domains in the form for `read_domains`: bytes that are not UTF-8 stay visible, and line ends and a
    byte order mark stay."""
    return io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")


def bytes_of(line: str) -> int:
    """How many bytes a line of `as_text` was in its file."""
    return len(line) if line.isascii() else len(line.encode(errors="surrogateescape"))


def read_domains(
    lines: Iterable[str], source: str, *, column: str | None = None, allowed: Sequence[str] = ()
) -> Domains:
    """Domains from text, one a line, where ``#`` begins a comment; with a `column`, from that column of CSV.

    `source` names the input in errors. `allowed` are public suffixes to list on purpose; each must be one, and must
    be among the domains. Raises Problems, one for each fault.

    >>> sorted(read_domains(["bad.example  # since May", "www.bad.example"], "domains.txt").names)
    ['bad.example']
    >>> read_domains(["not a host"], "domains.txt")
    Traceback (most recent call last):
    stoplist.errors.Problems: ...
    """
    reading = _Reading(source)
    unmarked = _without_mark(lines)
    entries = reading.text(unmarked) if column is None else reading.csv(unmarked, column)
    deliberate = _Deliberate(allowed)
    names: set[str] = set()
    count = 0
    for number, text in entries:
        try:
            name = _domain(text, deliberate)
        except StoplistError as error:
            reading.fault(number, f"{_quoted(text)} {error.message}", error.hint)
            continue
        count += 1
        names.add(name)
    reading.faults.extend(deliberate.faults(names))
    if reading.faults:
        raise Problems(reading.faults)
    if not names:
        raise StoplistError("no domain at all", hint="an empty list would stop nothing: check the file", place=source)
    covered = [name for name in names if _is_covered(name, names)]
    duplicates = count - len(names)
    names.difference_update(covered)
    return Domains(names, duplicates, len(covered))


def _without_mark(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the byte order mark that some editors write before them."""
    rest = iter(lines)
    first = [line.removeprefix("\ufeff") for line in itertools.islice(rest, 1)]
    return itertools.chain(first, rest)


@dataclass(frozen=True, slots=True)
class _Reading:
    """One input, taken apart into its entries with their lines. `faults` collects the faults."""

    source: str
    faults: list[StoplistError] = field(default_factory=list)

    def text(self, lines: Iterable[str]) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(lines, 1):
            if line.isascii() or self._is_utf8(number, line):
                text = line.partition("#")[0].strip()
                if text:
                    yield number, text

    def csv(self, lines: Iterable[str], column: str) -> Iterator[tuple[int, str]]:
        """The entries of a column, each with its line. A header row is required: raises Problems if it has no such
        column."""
        rows = self._rows(lines)
        number, row = next(rows, (1, []))
        header = [name.strip() for name in row]
        if header.count(column) != 1:
            self._refuse_header(number, header, column)
        position = header.index(column)
        for number, row in rows:
            if not self._is_utf8(number, "".join(row)):
                continue
            text = row[position].strip() if position < len(row) else ""
            if text:
                yield number, text
            else:
                self.fault(number, f"a row without a {column!r}", "write the domain there, or remove the row")

    def fault(self, number: int, message: str, hint: str) -> None:
        self.faults.append(DomainError(message, hint=hint, place=f"{self.source}:{number}"))

    def _rows(self, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
        """Rows that are not blank, with their last lines; a row that is no CSV is a fault."""
        reader = csv.reader(lines, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                self.fault(reader.line_num, f"not CSV: {error}", "close the quotes, and double those inside")
                continue
            if row is None:
                return
            if any(cell.strip() for cell in row):
                yield reader.line_num, row

    def _refuse_header(self, number: int, header: list[str], column: str) -> None:
        if self.faults or not self._is_utf8(number, "".join(header)):
            raise Problems(self.faults)
        names = ", ".join(_quoted(name) for name in header)
        message = f"no column {column!r}; the columns are {names}" if header else "no header row"
        hint = "name one of them with --column"
        if not header:
            hint = "begin with a row that names the columns"
        elif column in header:
            message = f"two columns {column!r}; the columns are {names}"
            hint = "give each a name of its own"
        elif len(header) == 1 and re.search("[;\t]", header[0]):
            hint = "separate the columns with commas"
        self.fault(number, message, hint)
        raise Problems(self.faults)

    def _is_utf8(self, number: int, text: str) -> bool:
        if text.isascii() or not _NOT_UTF8.search(text):
            return True
        self.fault(number, f"{_quoted(text.strip())} is not UTF-8 text", "save the file as UTF-8")
        return False


class _Deliberate:
    """The public suffixes that a person allows."""

    def __init__(self, written: Sequence[str]) -> None:
        self._faults: list[StoplistError] = []
        self._written: dict[str, str] = {}
        for text in written:
            try:
                name = _host_name(text)
            except StoplistError as error:
                self._fault(text, error.message, "write the suffix as it stands among the domains")
                continue
            if not _public_suffixes().holds(name):
                self._fault(text, "is no public suffix", "remove the option: only public suffixes need it")
                continue
            self._written[name] = text

    def __contains__(self, name: str) -> bool:
        return name in self._written

    def faults(self, names: AbstractSet[str]) -> list[StoplistError]:
        """The faults of the options, also for a suffix that is not among the domains: a slip of the pen must not
        pass in silence."""
        for name, text in self._written.items():
            if name not in names:
                self._fault(text, "is not among the domains", "add it there, or remove the option")
        return self._faults

    def _fault(self, text: str, message: str, hint: str) -> None:
        self._faults.append(DomainError(f"{_quoted(text)} {message}", hint=hint, place=_ALLOW_SUFFIX))


class _PublicSuffixes:
    """The public suffix list (https://publicsuffix.org), its private section included.

    The library looks a name up in 2 microseconds. Few names can be a suffix at all; two look-ups of our own exclude
    the others.
    """

    def __init__(self) -> None:
        text = files.read(Path(PSLFILE), _MAX_SUFFIX_LIST).decode()
        self._list = PublicSuffixList(text)
        self._named: set[str] = set()
        self._wild: set[str] = set()
        for line in text.splitlines():
            rule, _, _ = line.partition(" ")
            if rule and not rule.startswith("//"):
                base = rule.removeprefix("!").removeprefix("*.")
                (self._wild if rule.startswith("*.") else self._named).add(Host.parse(base).name)

    def holds(self, name: str) -> bool:
        """Whether a canonical name of two labels or more is a public suffix."""
        parent = name.partition(".")[2]
        if name in self._named or name in self._wild or parent in self._wild:
            return bool(self._list.is_public(name))
        return False


@functools.cache
def _public_suffixes() -> _PublicSuffixes:
    return _PublicSuffixes()


def _domain(text: str, deliberate: _Deliberate) -> str:
    name = _host_name(text)
    if _public_suffixes().holds(name) and name not in deliberate:
        raise StoplistError(
            "is a public suffix, under which anybody can register",
            hint=f"list the domains below it that were checked; to list all of it: {_ALLOW_SUFFIX} {name}",
        )
    return name


def _host_name(text: str) -> str:
    """The canonical name of a host that DNS can hold, with two labels or more."""
    if "/" in text:
        raise StoplistError("is a URL", hint="write the domain alone: a list covers whole domains")
    if "*" in text:
        raise StoplistError("is a wildcard", hint="write the domain alone: its subdomains are covered")
    try:
        host = Host.parse(text)
    except HostError as error:
        raise StoplistError(f"is no domain: {error.message}", hint="correct or remove the line") from None
    if host.is_address:
        raise StoplistError("is an IP address", hint="remove the line: addresses are shared, only names are listed")
    if "." not in host.name:
        raise StoplistError("is a single label", hint="write the domain as it is registered, such as 'listed.example'")
    if not _DNS_NAME.fullmatch(host.name):
        raise StoplistError("is no domain: DNS cannot hold it", hint="correct or remove the line")
    return host.name


def _is_covered(name: str, names: AbstractSet[str]) -> bool:
    """Whether a parent of two labels or more is among the names."""
    parent = name.partition(".")[2]
    while "." in parent:
        if parent in names:
            return True
        parent = parent.partition(".")[2]
    return False


def _quoted(text: str) -> str:
    """A text of the publisher's for a message: printable whatever it holds, and cut if it is long."""
    shown = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return _ESCAPED_BYTE.sub(r"\\x\1", repr(shown))
