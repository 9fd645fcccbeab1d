"""TLS hooks: they judge the names of a ClientHello, and answer it for listed hosts: with a certificate made on the
spot, or with a refusal.

The gate decrypts for listed hosts only, unless the policy says `tls: intercept`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from mitmproxy import tls
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.quic import QuicTlsData

from stoplist import clock
from stoplist.core.decide import NOT_FORWARDED, PASS, UNREADABLE, Action, Verdict, strictest
from stoplist.core.hosts import Host, HostError
from stoplist.core.wire.client_hello import server_name
from stoplist.proxy.mitm.hooks.hook_context import HookContext, address_of, target_of
from stoplist.proxy.mitm.hooks.hook_guard import guarded, refuse_tls
from stoplist.proxy.mitm.tls_settings import HTTP, accept, accept_quic, refuse, refuse_quic


class TlsHooks:
    """The hooks for TLS and QUIC from clients."""

    def __init__(self, context: HookContext) -> None:
        self.context = context
        self._judge, self._connections = context.judge, context.connections
        self._refused: weakref.WeakSet[Client] = weakref.WeakSet()

    def judge_hello(self, context: Context, extensions: Iterable[tuple[int, bytes]]) -> Verdict:
        """The verdict for a ClientHello that follows another one in the clear. Raises HostError."""
        client, target, name = context.client, target_of(context), server_name(extensions)
        verdict = self._judge.verdict(target, name, client=address_of(client))
        if verdict.passes and name is not None:
            self._judge.count_more(verdict, self._judge.verdict(target, client.sni, client=address_of(client)))
            self._connections.passed(client, name)
        return verdict

    @guarded(refuse_tls)
    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        client, target = data.context.client, target_of(data.context)
        try:
            name = server_name(data.client_hello.extensions)
        except HostError:
            name, verdict = None, UNREADABLE
        else:
            verdict = self._judge.verdict(target, name, client=address_of(client)) if target or name else PASS
        client.sni = name.name if name else None
        if target is None and self.context.certificate is None:
            verdict = strictest((verdict, UNREADABLE))
        if target is not None and self._connections.ends_here(client):
            verdict = strictest((verdict, NOT_FORWARDED))
        if target is not None and self._intercepts(data.context):
            verdict = strictest((verdict, self.context.judge_form(client, name or Host.parse(target), ends_tls=True)))
        if verdict.action is Action.REFUSE:
            if client not in self._refused:  # in HTTP/3 this hook runs twice
                self._judge.count(verdict)
            self._refused.add(client)
        elif verdict.action is not Action.STOP and target is not None:
            if client not in self.context.counted_hellos:
                self.context.count(client, target, verdict)
            self.context.counted_hellos.add(client)
            if name is not None:
                self._connections.passed(client, name)
            if self._intercepts(data.context):
                data.establish_server_tls_first = True
            else:
                data.ignore_connection = True
        # mitmproxy's own add-on would now connect to the server before it answers the client.
        raise AddonHalt

    def _intercepts(self, context: Context) -> bool:
        return self._judge.policy.tls == "intercept" and context.client.transport_protocol == "tcp"

    @guarded(refuse_tls)
    def tls_start_client(self, data: tls.TlsData) -> None:
        context = data.context
        if context.client in self._refused or (target_of(context) is None and self._host_to_stop(context)):
            data.ssl_conn = refuse()
        elif target_of(context) is None:
            assert self.context.certificate is not None
            data.ssl_conn = self.context.certificate.accept()
        elif host := self._host_to_stop(context):
            self._connections.end_here(context.client)
            data.ssl_conn = self._accept(host, HTTP) if self.context.shows_pages() else refuse()
        elif self._intercepts(context):
            host = Host.parse(context.client.sni or target_of(context) or "")
            spoken = HTTP[::-1] if context.server.alpn is None else (context.server.alpn,)
            data.ssl_conn = self._accept(host, spoken)
        else:
            data.ssl_conn = refuse()  # the host was listed at the ClientHello, and is not any more
        raise AddonHalt

    def _accept(self, host: Host, protocols: tuple[bytes, ...]) -> Any:
        authority = self.context.current_ca.current if self.context.current_ca is not None else None
        return accept(authority, host, clock.now(), protocols) if authority is not None else refuse()

    @guarded(refuse_tls)
    def quic_start_client(self, data: QuicTlsData) -> None:
        host = self._host_to_stop(data.context)
        authority = self.context.current_ca.current if self.context.current_ca is not None else None
        if host is not None and authority is not None and self.context.shows_pages():
            self._connections.end_here(data.context.client)
            data.settings = accept_quic(authority, host, clock.now())
        else:
            data.settings = refuse_quic()
        raise AddonHalt

    def _host_to_stop(self, context: Context) -> Host | None:
        """The listed host that the client expects a certificate of; None if none of its names is listed."""
        client = address_of(context.client)
        for name in (context.client.sni, target_of(context)):
            if name is not None and self._judge.verdict(name, client=client).action is Action.STOP:
                return Host.parse(name)
        return None

    @guarded(refuse_tls)
    def tls_failed_client(self, data: tls.TlsData) -> None:
        """Count a client that does not trust the gate's CA: it sees no page, but the gate stopped it all the same."""
        client = data.context.client
        verdict = self._judge.verdict(target_of(data.context), client.sni, client=address_of(client))
        if verdict.action is Action.STOP:
            self._judge.count(verdict)
