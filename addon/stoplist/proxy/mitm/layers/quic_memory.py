"""What the gate remembers of QUIC beyond one flow: servers know connections by their ids, not by flows (RFC 9000,
section 5.2).

  Initial ids   the connection ids that clients chose: an Initial with such an id may come in one flow only
  servers       the addresses that have answered in QUIC: another flow to one of them must begin with QUIC as well

Rules
  - It holds no host and no address in the clear: an id is random, and an address is a hash with a key of this process.
  - It forgets after a time. It forgets no id earlier, to make room: then the gate takes no new connection.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

MEMORY_SECONDS = 120
"""How long an id of an Initial is remembered after its last packet. Servers give up an unfinished handshake earlier."""
SERVER_SECONDS = 3600
"""How long a server is remembered after its last packet. Connections without a packet for so long have ended."""
MAX_IDS = 100_000
MAX_SERVERS = 10_000


class QuicMemory:
    """The memory of one process. `now` gives seconds that only rise."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._key = secrets.token_bytes(16)
        self._owners: dict[bytes, tuple[float, object]] = {}
        """The flow of each id, and when its last packet came; the last ones at the end."""
        self._servers: dict[bytes, float] = {}

    def claim(self, destination: bytes, flow: object) -> bool:
        """Whether this flow may use an id for an Initial: no other one has, and there is room. `flow` stands for it."""
        now = self._now()
        while self._owners and (oldest := next(iter(self._owners.items())))[1][0] < now - MEMORY_SECONDS:
            del self._owners[oldest[0]]
        if destination not in self._owners and len(self._owners) >= MAX_IDS:
            return False
        _, owner = self._owners.pop(destination, (now, flow))
        self._owners[destination] = now, owner
        return owner is flow

    def key_of(self, server: tuple[str, int]) -> bytes:
        """The key under which a server, (address, port), is remembered."""
        return hashlib.blake2b(f"{server[0]} {server[1]}".encode(), key=self._key, digest_size=16).digest()

    def has_answered(self, server: bytes) -> None:
        """Remember that the server with this key speaks QUIC."""
        self._servers.pop(server, None)
        self._servers[server] = self._now()
        while len(self._servers) > MAX_SERVERS:
            del self._servers[next(iter(self._servers))]

    def speaks_quic(self, server: bytes) -> bool:
        """Whether the server with this key has answered in QUIC, not long ago."""
        return self._servers.get(server, -SERVER_SECONDS) > self._now() - SERVER_SECONDS
