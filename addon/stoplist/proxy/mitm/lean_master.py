"""A lean version of mitmproxy's master. It calls an add-on for an event only if that add-on handles it.

A request raises a dozen events, and mitmproxy looks through all add-ons for each. This master looks up the
callbacks of an event once, and an event without a callback costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mitmproxy import flow, hooks, options
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.exceptions import AddonHalt
from mitmproxy.master import Master


class LeanMaster(Master):
    def __init__(self) -> None:
        super().__init__(options.Options())
        self.addons = _Addons(self)


class _Addons(AddonManager):
    """Holds add-ons that stay loaded."""

    def __init__(self, master: Master) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]  # mitmproxy's
        self._callbacks: dict[str, list[Callable[..., Any]]] = {}

    def add(self, *addons: Any) -> None:
        super().add(*addons)  # type: ignore[no-untyped-call]  # mitmproxy's
        self._callbacks.clear()

    async def handle_lifecycle(self, event: hooks.Hook) -> None:
        await self.trigger_event(event)
        if self._wanting("update") and isinstance(message := event.args()[0], flow.Flow):
            await self.trigger_event(hooks.UpdateHook([message]))

    async def trigger_event(self, event: hooks.Hook) -> None:
        wanting = self._wanting(event.name)
        if not wanting:
            return
        arguments = event.args()
        try:
            for callback in wanting:
                with safecall():
                    result = callback(*arguments)
                    if inspect.isawaitable(result):
                        await result
        except AddonHalt:
            return

    def run_now(self, event: hooks.Hook) -> bool:
        """Raise an event without waiting for anything. False if a callback would wait: then nothing was called."""
        wanting = self._wanting(event.name)
        if any(map(inspect.iscoroutinefunction, wanting)):
            return False
        arguments = event.args() if wanting else ()
        try:
            for callback in wanting:
                with safecall():
                    callback(*arguments)
        except AddonHalt:
            pass
        return True

    def _wanting(self, name: str) -> list[Callable[..., Any]]:
        found = self._callbacks.get(name)
        if found is None:
            addons = traverse(self.chain)
            found = [getattr(addon, name) for addon in addons if callable(getattr(addon, name, None))]
            self._callbacks[name] = found
        return found
