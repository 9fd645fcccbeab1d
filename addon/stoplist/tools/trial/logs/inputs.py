"""Inputs: files and pipes of any size, plain, gzip or zstd, as blocks of plain bytes.

Rules
  - Memory does not depend on the input: the module hands on at most `BLOCK` bytes at once, however well they
    compress (a block of zstd may hold some more; see `_ZSTD_PIECE`).
  - It knows the compression by the first bytes, not by the name. Members and frames may follow each other.
  - Data that cannot be read further ends the blocks, and is the input's `fault`, with the offset in the file. The
    data before it stays read.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import zstandard

from stoplist import files
from stoplist.errors import StoplistError
from stoplist.tools import progress

BLOCK = 1024 * 1024
"""The most bytes that the module hands on at once."""
STDIN = "-"

_PIECE = 64 * 1024
# One byte of zstd can stand for 32 KiB (RFC 8878, section 3.1.1.2: a block of one repeated byte), so pieces are
# small.
_ZSTD_PIECE = 1024
_MAX_WINDOW = 128 * 1024 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


@dataclass(slots=True)
class Input:
    """One input, which is read once. `name` is for messages; `size` is None if nobody knows it."""

    name: str
    stream: BinaryIO
    size: int | None
    consumed: int = 0
    """How many bytes of the file were read so far."""
    fault: StoplistError | None = None

    @classmethod
    def open(cls, name: str, stdin: BinaryIO) -> Input:
        """Open a file, or take `stdin` for `-`. Raises StoplistError."""
        if name == STDIN:
            return cls("stdin", stdin, progress.size_of(stdin))
        stream = files.open_stream(Path(name))
        return cls(name, stream, progress.size_of(stream))

    def blocks(self) -> Iterator[bytes]:
        """Plain bytes, in pieces of at most `BLOCK`, and not much smaller."""
        gathered: list[bytes] = []
        size = 0
        for piece in self._plain():
            if size + len(piece) > BLOCK:
                yield b"".join(gathered)
                gathered, size = [], 0
            gathered.append(piece)
            size += len(piece)
        if gathered:
            yield b"".join(gathered)

    def _plain(self) -> Iterator[bytes]:
        head = self._read(_PIECE)
        while head and len(head) < len(_GZIP) * 2 and (more := self._read(_PIECE)):
            head += more
        if head.startswith(_GZIP):
            yield from self._gzip(head)
        elif _ZSTD.match(head):
            yield from self._zstd(head)
        else:
            while head:
                yield head
                head = self._read(BLOCK)

    def fail(self, message: str, hint: str, *, back: int = 0) -> None:
        """Note that the input cannot be read from here on, or from `back` bytes before."""
        place = f"{self.name}: byte {max(0, self.consumed - back)}"
        self.fault = self.fault or StoplistError(message, hint=hint, place=place)

    def close(self) -> None:
        self.stream.close()

    def _read(self, size: int) -> bytes:
        if self.fault:
            return b""
        try:
            data = self.stream.read(size)
        except OSError as error:
            self.fail(f"cannot be read ({(error.strerror or 'no reason').lower()})", "check the disk")
            return b""
        self.consumed += len(data)
        return data

    def _pieces(self, head: bytes) -> Iterator[bytes]:
        while head:
            yield head
            head = self._read(_PIECE)

    def _gzip(self, head: bytes) -> Iterator[bytes]:
        member = zlib.decompressobj(_GZIP_FORMAT)
        for piece in self._pieces(head):
            data = piece
            while data:
                if member.eof:
                    data = data.lstrip(b"\0")  # padding, as on tapes
                    if not data:
                        break
                    member = zlib.decompressobj(_GZIP_FORMAT)
                try:
                    block = member.decompress(data, BLOCK)
                except zlib.error:
                    self._broken("gzip", len(data))
                    return
                if block:
                    yield block
                data = member.unused_data if member.eof else member.unconsumed_tail
        if not member.eof:
            if rest := member.flush():
                yield rest
            self._cut("gzip")

    def _zstd(self, head: bytes) -> Iterator[bytes]:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        frame = decompressor.decompressobj()
        for piece in self._pieces(head):
            for start in range(0, len(piece), _ZSTD_PIECE):
                data = piece[start : start + _ZSTD_PIECE]
                while data:
                    if frame.eof:
                        frame = decompressor.decompressobj()
                    try:
                        block = frame.decompress(data)
                    except zstandard.ZstdError:
                        self._broken("zstd", len(piece) - start)
                        return
                    for at in range(0, len(block), BLOCK):
                        yield block[at : at + BLOCK]
                    data = frame.unused_data if frame.eof else b""
        if not frame.eof:
            self._cut("zstd")

    def _broken(self, kind: str, back: int) -> None:
        self.fail(f"broken {kind} data", "everything before it is counted; get a whole copy", back=back)

    def _cut(self, kind: str) -> None:
        if self.fault is None:
            self.fail(f"the {kind} data ends in the middle", "everything before it is counted; get a whole copy")
