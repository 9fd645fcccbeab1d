"""explain: the steps of a decision, as `decide` itself took them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.decide import Action, Reason, decide
from stoplist.core.explain import Rule, Step, explain
from stoplist.core.hosts import CHECK_HOST, Host
from tests.fixed_time import EXPIRES, NOW
from tests.rulesets import ruleset, signed

NOON = NOW.timestamp()
END = EXPIRES.timestamp()
LIST = signed("listed.example")
OTHER = signed("a.listed.example", list_id="other", serial=7)


def steps(host: str, *lists: Any, now: float = NOON, **terms: Any) -> tuple[Step, ...]:
    return explain(ruleset(*(lists or (LIST,)), **terms), Host.parse(host), now).steps


def of_list(*tried: str, found: str | None = None, **more: Any) -> Step:
    of = {"list": "worst-of", "serial": 1, "action": Action.STOP, "expires": END} | more
    return Step(Rule.LIST, tried, found, **of)


def test_a_listed_host_shows_the_names_that_were_tried_and_the_one_that_was_found() -> None:
    assert steps("a.b.listed.example") == (
        Step(Rule.CHECK_HOST, ("a.b.listed.example",)),
        of_list("a.b.listed.example", "b.listed.example", "listed.example", found="listed.example"),
        Step(Rule.EXCEPTION, ("listed.example", "b.listed.example", "a.b.listed.example")),
    )


def test_a_host_that_is_not_listed_was_tried_down_to_two_labels() -> None:
    assert steps("www.pass.example")[1:] == (of_list("www.pass.example", "pass.example"),)


def test_an_exception_shows_when_it_ends_and_the_names_that_were_tried_up_to_it() -> None:
    ends = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    found = steps("www.listed.example", exceptions={"listed.example": "2026-12-31"})
    assert found[-1] == Step(Rule.EXCEPTION, ("listed.example",), "listed.example", expires=ends)


def test_an_exception_that_has_ended_shows_that() -> None:
    ends = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    found = steps("www.listed.example", exceptions={"listed.example": "2026-05-31"})
    tried = ("listed.example", "www.listed.example")
    assert found[-1] == Step(Rule.EXCEPTION, tried, "listed.example", expires=ends, ended=True)


def test_lists_are_shown_in_the_order_in_which_they_were_asked_up_to_the_one_that_decides() -> None:
    found = steps("a.listed.example", LIST, OTHER, modes=("observe", "enforce"))
    assert [(step.list, step.serial, step.action) for step in found if step.rule is Rule.LIST] == [
        ("other", 7, Action.STOP)
    ]
    found = steps("b.listed.example", LIST, OTHER, modes=("observe", "enforce"))
    assert [(step.list, step.found) for step in found if step.rule is Rule.LIST] == [
        ("other", None),
        ("worst-of", "listed.example"),
    ]


def test_an_address_shows_what_upstream_says() -> None:
    assert steps("192.0.2.1")[1:] == (Step(Rule.ADDRESS, ("192.0.2.1",)),)
    assert steps("127.0.0.1")[1:] == (Step(Rule.ADDRESS, ("127.0.0.1",), "127.0.0.1"),)


def test_the_check_host_is_the_only_step() -> None:
    (step,) = steps(CHECK_HOST)
    assert (step.rule, step.found, step.list, step.serial) == (Rule.CHECK_HOST, CHECK_HOST, "worst-of", 1)


@pytest.mark.parametrize(("now", "ended"), [(NOON, False), (END, True)], ids=["before", "after"])
def test_a_list_that_refuses_everything_once_it_expired_is_a_step(now: float, ended: bool) -> None:
    found = steps("pass.example", now=now, when_expired="refuse-all")
    assert found[1] == Step(Rule.EXPIRY, expires=END, ended=ended)
    assert len(found) == 2 + (not ended)


def test_a_list_that_expired_and_is_kept_shows_that() -> None:
    assert steps("pass.example", now=END)[-1] == of_list("pass.example", ended=True)


HOSTS = st.one_of(
    st.sampled_from(["listed.example", "a.listed.example", "b.a.listed.example", "127.0.0.1", "[::1]", CHECK_HOST]),
    st.lists(st.sampled_from(["a", "b", "listed", "example"]), min_size=1, max_size=5).map(".".join),
)


@given(HOSTS, st.booleans(), st.booleans(), st.sampled_from([NOON, END]))
def test_an_explained_verdict_is_the_verdict(host: str, excepted: bool, refuses: bool, now: float) -> None:
    rules = ruleset(
        LIST,
        OTHER,
        modes=("observe", "enforce"),
        exceptions={"a.listed.example": "2026-07-01"} if excepted else {},
        when_expired="refuse-all" if refuses else "keep",
    )
    explained = explain(rules, Host.parse(host), now)
    assert explained.verdict == decide(rules, Host.parse(host), now)
    assert explained.steps
    if explained.verdict.reason is Reason.LISTED:
        decisive = [step for step in explained.steps if step.rule is Rule.LIST][-1]
        assert (decisive.list, decisive.serial, decisive.action) == (
            explained.verdict.list,
            explained.verdict.serial,
            explained.verdict.action,
        )
