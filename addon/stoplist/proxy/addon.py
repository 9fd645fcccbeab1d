"""Stoplist: the mitmproxy add-on. It turns what mitmproxy hands over into our values, asks the one
`decide()`, and does what the verdict says.

A tunnel (CONNECT)                                 A plain HTTP request
  http_connect      judge the target                 requestheaders  judge the target and Host
    stop: answer 200, contact nobody                   stop: the page
    refuse: an error                                   refuse: an error
  tls_clienthello   judge the target and the SNI
    pass: relay the bytes, undecrypted             Both
    stop: a certificate made on the spot, then       server_connect  the last door: no connection
      `requestheaders` serves the page                 towards a listed host, whatever led there

Rules
  - Every name that a request claims is judged; the strictest verdict wins.
  - A hook that raises refuses its request: each one is `_guarded`.
  - The gate decrypts for listed hosts only, and what it decrypted it never forwards.
  - No hook keeps, logs or raises with a host, a URL or an address.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mitmproxy import ctx, http, tcp, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.server_hooks import ServerConnectionHookData
from OpenSSL import SSL

from stoplist import loading
from stoplist.core.decide import (
    AMBIGUOUS,
    FAULT,
    NOT_FORWARDED,
    PASS,
    UNREADABLE,
    Action,
    Reason,
    Verdict,
    decide,
    strictest,
)
from stoplist.core.hosts import Host, HostError, parse_authority
from stoplist.errors import StoplistError
from stoplist.proxy import quiet, store
from stoplist.proxy.certificates import CertificateAuthority
from stoplist.proxy.page import Answer, refusal
from stoplist.proxy.tally import Tally
from stoplist.state import State

BEAT_SECONDS = 60.0
"""How often faults are reported: a beat of its own, that follows no request."""

log = logging.getLogger(quiet.OWN_LOGGER)

_REFUSALS = {
    Reason.UNREADABLE: refusal(400, "the host of this request cannot be read", "http_request_error"),
    Reason.AMBIGUOUS: refusal(400, "this request names its host more than once", "http_request_error"),
    Reason.NOT_FORWARDED: refusal(503, "the list has changed, load the page again", "http_request_denied"),
    Reason.EXPIRED: refusal(503, "its list has expired, and the policy refuses all", "proxy_configuration_refused"),
    Reason.FAULT: refusal(503, "the gate has a fault", "proxy_internal_error"),
}
MAX_STOPPED_BODY = 1024 * 1024
"""Longest body of a stopped request that is read to its end, as mitmproxy does before it answers; in
bytes. A request with a longer one, or one of unknown length, is cut off without a page."""
_SERVER_NAME = 0
"""The type of the server_name extension of a ClientHello (RFC 6066, section 3)."""


def _guarded[D](
    refuse: Callable[[Stoplist, D], None],
) -> Callable[[Callable[[Stoplist, D], None]], Callable[[Stoplist, D], None]]:
    """Make a hook fail closed: what it raises is counted as a fault, and `refuse` is done instead."""

    def decorate(hook: Callable[[Stoplist, D], None]) -> Callable[[Stoplist, D], None]:
        @functools.wraps(hook)
        def guarded(self: Stoplist, data: D) -> None:
            try:
                hook(self, data)
            except AddonHalt:
                raise
            except Exception as error:
                self.faults.add(hook.__name__, error)
                refuse(self, data)

        return guarded

    return decorate


def _refuse_flow(addon: Stoplist, flow: http.HTTPFlow) -> None:
    flow.response = _response(flow.request, _REFUSALS[Reason.FAULT])
    addon.count(FAULT)


def _refuse_tls(addon: Stoplist, _: Any) -> None:
    addon.count(FAULT)
    raise AddonHalt


def _refuse_connection(addon: Stoplist, data: ServerConnectionHookData) -> None:
    data.server.error = "refused"
    addon.count(FAULT)


class Stoplist:
    """The add-on. Its options name a policy and a state directory; without a ruleset nothing passes.

    `faults` is where faults are counted by a process that writes its log by itself; without it the
    add-on runs in somebody else's process, mitmdump's, and keeps that one's log quiet.
    """

    name = "stoplist"

    def __init__(self, faults: quiet.Faults | None = None) -> None:
        self.faults = faults or quiet.Faults()
        self._is_guest = faults is None
        self._store: store.RulesetStore | None = None
        self._authority: CertificateAuthority | None = None
        self._tally: Tally | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # The life of the add-on

    def load(self, loader: Loader) -> None:
        loader.add_option("stoplist_policy", str, "", "The policy file to enforce.")
        loader.add_option("stoplist_state_dir", str, "", "Where the gate keeps its CA and what it remembers of lists.")

    def configure(self, updated: set[str]) -> None:
        if "stoplist_policy" not in updated and "stoplist_state_dir" not in updated:
            return
        if not ctx.options.stoplist_policy:
            return  # `running` complains: mitmproxy also comes here to take back an option that failed
        try:
            state_dir = Path(ctx.options.stoplist_state_dir or loading.default_state_dir())
            authority = CertificateAuthority.open(state_dir, loading.now())
            state = State.open(state_dir, loading.now())
            opened = store.RulesetStore(Path(ctx.options.stoplist_policy), state, self._changed)
        except StoplistError as error:
            raise OptionsError(str(error)) from None
        was_running = bool(self._tasks)
        self.done()
        self._authority, self._store = authority, opened
        self._tally = Tally(opened.current.ruleset, time.time())
        if was_running:
            self.running()

    def running(self) -> None:
        if self._store is None:
            log.error("no policy is in force, every request is refused; use --set stoplist_policy=FILE")
            return
        if self._is_guest:
            quiet.hush(self.faults)
            for option, hazard in hazards(ctx.options):
                log.warning("mitmproxy's option %s %s", option, hazard)
        self._store.watch()
        self._tasks.append(asyncio.create_task(self._beat()))

    def done(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        if self._store is not None:
            self._store.close()
        if self._tally is not None:
            self._tally.stop(time.time())
        self.faults.report()
        self._store = self._authority = self._tally = None

    def _changed(self, in_force: store.InForce) -> None:
        """Called by the store's thread when another ruleset is in force."""
        ctx.master.event_loop.call_soon_threadsafe(self._follow, in_force)

    def _follow(self, in_force: store.InForce) -> None:
        if self._tally is not None:
            self._tally.follow(in_force.ruleset)

    async def _beat(self) -> None:
        while self._tally is not None:
            await asyncio.sleep(min(BEAT_SECONDS, self._tally.close_period(time.time()) + 0.01))
            self.faults.report()

    def count(self, verdict: Verdict) -> None:
        if self._tally is not None:
            self._tally.add(verdict)

    # Judgement

    def _judge(self, *names: str | bytes | None) -> Verdict:
        """The strictest verdict for names that a request claims; None stands for a name it does not."""
        ruleset, now = self._in_force().ruleset, time.time()

        def verdict(name: str | bytes) -> Verdict:
            try:
                return decide(ruleset, Host.parse(name), now)
            except HostError:
                return UNREADABLE

        return strictest(verdict(name) for name in {*names} if name is not None)

    def _in_force(self) -> store.InForce:
        if self._store is None:
            raise StoplistError("no ruleset is in force", hint="see the start of the log")
        return self._store.current

    def _judge_tunnel(self, context: Context) -> Verdict:
        """The verdict for TLS inside a tunnel. Without a target it is TLS to the gate itself: refused."""
        if context.server.address is None:
            return strictest((UNREADABLE, self._judge(context.client.sni) if context.client.sni else PASS))
        return self._judge(context.server.address[0], context.client.sni)

    # Tunnels

    @_guarded(_refuse_flow)
    def http_connect(self, flow: http.HTTPFlow) -> None:
        try:
            host, _ = parse_authority(flow.request.data.authority)
        except HostError:
            self._refuse(flow, UNREADABLE)
            return
        verdict = self._judge(host.name)
        if verdict.action is Action.STOP:
            # Not counted yet: a browser may open a tunnel and never ask for anything in it.
            flow.response = http.Response(
                b"HTTP/1.1", 200, b"Connection established", http.Headers(), b"", None, time.time(), time.time()
            )
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        else:
            flow.request.data.host = host.address
            self.count(verdict)

    @_guarded(_refuse_tls)
    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        verdict = self._judge_tunnel(data.context)
        extensions = data.client_hello.extensions
        if data.client_hello.sni is None and any(kind == _SERVER_NAME for kind, _ in extensions):
            verdict = strictest((verdict, UNREADABLE))
        if verdict.action in (Action.PASS, Action.OBSERVE):
            data.ignore_connection = True
            if verdict != self._judge(data.context.server.address[0] if data.context.server.address else None):
                self.count(verdict)
            return
        if verdict.action is Action.REFUSE:
            self.count(verdict)
        # mitmproxy's own add-on would now connect to the server before it answers the client.
        raise AddonHalt

    @_guarded(_refuse_tls)
    def tls_start_client(self, data: tls.TlsData) -> None:
        host = self._host_to_certify(data.context)
        if host is None:
            raise AddonHalt  # without a TLS connection object mitmproxy closes the client's connection
        assert self._authority is not None
        connection = SSL.Connection(_tls_context())
        connection.use_certificate(self._authority.leaf(host, loading.now()))
        connection.use_privatekey(self._authority.leaf_key)
        connection.set_accept_state()
        data.ssl_conn = connection

    def _host_to_certify(self, context: Context) -> Host | None:
        """The listed host that the client expects a certificate of; None if none of its names is listed."""
        if context.server.address is not None:
            for name in (context.client.sni, context.server.address[0]):
                if name is not None and self._judge(name).action is Action.STOP:
                    return Host.parse(name)
        return None

    @_guarded(_refuse_tls)
    def tls_failed_client(self, data: tls.TlsData) -> None:
        """A client that does not trust the gate's CA sees no page, and was stopped all the same."""
        verdict = self._judge_tunnel(data.context)
        if verdict.action is Action.STOP:
            self.count(verdict)

    # Requests

    @_guarded(_refuse_flow)
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        request = flow.request
        target = flow.server_conn.address[0] if flow.server_conn.address else None
        verdict = strictest(
            (self._judge(target, flow.client_conn.sni, request.data.host or None), self._judge_fields(request))
        )
        if verdict.action is Action.STOP:
            self.count(verdict)
            if not _has_short_body(request):
                flow.kill()
                return
            flow.response = _response(request, self._in_force().page.answer(request.headers.get("accept", "")))
            if flow.client_conn.tls_established and not request.is_http2:
                # A page that was stopped may be off the list a moment later: ask again from the start.
                flow.response.headers["Connection"] = "close"
        elif verdict.action is Action.REFUSE:
            self._refuse(flow, verdict)
        elif flow.client_conn.tls_established:
            self._refuse(flow, NOT_FORWARDED)
        else:
            request.data.host = Host.parse(request.data.host).address
            request.stream = True
            if target is None or verdict != self._judge(target):
                self.count(verdict)

    def _judge_fields(self, request: http.Request) -> Verdict:
        """The verdict for the Host fields and the :authority of a request, PASS where it has none."""
        fields = [value for name, value in request.headers.fields if name.lower() == b"host"]
        if len(fields) > 1:
            return AMBIGUOUS
        if request.data.authority:
            fields.append(request.data.authority)
        try:
            hosts = [parse_authority(value)[0].name for value in fields]
        except HostError:
            return UNREADABLE
        return self._judge(*hosts) if hosts else PASS

    def _refuse(self, flow: http.HTTPFlow, verdict: Verdict) -> None:
        flow.response = _response(flow.request, _REFUSALS[verdict.reason])
        self.count(verdict)

    @_guarded(_refuse_flow)
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Bodies are relayed as they come: none is kept in memory."""
        if flow.response is not None and flow.response.status_code != 101:
            flow.response.stream = True

    # The last door, and what must not pile up

    @_guarded(_refuse_connection)
    def server_connect(self, data: ServerConnectionHookData) -> None:
        verdict = self._judge(data.server.address[0] if data.server.address else None)
        if verdict.action in (Action.STOP, Action.REFUSE):
            data.server.error = "refused"
            self.count(verdict)
        elif data.client.tls_established:
            data.server.error = "refused"
            self.count(NOT_FORWARDED)

    def tcp_message(self, flow: tcp.TCPFlow) -> None:
        flow.messages.clear()

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        assert flow.websocket is not None
        flow.websocket.messages.clear()


def hazards(options: Options) -> list[tuple[str, str]]:
    """mitmproxy's options that would break a promise as they are set: (option, what it does)."""
    found = {
        "connection_strategy": (
            options.connection_strategy == "eager",
            "is 'eager': in transparent modes sites are contacted before their name is known; set it to 'lazy'",
        ),
        "flow_detail": (bool(getattr(options, "flow_detail", 0)), "prints every request; set it to 0"),
        "save_stream_file": (
            bool(getattr(options, "save_stream_file", None)),
            "saves every request to a file; unset it",
        ),
        "hardump": (bool(getattr(options, "hardump", "")), "saves every request to a file; unset it"),
        "ignore_hosts": (bool(options.ignore_hosts), "lets hosts pass that no list is asked about; unset it"),
        "allow_hosts": (bool(options.allow_hosts), "lets hosts pass that no list is asked about; unset it"),
        "show_ignored_hosts": (options.show_ignored_hosts, "records the bytes of tunnels; unset it"),
        "store_streamed_bodies": (options.store_streamed_bodies, "keeps bodies in memory; unset it"),
        "proxy_debug": (options.proxy_debug, "logs connections in detail; unset it"),
    }
    return [(option, hazard) for option, (is_set, hazard) in found.items() if is_set]


def _has_short_body(request: http.Request) -> bool:
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= MAX_STOPPED_BODY


def _response(request: http.Request, answer: Answer) -> http.Response:
    response = http.Response.make(
        answer.status, b"" if request.method == "HEAD" else answer.body, http.Headers(answer.headers)
    )
    if request.is_http2:
        response.headers.pop("Connection", None)  # RFC 9113, section 8.2.2
    return response


@functools.cache
def _tls_context() -> SSL.Context:
    """TLS towards the client of a stop page. HTTP/1.1 where it can be: that connection can be closed."""

    def select(_: SSL.Connection, offered: list[bytes]) -> Any:
        chosen = [protocol for protocol in (b"http/1.1", b"h2") if protocol in offered]
        return chosen[0] if chosen else SSL.NO_OVERLAPPING_PROTOCOLS

    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_alpn_select_callback(select)
    return context
