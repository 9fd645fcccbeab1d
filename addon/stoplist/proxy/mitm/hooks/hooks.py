"""Hooks: they read names from the events of mitmproxy, ask the judge, and carry out the verdict.

  client_connected   checks that the policy admits the client, and sets the first layer (see first_layers.py)
  next_layer         recognises the client's first bytes (see core/wire/openings.py)

A tunnel (CONNECT, SOCKS, transparent)             A plain HTTP request
  http_connect      judge the target                 requestheaders  judge the target and Host
    stop: answer 200, contact nobody                   stop: the page
    refuse: an error                                   refuse: an error
  tls_clienthello   judge the target and the SNI
    pass: relay the bytes, undecrypted             Both
    stop: a certificate made on the spot, then       server_connect  the last check: no connection
      `requestheaders` serves the page                 to a listed host, whatever led there

Rules
  - The hooks judge every name that a request claims; the strictest verdict wins.
  - A hook that raises refuses its request: each hook that decides is `guarded`.
  - The gate decrypts for listed hosts only, unless the policy says `tls: intercept`.
  - Where a tunnel ends at the gate, for a page, the gate forwards nothing that came in it. A parent proxy gets
    nothing of it either.
  - No hook keeps, logs or raises with a host, a URL or an address. Only `connections` keeps hosts: those of the
    connections that are open.
"""

from __future__ import annotations

from mitmproxy import ctx, http, tcp
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt
from mitmproxy.net.http.url import hostport
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers.modes import ReverseProxy
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist import clock
from stoplist.core.addresses import is_client
from stoplist.core.decide import (
    AMBIGUOUS,
    CLOSED,
    DENIED,
    NOT_FORWARDED,
    PASS,
    UNREADABLE,
    Action,
    Reason,
    Verdict,
    strictest,
)
from stoplist.core.hosts import Host, HostError, parse_authority
from stoplist.errors import StoplistError
from stoplist.page.answers import Answer, Subject
from stoplist.page.asker import Asker
from stoplist.page.refusals import UNREACHABLE, refusal
from stoplist.proxy.judge import parse_address
from stoplist.proxy.mitm.fail_closed import Guarded
from stoplist.proxy.mitm.hooks.hook_base import address_of
from stoplist.proxy.mitm.hooks.hook_guard import (
    guarded,
    kill_flow,
    refuse_client,
    refuse_connection,
    refuse_flow,
    refuse_layer,
)
from stoplist.proxy.mitm.hooks.request_checks import (
    has_body,
    has_plain_target,
    has_short_body,
    is_asked_for_a_password,
    is_multiplexed,
    remove_upgrade_to_http2,
)
from stoplist.proxy.mitm.hooks.tls_hooks import TlsHooks
from stoplist.proxy.mitm.layers.first_layers import first_layer
from stoplist.proxy.mitm.layers.http_layer import established, is_refused, response
from stoplist.proxy.mitm.layers.next_layers import next_layer
from stoplist.proxy.outbound.open_connections import close_left


