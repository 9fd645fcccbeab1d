"""The judgement: it takes a Ruleset, a Host and a time, and returns a Verdict. All code that judges a host calls it.

The first rule that applies decides a host:
  1. It is the check host of a list: stop, and never count (operators test the gate with it).
  2. A list has expired, and the policy says `refuse-all` for it: refuse.
  3. It is an IP address: pass, or refuse if the policy lets no client reach it. Lists hold names only.
  4. For each list, the enforced ones first, `decide` looks for the longest listed suffix of the host. If there is
     one, and no open exception is as specific or more: stop; or observe if the list or the whole policy only
     observes, or if the client is one of `observe_clients`.
  5. No list has it: pass, with the reason `exception` if an exception was needed for that.

If a request claims several names, the verdict of the request is the `strictest` of their verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address

from stoplist.core.addresses import Address, AddressRules, is_within
from stoplist.core.hosts import Host, HostError
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.models import Policy


class Action(StrEnum):
    """What becomes of a request, from the mildest to the strictest."""

    PASS = "pass"  # noqa: S105  no password
    OBSERVE = "observe"
    REFUSE = "refuse"
    STOP = "stop"


class Reason(StrEnum):
    NOT_LISTED = "not listed"
    ADDRESS = "an IP address"
    EXCEPTION = "an exception of the policy"
    LISTED = "listed"
    CHECK_HOST = "the check host"
    UNREADABLE = "a host that cannot be read"
    AMBIGUOUS = "names or framing that can be read in two ways"
    SCHEME = "a scheme that is neither http nor https"
    DENIED = "an address that no client may reach"
    PROTOCOL = "a protocol that a web server could take for its own"
    CLOSED = "a port or protocol that the policy closes for tunnels"
    NOT_FORWARDED = "a tunnel that ends at the gate, and must not be forwarded"
    TOO_MANY = "a connection with too many hosts"
    EXPIRED = "a list that has expired"
    FAULT = "a fault of the gate"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request, why, and the list and serial that decided it, if one did."""

    action: Action
    reason: Reason
    list: str | None = None
    serial: int | None = None

    @property
    def passes(self) -> bool:
        return self.action in (Action.PASS, Action.OBSERVE)

    @property
    def is_counted(self) -> bool:
        return self.reason is not Reason.CHECK_HOST


PASS = Verdict(Action.PASS, Reason.NOT_LISTED)
PASS_ADDRESS = Verdict(Action.PASS, Reason.ADDRESS)
PASS_EXCEPTION = Verdict(Action.PASS, Reason.EXCEPTION)
UNREADABLE = Verdict(Action.REFUSE, Reason.UNREADABLE)
AMBIGUOUS = Verdict(Action.REFUSE, Reason.AMBIGUOUS)
SCHEME = Verdict(Action.REFUSE, Reason.SCHEME)
DENIED = Verdict(Action.REFUSE, Reason.DENIED)
PROTOCOL = Verdict(Action.REFUSE, Reason.PROTOCOL)
CLOSED = Verdict(Action.REFUSE, Reason.CLOSED)
NOT_FORWARDED = Verdict(Action.REFUSE, Reason.NOT_FORWARDED)
TOO_MANY = Verdict(Action.REFUSE, Reason.TOO_MANY)
EXPIRED = Verdict(Action.REFUSE, Reason.EXPIRED)
FAULT = Verdict(Action.REFUSE, Reason.FAULT)

