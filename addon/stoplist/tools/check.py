"""What an admin asks before a policy runs: is it sound, and what becomes of this host?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from stoplist import loading
from stoplist.authority import Source, needs
from stoplist.core.decide import UNREADABLE, Verdict, decide
from stoplist.core.hosts import Host, HostError
from stoplist.errors import StoplistError


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict for one host, under the name that was asked for."""

    asked: str
    verdict: Verdict


def check(policy: Path) -> loading.Loaded:
    """Load a policy with all that it names and run its tests. Raises StoplistError."""
    now = loading.now()
    loaded = loading.load(policy, now=now)
    source = Source.of(loaded.ruleset.policy, policy, loading.default_state_dir())
    if source is None or source.is_own:  # the gate makes its own
        return loaded
    found = [StoplistError(need) for need in needs(source.open(now), None, is_own=False, now=now)]
    return dataclasses.replace(loaded, warnings=(*loaded.warnings, *found))


def lookup(policy: Path, hosts: list[str]) -> list[Answer]:
    """What the gate would do with each host now. Raises Problems for the policy, never for a host."""
    now = loading.now()
    ruleset = loading.load(policy, now=now).ruleset

    def verdict(text: str) -> Verdict:
        try:
            return decide(ruleset, Host.parse(text), now.timestamp())
        except HostError:
            return UNREADABLE

    return [Answer(text, verdict(text)) for text in hosts]
