"""Stoplist: the mitmproxy add-on. It turns what mitmproxy hands over into names, asks the judge, and
does what the verdict says.

  client_connected   who may come, and the first layer of the connection (see first_layers.py)
  next_layer         what the client's first bytes are (see core/wire/openings.py)

A tunnel (CONNECT, SOCKS, transparent)             A plain HTTP request
  http_connect      judge the target                 requestheaders  judge the target and Host
    stop: answer 200, contact nobody                   stop: the page
    refuse: an error                                   refuse: an error
  tls_clienthello   judge the target and the SNI
    pass: relay the bytes, undecrypted             Both
    stop: a certificate made on the spot, then       server_connect  the last door: no connection
      `requestheaders` serves the page                 towards a listed host, whatever led there

Rules
  - Every name that a request claims is judged; the strictest verdict wins.
  - A hook that raises refuses its request: each one that decides is `_guarded`.
  - The gate decrypts for listed hosts only, unless the policy says `tls: intercept`; nothing that came in a
    tunnel which ends at the gate, for a page, is forwarded, not even by a parent proxy.
  - No hook keeps, logs or raises with a host, a URL or an address; `connections` keeps the hosts of
    connections that are open.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import time
import weakref
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

import mitmproxy_rs
from mitmproxy import ctx, http, tcp, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client
from mitmproxy.exceptions import AddonHalt, OptionsError
from mitmproxy.master import Master
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import NextLayer
from mitmproxy.proxy.layers.modes import ReverseProxy
from mitmproxy.proxy.layers.quic import QuicTlsData
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from stoplist import clock, loading, metrics
from stoplist.core.addresses import Address, is_client
from stoplist.core.decide import (
    AMBIGUOUS,
    CLOSED,
    DENIED,
    FAULT,
    NOT_FORWARDED,
    PASS,
    UNREADABLE,
    Action,
    Reason,
    Ruleset,
    Verdict,
    strictest,
)
from stoplist.core.hosts import Host, HostError, parse_authority
from stoplist.core.policy.models import ListenAddress
from stoplist.core.wire.client_hello import server_name
from stoplist.errors import StoplistError
from stoplist.page.answers import Answer, Subject
from stoplist.page.asker import Asker
from stoplist.page.refusals import refusal
from stoplist.proxy.counting.period_counts import BEAT_SECONDS, PeriodCounts
from stoplist.proxy.counting.shared_counters import Number, SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.proxy.health import HealthCheck
from stoplist.proxy.judge import Judge, Rulesets
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.mitm import modes
from stoplist.proxy.mitm.address_caches import remember_no_address
from stoplist.proxy.mitm.fail_closed import Guarded, Sentinel
from stoplist.proxy.mitm.layers.first_layers import first_layer
from stoplist.proxy.mitm.layers.http_layer import established, response
from stoplist.proxy.mitm.layers.next_layers import DNS_PORT, Refused, next_layer
from stoplist.proxy.mitm.tls_settings import HTTP, GateCertificate, accept, accept_quic, prepare, refuse, refuse_quic
from stoplist.proxy.outbound.connector import Outbound, search_domains
from stoplist.proxy.outbound.open_connections import Connections, close_left
from stoplist.proxy.reload import ruleset_store
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.workers.listening_sockets import ListeningSockets
from stoplist.proxy.workers.worker import Follower, Worker
from stoplist.proxy.workers.worker_channel import Word
from stoplist.state import State

KEY_LOGS = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")
"""Variables of the environment that name a file to which mitmproxy writes the keys of its TLS towards servers."""
_RECORDERS = {"view", "eventstore"}
"""Add-ons of mitmproxy's other programs, which keep every request or every record in memory."""
MAX_STOPPED_BODY = 1024 * 1024
"""Longest body of a stopped request that is read to its end, as mitmproxy does before it answers; in
bytes. A request with a longer one, or one of unknown length, is cut off without a page."""


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
                self.count_fault()
                raise AddonHalt from None  # no other add-on has a say in what is refused

        return guarded

    return decorate


