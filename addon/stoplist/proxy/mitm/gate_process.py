"""The process of a gate: mitmproxy with only the add-ons that it needs, a quiet log and a clean end.

Rules
  - Nothing listens before a ruleset is in force; without one the process ends with status 1.
  - Only the gate's account can read the files that a library writes, such as the keys of the mode `wireguard`.
  - SIGINT ends the process with status 0, at once. SIGTERM does so when no connection is open any more, or when the
    time to drain is over. The process writes the counts of the open period before it ends.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mitmproxy import tls
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import core, proxyserver, tlsconfig
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master

from stoplist import clock, files, loading, metrics
from stoplist.authority import Source
from stoplist.core.policy.models import Policy, ProxyAuthPolicy
from stoplist.errors import StoplistError
from stoplist.proxy.event_loop import new_event_loop
from stoplist.proxy.log import log_allowlist, records
from stoplist.proxy.mitm import modes
from stoplist.proxy.mitm.addon import Stoplist, say_where
from stoplist.proxy.mitm.hazards import KEY_LOGS
from stoplist.proxy.mitm.lane_mode import in_lane
from stoplist.proxy.mitm.lean_master import LeanMaster
from stoplist.proxy.outbound.open_connections import Handlers
from stoplist.proxy.workers.listening_sockets import SocketAddress, cannot_listen, listen
from stoplist.proxy.workers.renewal import terminal_is_gone
from stoplist.proxy.workers.supervisor import Supervisor
from stoplist.proxy.workers.worker import Worker
from stoplist.proxy.workers.worker_channel import Word
from stoplist.proxy.workers.worker_process import TASK

SWITCH_SECONDS = 0.0005
"""How long the store's thread may hold the interpreter while the event loop waits for it.

A request needs the interpreter some ten times, and could wait for Python's default of 5 ms each time.
"""
RESOLVER_THREADS = 64
"""How many names the gate resolves at once: the system's resolver takes a thread for each."""
GARBAGE = 20_000
"""How many new objects start a garbage collection: a request that mitmproxy serves leaves some 300."""
DRAIN_STEP_SECONDS = 0.05
"""How often a gate that drains checks whether a connection is open."""

_MAX_PASSWORD = 1024


def is_started_by_a_person() -> bool:
    """Whether a person started this process, and not another process of the same gate."""
    return TASK not in os.environ


@dataclass(frozen=True, slots=True)
class Gate:
    """The settings of a gate. `policy` is the content of the file at `path`; `placed` are the modes with addresses.

    `workers` processes serve the gate; where it is None, this process serves it alone. Open connections have
    `drain` seconds to end. The gate reads the policy's settings for passwords and certificates once, at its start.
    """

    path: Path
    policy: Policy
    placed: Sequence[str]
    state_dir: Path
    workers: int | None
    drain: float
    log: log_allowlist.LogFormat

    def run(self) -> None:
        """Run the gate until a signal ends it. Raises StoplistError if it cannot start."""
        task = json.loads(os.environ.pop(TASK, "{}"))
        for variable in KEY_LOGS:
            if os.environ.get(variable):
                raise StoplistError(f"{variable} is set, so TLS keys would be written to a file", hint="unset it")
        if self.policy.proxy_auth:
            modes.check_passwords_can_be_asked(self.placed)
        os.umask(0o077)
        faults = log_allowlist.Faults()
        if not task:
            self._warn_of_placeholders()
        if "check" in task:
            self._check({(host, port) for host, port in task["check"]})
        elif "worker" in task:
            self._serve(faults, Worker(task["worker"]))
        elif self.workers is None:
            self._serve(faults, None)
        else:
            log_allowlist.install(faults, self.log)
            supervisor = Supervisor(
                self.path, modes.shared(self.placed), self.state_dir, self.workers, self.drain, faults
            )
            asyncio.run(supervisor.run(task.get("kept")))

    def _warn_of_placeholders(self) -> None:
        """Warn of contacts that are for examples, where the policy says that the gate serves this machine alone and the
        command line does not."""
        listening = [mode for mode in map(modes.parse, self.placed) if mode.default_port is not None]
        is_open = any(not loading.is_loopback(mode.listen_host()) for mode in listening)
        if is_open and loading.is_loopback(self.policy.listen.host):
            for warning in loading.placeholder_warnings(loading.read_policy(self.path)):
                log_allowlist.write(records.Warned(warning), self.log)

    def _check(self, held: Collection[SocketAddress]) -> None:
        """Check that this gate would start beside one that listens at the places `held`. Raises StoplistError."""
        self._options()
        loading.load(self.path, now=clock.now())
        source = Source.of(self.policy, self.path, self.state_dir)
        if source is not None and source.exists():
            source.open(clock.now())
        wanted = self.policy.metrics.listen if self.policy.metrics is not None else None
        if wanted is not None and wanted.port not in {port for _, port in held}:
            metrics.Endpoint(wanted.host, wanted.port).close()
        for host, port in modes.shared(self.placed).keys() - held:
            try:
                for listening in listen(host, port, shared=True):
                    listening.close()
            except OSError as error:
                raise cannot_listen(error) from None

    def _serve(self, faults: log_allowlist.Faults, worker: Worker | None) -> None:
        wanted = self._options()
        log_allowlist.install(faults, self.log)
        sys.setswitchinterval(SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(wanted, faults, self.drain, worker))

    def _options(self) -> dict[str, Any]:
        policy, folder = self.policy, self.path.parent
        passwords = {"proxyauth": _proxyauth(policy.proxy_auth, folder)} if policy.proxy_auth else {}
        return passwords | {
            "mode": in_lane(self.placed),
            "ssl_verify_upstream_trusted_ca": _existing(folder / policy.upstream.ca) if policy.upstream.ca else None,
            "confdir": str(self.state_dir),
            "stoplist_state_dir": str(self.state_dir),
            "stoplist_policy": str(self.path),
        }


