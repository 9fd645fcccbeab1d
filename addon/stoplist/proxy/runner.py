"""The process of a gate: mitmproxy with only the add-ons that it needs, its log quiet, its end clean.

Rules
  - Nothing listens before a ruleset is in force; without one the process ends with status 1.
  - SIGTERM and SIGINT end it with status 0, after the counts of the open period are written.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mitmproxy import options, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import core, proxyauth, proxyserver, tlsconfig
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master

from stoplist import files
from stoplist.core.policy import ListenAddress, Policy, ProxyAuthPolicy
from stoplist.errors import StoplistError
from stoplist.proxy import modes, quiet
from stoplist.proxy.addon import Stoplist
from stoplist.proxy.loop import new_event_loop

log = logging.getLogger(quiet.OWN_LOGGER)

SWITCH_SECONDS = 0.0005
"""How long the store's thread may hold the interpreter while the event loop waits for it. A request
needs the interpreter some ten times; Python's default of 5 ms would be felt each time."""
RESOLVER_THREADS = 64
"""How many names are resolved at once: the system's resolver takes a thread for each."""

_MAX_PASSWORD = 1024


def run(path: Path, policy: Policy, placed: Sequence[str], state_dir: Path) -> None:
    """Run a gate with the policy at `path` until it is told to end. Raises StoplistError if it cannot start.

    `placed` are modes with their addresses (see modes.py). What `policy` says of passwords and certificates is
    taken once.
    """
    if policy.proxy_auth:
        modes.check_passwords_can_be_asked(placed)
    wanted: dict[str, Any] = {
        "mode": modes.in_lane(placed),
        "proxyauth": _proxyauth(policy.proxy_auth, path.parent) if policy.proxy_auth else None,
        "ssl_verify_upstream_trusted_ca": _existing(path.parent / policy.upstream.ca) if policy.upstream.ca else None,
        "confdir": str(state_dir),
        "stoplist_state_dir": str(state_dir),
        "stoplist_policy": str(path),
    }
    faults = quiet.Faults()
    quiet.install(faults)
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(wanted, faults))


async def _serve(wanted: dict[str, Any], faults: quiet.Faults) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(RESOLVER_THREADS, "resolver"))
    master = Master(options.Options())
    passwords, ready = proxyauth.ProxyAuth(), _Ready(master)
    master.addons.add(core.Core(), proxyserver.Proxyserver(), passwords, _UpstreamTls(), Stoplist(faults), ready)
    try:
        master.options.update(**wanted)
    except OptionsError as error:
        raise StoplistError(str(error)) from None
    if wanted["proxyauth"] and passwords.validator is None:  # mitmproxy would log the fault, and ask nobody
        raise StoplistError(
            "proxy_auth: the directory does not answer as it should",
            hint="see to its address, 'bind_dn' and the password",
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()
    if ready.failure is not None:
        raise ready.failure


def _existing(path: Path, hint: str = "name the file in the policy") -> str:
    if not path.is_file():
        raise StoplistError("no such file", hint=hint, place=str(path))
    return str(path)


def _proxyauth(policy: ProxyAuthPolicy, folder: Path) -> str:
    """mitmproxy's own notation for who may use the proxy. Raises StoplistError."""
    if policy.htpasswd is not None:
        return f"@{_existing(folder / policy.htpasswd, "make it with 'htpasswd -B -c FILE NAME'")}"
    ldap = policy.ldap
    assert ldap is not None
    path = folder / ldap.password_file
    password = files.read(path, _MAX_PASSWORD).decode(errors="replace").rstrip("\r\n")
    if ":" in password:
        raise StoplistError("the password holds a colon", hint="mitmproxy takes none: change it", place=str(path))
    server = ldap.server.replace("://", ":", 1)
    return f"{server}:{ldap.bind_dn}:{password}:{ldap.base_dn}?search_filter_key={ldap.attribute}"


class _Ready:
    """Says where the gate listens, or ends it where it cannot."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.failure: StoplistError | None = None

    def running(self) -> None:
        servers = self._master.addons.get("proxyserver").servers
        for server in servers:
            if server.last_exception is not None:
                self.failure = StoplistError(
                    f"cannot listen: {server.last_exception}",
                    hint="choose another address with --listen HOST:PORT, or with --mode MODE@HOST:PORT",
                )
                self._master.shutdown()
                return
        for server in servers:
            mode = modes.name(server.mode)
            for host, port in sorted({address[:2] for address in server.listen_addrs}):
                log.info("listening on %s (%s)", ListenAddress(host, port), mode)
            if not server.listen_addrs:
                log.info("listening (%s)", mode)


class _UpstreamTls:
    """mitmproxy's TLS towards servers, for https:// requests without a tunnel; and not its CA."""

    def __init__(self) -> None:
        self._config = tlsconfig.TlsConfig()

    def load(self, loader: Loader) -> None:
        self._config.load(loader)

    def tls_start_server(self, data: tls.TlsData) -> None:
        self._config.tls_start_server(data)
