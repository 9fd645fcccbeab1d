"""The process of a gate: mitmproxy with only the add-ons that it needs, its log quiet, its end clean.

Rules
  - Nothing listens before a ruleset is in force; without one the process ends with status 1.
  - SIGTERM and SIGINT end it with status 0, after the counts of the open period are written.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path

from mitmproxy import options, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import core, next_layer, proxyserver, tlsconfig
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master

from stoplist.core.policy import ListenAddress
from stoplist.errors import StoplistError
from stoplist.proxy import quiet
from stoplist.proxy.addon import Stoplist

log = logging.getLogger(quiet.OWN_LOGGER)


SWITCH_SECONDS = 0.0005
"""How long the store's thread may hold the interpreter while the event loop waits for it. A request
needs the interpreter some ten times; Python's default of 5 ms would be felt each time."""


def run(policy: Path, listen: ListenAddress, state_dir: Path) -> None:
    """Run a gate until it is told to end. Raises StoplistError if it cannot start."""
    faults = quiet.Faults()
    quiet.install(faults)
    sys.setswitchinterval(SWITCH_SECONDS)
    asyncio.run(_serve(policy, listen, state_dir, faults))


async def _serve(policy: Path, listen: ListenAddress, state_dir: Path, faults: quiet.Faults) -> None:
    master = Master(options.Options())
    ready = _Ready(master)
    master.addons.add(
        core.Core(), proxyserver.Proxyserver(), next_layer.NextLayer(), _UpstreamTls(), Stoplist(faults), ready
    )
    try:
        # 'eager' connects a tunnel before it is confirmed, so that a site that is down is an error
        # and not an empty tunnel, and a server that speaks first is heard. The add-on answers
        # tunnels to listed hosts by itself, before that.
        master.options.update(
            connection_strategy="eager",
            listen_host=listen.host,
            listen_port=listen.port,
            stoplist_state_dir=str(state_dir),
            stoplist_policy=str(policy),
        )
    except OptionsError as error:
        raise StoplistError(str(error)) from None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, master.shutdown)
    await master.run()
    if ready.failure is not None:
        raise ready.failure


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
                    f"cannot listen: {server.last_exception}", hint="choose another address with --listen HOST:PORT"
                )
                self._master.shutdown()
                return
        for server in servers:
            for host, port, *_ in server.listen_addrs:
                log.info("listening on %s", ListenAddress(host, port))


class _UpstreamTls:
    """mitmproxy's TLS towards servers, for https:// requests without a tunnel; and not its CA."""

    def __init__(self) -> None:
        self._config = tlsconfig.TlsConfig()

    def load(self, loader: Loader) -> None:
        self._config.load(loader)

    def tls_start_server(self, data: tls.TlsData) -> None:
        self._config.tls_start_server(data)
