"""Connection hooks: where a connection of a client begins, what is spoken on it, and where one to a server begins."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mitmproxy import ctx, http, tcp
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers.modes import ReverseProxy
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist.core.decide import (
    DENIED,
    NOT_FORWARDED,
    Action,
    Verdict,
    strictest,
)
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.proxy.judge import parse_address
from stoplist.proxy.mitm.fail_closed import Guarded
from stoplist.proxy.mitm.hooks.hook_context import HookContext, address_of
from stoplist.proxy.mitm.hooks.hook_guard import (
    guarded,
    refuse_client,
    refuse_connection,
    refuse_layer,
)
from stoplist.proxy.mitm.layers.first_layers import first_layer
from stoplist.proxy.mitm.layers.next_layers import next_layer
from stoplist.proxy.outbound.open_connections import close_left


class ConnectionHooks:
    """The hooks for connections. `judge_hello` judges a ClientHello that follows another one in the clear."""

    def __init__(
        self, context: HookContext, judge_hello: Callable[[Context, Iterable[tuple[int, bytes]]], Verdict]
    ) -> None:
        self.context = context
        self._judge, self._connections, self._outbound = context.judge, context.connections, context.outbound
        self._judge_hello = judge_hello

    @guarded(refuse_client)
    def client_connected(self, client: Client) -> None:
        if not self.context.serves(client.peername[0]):
            client.error = "refused"
            return
        handler = ctx.master.addons.get("proxyserver").connections[client.id]
        if isinstance(client.proxy_mode, mode_specs.DnsMode):
            handler.layer.context.server.address = self.context.resolver
        run_now = getattr(ctx.master.addons, "run_now", None)  # in mitmdump, hooks may wait
        handler.layer = Guarded(first_layer(handler.layer, self._judge), self.context.faults, run_now)

    def client_disconnected(self, client: Client) -> None:
        close_left(ctx.master.addons.get("proxyserver").connections[client.id])

    @guarded(refuse_layer)
    def next_layer(self, nextlayer: NextLayer) -> None:
        if nextlayer.layer is not None or isinstance(nextlayer.context.layers[0], ReverseProxy):
            return
        ends_here = self._connections.ends_here(nextlayer.context.client)
        nextlayer.layer = next_layer(nextlayer, self._judge, self._judge_hello, ends_here=ends_here)
        if nextlayer.layer is None:
            raise AddonHalt  # mitmproxy's own add-on would decide on the bytes that have come so far

    @guarded(refuse_connection)
    def server_connect(self, data: ServerConnectionHookData) -> None:
        client, address = data.client, data.server.address
        if address is None:
            raise StoplistError("the connection has no server address")
        if self._connections.ends_here(client):
            verdict = strictest((NOT_FORWARDED, self._judge.verdict(address[0], client=address_of(client))))
        elif self._is_forwarder(client, address):
            return
        elif address in self._outbound.trusted and address != getattr(client.proxy_mode, "address", None):
            verdict = DENIED  # the proxy that one mode forwards to is no target for the clients of another mode
        elif data.server.transport_protocol == "udp" and not self._permits_udp(address):
            verdict = DENIED
        else:
            verdict = self._judge.verdict(address[0], client=address_of(client))
        if verdict.action in (Action.STOP, Action.REFUSE):
            data.server.error = verdict.reason.value
            self._judge.count(verdict)
        else:
            self._connections.passed(client, Host.parse(address[0]))

    def _permits_udp(self, address: tuple[str, int]) -> bool:
        """Whether `outbound` permits a UDP address. mitmproxy connects UDP itself: to addresses only, not to names."""
        return self._outbound.permit(parse_address(address[0]), address[1])

    def _is_forwarder(self, client: Client, address: tuple[str, int]) -> bool:
        """Whether this is the address to which the operator forwards in the mode of this client."""
        match client.proxy_mode:
            case mode_specs.UpstreamMode():
                return address == client.proxy_mode.address
            case mode_specs.DnsMode():
                return address == self.context.resolver and self._outbound.permit_resolver(address)
        return False

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        flow.messages.clear()

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket is not None
        flow.websocket.messages.clear()
