"""Hook base: all hooks share the judge, the open connections, the faults, and the verdicts here."""

from __future__ import annotations

import weakref

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.context import Context

from stoplist.core.decide import FAULT, PASS, UNREADABLE, Verdict
from stoplist.core.hosts import Host
from stoplist.proxy.judge import Judge
from stoplist.proxy.log import log_allowlist
from stoplist.proxy.mitm import modes
from stoplist.proxy.mitm.hooks.request_checks import has_a_form_in_certificates, has_a_form_in_dns
from stoplist.proxy.mitm.tls_settings import GateCertificate
from stoplist.proxy.outbound.connector import Outbound, search_domains
from stoplist.proxy.outbound.open_connections import Connections
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.workers.listening_sockets import ListeningSockets


class HookBase:
    """The state of the hooks. Without a ruleset nothing passes.

    The hooks count faults in `faults`. `listening` holds the sockets that clients connect to.
    """

    def __init__(self, faults: log_allowlist.Faults, listening: ListeningSockets) -> None:
        self.faults = faults
        self.judge = Judge()
        self.listening = listening
        self.connections = Connections()
        self.outbound = Outbound(self.judge, self.faults, self._listening, search_domains())
        self._is_recorded = False
        """Whether something else in this process may record requests."""
        self._current_ca: CurrentCa | None = None
        self._certificate: GateCertificate | None = None
        self._resolver: tuple[str, int] | None = None
        self._refused: weakref.WeakSet[Client] = weakref.WeakSet()
        self._greeted: weakref.WeakSet[Client] = weakref.WeakSet()
        """In HTTP/3 the hook runs twice for one ClientHello; this remembers the clients for which it was counted."""

    def _listening(self) -> list[tuple[str, int]]:
        """The places at which the gate listens, (address, port)."""
        return [address[:2] for address in ctx.master.addons.get("proxyserver").listen_addrs()]

    def count_fault(self) -> None:
        """Count a request that was refused because of a fault. The counter may be broken as well."""
        try:
            self.judge.count(FAULT)
        except Exception as error:
            self.faults.add("count", error)

    def _shows_pages(self) -> bool:
        """Whether a client that asks for a listed host by HTTPS is to see the page, and not an error."""
        return self.judge.policy.https == "page"

    def _judge_form(self, client: Client, host: Host, *, ends_tls: bool = False) -> Verdict:
        """UNREADABLE for a name that mitmproxy cannot send to a parent proxy, or, where it `ends_tls`, to a server."""
        is_askable = not isinstance(client.proxy_mode, mode_specs.UpstreamMode) or has_a_form_in_dns(host)
        return PASS if is_askable and (not ends_tls or has_a_form_in_certificates(host)) else UNREADABLE

    def _count(self, client: Client, target: str | None, verdict: Verdict) -> None:
        """Count a request that passes; in a tunnel that was counted when it opened, count only what it adds."""
        names = (target, client.sni) if client in self._greeted else (target,)
        if target is not None and (client in self._greeted or isinstance(client.proxy_mode, modes.EXPLICIT)):
            self.judge.count_more(verdict, self.judge.verdict(*names, client=address_of(client)))
        else:
            self.judge.count(verdict)


def target_of(context: Context) -> str | None:
    """The host to which a tunnel leads; None where the client speaks to the gate itself."""
    return context.server.address[0] if context.server.address else None


def address_of(client: Client) -> str:
    address: str = client.peername[0]
    return address
