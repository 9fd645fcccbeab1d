"""Hook guard: a hook that raises refuses its request, and counts a fault."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mitmproxy import http, tls
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist.core.decide import FAULT
from stoplist.page.refusals import refusal
from stoplist.proxy.mitm.layers.next_layers import Refused

if TYPE_CHECKING:
    from stoplist.proxy.mitm.hooks.hook_base import HookBase
    from stoplist.proxy.mitm.hooks.hooks import Hooks


def guarded[H: HookBase, D](
    refuse: Callable[[Any, D], None],
) -> Callable[[Callable[[H, D], None]], Callable[[H, D], None]]:
    """Make a hook fail closed: when it raises, count a fault and call `refuse` instead."""

    def decorate(hook: Callable[[H, D], None]) -> Callable[[H, D], None]:
        @functools.wraps(hook)
        def guarded(self: H, data: D) -> None:
            try:
                hook(self, data)
            except AddonHalt:
                raise
            except Exception as error:
                self.faults.add(hook.__name__, error)
                refuse(self, data)
                self.count_fault()
                raise AddonHalt from None  # no other add-on may change a refusal

        return guarded

    return decorate


def refuse_client(_: HookBase, client: Client) -> None:
    client.error = "refused"


def refuse_layer(_: HookBase, nextlayer: NextLayer) -> None:
    nextlayer.layer = Refused(nextlayer.context)


def refuse_flow(hooks: Hooks, flow: http.HTTPFlow) -> None:
    hooks.answer(flow, refusal(FAULT.reason))


def kill_flow(_: HookBase, flow: http.HTTPFlow) -> None:
    flow.kill()


def refuse_tls(_: HookBase, data: Any) -> None:
    """Without a TLS connection object mitmproxy closes the client's connection."""
    if isinstance(data, tls.ClientHelloData):
        data.ignore_connection = False


def refuse_connection(_: HookBase, data: ServerConnectionHookData) -> None:
    data.server.error = "refused"
