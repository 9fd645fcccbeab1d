"""Judge: what every door of the gate asks, and the only way to the ruleset in force.

A door is wherever a request can come in: a hook of mitmproxy, a layer of ours, a DNS query. It
turns what it was handed into names, asks, and does what the verdict says.

Rules
  - All names of one request are judged together; the strictest verdict wins.
  - Every door says whose request it is: a client can be one that is only observed. Its address is not kept.
  - Without a ruleset the judge raises: the door refuses.
"""

from __future__ import annotations

import time
from ipaddress import ip_address
from typing import Protocol

from stoplist.core.addresses import Address
from stoplist.core.decide import AMBIGUOUS, UNREADABLE, Action, Verdict, strictest, verdict_of
from stoplist.core.hosts import Host, HostError
from stoplist.core.policy.models import Policy
from stoplist.core.wire.heads import MAX_HEAD, HeadError, RequestHead, find_end, is_hopeless
from stoplist.errors import StoplistError
from stoplist.page.answers import Answer
from stoplist.page.refusals import refusal
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.proxy.reload.ruleset_store import InForce


class Rulesets(Protocol):
    """Where the ruleset in force comes from."""

    current: InForce

    def watch(self) -> None:
        """Begin to keep it current."""

    def close(self) -> None: ...


class Judge:
    """Judges by what `store` holds at that moment, and counts. Used from the event loop only."""

    def __init__(self) -> None:
        self.store: Rulesets | None = None
        self.counter: VerdictCounter | None = None

    @property
    def in_force(self) -> InForce:
        if self.store is None:
            raise StoplistError("no ruleset is in force", hint="see the start of the log")
        return self.store.current

    @property
    def policy(self) -> Policy:
        return self.in_force.ruleset.policy

    def verdict(self, *names: Host | str | bytes | None, client: str | None) -> Verdict:
        """The strictest verdict for names that a request claims; None stands for a name it does not.

        `client` is the address of who asks; for None, where it is not known, what is enforced is enforced.
        """
        ruleset, now = self.in_force.ruleset, time.time()
        observes = bool(ruleset.observed) and client is not None and ruleset.observes(parse_address(client))
        verdicts = [verdict_of(ruleset, name, now, observes=observes) for name in {*names} if name is not None]
        return verdicts[0] if len(verdicts) == 1 else strictest(verdicts)

    def of_head(self, head: RequestHead, *, client: str) -> Verdict:
        """The verdict for what a request's head says, all of it together."""
        names = (head.target,) if head.field is head.target else (head.target, head.field)
        verdict = self.verdict(*names, client=client)
        return verdict if head.agrees else strictest((verdict, AMBIGUOUS))

    def read_head(self, data: bytes, *, client: str) -> RequestHead | Verdict | None:
        """The head at the start of what `client` sent, None if it is not whole; the verdict if it must be refused."""
        end = find_end(data)
        if (len(data) if end is None else end) > MAX_HEAD:
            return AMBIGUOUS
        if end is None:
            return AMBIGUOUS if is_hopeless(data) else None
        try:
            head = RequestHead.parse(data[:end])
        except HostError:
            return UNREADABLE
        except HeadError:
            return AMBIGUOUS
        return head if head.agrees or self.of_head(head, client=client).action is Action.STOP else AMBIGUOUS

    def count(self, verdict: Verdict, *, page: bool = False) -> None:
        """Count a request; `page` says that it was answered with the stop page."""
        if self.counter is not None:
            self.counter.add(verdict, page=page)

    def count_more(self, verdict: Verdict, before: Verdict) -> None:
        """Count what another name of a request added that was counted with `before`."""
        if verdict != before and verdict.action is not Action.PASS:
            self.count(verdict)

    def refuse(self, verdict: Verdict) -> Answer:
        """Count a refusal; what to answer it with."""
        self.count(verdict)
        return refusal(verdict.reason)


def parse_address(client: str) -> Address:
    """The address in a text, without the zone that an address of IPv6 may have (RFC 4007, section 11).

    >>> parse_address("fe80::1%eth0")
    IPv6Address('fe80::1')
    >>> parse_address("example.test")
    Traceback (most recent call last):
    ValueError: 'example.test' does not appear to be an IPv4 or IPv6 address
    """
    return ip_address(client.partition("%")[0])
