"""Sentinel: refuses everything while no Stoplist stands.

mitmdump unloads a script whose file vanishes or is saved with an error, and goes on without it. The
sentinel is an add-on of its own, which stays: it lets no connection begin from then on.
"""

from __future__ import annotations

from typing import Self

from mitmproxy.connection import Client
from mitmproxy.master import Master
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist.proxy.outbound.open_connections import abort_all


class Sentinel:
    """One for each master; `of` finds it."""

    name = "stoplist-sentinel"

    def __init__(self, master: Master) -> None:
        self._master = master
        self._standing: object | None = None

    @classmethod
    def of(cls, master: Master) -> Self:
        found = master.addons.get(cls.name)
        if found is None:
            found = cls(master)
            master.addons.add(found)
        assert isinstance(found, cls)
        return found

    def stand_by(self, stoplist: object) -> None:
        """A Stoplist was loaded: it refuses by itself what it must."""
        self._standing = stoplist

    def stand_in(self, stoplist: object) -> None:
        """A Stoplist was unloaded: end what is open, and let nothing begin."""
        if self._standing is stoplist:
            self._standing = None
            abort_all(self._master.addons.get("proxyserver").connections)

    def client_connected(self, client: Client) -> None:
        if self._standing is None:
            client.error = "refused"

    def server_connect(self, data: ServerConnectionHookData) -> None:
        if self._standing is None:
            data.server.error = "refused"
