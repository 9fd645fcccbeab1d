"""DigestSet: keyed digests of domains, and the longest listed suffix of a host.

A list holds no domain, only BLAKE2b digests (RFC 7693) keyed with the list key. Somebody who has the file without
the key cannot even test a guess. The digests stay, sorted, in the bytes that were verified. An index, with one
32-bit number for about 16 digests, leads to the few that can match.

Rules
  - Never holds, returns or logs a domain.
  - A domain takes 16.25 bytes, however many there are. A lookup touches one place of the index and one of the
    digests for each suffix of the host.
  - Digests and index are plain bytes: a process can map them from memory that several processes share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stoplist.core.hosts import Host

DIGEST_SIZE = 16
_PERSON = b"stoplist-domain"
_PER_BUCKET_BITS = 4


def hasher(list_key: bytes) -> hashlib.blake2b:
    """The keyed hash of the list format, ready to be copied and fed a canonical ASCII domain."""
    return hashlib.blake2b(digest_size=DIGEST_SIZE, key=list_key, person=_PERSON)


def sorted_digests(list_key: bytes, domains: Iterable[str]) -> bytes:
    """The distinct digests of canonical `domains`, sorted and joined: 16 bytes each."""
    copy = hasher(list_key).copy
    joined = bytearray()
    for domain in domains:
        keyed = copy()
        keyed.update(domain.encode("ascii"))
        joined += keyed.digest()
    return sorted_and_unique(joined)


def sorted_and_unique(digests: bytearray) -> bytes:
    """Joined 16-byte digests in rising order, each once. Sorts `digests` in place, so that memory holds them only
    once."""
    # numpy compares fixed-width bytes whole, with trailing zeros: they are equal only if all 16 bytes are.
    entries = np.frombuffer(digests, dtype=f"S{DIGEST_SIZE}")
    entries.sort()
    again = np.flatnonzero(entries[1:] == entries[:-1])
    return np.delete(entries, again).tobytes() if again.size else bytes(digests)


def are_sorted_and_unique(digests: bytes | memoryview) -> bool:
    """Whether 16-byte digests stand in strictly rising order."""
    halves = np.frombuffer(digests, dtype=">u8").reshape(-1, 2)
    high, low = halves[:, 0], halves[:, 1]
    rising = high[:-1] < high[1:]
    if rising.all():
        return True
    ties = ~rising
    return bool(((high[:-1][ties] == high[1:][ties]) & (low[:-1][ties] < low[1:][ties])).all())


class Payload(Protocol):
    """Bytes that can be searched: `bytes`, or the `mmap` of a file."""

    def __len__(self) -> int: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...

    def find(self, wanted: bytes, start: int, end: int, /) -> int: ...


class DigestSet:
    """The domains of one list, as keyed digests.

    `payload` holds the digests from `offset` to its end, at most 2^28 of them: 16 bytes each, strictly rising. The
    class does not check the order again (see `are_sorted_and_unique`). It keeps the bytes and does not copy them.
    `index` is the index of a set with the same payload and offset; if it is None, the class makes one.
    """

    __slots__ = ("_hasher", "_shift", "count", "index", "list_key", "offset", "payload")

    def __init__(self, list_key: bytes, payload: Payload, offset: int = 0, index: memoryview | None = None) -> None:
        self._hasher = hasher(list_key)
        self.list_key = list_key
        self.payload = payload
        self.offset = offset
        self.count = (len(payload) - offset) // DIGEST_SIZE
        bits = max(0, self.count.bit_length() - _PER_BUCKET_BITS)
        self._shift = 32 - bits
        self.index = index if index is not None else self._make_index(bits)
        """Where in the payload the digests of each bucket begin, as 32-bit numbers; the last is the end of the
        payload."""

    def _make_index(self, bits: int) -> memoryview:
        prefixes = np.frombuffer(self.payload, dtype=">u4", offset=self.offset)[::4].astype(np.uint32)
        firsts = np.arange(1 << bits, dtype=np.uint32) << np.uint32(self._shift)
        places = np.full((1 << bits) + 1, len(self.payload), dtype=np.uint32)
        places[:-1] = self.offset + DIGEST_SIZE * np.searchsorted(prefixes, firsts)
        return memoryview(places)

    def longest_suffix(self, host: Host) -> int:
        """Number of labels in the longest listed suffix of a host name, 0 if none is listed.

        A listed domain covers itself and its subdomains: ``a.b.example`` has the suffixes ``a.b.example`` and
        ``b.example``, and the method tries them in this order. A domain has at least two labels, so no list can stop
        a whole top-level domain. IP addresses have no suffix.
        """
        if host.is_address:
            return 0
        name = host.name.encode("ascii")
        find, places, shift, copy = self.payload.find, self.index, self._shift, self._hasher.copy
        start, dot = 0, name.find(b".")
        while dot >= 0:
            keyed = copy()
            keyed.update(name[start:])
            digest = keyed.digest()
            bucket = int.from_bytes(digest[:4]) >> shift
            end = places[bucket + 1]
            at = find(digest, places[bucket], end)
            while at >= 0:
                if (at - self.offset) % DIGEST_SIZE == 0:
                    return name.count(b".", start) + 1
                at = find(digest, at + 1, end)
            start = dot + 1
            dot = name.find(b".", start)
        return 0

    def high_halves(self) -> NDArray[np.uint64]:
        """The first 8 bytes of each digest as a number, rising; a copy."""
        return high_halves(memoryview(self.payload)[self.offset :])

    def __repr__(self) -> str:
        return f"DigestSet({self.count} domains)"


def high_halves(digests: bytes | memoryview) -> NDArray[np.uint64]:
    """The first 8 bytes of each of the joined 16-byte `digests` as a number; a copy."""
    return np.frombuffer(digests, dtype=">u8")[::2].astype(np.uint64)


def common(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    """How many domains two sets under the same list key share, judged by the `high_halves` of their digests. For
    millions of domains, the number is wrong by one at most once in a hundred thousand lists."""
    halves = np.concatenate([one, other])
    halves.sort(kind="stable")
    return int(np.count_nonzero(halves[1:] == halves[:-1]))