_SEVERITY = {action: rank for rank, action in enumerate(Action)}


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A policy and its verified lists. The gate judges a request by one ruleset, from its first name to its last.

    Make one with `Ruleset.of`. `entries` holds each list with the verdict that it gives, enforced lists first.
    `observed` holds the same in the same order for clients that are only observed; it is empty if there are none.
    `exceptions` maps a domain to the POSIX time at which its exception ends. From the POSIX time `refuse_from` on,
    the gate refuses every request. `addresses` says which addresses clients may reach.
    """

    policy: Policy
    lists: tuple[SignedList, ...]
    entries: tuple[tuple[SignedList, Verdict], ...]
    observed: tuple[tuple[SignedList, Verdict], ...]
    exceptions: Mapping[str, float]
    check_hosts: Mapping[str, Verdict]
    refuse_from: float
    addresses: AddressRules

    @classmethod
    def of(cls, policy: Policy, lists: Iterable[SignedList]) -> Ruleset:
        """Make a ruleset. `lists` are in the order of the policy's lists, one for each."""
        lists = tuple(lists)
        in_order = sorted(zip(policy.lists, lists, strict=True), key=lambda each: each[0].mode == "observe")
        entries = tuple(
            (signed, _by_list(signed, Action.STOP if policy.enforces(wanted) else Action.OBSERVE))
            for wanted, signed in in_order
        )
        observed = tuple((signed, _by_list(signed, Action.OBSERVE)) for _, signed in in_order)
        exceptions: dict[str, float] = {}
        for exception in policy.exceptions:
            name = exception.domain.name
            exceptions[name] = max(exception.ends(policy.time_zone), exceptions.get(name, 0.0))
        check_hosts = {
            signed.header.check_host: _by_list(signed, Action.STOP, Reason.CHECK_HOST)
            for _, signed in reversed(in_order)
        }
        refuse_from = min(
            (signed.header.expires.timestamp() for wanted, signed in in_order if wanted.when_expired == "refuse-all"),
            default=math.inf,
        )
        addresses = AddressRules.of(policy.upstream.allow, policy.upstream.deny)
        return cls(
            policy,
            lists,
            entries,
            observed if policy.observe_clients else (),
            exceptions,
            check_hosts,
            refuse_from,
            addresses,
        )

    def observes(self, client: Address) -> bool:
        """Whether the gate only counts, and never stops, the requests of this client: it is one of
        `observe_clients`."""
        return is_within(client, self.policy.observe_clients)

    def age(self, verdict: Verdict, now: datetime) -> int:
        """How long ago the list of this verdict was issued, in whole days."""
        issued = next(
            signed.header.issued
            for signed in self.lists
            if (signed.header.list, signed.header.serial) == (verdict.list, verdict.serial)
        )
        return max(0, (now - issued).days)


def decide(ruleset: Ruleset, host: Host, now: float, *, observes: bool = False) -> Verdict:
    """The verdict for one host at the POSIX time `now`; `observes` says that the client is only observed."""
    check = ruleset.check_hosts.get(host.name)
    if check is not None and not (ruleset.exceptions and _is_excepted(ruleset, host, 1, now)):
        return check
    if now >= ruleset.refuse_from:
        return EXPIRED
    if host.is_address:
        return PASS_ADDRESS if ruleset.addresses.permit(ip_address(host.address)) else DENIED
    excepted = False
    for signed, verdict in ruleset.observed if observes else ruleset.entries:
        labels = signed.digests.longest_suffix(host)
        if labels:
            if not _is_excepted(ruleset, host, labels, now):
                return verdict
            excepted = True
    return PASS_EXCEPTION if excepted else PASS


def verdict_of(ruleset: Ruleset, name: Host | str | bytes, now: float, *, observes: bool = False) -> Verdict:
    """The verdict for a name as it came; a name that cannot be read is refused."""
    try:
        return decide(ruleset, name if isinstance(name, Host) else Host.parse(name), now, observes=observes)
    except HostError:
        return UNREADABLE


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a request that claims several names. No name at all is refused."""
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict.action], default=UNREADABLE)


def _by_list(signed: SignedList, action: Action, reason: Reason = Reason.LISTED) -> Verdict:
    return Verdict(action, reason, signed.header.list, signed.header.serial)


def _is_excepted(ruleset: Ruleset, host: Host, labels: int, now: float) -> bool:
    """Whether an open exception covers `host` with at least `labels` labels."""
    parts = host.name.split(".")
    return any(ruleset.exceptions.get(".".join(parts[-length:]), 0.0) > now for length in range(labels, len(parts) + 1))
