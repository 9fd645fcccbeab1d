"""Judge: gives the verdict for each request, and is the only way to the ruleset in force.

Each place at which a request comes in asks the judge: a hook of mitmproxy, a layer of Stoplist, the lane, a DNS
query. The caller reads the names from the request, asks, and carries out the verdict.

Rules
  - The judge judges all names of one request together; the strictest verdict wins.
  - Every request comes with the client's address, because the policy may only observe some clients. The judge does not
    keep the address.
  - Without a ruleset the judge raises, and the caller refuses the request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Protocol

from stoplist.core.addresses import Address
from stoplist.core.decide import AMBIGUOUS, SCHEME, UNREADABLE, Action, Ruleset, Verdict, strictest, verdict_of
from stoplist.core.hosts import Host, HostError
from stoplist.core.policy.models import Policy
from stoplist.core.wire.heads import MAX_HEAD, HeadError, RequestHead, SchemeError, find_end, is_hopeless
from stoplist.errors import StoplistError
from stoplist.page.answers import Answer
from stoplist.page.asker import Asker
from stoplist.page.refusals import Cause, refusal
from stoplist.proxy.counting.verdict_counter import VerdictCounter
from stoplist.proxy.reload.ruleset_store import InForce


class Rulesets(Protocol):
    """The source of the ruleset in force."""

    current: InForce

    def watch(self) -> None:
        """Start to keep the ruleset current."""

    def close(self) -> None: ...


class Judge:
    """Judges by the ruleset that `store` holds at that moment, and counts. Only the event loop uses it."""

    def __init__(self) -> None:
        self.store: Rulesets | None = None
        self.counter: VerdictCounter | None = None
        self.is_forwarder: Callable[[Address], bool] = lambda _: False
        """Whether an address is one to which the operator forwards. A client there may be any client, which has come
        back through the gate: it is never only observed."""

    @property
    def in_force(self) -> InForce:
        if self.store is None:
            raise StoplistError("no ruleset is in force", hint="see the start of the log")
        return self.store.current

    @property
    def policy(self) -> Policy:
        return self.in_force.ruleset.policy

    def verdict(self, *names: Host | str | bytes | None, client: str | None) -> Verdict:
        """The strictest verdict for the names that a request claims. None stands for a name that it does not claim.

        `client` is the address of the client. Where it is not known, it is None: then enforced lists are enforced.
        """
        ruleset, now = self.in_force.ruleset, time.time()
        observes = bool(ruleset.observed) and client is not None and self._observes(ruleset, parse_address(client))
        verdicts = [verdict_of(ruleset, name, now, observes=observes) for name in {*names} if name is not None]
        return verdicts[0] if len(verdicts) == 1 else strictest(verdicts)

    def _observes(self, ruleset: Ruleset, client: Address) -> bool:
        return ruleset.observes(client) and not self.is_forwarder(client)

    def of_head(self, head: RequestHead, *, client: str) -> Verdict:
        """The verdict for all names in the head of a request together."""
        names = (head.target,) if head.field is head.target else (head.target, head.field)
        verdict = self.verdict(*names, client=client)
        return verdict if head.agrees else strictest((verdict, AMBIGUOUS))

    def read_head(self, data: bytes, *, client: str) -> RequestHead | Verdict | None:
        """The head at the start of the bytes from `client`. None if it is not whole, a verdict if it is refused."""
        end = find_end(data)
        if (len(data) if end is None else end) > MAX_HEAD:
            return AMBIGUOUS
        if end is None:
            return AMBIGUOUS if is_hopeless(data) else None
        try:
            head = RequestHead.parse(data[:end])
        except HostError:
            return UNREADABLE
        except SchemeError:
            return SCHEME
        except HeadError:
            return AMBIGUOUS
        return head if head.agrees or self.of_head(head, client=client).action is Action.STOP else AMBIGUOUS

    def count(self, verdict: Verdict, *, page: bool = False) -> None:
        """Count a request; `page` says that it was answered with the stop page."""
        if self.counter is not None:
            self.counter.add(verdict, page=page)

    def count_more(self, verdict: Verdict, before: Verdict) -> None:
        """Count the verdict for another name of a request, if it adds to the verdict `before`, already counted."""
        if verdict != before and verdict.action is not Action.PASS:
            self.count(verdict)

    def refuse(self, verdict: Verdict, asker: Asker | None = None) -> Answer:
        """Count a refusal. Returns the answer for it, for a program if no `asker` is given."""
        self.count(verdict)
        return self.answer(verdict.reason, asker)

    def answer(self, cause: Cause, asker: Asker | None) -> Answer:
        """The answer of the gate itself: a page in the language of the asker, or one line of text for a program."""
        page = self.in_force.page.refusal(cause, asker) if asker is not None and self.store is not None else None
        return page or refusal(cause)


def parse_address(client: str) -> Address:
    """The address in a text, without the zone that an IPv6 address may have (RFC 4007, section 11).

    >>> parse_address("fe80::1%eth0")
    IPv6Address('fe80::1')
    >>> parse_address("example.test")
    Traceback (most recent call last):
    ValueError: 'example.test' does not appear to be an IPv4 or IPv6 address
    """
    return ip_address(client.partition("%")[0])