class Hooks(TlsHooks):
    """The hooks of mitmproxy that judge."""

    # Where a connection begins

    def serves(self, address: str) -> bool:
        """Whether the client with this address is one of the policy's clients."""
        return is_client(parse_address(address), self.judge.policy.clients)

    @guarded(refuse_client)
    def client_connected(self, client: Client) -> None:
        if not self.serves(client.peername[0]):
            client.error = "refused"
            return
        handler = ctx.master.addons.get("proxyserver").connections[client.id]
        if isinstance(client.proxy_mode, mode_specs.DnsMode):
            handler.layer.context.server.address = self._resolver
        run_now = getattr(ctx.master.addons, "run_now", None)  # in mitmdump, hooks may wait
        handler.layer = Guarded(first_layer(handler.layer, self.judge), self.faults, run_now)

    def client_disconnected(self, client: Client) -> None:
        close_left(ctx.master.addons.get("proxyserver").connections[client.id])

    @guarded(refuse_layer)
    def next_layer(self, nextlayer: NextLayer) -> None:
        if nextlayer.layer is not None or isinstance(nextlayer.context.layers[0], ReverseProxy):
            return
        ends_here = self.connections.ends_here(nextlayer.context.client)
        nextlayer.layer = next_layer(nextlayer, self.judge, self.judge_hello, ends_here=ends_here)
        if nextlayer.layer is None:
            raise AddonHalt  # mitmproxy's own add-on would decide on the bytes that have come so far

    # Tunnels

    @guarded(refuse_flow)
    def http_connect(self, flow: http.HTTPFlow) -> None:
        if is_asked_for_a_password(flow):
            return
        try:
            host, port = parse_authority(flow.request.data.authority)
        except HostError:
            self._refuse(flow, UNREADABLE)
            return
        client = address_of(flow.client_conn)
        target = self.judge.verdict(host, client=client)
        verdict = strictest((target, self._judge_fields(flow.request, client), self._judge_port(port)))
        verdict = strictest((verdict, self._judge_form(flow.client_conn, host)))
        if target.action is Action.STOP and self._shows_pages():
            # Not counted yet: a browser may open a tunnel and never ask for anything in it.
            self.connections.end_here(flow.client_conn)
            flow.response = established()
        elif Action.STOP in (target.action, verdict.action):  # an answer that no browser shows
            self._stop(flow, strictest((target, verdict)), page=False)
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        else:
            flow.request.data.host = host.address
            self.connections.passed(flow.client_conn, host)
            self.judge.count(verdict)

    @guarded(refuse_flow)
    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """End a connection on which a CONNECT after other requests led nowhere.

        mitmproxy would take the next requests for those of a tunnel: passwords for the gate would go on to a site.
        """
        if flow.response is not None and flow.response.status_code == 502:
            _, _, error = (flow.response.text or "").partition(": ")
            self.answer(flow, refusal(DENIED.reason) if is_refused(error) else UNREACHABLE)

    def _judge_port(self, port: int | None) -> Verdict:
        return PASS if port is None or self.judge.policy.tunnels.permits(port) else CLOSED

    # Requests

    @guarded(refuse_flow)
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if is_asked_for_a_password(flow):
            return
        request, client = flow.request, flow.client_conn
        target = flow.server_conn.address[0] if flow.server_conn.address else None
        address = address_of(client)
        names = (target, client.sni, request.data.host or None)
        verdict = strictest((self.judge.verdict(*names, client=address), self._judge_fields(request, address)))
        if is_multiplexed(request) and not has_plain_target(request):
            verdict = strictest((verdict, AMBIGUOUS))
        if target is None and verdict.passes:
            host = Host.parse(request.data.host)
            verdict = strictest((verdict, self._judge_form(client, host, ends_tls=request.scheme == "https")))
        if verdict.action is Action.STOP:
            if not has_short_body(request):
                self.judge.count(verdict)
                flow.kill()
                return
            self._stop(flow, verdict, page=True)
            if self.connections.ends_here(client) and not is_multiplexed(request):
                # The host may be off the list a moment later: the client must ask again from the start.
                assert flow.response is not None
                flow.response.headers["Connection"] = "close"
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        elif self.connections.ends_here(client):
            self._refuse(flow, NOT_FORWARDED)
        else:
            host = Host.parse(request.data.host or target or "")
            request.data.host = host.address
            request.stream = True
            if target is None and not is_multiplexed(request) and "host" not in request.headers:
                # Without it the server serves its first site, whichever that is (RFC 9112, section 3.2.2).
                request.headers["Host"] = hostport(request.scheme, host.name, request.port)
            remove_upgrade_to_http2(request)
            if not is_multiplexed(request) and has_body(request):
                # A server that leaves the body unread reads it as the next request: no request may follow.
                request.headers["Connection"] = "close"
            if target is None and not isinstance(client.proxy_mode, mode_specs.UpstreamMode):
                request.headers.pop("proxy-authorization", None)  # the site is no proxy (RFC 9110, section 11.7.2)
            self.connections.passed(client, host)
            self._count(client, target, verdict)

    def _judge_fields(self, request: http.Request, client: str) -> Verdict:
        """The verdict for the Host fields and the :authority of a request, PASS where it has none."""
        fields = [value for name, value in request.headers.fields if name.lower() == b"host"]
        if len(fields) > 1:
            return AMBIGUOUS
        if request.data.authority:
            fields.append(request.data.authority)
        try:
            hosts = [parse_authority(value)[0] for value in fields]
        except HostError:
            return UNREADABLE
        agree = AMBIGUOUS if len(set(hosts)) > 1 else PASS
        return strictest((self.judge.verdict(*hosts, client=client), agree)) if hosts else PASS

    def _stop(self, flow: http.HTTPFlow, verdict: Verdict, *, page: bool) -> None:
        in_force, request = self.judge.in_force, flow.request
        asker = Asker.of(request.method, request.path, request.headers)
        if not in_force.page.is_switch(asker):
            self.judge.count(verdict, page=page)
        if verdict.reason is Reason.CHECK_HOST:
            self.answer(flow, in_force.page.answer(asker, Subject.CHECK, in_force.ruleset.age(verdict, clock.now())))
        else:
            subject = Subject.RECORDED if self._is_recorded else Subject.STOPPED
            self.answer(flow, in_force.page.answer(asker, subject))

    def _refuse(self, flow: http.HTTPFlow, verdict: Verdict) -> None:
        self.answer(flow, self.judge.refuse(verdict))

    def answer(self, flow: http.HTTPFlow, answer: Answer) -> None:
        """Answer a request without a server."""
        flow.request.headers.pop("expect", None)  # otherwise mitmproxy asks for the body of a request that ends here
        flow.response = response(answer)
        if flow.request.method == "HEAD":
            flow.response.raw_content = b""  # the head keeps the length of the answer to a GET
        if is_multiplexed(flow.request):
            flow.response.headers.pop("Connection", None)  # RFC 9113, section 8.2.2

    @guarded(kill_flow)
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Relay bodies as they come, without keeping them in memory."""
        if flow.response is not None and flow.response.status_code != 101:
            flow.response.stream = True

    # The last check, and messages that must not pile up

    @guarded(refuse_connection)
    def server_connect(self, data: ServerConnectionHookData) -> None:
        client, address = data.client, data.server.address
        if address is None:
            raise StoplistError("the connection has no server address")
        if self.connections.ends_here(client):
            verdict = strictest((NOT_FORWARDED, self.judge.verdict(address[0], client=address_of(client))))
        elif self._is_forwarder(client, address):
            return
        elif address in self.outbound.trusted and address != getattr(client.proxy_mode, "address", None):
            verdict = DENIED  # the proxy that one mode forwards to is no target for the clients of another mode
        elif data.server.transport_protocol == "udp" and not self._permits_udp(address):
            verdict = DENIED
        else:
            verdict = self.judge.verdict(address[0], client=address_of(client))
        if verdict.action in (Action.STOP, Action.REFUSE):
            data.server.error = verdict.reason.value
            self.judge.count(verdict)
        else:
            self.connections.passed(client, Host.parse(address[0]))

    def _permits_udp(self, address: tuple[str, int]) -> bool:
        """Whether `outbound` permits a UDP address. mitmproxy connects UDP itself: to addresses only, not to names."""
        return self.outbound.permit(parse_address(address[0]), address[1])

    def _is_forwarder(self, client: Client, address: tuple[str, int]) -> bool:
        """Whether this is the address to which the operator forwards in the mode of this client."""
        match client.proxy_mode:
            case mode_specs.UpstreamMode():
                return address == client.proxy_mode.address
            case mode_specs.DnsMode():
                return address == self._resolver and self.outbound.permit_resolver(address)
        return False

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        flow.messages.clear()

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket is not None
        flow.websocket.messages.clear()
