"""Request hooks: they judge what a CONNECT or a request names, and answer what does not pass."""

from __future__ import annotations

from mitmproxy import http
from mitmproxy.net.http.url import hostport
from mitmproxy.proxy import mode_specs

from stoplist import clock
from stoplist.core.decide import (
    AMBIGUOUS,
    CLOSED,
    NOT_FORWARDED,
    PASS,
    UNREADABLE,
    Action,
    Reason,
    Verdict,
    strictest,
)
from stoplist.core.hosts import Host, HostError, parse_authority
from stoplist.page.answers import Subject
from stoplist.page.refusals import Obstacle, refusal
from stoplist.proxy.judge import parse_address
from stoplist.proxy.mitm.hooks.hook_context import HookContext, address_of
from stoplist.proxy.mitm.hooks.hook_guard import (
    explain_fault,
    guarded,
    kill_flow,
    refuse_flow,
)
from stoplist.proxy.mitm.hooks.request_checks import (
    asker_of,
    has_body,
    has_plain_target,
    has_short_body,
    is_asked_for_a_password,
    remove_upgrade_to_http2,
)
from stoplist.proxy.mitm.layers.http_layer import answer, answer_of_gate, cause_of, established, is_multiplexed


class RequestHooks:
    """The hooks for CONNECT and for requests."""

    def __init__(self, context: HookContext) -> None:
        self.context = context
        self._judge, self._connections = context.judge, context.connections

    @guarded(refuse_flow, explain_fault)
    def http_connect(self, flow: http.HTTPFlow) -> None:
        if is_asked_for_a_password(flow):
            self._explain_password(flow)
            return
        try:
            host, port = parse_authority(flow.request.data.authority)
        except HostError:
            self._refuse(flow, UNREADABLE)
            return
        client = address_of(flow.client_conn)
        target = self._judge.verdict(host, client=client)
        fields, _ = self._judge_fields(flow.request, client)
        verdict = strictest((target, fields, self._judge_port(port)))
        verdict = strictest((verdict, self.context.judge_form(flow.client_conn, host)))
        verdict = strictest((verdict, self.context.judge_parents_target(flow.client_conn, host, port)))
        if target.action is Action.STOP and self.context.shows_pages():
            # Not counted yet: a browser may open a tunnel and never ask for anything in it.
            self._connections.end_here(flow.client_conn)
            flow.response = established()
        elif Action.STOP in (target.action, verdict.action):  # an answer that no browser shows
            self._stop(flow, strictest((target, verdict)), page=False)
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        else:
            flow.request.data.host = host.address
            self._connections.passed(flow.client_conn, host)
            self._judge.count(verdict)

    @guarded(refuse_flow, explain_fault)
    def http_connect_error(self, flow: http.HTTPFlow) -> None:
        """End a connection on which a CONNECT after other requests led nowhere.

        mitmproxy would take the next requests for those of a tunnel: passwords for the gate would go on to a site.
        """
        if flow.response is not None and flow.response.status_code == 502:
            _, _, error = (flow.response.text or "").partition(": ")
            answer(flow, refusal(cause_of(error)))

    def _judge_port(self, port: int | None) -> Verdict:
        return PASS if port is None or self._judge.policy.tunnels.permits(port) else CLOSED

    @guarded(refuse_flow, explain_fault)
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if is_asked_for_a_password(flow):
            self._explain_password(flow)
            return
        request, client = flow.request, flow.client_conn
        target = flow.server_conn.address[0] if flow.server_conn.address else None
        address = address_of(client)
        names = (target, client.sni, request.data.host or None)
        of_fields, in_fields = self._judge_fields(request, address)
        verdict = strictest((self._judge.verdict(*names, client=address), of_fields))
        if is_multiplexed(request) and not has_plain_target(request):
            verdict = strictest((verdict, AMBIGUOUS))
        if target is None and verdict.passes:
            host = Host.parse(request.data.host)
            verdict = strictest((verdict, self.context.judge_form(client, host, ends_tls=request.scheme == "https")))
            verdict = strictest((verdict, self.context.judge_parents_target(client, host, request.port)))
        if verdict.action is Action.STOP:
            if not has_short_body(request):
                self._judge.count(verdict)
                flow.kill()
                return
            self._stop(flow, verdict, page=True)
            if self._connections.ends_here(client) and not is_multiplexed(request):
                # The host may be off the list a moment later: the client must ask again from the start.
                assert flow.response is not None
                flow.response.headers["Connection"] = "close"
        elif verdict.action is Action.REFUSE and target is None and self._is_for_gate(request, verdict):
            self._judge.count(verdict)
            answer(flow, answer_of_gate(self._judge, asker_of(request), request.data.path))
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        elif self._connections.ends_here(client):
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
            for judged in {host, *in_fields, *(Host.parse(name) for name in names if name)}:
                self._connections.passed(client, judged)
            self.context.count(client, target, verdict)

    def _judge_fields(self, request: http.Request, client: str) -> tuple[Verdict, list[Host]]:
        """The verdict for the Host fields and the :authority of a request, PASS where it has none; and these hosts."""
        fields = [value for name, value in request.headers.fields if name.lower() == b"host"]
        if len(fields) > 1:
            return AMBIGUOUS, []
        if request.data.authority:
            fields.append(request.data.authority)
        try:
            hosts = [parse_authority(value)[0] for value in fields]
        except HostError:
            return UNREADABLE, []
        agree = AMBIGUOUS if len(set(hosts)) > 1 else PASS
        return (strictest((self._judge.verdict(*hosts, client=client), agree)) if hosts else PASS), hosts

    def _stop(self, flow: http.HTTPFlow, verdict: Verdict, *, page: bool) -> None:
        in_force, request = self._judge.in_force, flow.request
        asker = asker_of(request)
        if not in_force.page.is_switch(asker):
            self._judge.count(verdict, page=page)
        if verdict.reason is Reason.CHECK_HOST:
            answer(flow, in_force.page.answer(asker, Subject.CHECK, in_force.ruleset.age(verdict, clock.now())))
        else:
            subject = Subject.RECORDED if self.context.is_recorded else Subject.STOPPED
            answer(flow, in_force.page.answer(asker, subject))

    def _refuse(self, flow: http.HTTPFlow, verdict: Verdict) -> None:
        answer(flow, self._judge.refuse(verdict, asker_of(flow.request)))

    def _is_for_gate(self, request: http.Request, verdict: Verdict) -> bool:
        """Whether a refused request is for an address of the gate itself, to which the gate never connects."""
        if verdict.reason is not Reason.DENIED:
            return False
        host = Host.parse(request.data.host)
        return host.is_address and self.context.outbound.is_own(parse_address(host.address), request.data.port)

    def _explain_password(self, flow: http.HTTPFlow) -> None:
        """Put the gate's own page and question in place of mitmproxy's. The status stays mitmproxy's."""
        asked = flow.response
        assert asked is not None
        answer(flow, self._judge.answer(Obstacle.PASSWORD, asker_of(flow.request)))
        assert flow.response is not None
        flow.response.status_code, flow.response.reason = asked.status_code, asked.reason
        flow.response.headers.pop("Connection", None)  # a client tries again on the same connection
        question = "Proxy-Authenticate" if asked.status_code == 407 else "WWW-Authenticate"
        flow.response.headers[question] = 'Basic realm="proxy"'  # a browser shows the realm

    @guarded(kill_flow)
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Relay bodies as they come, without keeping them in memory."""
        if flow.response is not None and flow.response.status_code != 101:
            flow.response.stream = True