def _refuse_client(_: Stoplist, client: Client) -> None:
    client.error = "refused"


def _refuse_layer(_: Stoplist, nextlayer: NextLayer) -> None:
    nextlayer.layer = Refused(nextlayer.context)


def _refuse_flow(addon: Stoplist, flow: http.HTTPFlow) -> None:
    addon.answer(flow, refusal(FAULT.reason))


def _kill_flow(_: Stoplist, flow: http.HTTPFlow) -> None:
    flow.kill()


def _refuse_tls(_: Stoplist, data: Any) -> None:
    """Without a TLS connection object mitmproxy closes the client's connection."""
    if isinstance(data, tls.ClientHelloData):
        data.ignore_connection = False


def _refuse_connection(_: Stoplist, data: ServerConnectionHookData) -> None:
    data.server.error = "refused"


class Stoplist:
    """The add-on. Its options name a policy and a state directory; without a ruleset nothing passes.

    `faults` is where faults are counted by a process that writes its log by itself; without it the
    add-on runs in somebody else's process, mitmdump's, and keeps that one's log quiet. A `worker` has
    its rulesets from a supervisor.
    """

    name = "stoplist"

    def __init__(self, faults: log_allowlist.Faults | None = None, worker: Worker | None = None) -> None:
        self.faults = faults or log_allowlist.Faults()
        self.judge = Judge()
        self.listening = worker.listening if worker is not None else ListeningSockets()
        self._is_recorded = False
        """Whether something else in this process may keep what is asked for."""
        self._worker = worker
        self._is_guest = faults is None
        self._period_counts: PeriodCounts | None = None
        self._endpoint: metrics.Endpoint | None = None
        self.is_ready = False
        """Whether requests are taken."""
        self._current_ca: CurrentCa | None = None
        self._certificate: GateCertificate | None = None
        self.connections = Connections()
        self.outbound = Outbound(self.judge, self.faults, self._listening, search_domains())
        self._refused: weakref.WeakSet[Client] = weakref.WeakSet()
        self._greeted: weakref.WeakSet[Client] = weakref.WeakSet()
        """Whose ClientHello was counted: in HTTP/3 it comes twice."""
        self._resolver: tuple[str, int] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # The life of the add-on

    def load(self, loader: Loader) -> None:
        loader.add_option("stoplist_policy", str, "", "The policy file to enforce.")
        loader.add_option("stoplist_state_dir", str, "", "Where the gate keeps its CA and what it remembers of lists.")
        Sentinel.of(ctx.master).stand_by(self)
        remember_no_address()

    def configure(self, updated: set[str]) -> None:
        if "mode" in updated:
            self._follow_modes()
        if self._is_guest and self.is_ready:
            self._is_recorded = bool(hazards(ctx.master))
        if "stoplist_policy" not in updated and "stoplist_state_dir" not in updated:
            return
        if not ctx.options.stoplist_policy:
            return  # `running` complains: mitmproxy also comes here to take back an option that failed
        policy = Path(ctx.options.stoplist_policy)
        try:
            state_dir = Path(ctx.options.stoplist_state_dir or loading.default_state_dir())
            opened, counter, period_counts = self._open(policy, state_dir)
            wanted = opened.current.ruleset.policy
            current_ca = CurrentCa(wanted, policy, state_dir, clock.now(), speaks=self._worker is None)
            own = wanted.certificate
            certificate = GateCertificate(own, policy.parent) if own is not None else None
            endpoint = self._serve_metrics(opened, period_counts, current_ca)
        except StoplistError as error:
            raise OptionsError(str(error)) from None
        was_running = bool(self._tasks)
        self._close()
        self._current_ca, self._certificate, self.judge.store = current_ca, certificate, opened
        self.judge.counter, self._period_counts, self._endpoint = counter, period_counts, endpoint
        self.outbound.install(ctx.master.event_loop)
        if was_running:
            self.running()

    def _open(self, policy: Path, state_dir: Path) -> tuple[Rulesets, VerdictCounter, PeriodCounts | None]:
        """Where rulesets come from, and where counts go. Raises StoplistError."""
        if self._worker is not None:
            follower = Follower(self._worker, self._changed, self._hear)
            return follower, follower.counter, None
        state = State.open(state_dir, clock.now())
        counter, period_counts = VerdictCounter(SharedCounters(None), {}), PeriodCounts(state)

        def accept(ruleset: Ruleset) -> None:
            counter.follow(period_counts.follow(ruleset, time.time()))

        opened = ruleset_store.RulesetStore(policy, state, self._changed, on_accept=accept)
        period_counts.read(counter.counters)
        return opened, counter, period_counts

    def _serve_metrics(
        self, opened: Rulesets, period_counts: PeriodCounts | None, current_ca: CurrentCa
    ) -> metrics.Endpoint | None:
        """Answer who asks how the gate is, if the policy says so, and this is not a worker. Raises StoplistError."""
        wanted = opened.current.ruleset.policy.metrics
        if wanted is None or period_counts is None or not isinstance(opened, ruleset_store.RulesetStore):
            return None
        endpoint = metrics.Endpoint(wanted.listen.host, wanted.listen.port)
        health_check = HealthCheck(opened, period_counts, current_ca, lambda: self.is_ready)
        endpoint.serve(functools.partial(health_check.answer, ctx.master.event_loop))
        return endpoint

    def _hear(self, word: Word | None) -> None:
        """Called by the follower's thread."""
        ctx.master.event_loop.call_soon_threadsafe(self._obey, word)

    def _obey(self, word: Word | None) -> None:
        assert self._worker is not None
        if word is Word.TAKE:
            self._worker.on_take()
        elif word is None:
            self._worker.on_end()

    def _follow_modes(self) -> None:
        wanted = [mode_specs.ProxyMode.parse(mode) for mode in ctx.options.mode]
        trusted = [
            mode.address for mode in wanted if isinstance(mode, mode_specs.UpstreamMode | mode_specs.ReverseMode)
        ]
        if any(isinstance(mode, mode_specs.DnsMode) for mode in wanted):
            servers = mitmproxy_rs.dns.get_system_dns_servers()
            self._resolver = (servers[0], DNS_PORT) if servers else None
        self.outbound.trusted = frozenset(trusted)

    def _listening(self) -> list[tuple[str, int]]:
        clients = [address[:2] for address in ctx.master.addons.get("proxyserver").listen_addrs()]
        others = self._worker.own if self._worker is not None else []
        return clients + others + ([self._endpoint.address] if self._endpoint is not None else [])

    def running(self) -> None:
        if self.judge.store is None:
            log_allowlist.say(records.NoPolicy())
            return
        passwords = ctx.master.addons.get("proxyauth")
        if getattr(ctx.options, "proxyauth", None) and passwords.validator is None:
            log_allowlist.say(records.NoPasswords())
            self._close()
            return
        if self._is_guest:
            log_allowlist.hush(self.faults)
            found = hazards(ctx.master)
            self._is_recorded = bool(found)
            for hazard in found:
                log_allowlist.say(hazard)
            say_where(ctx.master.addons.get("proxyserver").servers)
        self.judge.store.watch()
        if self._endpoint is not None:
            log_allowlist.say(records.MetricsAt(str(ListenAddress(*self._endpoint.address))))
        self.is_ready = True
        self._spawn(self._beat())
        self._spawn(self._keep_authority())

    def done(self) -> None:
        Sentinel.of(ctx.master).stand_in(self)
        self._close()
        self.connections.abort_all({})

    def _close(self) -> None:
        self.is_ready = False
        if self._endpoint is not None:
            self._endpoint.close()
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self.outbound.remove()
        if self._period_counts is not None:
            self._period_counts.beat(time.time())
        if self.judge.store is not None:
            self.judge.store.close()
        self.faults.report()
        self.judge.store = self.judge.counter = self._period_counts = self._endpoint = None
        self._current_ca = self._certificate = None

    def _changed(self, _: ruleset_store.InForce) -> None:
        """Called by the store's thread when another ruleset is in force."""
        ctx.master.event_loop.call_soon_threadsafe(self._follow)

    def _follow(self) -> None:
        if self.judge.store is not None:
            self._spawn(self._close_stopped())
            self._spawn(self._look_at_authority())

    async def _beat(self) -> None:
        while (counter := self.judge.counter) is not None:
            seconds = BEAT_SECONDS
            try:
                if self._period_counts is not None:
                    seconds = await asyncio.to_thread(self._period_counts.beat, time.time())
            except Exception as error:
                self.faults.add("beat", error)
            await asyncio.sleep(seconds)
            gc.collect()  # what ended requests leave refers to itself, and would stay for as long as the gate is quiet
            counter.counters.numbers[Number.FAULTS] += self.faults.report()
            await self._close_stopped()
            loop = asyncio.get_running_loop()
            await self.connections.close_idle(loop.time() - ctx.options.tcp_timeout)

    async def _keep_authority(self) -> None:
        while self.judge.store is not None:
            await self._look_at_authority()
            await asyncio.sleep(self.judge.policy.watch.poll)

    async def _look_at_authority(self) -> None:
        try:
            if (current_ca := self._current_ca) is not None:
                await asyncio.to_thread(current_ca.look, self.judge.policy, clock.now())
                await asyncio.to_thread(prepare, current_ca.current)
        except Exception as error:
            self.faults.add("keep_authority", error)

    async def _close_stopped(self) -> None:
        """End connections to what does not pass any more: a list or policy changed, an exception ended."""
        handlers = ctx.master.addons.get("proxyserver").connections
        try:
            await self.connections.close_stopped(self.judge, handlers, self.serves)
        except Exception as error:
            self.faults.add("close_stopped", error)
            self.connections.abort_all(handlers)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def count_fault(self) -> None:
        """Count a request that a fault refused; what counts may be what is broken."""
        try:
            self.judge.count(FAULT)
        except Exception as error:
            self.faults.add("count", error)

    # Where a connection begins

    def serves(self, address: str) -> bool:
        """Whether who has this address is one of the policy's clients."""
        return is_client(_address(address), self.judge.policy.clients)

    @_guarded(_refuse_client)
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

    @_guarded(_refuse_layer)
    def next_layer(self, nextlayer: NextLayer) -> None:
        if nextlayer.layer is not None or isinstance(nextlayer.context.layers[0], ReverseProxy):
            return
        nextlayer.layer = next_layer(nextlayer, self.judge, self.judge_hello)
        if nextlayer.layer is None:
            raise AddonHalt  # mitmproxy's own add-on would decide on the bytes there are

    # Tunnels

    @_guarded(_refuse_flow)
    def http_connect(self, flow: http.HTTPFlow) -> None:
        if _is_asked_for_a_password(flow):
            return
        try:
            host, port = parse_authority(flow.request.data.authority)
        except HostError:
            self._refuse(flow, UNREADABLE)
            return
        client = _address_of(flow.client_conn)
        target = self.judge.verdict(host, client=client)
        verdict = strictest((target, self._judge_fields(flow.request, client), self._judge_port(port)))
        if isinstance(flow.client_conn.proxy_mode, mode_specs.UpstreamMode) and not _has_a_form_in_dns(host):
            verdict = strictest((verdict, UNREADABLE))  # mitmproxy cannot ask a parent for it
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

    def _judge_port(self, port: int | None) -> Verdict:
        return PASS if port is None or self.judge.policy.tunnels.permits(port) else CLOSED

    def judge_hello(self, context: Context, extensions: Iterable[tuple[int, bytes]]) -> Verdict:
        """The verdict for a ClientHello that follows another one in the clear. Raises HostError."""
        client, target, name = context.client, _target(context), server_name(extensions)
        verdict = self.judge.verdict(target, name, client=_address_of(client))
        if verdict.passes and name is not None:
            self.judge.count_more(verdict, self.judge.verdict(target, client.sni, client=_address_of(client)))
            self.connections.passed(client, name)
        return verdict

    @_guarded(_refuse_tls)
    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        client, target = data.context.client, _target(data.context)
        try:
            name = server_name(data.client_hello.extensions)
        except HostError:
            name, verdict = None, UNREADABLE
        else:
            verdict = self.judge.verdict(target, name, client=_address_of(client)) if target or name else PASS
        client.sni = name.name if name else None
        if target is None and self._certificate is None:
            verdict = strictest((verdict, UNREADABLE))
        if verdict.action is Action.REFUSE:
            if client not in self._refused:  # HTTP/3 comes here twice
                self.judge.count(verdict)
            self._refused.add(client)
        elif verdict.action is not Action.STOP and target is not None:
            if client not in self._greeted:
                self._count(client, target, verdict)
            self._greeted.add(client)
            if name is not None:
                self.connections.passed(client, name)
            if self._intercepts(data.context):
                data.establish_server_tls_first = True
            else:
                data.ignore_connection = True
        # mitmproxy's own add-on would now connect to the server before it answers the client.
        raise AddonHalt

    def _shows_pages(self) -> bool:
        """Whether who asks for a listed host by HTTPS is to see the page, and not an error."""
        return self.judge.policy.https == "page"

    def _intercepts(self, context: Context) -> bool:
        return self.judge.policy.tls == "intercept" and context.client.transport_protocol == "tcp"

    @_guarded(_refuse_tls)
    def tls_start_client(self, data: tls.TlsData) -> None:
        context = data.context
        if context.client in self._refused or (_target(context) is None and self._host_to_stop(context)):
            data.ssl_conn = refuse()
        elif _target(context) is None:
            assert self._certificate is not None
            data.ssl_conn = self._certificate.accept()
        elif host := self._host_to_stop(context):
            self.connections.end_here(context.client)
            data.ssl_conn = self._accept(host, HTTP) if self._shows_pages() else refuse()
        elif self._intercepts(context):
            host = Host.parse(context.client.sni or _target(context) or "")
            spoken = HTTP[::-1] if context.server.alpn is None else (context.server.alpn,)
            data.ssl_conn = self._accept(host, spoken)
        else:
            data.ssl_conn = refuse()  # it was listed at the ClientHello, and is not any more
        raise AddonHalt

    def _accept(self, host: Host, protocols: tuple[bytes, ...]) -> Any:
        authority = self._current_ca.current if self._current_ca is not None else None
        return accept(authority, host, clock.now(), protocols) if authority is not None else refuse()

    @_guarded(_refuse_tls)
    def quic_start_client(self, data: QuicTlsData) -> None:
        host = self._host_to_stop(data.context)
        authority = self._current_ca.current if self._current_ca is not None else None
        if host is not None and authority is not None and self._shows_pages():
            self.connections.end_here(data.context.client)
            data.settings = accept_quic(authority, host, clock.now())
        else:
            data.settings = refuse_quic()
        raise AddonHalt

    def _host_to_stop(self, context: Context) -> Host | None:
        """The listed host that the client expects a certificate of; None if none of its names is listed."""
        client = _address_of(context.client)
        for name in (context.client.sni, _target(context)):
            if name is not None and self.judge.verdict(name, client=client).action is Action.STOP:
                return Host.parse(name)
        return None

    @_guarded(_refuse_tls)
    def tls_failed_client(self, data: tls.TlsData) -> None:
        """A client that does not trust the gate's CA sees no page, and was stopped all the same."""
        client = data.context.client
        verdict = self.judge.verdict(_target(data.context), client.sni, client=_address_of(client))
        if verdict.action is Action.STOP:
            self.judge.count(verdict)

    # Requests

    @_guarded(_refuse_flow)
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        if _is_asked_for_a_password(flow):
            return
        request, client = flow.request, flow.client_conn
        target = flow.server_conn.address[0] if flow.server_conn.address else None
        address = _address_of(client)
        names = (target, client.sni, request.data.host or None)
        verdict = strictest((self.judge.verdict(*names, client=address), self._judge_fields(request, address)))
        if _is_multiplexed(request) and not _has_plain_target(request):
            verdict = strictest((verdict, AMBIGUOUS))
        if verdict.action is Action.STOP:
            if not _has_short_body(request):
                self.judge.count(verdict)
                flow.kill()
                return
            self._stop(flow, verdict, page=True)
            if self.connections.ends_here(client) and not _is_multiplexed(request):
                # A page that was stopped may be off the list a moment later: ask again from the start.
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
            _remove_upgrade_to_http2(request)
            if not _is_multiplexed(request) and _has_body(request):
                # A server that leaves it unread takes it for the next request: there must be none.
                request.headers["Connection"] = "close"
            if target is None and not isinstance(client.proxy_mode, mode_specs.UpstreamMode):
                request.headers.pop("proxy-authorization", None)  # the site is no proxy (RFC 9110, section 11.7.2)
            self.connections.passed(client, host)
            self._count(client, target, verdict)

    def _count(self, client: Client, target: str | None, verdict: Verdict) -> None:
        """Count a request that passes, or what it adds to a tunnel that was counted when it was opened."""
        names = (target, client.sni) if client in self._greeted else (target,)
        if target is not None and (client in self._greeted or isinstance(client.proxy_mode, modes.EXPLICIT)):
            self.judge.count_more(verdict, self.judge.verdict(*names, client=_address_of(client)))
        else:
            self.judge.count(verdict)

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
        """Answer a request by ourselves."""
        flow.request.headers.pop("expect", None)  # mitmproxy would ask for the body of a request that ends here
        flow.response = response(answer)
        if flow.request.method == "HEAD":
            flow.response.raw_content = b""  # the length of a GET's answer stays in the head
        if _is_multiplexed(flow.request):
            flow.response.headers.pop("Connection", None)  # RFC 9113, section 8.2.2

    @_guarded(_kill_flow)
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Bodies are relayed as they come: none is kept in memory."""
        if flow.response is not None and flow.response.status_code != 101:
            flow.response.stream = True

    # The last door, and what must not pile up

    @_guarded(_refuse_connection)
    def server_connect(self, data: ServerConnectionHookData) -> None:
        client, address = data.client, data.server.address
        if address is None:
            raise StoplistError("a connection to nowhere")
        if client.alpn == b"h2" and not data.server.tls:
            data.server.alpn = b"h2"  # what came in HTTP/2 goes on in HTTP/2
        if self.connections.ends_here(client):
            verdict = strictest((NOT_FORWARDED, self.judge.verdict(address[0], client=_address_of(client))))
        elif self._is_forwarder(client, address):
            return
        elif address in self.outbound.trusted and address != getattr(client.proxy_mode, "address", None):
            verdict = DENIED  # what one mode forwards to is no target for the clients of another
        elif data.server.transport_protocol == "udp" and not self._permits_udp(address):
            verdict = DENIED
        else:
            verdict = self.judge.verdict(address[0], client=_address_of(client))
        if verdict.action in (Action.STOP, Action.REFUSE):
            data.server.error = verdict.reason.value
            self.judge.count(verdict)
        else:
            self.connections.passed(client, Host.parse(address[0]))

    def _permits_udp(self, address: tuple[str, int]) -> bool:
        """UDP is not connected through `outbound`: only addresses are, never names."""
        return self.outbound.permit(_address(address[0]), address[1])

    def _is_forwarder(self, client: Client, address: tuple[str, int]) -> bool:
        """Whether this is what the operator forwards to, by the mode that the client came in by."""
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


def say_where(servers: Iterable[ServerInstance[Any]]) -> None:
    """Write to the log where clients come in."""
    for server in servers:
        mode = modes.name(server.mode)
        for host, port in sorted({address[:2] for address in server.listen_addrs}):
            log_allowlist.say(records.Listening(str(ListenAddress(host, port)), mode))
        if not server.listen_addrs:
            log_allowlist.say(records.Listening(None, mode))


def hazards(master: Master) -> list[records.Hazard]:
    """What of mitmproxy would break a promise as it is set, and which add-ons could."""
    options = master.options
    found = {
        "flow_detail": (bool(getattr(options, "flow_detail", 0)), "prints every request; set it to 0"),
        "save_stream_file": (
            bool(getattr(options, "save_stream_file", None)),
            "saves every request to a file; unset it",
        ),
        "hardump": (bool(getattr(options, "hardump", "")), "saves every request to a file; unset it"),
        "stickyauth": (bool(getattr(options, "stickyauth", None)), "keeps passwords for later requests; unset it"),
        "stickycookie": (bool(getattr(options, "stickycookie", None)), "keeps cookies for later requests; unset it"),
        "ignore_hosts": (bool(options.ignore_hosts), "lets hosts pass that no list is asked about; unset it"),
        "allow_hosts": (bool(options.allow_hosts), "lets hosts pass that no list is asked about; unset it"),
        "show_ignored_hosts": (options.show_ignored_hosts, "records the bytes of tunnels; unset it"),
        "store_streamed_bodies": (options.store_streamed_bodies, "keeps bodies in memory; unset it"),
        "proxy_debug": (options.proxy_debug, "logs connections in detail; unset it"),
    }
    return [
        *(records.Hazard(f"option {option}", hazard) for option, (is_set, hazard) in found.items() if is_set),
        *(
            records.Hazard(f"variable {name}", "has keys of TLS written to a file; unset it")
            for name in KEY_LOGS
            if os.environ.get(name)
        ),
        *(records.Hazard(f"add-on {name}", "can see and record every request; remove it") for name in _others(master)),
    ]


def _others(master: Master) -> list[str]:
    """The add-ons that are neither ours nor of what mitmdump is made of."""

    def is_ours(addon: object) -> bool:
        if isinstance(addon, ModuleType):  # a script
            return all(is_ours(each) for each in getattr(addon, "addons", (None,)))
        return isinstance(addon, Stoplist | Sentinel)

    return sorted(
        name
        for name, addon in master.addons.lookup.items()
        if not is_ours(addon) and (not type(addon).__module__.startswith("mitmproxy.addons.") or name in _RECORDERS)
    )


def _has_short_body(request: http.Request) -> bool:
    length = request.headers.get("content-length", "0")
    return "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= MAX_STOPPED_BODY


def _has_body(request: http.Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip("0") != ""


def _has_a_form_in_dns(host: Host) -> bool:
    """Whether no label of a name is longer than 63 bytes, and the name no longer than 253 (RFC 1035, section 2.3.4)."""
    return len(host.name) <= 253 and all(len(label) <= 63 for label in host.name.split("."))


def _has_plain_target(request: http.Request) -> bool:
    """Whether a request of HTTP/2 or HTTP/3 names no host in its path or scheme (RFC 9113, section 8.3.1)."""
    path, scheme = request.data.path, request.data.scheme
    is_path = path.startswith(b"/") or (path == b"*" and request.method == "OPTIONS")
    return is_path and scheme in (b"http", b"https")


def _is_asked_for_a_password(flow: http.HTTPFlow) -> bool:
    """Whether mitmproxy's own add-on has answered already: 401 is for what is not asked of a proxy."""
    return flow.response is not None and flow.response.status_code in (401, 407)


def _is_multiplexed(request: http.Request) -> bool:
    return request.is_http2 or request.is_http3


def _remove_upgrade_to_http2(request: http.Request) -> None:
    """After an upgrade to HTTP/2 or TLS (RFC 7540, section 3.2; RFC 2817) no request could be read."""
    wanted = request.headers.get("upgrade", "").lower()
    if "h2c" in wanted or "tls" in wanted:
        for name in ("upgrade", "http2-settings"):
            request.headers.pop(name, None)


def _target(context: Context) -> str | None:
    """Where a tunnel leads; None where the client speaks to the gate itself."""
    return context.server.address[0] if context.server.address else None


def _address_of(client: Client) -> str:
    address: str = client.peername[0]
    return address


def _address(text: str) -> Address:
    return ip_address(text.partition("%")[0])
