"""Stoplist: the mitmproxy add-on, from its load to its end. Its hooks are in `hooks/`.

The add-on opens the policy and the state; a worker follows its supervisor's rulesets instead. It serves metrics.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mitmproxy_rs
from mitmproxy import ctx
from mitmproxy.addonmanager import Loader
from mitmproxy.exceptions import OptionsError
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.mode_servers import ServerInstance

from stoplist import clock, loading, metrics, state_directory
from stoplist.core.decide import Ruleset
from stoplist.core.policy.values import ListenAddress
from stoplist.errors import StoplistError, of_system
from stoplist.proxy.counting.period_counts import PeriodCounts
from stoplist.proxy.counting.shared_counters import SharedCounters
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.proxy.health import HealthCheck
from stoplist.proxy.judge import Rulesets
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.mitm import modes
from stoplist.proxy.mitm.address_caches import remember_no_address
from stoplist.proxy.mitm.fail_closed import RefuseAll
from stoplist.proxy.mitm.hazards import hazards
from stoplist.proxy.mitm.hooks.connection_hooks import ConnectionHooks
from stoplist.proxy.mitm.hooks.hook_context import HookContext
from stoplist.proxy.mitm.hooks.request_hooks import RequestHooks
from stoplist.proxy.mitm.hooks.tls_hooks import TlsHooks
from stoplist.proxy.mitm.layers.next_layers import DNS_PORT
from stoplist.proxy.mitm.periodic_work import PeriodicWork
from stoplist.proxy.mitm.tls_settings import GateCertificate
from stoplist.proxy.reload import ruleset_store
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.workers.listening_sockets import ListeningSockets
from stoplist.proxy.workers.worker import Follower, Worker
from stoplist.proxy.workers.worker_channel import Word
from stoplist.state import State
from stoplist.state_directory import StateLock


class Stoplist:
    """The add-on. Its options name a policy and a state directory; without a ruleset nothing passes.

    mitmproxy calls the hooks in `addons` as well, which share `context`.

    A process that writes its log by itself counts faults in `faults`. Without `faults` the add-on runs in the
    process of mitmdump, and keeps the log of that process quiet. A `worker` gets its rulesets from a supervisor.
    """

    name = "stoplist"

    def __init__(self, faults: log_allowlist.Faults | None = None, worker: Worker | None = None) -> None:
        self.context = HookContext(
            faults or log_allowlist.Faults(),
            worker.listening if worker is not None else ListeningSockets(),
            self._own_addresses,
        )
        tls_hooks = TlsHooks(self.context)
        self.addons = (ConnectionHooks(self.context, tls_hooks.judge_hello), tls_hooks, RequestHooks(self.context))
        self._worker = worker
        self._is_guest = faults is None
        self._period_counts: PeriodCounts | None = None
        self._endpoint: metrics.Endpoint | None = None
        self._lock = StateLock()
        self.is_ready = False
        """Whether the gate takes requests."""
        self._periodic_work: PeriodicWork | None = None

    def load(self, loader: Loader) -> None:
        loader.add_option("stoplist_policy", str, "", "The policy file to enforce.")
        loader.add_option("stoplist_state_dir", str, "", "The folder in which the gate keeps its CA and its state.")
        RefuseAll.of(ctx.master).step_back(self)
        remember_no_address()

    def configure(self, updated: set[str]) -> None:
        if "mode" in updated:
            self._follow_modes()
        if self._is_guest and self.is_ready:
            self.context.is_recorded = bool(hazards(ctx.master))
        if "stoplist_policy" not in updated and "stoplist_state_dir" not in updated:
            return
        if not ctx.options.stoplist_policy:
            return  # `running` complains: mitmproxy also comes here to take back an option that failed
        try:
            self._take_up(Path(ctx.options.stoplist_policy))
        except StoplistError as error:
            raise OptionsError(str(error)) from None
        except OSError as error:
            raise OptionsError(str(of_system(error))) from None

    def _take_up(self, policy: Path) -> None:
        """Open a policy with its state; close the ones before, if there were any. Raises StoplistError."""
        state_dir = self._state_dir(policy)
        lock = self._hold(state_dir)
        try:
            opened, counter, period_counts = self._open(policy, state_dir)
            wanted = opened.current.ruleset.policy
            current_ca = CurrentCa(wanted, policy, state_dir, clock.now(), speaks=self._worker is None)
            own = wanted.certificate
            certificate = GateCertificate(own, policy.parent) if own is not None else None
            endpoint = self._serve_metrics(opened, period_counts, current_ca)
        except (StoplistError, OSError):
            if lock is not self._lock:
                lock.release()
            raise
        was_running = self._periodic_work is not None
        self._close()
        if lock is not self._lock:
            self._lock.release()
            self._lock = lock
        self.context.current_ca, self.context.certificate, self.context.judge.store = current_ca, certificate, opened
        self.context.judge.counter, self._period_counts, self._endpoint = counter, period_counts, endpoint
        self.context.outbound.install(ctx.master.event_loop)
        if was_running:
            self.running()

    @staticmethod
    def _state_dir(policy: Path) -> Path:
        if ctx.options.stoplist_state_dir:
            return Path(ctx.options.stoplist_state_dir)
        return state_directory.of_policy(policy, loading.read_policy(policy).policy)

    def _hold(self, state_dir: Path) -> StateLock:
        """The lock on a state directory; a worker needs none, since its supervisor has it. Raises StoplistError."""
        if self._worker is not None or self._lock.folder == state_dir:
            return self._lock
        return StateLock.take(state_dir)

    def _open(self, policy: Path, state_dir: Path) -> tuple[Rulesets, VerdictCounter, PeriodCounts | None]:
        """Open the source of rulesets, and the place where counts go. Raises StoplistError."""
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
        """Serve metrics and health checks, if the policy asks for it; a worker does not. Raises StoplistError."""
        wanted = opened.current.ruleset.policy.metrics
        if wanted is None or period_counts is None or not isinstance(opened, ruleset_store.RulesetStore):
            return None
        endpoint = metrics.Endpoint(wanted.listen.host, wanted.listen.port)
        health_check = HealthCheck(opened, period_counts, current_ca, lambda: self.is_ready)
        endpoint.serve(functools.partial(health_check.answer, ctx.master.event_loop))
        return endpoint

    def _hear(self, word: Word | None) -> None:
        """The follower's thread calls this."""
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
            self.context.resolver = (servers[0], DNS_PORT) if servers else None
        self.context.outbound.trust(trusted)

    def _own_addresses(self) -> list[tuple[str, int]]:
        others = self._worker.own if self._worker is not None else []
        return _proxy_addresses() + others + ([self._endpoint.address] if self._endpoint is not None else [])

    def running(self) -> None:
        if self.context.judge.store is None:
            log_allowlist.say(records.NoPolicy())
            return
        passwords = ctx.master.addons.get("proxyauth")
        if getattr(ctx.options, "proxyauth", None) and passwords.validator is None:
            log_allowlist.say(records.NoPasswords())
            self._close()
            return
        if self._is_guest:
            log_allowlist.hush(self.context.faults)
            found = hazards(ctx.master)
            self.context.is_recorded = bool(found)
            for hazard in found:
                log_allowlist.say(hazard)
            say_where(ctx.master.addons.get("proxyserver").servers)
        self._lock.say(str(ListenAddress(*address)) for address in _proxy_addresses())
        self.context.judge.store.watch()
        if self._endpoint is not None:
            log_allowlist.say(records.MetricsAt(str(ListenAddress(*self._endpoint.address))))
        self.is_ready = True
        self._periodic_work = PeriodicWork(self.context, self._period_counts)

    def done(self) -> None:
        RefuseAll.of(ctx.master).take_over(self)
        self._close()
        self._lock.release()
        self.context.connections.abort_all({})

    def _close(self) -> None:
        self.is_ready = False
        if self._endpoint is not None:
            self._endpoint.close()
        if self._periodic_work is not None:
            self._periodic_work.end()
        self.context.outbound.remove()
        if self._period_counts is not None:
            self._period_counts.beat(time.time())
        if self.context.judge.store is not None:
            self.context.judge.store.close()
        self.context.faults.report()
        self.context.judge.store = self.context.judge.counter = self._period_counts = self._endpoint = None
        self._periodic_work = None
        self.context.current_ca = self.context.certificate = None

    def _changed(self, _: ruleset_store.InForce) -> None:
        """The store's thread calls this when another ruleset is in force."""
        ctx.master.event_loop.call_soon_threadsafe(self._follow)

    def _follow(self) -> None:
        if self._periodic_work is not None:
            self._periodic_work.ruleset_changed()


def _proxy_addresses() -> list[tuple[str, int]]:
    """The places at which clients connect, (address, port)."""
    return [address[:2] for address in ctx.master.addons.get("proxyserver").listen_addrs()]


def say_where(servers: Iterable[ServerInstance[Any]]) -> None:
    """Write the addresses at which clients connect to the log."""
    for server in servers:
        mode = modes.name(server.mode)
        for host, port in sorted({address[:2] for address in server.listen_addrs}):
            log_allowlist.say(records.Listening(str(ListenAddress(host, port)), mode))
        if not server.listen_addrs:
            log_allowlist.say(records.Listening(None, mode))
