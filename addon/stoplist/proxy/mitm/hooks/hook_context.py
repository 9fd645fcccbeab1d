"""Hook context: what all hooks and the lane share, such as the judge, the open connections and the faults."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from mitmproxy.connection import Client
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.context import Context

from stoplist.core.addresses import is_client
from stoplist.core.decide import DENIED, FAULT, PASS, UNREADABLE, Verdict
from stoplist.core.hosts import Host
from stoplist.proxy.judge import Judge, parse_address
from stoplist.proxy.log import log_allowlist
from stoplist.proxy.mitm import modes
from stoplist.proxy.mitm.hooks.request_checks import has_a_form_in_certificates, has_a_form_in_dns
from stoplist.proxy.mitm.tls_settings import GateCertificate
from stoplist.proxy.outbound.connector import Outbound, search_domains
from stoplist.proxy.outbound.open_connections import Connections
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.workers.listening_sockets import ListeningSockets


class HookContext:
    """What the hooks and the lane share. Without a ruleset nothing passes.

    Faults are counted in `faults`. `listening` holds the sockets that clients connect to. `own_addresses` gives the
    places, (address, port), at which this gate can be reached, so that no client is connected to them.
    """

    def __init__(
        self,
        faults: log_allowlist.Faults,
        listening: ListeningSockets,
        own_addresses: Callable[[], list[tuple[str, int]]],
    ) -> None:
        self.faults = faults
        self.judge = Judge()
        self.listening = listening
        self.connections = Connections()
        self.outbound = Outbound(self.judge, self.faults, own_addresses, search_domains())
        self.judge.is_forwarder = self.outbound.is_trusted
        self.is_recorded = False
        """Whether something else in this process may record requests."""
        self.current_ca: CurrentCa | None = None
        self.certificate: GateCertificate | None = None
        self.resolver: tuple[str, int] | None = None
        """The server that the mode dns asks, (address, port)."""
        self.counted_hellos: weakref.WeakSet[Client] = weakref.WeakSet()
        """The clients whose ClientHello was counted: in HTTP/3 the hook runs twice for one."""

    def serves(self, address: str) -> bool:
        """Whether the client with this address is one of the policy's clients."""
        return is_client(parse_address(address), self.judge.policy.clients)

    def count_fault(self) -> None:
        """Count a request that was refused because of a fault. The counter may be broken as well."""
        try:
            self.judge.count(FAULT)
        except Exception as error:
            self.faults.add("count", error)

    def shows_pages(self) -> bool:
        """Whether a client that asks for a listed host by HTTPS is to see the page, and not an error."""
        return self.judge.policy.https == "page"

    def judge_form(self, client: Client, host: Host, *, ends_tls: bool = False) -> Verdict:
        """UNREADABLE for a name that mitmproxy cannot send to a parent proxy, or, where it `ends_tls`, to a server."""
        is_askable = not isinstance(client.proxy_mode, mode_specs.UpstreamMode) or has_a_form_in_dns(host)
        return PASS if is_askable and (not ends_tls or has_a_form_in_certificates(host)) else UNREADABLE

    def judge_parents_target(self, client: Client, host: Host, port: int | None) -> Verdict:
        """The verdict for a target that a parent proxy is to connect to: DENIED for the gate and for that parent.

        The gate connects to targets by itself in all other modes, and judges their addresses then.
        """
        if not isinstance(client.proxy_mode, mode_specs.UpstreamMode) or port is None:
            return PASS
        is_denied = host.is_address and not self.outbound.permit(parse_address(host.address), port)
        return DENIED if is_denied or (host.address, port) in self.outbound.trusted else PASS

    def count(self, client: Client, target: str | None, verdict: Verdict) -> None:
        """Count a request that passes; in a tunnel that was counted when it opened, count only what it adds."""
        names = (target, client.sni) if client in self.counted_hellos else (target,)
        if target is not None and (client in self.counted_hellos or isinstance(client.proxy_mode, modes.EXPLICIT)):
            self.judge.count_more(verdict, self.judge.verdict(*names, client=address_of(client)))
        else:
            self.judge.count(verdict)


def target_of(context: Context) -> str | None:
    """The host to which a tunnel leads; None where the client speaks to the gate itself."""
    return context.server.address[0] if context.server.address else None


def address_of(client: Client) -> str:
    address: str = client.peername[0]
    return address
