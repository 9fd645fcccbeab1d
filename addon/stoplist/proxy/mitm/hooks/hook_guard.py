"""Hook guard: a hook that raises refuses its request, and counts a fault; RefusedError is no fault."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from mitmproxy import http, tls
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist.core.decide import FAULT
from stoplist.core.wire.conversations import RefusedError
from stoplist.page.refusals import refusal
from stoplist.proxy.mitm.hooks.hook_context import HookContext
from stoplist.proxy.mitm.hooks.request_checks import asker_of
from stoplist.proxy.mitm.layers.http_layer import answer
from stoplist.proxy.mitm.layers.next_layers import Refused


class HasContext(Protocol):
    """A class with hooks."""

    @property
    def context(self) -> HookContext:
        """What the hooks share."""


def guarded[H: HasContext, D](
    refuse: Callable[[D], None],
    explain: Callable[[HookContext, D], None] | None = None,
) -> Callable[[Callable[[H, D], None]], Callable[[H, D], None]]:
    """Make a hook fail closed: when it raises, count a fault and call `refuse` instead.

    `explain` may then put a better answer in place of the refusal. What broke the hook may break it as well.
    RefusedError comes with a verdict, which counts in place of the fault.
    """

    def decorate(hook: Callable[[H, D], None]) -> Callable[[H, D], None]:
        @functools.wraps(hook)
        def guarded(self: H, data: D) -> None:
            try:
                hook(self, data)
            except AddonHalt:
                raise
            except RefusedError as error:
                refuse(data)
                if isinstance(data, http.HTTPFlow) and data.response is not None:
                    answer(data, refusal(error.verdict.reason))
                self.context.judge.count(error.verdict)
                raise AddonHalt from None
            except Exception as error:
                self.context.faults.add(hook.__name__, error)
                refuse(data)
                if explain is not None:
                    with suppress(Exception):  # it is refused already
                        explain(self.context, data)
                self.context.count_fault()
                raise AddonHalt from None  # no other add-on may change a refusal

        return guarded

    return decorate


def refuse_client(client: Client) -> None:
    client.error = "refused"


def refuse_layer(nextlayer: NextLayer) -> None:
    nextlayer.layer = Refused(nextlayer.context)


def refuse_flow(flow: http.HTTPFlow) -> None:
    answer(flow, refusal(FAULT.reason))


def explain_fault(context: HookContext, flow: http.HTTPFlow) -> None:
    """The same refusal, as a page in the language of somebody who opens a page."""
    answer(flow, context.judge.answer(FAULT.reason, asker_of(flow.request)))


def kill_flow(flow: http.HTTPFlow) -> None:
    flow.kill()


def refuse_tls(data: Any) -> None:
    """Without a TLS connection object mitmproxy closes the client's connection."""
    if isinstance(data, tls.ClientHelloData):
        data.ignore_connection = False


def refuse_connection(data: ServerConnectionHookData) -> None:
    data.server.error = "refused"
