"""Judges for tests: by one ruleset, with a counter that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field

from stoplist.core.decide import Ruleset, Verdict
from stoplist.proxy.judge import Judge
from stoplist.proxy.reload.ruleset_store import InForce
from tests.rulesets import page_of


@dataclass
class Store:
    current: InForce

    @classmethod
    def of(cls, rules: Ruleset) -> Store:
        return cls(InForce(rules, page_of(rules.policy)))


@dataclass
class Counted:
    """A counter that remembers."""

    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict, *, page: bool = False) -> None:
        assert not page
        self.verdicts.append(verdict)


def judge_by(store: Store) -> tuple[Judge, Counted]:
    """A judge, and what it counts."""
    judge, counted = Judge(), Counted()
    judge.store, judge.counter = store, counted
    return judge, counted