async def _serve(wanted: dict[str, Any], faults: log_allowlist.Faults, drain: float, worker: Worker | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(RESOLVER_THREADS, "resolver"))
    master = LeanMaster()
    ending = _Ending(master, drain, worker)
    all_modes = wanted["mode"]
    if worker is not None:
        worker.listening.install(loop)
        wanted["mode"] = all_modes = modes.at_ports(all_modes, worker.listening.ports)
        worker.on_take = lambda: master.options.update(mode=all_modes)
        worker.on_end = ending.drain
        if not worker.has_all:
            wanted = wanted | {"mode": [text for text in all_modes if modes.is_shared(text)]}
    ready = _Ready(master, worker)
    passwords = _passwords() if "proxyauth" in wanted else []
    master.addons.add(
        core.Core(), proxyserver.Proxyserver(), *passwords, _UpstreamTls(), Stoplist(faults, worker), ready
    )
    try:
        master.options.update(**wanted)
    except OptionsError as error:
        raise StoplistError(str(error)) from None
    if passwords and passwords[0].validator is None:  # mitmproxy would log the fault, and ask no client for a password
        raise StoplistError(
            "proxy_auth: the directory gives no usable answer",
            hint="check its address, 'bind_dn' and the password",
        )
    loop.add_signal_handler(signal.SIGINT, master.shutdown)
    loop.add_signal_handler(signal.SIGTERM, ending.drain)
    loop.add_signal_handler(signal.SIGHUP, ending.hang_up)
    await master.run()
    if ready.failure is not None:
        raise ready.failure


class _Ending:
    """Ends a gate when no connection is open any more, or after `drain` seconds. A second signal ends it at once."""

    def __init__(self, master: Master, drain: float, worker: Worker | None) -> None:
        self._master = master
        self._seconds = drain
        self._worker = worker
        self._task: asyncio.Task[None] | None = None

    def drain(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._drain())
        elif self._worker is None:  # a worker may get the signal twice: from its supervisor, and together with it
            self._master.shutdown()

    def hang_up(self) -> None:
        if self._worker is not None:
            return  # the signal is for the supervisor
        if terminal_is_gone():
            self.drain()
        else:
            log_allowlist.say(records.NothingToRenew())

    async def _drain(self) -> None:
        stoplist = self._master.addons.get("stoplist")
        stoplist.is_ready = False
        proxyserver = self._master.addons.get("proxyserver")
        for server in proxyserver.servers:
            if server.is_running:
                await server.stop()
        if self._worker is not None:
            self._worker.release()
        for _ in range(int(self._seconds / DRAIN_STEP_SECONDS)):
            if not stoplist.context.connections.tunnels and not _has_streams(proxyserver.connections):
                break
            await asyncio.sleep(DRAIN_STEP_SECONDS)
        self._master.shutdown()


def _has_streams(handlers: Handlers) -> bool:
    return any(handler.client.transport_protocol == "tcp" for handler in handlers.values())


def _existing(path: Path, hint: str = "name the file in the policy") -> str:
    if not path.is_file():
        raise StoplistError("no such file", hint=hint, place=str(path))
    return str(path)


def _passwords() -> list[Any]:
    """mitmproxy's add-on that asks for passwords. Its import brings LDAP with it."""
    from mitmproxy.addons.proxyauth import ProxyAuth

    return [ProxyAuth()]


def _proxyauth(policy: ProxyAuthPolicy, folder: Path) -> str:
    """The value of mitmproxy's option `proxyauth` for this policy. Raises StoplistError."""
    if policy.htpasswd is not None:
        return f"@{_existing(folder / policy.htpasswd, "make it with 'htpasswd -B -c FILE NAME'")}"
    ldap = policy.ldap
    assert ldap is not None
    path = folder / ldap.password_file
    password = files.read(path, _MAX_PASSWORD).decode(errors="replace").rstrip("\r\n")
    if ":" in password:
        raise StoplistError(
            "the password holds a colon",
            hint="mitmproxy does not accept one here: change the password",
            place=str(path),
        )
    server = ldap.server.replace("://", ":", 1)
    return f"{server}:{ldap.bind_dn}:{password}:{ldap.base_dn}?search_filter_key={ldap.attribute}"


class _Ready:
    """Logs the addresses at which the gate listens, or ends the gate where it cannot listen.

    The supervisor logs the addresses that it handed to a worker.
    """

    def __init__(self, master: Master, worker: Worker | None) -> None:
        self._master = master
        self._worker = worker
        self.failure: StoplistError | None = None

    def running(self) -> None:
        servers = list(self._master.addons.get("proxyserver").servers)
        for server in servers:
            if server.last_exception is not None:
                self.failure = cannot_listen(server.last_exception)
                self._master.shutdown()
                return
        say_where(server for server in servers if self._worker is None or not modes.is_shared(server.mode.full_spec))
        gc.collect()
        gc.freeze()  # these objects live as long as the gate: the collector need not look at them again
        gc.set_threshold(GARBAGE)
        if self._worker is not None:
            self._worker.channel.send(Word.READY)


class _UpstreamTls:
    """mitmproxy's TLS towards servers, for https:// requests without a tunnel; without mitmproxy's CA."""

    def __init__(self) -> None:
        self._config = tlsconfig.TlsConfig()

    def load(self, loader: Loader) -> None:
        self._config.load(loader)

    def tls_start_server(self, data: tls.TlsData) -> None:
        self._config.tls_start_server(data)
