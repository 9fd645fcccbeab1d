"""Rulesets for tests: policies with signed lists, made in one call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from stoplist.core.decide import Ruleset
from stoplist.core.hosts import CHECK_HOST
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.models import Policy
from stoplist.page import languages, rendering
from stoplist.page.answers import StopPage
from tests.fixed_time import EXPIRES
from tests.keys import make_list, new_ed25519, open_list

SIGNER = new_ed25519()
STOP_PAGE = {
    "operator": "Example School",
    "contact": "it@school.example",
    "complaints": "mailto:complaints@school.example",
    "legislation": {"name": "Example Act", "link": "https://law.example/act"},
    "help": [
        {"topic": topic, "name": "Example hotline", "link": "tel:0000"} for topic in ("report", "worry", "thoughts")
    ],
}


def signed(
    *domains: str,
    list_id: str = "worst-of",
    serial: int = 1,
    check_host: str = CHECK_HOST,
    expires: datetime = EXPIRES,
) -> SignedList:
    data = make_list(domains, SIGNER, list_id=list_id, serial=serial, check_host=check_host, expires=expires)
    return open_list(data, SIGNER)


def ruleset(
    *lists: SignedList,
    modes: tuple[str, ...] = (),
    mode: str = "enforce",
    exceptions: dict[str, str] | None = None,
    when_expired: str = "keep",
    upstream: dict[str, Any] | None = None,
    status: int = 403,
    counts: dict[str, Any] | None = None,
    time_zone: str = "UTC",
    observe_clients: tuple[str, ...] = (),
) -> Ruleset:
    """A ruleset of lists, enforced unless `modes` says otherwise; `exceptions` maps domains to their last day."""
    policy = Policy.model_validate(
        {
            "version": 1,
            "mode": mode,
            "lists": [
                {
                    "file": f"{number}.stoplist",
                    "key": {"file": "listkey"},
                    "trusted_keys": ["pub"],
                    "threshold": 1,
                    "mode": modes[number] if modes else "enforce",
                    "when_expired": when_expired,
                }
                for number in range(len(lists))
            ],
            "exceptions": [
                {"domain": domain, "reason": "appeal upheld", "until": datetime.fromisoformat(until).date()}
                for domain, until in (exceptions or {}).items()
            ],
            "stop_page": {**STOP_PAGE, "status": status},
            "upstream": upstream or {},
            "counts": counts or {},
            "time_zone": time_zone,
            "observe_clients": list(observe_clients),
        }
    )
    return Ruleset.of(policy, lists)


def page_of(policy: Policy) -> StopPage:
    """The stop page of a policy, in languages of the package."""
    return rendering.render(policy, {tag: languages.of_package(tag) for tag in policy.stop_page.languages})
