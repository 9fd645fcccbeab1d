"""Fail closed: these classes refuse when something else breaks.

  Guarded     the first layer of each connection: a fault in a layer ends the connection
  RefuseAll   refuses everything while no Stoplist is loaded

mitmdump unloads a script when its file vanishes or is saved with an error, and goes on without it. RefuseAll
is an add-on of its own, which stays loaded: it lets no connection begin from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from mitmproxy.connection import Client
from mitmproxy.master import Master
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layer import CommandGenerator, Layer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist.proxy.log.log_allowlist import Faults
from stoplist.proxy.outbound.open_connections import abort_all


class RefuseAll:
    """The add-on that stays when Stoplist is unloaded. Each master has one; `of` finds it."""

    name = "stoplist-refuse-all"

    def __init__(self, master: Master) -> None:
        self._master = master
        self._stoplist: object | None = None

    @classmethod
    def of(cls, master: Master) -> Self:
        found = master.addons.get(cls.name)
        if found is None:
            found = cls(master)
            master.addons.add(found)
        assert isinstance(found, cls)
        return found

    def step_back(self, stoplist: object) -> None:
        """Step back: a Stoplist was loaded, and refuses requests by itself."""
        self._stoplist = stoplist

    def take_over(self, stoplist: object) -> None:
        """Take over: a Stoplist was unloaded. End all open connections, and let none begin."""
        if self._stoplist is stoplist:
            self._stoplist = None
            abort_all(self._master.addons.get("proxyserver").connections)

    def client_connected(self, client: Client) -> None:
        if self._stoplist is None:
            client.error = "refused"

    def server_connect(self, data: ServerConnectionHookData) -> None:
        if self._stoplist is None:
            data.server.error = "refused"


class Guarded:
    """The layer that gets all events of a connection from mitmproxy. A fault in a layer ends the connection.

    mitmproxy makes a task for each hook. `run_now` runs a hook at once, without a task, where it can.
    """

    def __init__(self, first: Layer, faults: Faults, run_now: Callable[[commands.StartHook], bool] | None) -> None:
        self.context = first.context
        self._first = first
        self._faults = faults
        self._run_now = run_now
        self._failed = False

    def handle_event(self, event: events.Event) -> CommandGenerator[None]:
        if self._failed:
            return
        waiting = [event]
        try:
            while waiting:
                for command in self._first.handle_event(waiting.pop(0)):
                    if self._run_now and isinstance(command, commands.StartHook) and self._run_now(command):
                        if command.blocking:
                            waiting.append(events.HookCompleted(command))
                    else:
                        yield command
        except Exception as error:
            self._failed = True
            self._faults.add("a layer", error)
            yield commands.CloseConnection(self.context.client)
