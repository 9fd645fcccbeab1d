"""decide: one verdict for a host, and the reason for it."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.decide import (
    AMBIGUOUS,
    FAULT,
    NOT_FORWARDED,
    PASS,
    PASS_ADDRESS,
    PASS_EXCEPTION,
    UNREADABLE,
    Action,
    Reason,
    Ruleset,
    Verdict,
    decide,
    strictest,
)
from stoplist.core.hosts import CHECK_HOST, Host
from tests.fixed_time import EXPIRES, NOW
from tests.rulesets import ruleset, signed

NOON = NOW.timestamp()


def outcome(rules: Ruleset, host: str, now: float = NOON) -> tuple[Action, Reason]:
    verdict = decide(rules, Host.parse(host), now)
    return verdict.action, verdict.reason


LISTED = ruleset(signed("listed.example", "deep.host.listed.test"))
STOPPED = (Action.STOP, Reason.LISTED)
OBSERVED = (Action.OBSERVE, Reason.LISTED)
CHECKED = (Action.STOP, Reason.CHECK_HOST)
EXCEPTED = (Action.PASS, Reason.EXCEPTION)
NOT_LISTED = (Action.PASS, Reason.NOT_LISTED)
ADDRESS = (Action.PASS, Reason.ADDRESS)
DENIED = (Action.REFUSE, Reason.DENIED)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("listed.example", STOPPED, id="listed"),
        pytest.param("LISTED.example.", STOPPED, id="listed, in another spelling"),
        pytest.param("www.listed.example", STOPPED, id="below a listed domain"),
        pytest.param("deep.host.listed.test", STOPPED, id="listed subdomain"),
        pytest.param("host.listed.test", NOT_LISTED, id="above a listed subdomain"),
        pytest.param("notlisted.example", NOT_LISTED, id="look-alike"),
        pytest.param("listed.example.test", NOT_LISTED, id="listed name in front of another"),
        pytest.param("example", NOT_LISTED, id="top level"),
        pytest.param("192.0.2.1", ADDRESS, id="IPv4"),
        pytest.param("0xc0.0x201", ADDRESS, id="IPv4 in hexadecimal"),
        pytest.param("0x7f.1", DENIED, id="loopback in hexadecimal"),
        pytest.param("[::ffff:127.0.0.1]", DENIED, id="loopback, mapped"),
        pytest.param("169.254.169.254", DENIED, id="a metadata service"),
        pytest.param("[2001:db8::1]", ADDRESS, id="IPv6"),
        pytest.param("check.stoplist.invalid", CHECKED, id="check host"),
        pytest.param("www.check.stoplist.invalid", NOT_LISTED, id="below the check host"),
        pytest.param("stoplist.invalid", NOT_LISTED, id="above the check host"),
    ],
)
def test_a_host_is_judged_by_the_first_rule_that_applies(host: str, expected: tuple[Action, Reason]) -> None:
    assert outcome(LISTED, host) == expected


def test_a_verdict_names_the_list_and_serial_it_is_by() -> None:
    rules = ruleset(signed("listed.example", list_id="own", serial=7))
    assert decide(rules, Host("listed.example"), NOON) == Verdict(Action.STOP, Reason.LISTED, "own", 7)


def test_a_pass_names_no_list() -> None:
    verdict = decide(LISTED, Host("other.example"), NOON)
    assert (verdict.action, verdict.reason, verdict.list, verdict.serial) == (
        Action.PASS,
        Reason.NOT_LISTED,
        None,
        None,
    )


def test_an_empty_list_stops_nothing_but_its_check_host() -> None:
    rules = ruleset(signed())
    assert outcome(rules, "listed.example") == NOT_LISTED
    assert outcome(rules, CHECK_HOST) == CHECKED


# The check host


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(ruleset(signed("other.example"), mode="observe"), id="policy only observes"),
        pytest.param(ruleset(signed("other.example"), modes=("observe",)), id="list is only observed"),
        pytest.param(ruleset(signed(CHECK_HOST)), id="the check host is listed too"),
        pytest.param(ruleset(signed(CHECK_HOST), mode="observe"), id="listed too, and only observed"),
    ],
)
def test_the_check_host_is_always_stopped_and_never_counted(rules: Ruleset) -> None:
    verdict = decide(rules, Host(CHECK_HOST), NOON)
    assert (verdict.action, verdict.reason) == CHECKED
    assert not verdict.is_counted


@pytest.mark.parametrize("excepted", ["stoplist.invalid", CHECK_HOST])
def test_an_exception_is_for_a_check_host_as_well(excepted: str) -> None:
    rules = ruleset(
        signed("listed.example"), signed("stoplist.invalid", list_id="own"), exceptions={excepted: "2096-12-31"}
    )
    assert decide(rules, Host(CHECK_HOST), NOON).action is Action.PASS
    assert outcome(rules, CHECK_HOST, EXPIRES.replace(year=2097).timestamp()) == CHECKED


def test_each_list_has_its_own_check_host() -> None:
    rules = ruleset(
        signed(list_id="worst-of", check_host="one.check.test"), signed(list_id="own", check_host="two.check.test")
    )
    assert [decide(rules, Host(host), NOON).list for host in ("one.check.test", "two.check.test")] == [
        "worst-of",
        "own",
    ]
    assert outcome(rules, "one.check.test") == outcome(rules, "two.check.test") == CHECKED
    assert outcome(rules, CHECK_HOST) == NOT_LISTED


# Observe


@pytest.mark.parametrize(
    ("mode", "modes", "expected"),
    [
        pytest.param("enforce", ("enforce",), STOPPED, id="both enforce"),
        pytest.param("enforce", ("observe",), OBSERVED, id="the list is observed"),
        pytest.param("observe", ("enforce",), OBSERVED, id="the policy observes"),
        pytest.param("observe", ("observe",), OBSERVED, id="both observe"),
    ],
)
def test_a_hit_is_observed_where_the_list_or_the_policy_only_observes(
    mode: str, modes: tuple[str, ...], expected: tuple[Action, Reason]
) -> None:
    rules = ruleset(signed("listed.example"), mode=mode, modes=modes)
    assert outcome(rules, "www.listed.example") == expected
    assert decide(rules, Host("www.listed.example"), NOON).is_counted


@pytest.mark.parametrize("modes", [("observe", "enforce"), ("enforce", "observe")])
def test_an_enforced_list_comes_before_an_observed_one_wherever_it_stands(modes: tuple[str, str]) -> None:
    trial = signed("deep.listed.example", list_id="trial")
    own = signed("listed.example", list_id="own")
    lists = (trial, own) if modes[0] == "observe" else (own, trial)
    rules = ruleset(*lists, modes=modes)
    assert decide(rules, Host("deep.listed.example"), NOON) == Verdict(Action.STOP, Reason.LISTED, "own", 1)
    assert [entry.header.list for entry, _ in rules.entries] == ["own", "trial"]


def test_lists_of_one_mode_are_asked_in_the_order_of_the_policy() -> None:
    rules = ruleset(signed("listed.example", list_id="first"), signed("listed.example", list_id="second"))
    assert decide(rules, Host("listed.example"), NOON) == Verdict(Action.STOP, Reason.LISTED, "first", 1)


def test_an_observed_list_still_observes_what_the_enforced_one_does_not_have() -> None:
    rules = ruleset(signed("listed.example"), signed("other.example", list_id="trial"), modes=("enforce", "observe"))
    assert decide(rules, Host("other.example"), NOON) == Verdict(Action.OBSERVE, Reason.LISTED, "trial", 1)


# Exceptions


@pytest.mark.parametrize(
    ("exception", "host", "expected"),
    [
        pytest.param("listed.example", "listed.example", EXCEPTED, id="the listed domain"),
        pytest.param("listed.example", "www.listed.example", EXCEPTED, id="below the listed domain"),
        pytest.param("www.listed.example", "www.listed.example", EXCEPTED, id="a subdomain"),
        pytest.param("www.listed.example", "a.www.listed.example", EXCEPTED, id="below a subdomain"),
        pytest.param("www.listed.example", "listed.example", STOPPED, id="a subdomain excepts not its parent"),
        pytest.param("www.listed.example", "other.listed.example", STOPPED, id="a subdomain excepts not its sister"),
        pytest.param("www.listed.example", "notwww.listed.example", STOPPED, id="look-alike of a subdomain"),
        pytest.param("listed.test", "host.listed.test", NOT_LISTED, id="an exception that nothing needs"),
        pytest.param("listed.test", "deep.host.listed.test", STOPPED, id="a listed subdomain is more specific"),
        pytest.param("host.listed.test", "a.deep.host.listed.test", STOPPED, id="and so is what is below it"),
        pytest.param("deep.host.listed.test", "a.deep.host.listed.test", EXCEPTED, id="as specific as the listing"),
        pytest.param("LISTED.example.", "listed.example", EXCEPTED, id="an exception in another spelling"),
        pytest.param("notlisted.example", "listed.example", STOPPED, id="an exception for another domain"),
    ],
)
def test_the_most_specific_of_listing_and_exception_wins(
    exception: str, host: str, expected: tuple[Action, Reason]
) -> None:
    rules = ruleset(signed("listed.example", "deep.host.listed.test"), exceptions={exception: "2099-12-31"})
    assert outcome(rules, host) == expected


def test_between_listed_excepted_and_listed_again_the_innermost_counts() -> None:
    rules = ruleset(signed("listed.example", "b.a.listed.example"), exceptions={"a.listed.example": "2099-12-31"})
    assert outcome(rules, "listed.example") == STOPPED
    assert outcome(rules, "a.listed.example") == EXCEPTED
    assert outcome(rules, "b.a.listed.example") == STOPPED


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        pytest.param("2026-06-15T00:00:00Z", EXCEPTED, id="on the last day"),
        pytest.param("2026-06-15T23:59:59Z", EXCEPTED, id="at its last second"),
        pytest.param("2026-06-16T01:59:59+02:00", EXCEPTED, id="the next day elsewhere"),
        pytest.param("2026-06-16T00:00:00Z", STOPPED, id="at its end"),
        pytest.param("2026-06-15T22:00:00-02:00", STOPPED, id="still the last day elsewhere"),
        pytest.param("2026-06-17T00:00:00Z", STOPPED, id="a day later"),
    ],
)
def test_an_exception_ends_with_its_last_day_in_utc(moment: str, expected: tuple[Action, Reason]) -> None:
    rules = ruleset(signed("listed.example"), exceptions={"listed.example": "2026-06-15"})
    assert outcome(rules, "listed.example", datetime.fromisoformat(moment).timestamp()) == expected


@pytest.mark.parametrize(
    ("zone", "moment", "expected"),
    [
        pytest.param("Europe/Paris", "2026-06-15T21:59:59Z", EXCEPTED, id="Paris, at its last second"),
        pytest.param("Europe/Paris", "2026-06-15T22:00:00Z", STOPPED, id="Paris, at its end"),
        pytest.param("America/New_York", "2026-06-16T03:59:59Z", EXCEPTED, id="New York, at its last second"),
        pytest.param("America/New_York", "2026-06-16T04:00:00Z", STOPPED, id="New York, at its end"),
        pytest.param("Asia/Kathmandu", "2026-06-15T18:14:59Z", EXCEPTED, id="Kathmandu, at its last second"),
        pytest.param("Asia/Kathmandu", "2026-06-15T18:15:00Z", STOPPED, id="Kathmandu, at its end"),
    ],
)
def test_an_exception_ends_with_its_last_day_in_the_zone_of_the_policy(
    zone: str, moment: str, expected: tuple[Action, Reason]
) -> None:
    rules = ruleset(signed("listed.example"), exceptions={"listed.example": "2026-06-15"}, time_zone=zone)
    assert outcome(rules, "listed.example", datetime.fromisoformat(moment).timestamp()) == expected


def test_of_two_exceptions_for_a_domain_the_later_end_counts() -> None:
    exceptions = {"listed.example": "2026-12-01", "LISTED.example": "2026-05-01"}
    assert outcome(ruleset(signed("listed.example"), exceptions=exceptions), "listed.example") == EXCEPTED


def test_an_ended_exception_leaves_a_wider_open_one_in_force() -> None:
    exceptions = {"www.listed.example": "2026-05-01", "listed.example": "2026-12-01"}
    assert outcome(ruleset(signed("listed.example"), exceptions=exceptions), "www.listed.example") == EXCEPTED


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_an_exception_until_the_last_day_there_is_never_ends(zone: str) -> None:
    rules = ruleset(signed("listed.example"), exceptions={"listed.example": "9999-12-31"}, time_zone=zone)
    assert outcome(rules, "listed.example") == EXCEPTED
    assert outcome(rules, "listed.example", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()) == EXCEPTED


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_an_exception_until_the_first_day_there_is_excepts_nothing(zone: str) -> None:
    rules = ruleset(signed("listed.example"), exceptions={"listed.example": "0001-01-01"}, time_zone=zone)
    assert outcome(rules, "listed.example") == STOPPED


def test_an_exception_from_one_list_does_not_hide_another_that_is_more_specific() -> None:
    rules = ruleset(
        signed("listed.example", list_id="wide"),
        signed("www.listed.example", list_id="narrow"),
        exceptions={"listed.example": "2099-12-31"},
    )
    assert outcome(rules, "listed.example") == EXCEPTED
    assert decide(rules, Host("www.listed.example"), NOON) == Verdict(Action.STOP, Reason.LISTED, "narrow", 1)


def test_an_exception_passes_what_would_only_be_observed() -> None:
    rules = ruleset(signed("listed.example"), mode="observe", exceptions={"listed.example": "2099-12-31"})
    assert outcome(rules, "listed.example") == EXCEPTED


# Any host, any lists: as a plain model would judge

NAMES = st.lists(st.sampled_from(["a", "b", "listed", "example"]), min_size=2, max_size=4).map(".".join)


@given(st.frozensets(NAMES, max_size=4), st.frozensets(NAMES, max_size=4), st.frozensets(NAMES, max_size=3), NAMES)
def test_a_host_is_judged_as_the_rules_say(
    enforced: frozenset[str], observed: frozenset[str], excepted: frozenset[str], name: str
) -> None:
    def longest(domains: frozenset[str]) -> int:
        return max((d.count(".") + 1 for d in domains if f".{name}".endswith(f".{d}")), default=0)

    rules = ruleset(
        signed(*observed, list_id="trial"),
        signed(*enforced, list_id="own"),
        modes=("observe", "enforce"),
        exceptions=dict.fromkeys(excepted, "2099-12-31"),
    )
    open_to = longest(excepted)
    if longest(enforced) > open_to:
        expected = Verdict(Action.STOP, Reason.LISTED, "own", 1)
    elif longest(observed) > open_to:
        expected = Verdict(Action.OBSERVE, Reason.LISTED, "trial", 1)
    else:
        expected = PASS_EXCEPTION if longest(enforced) or longest(observed) else PASS
    assert decide(rules, Host(name), NOON) == expected


# Several names


STOP = Verdict(Action.STOP, Reason.LISTED, "own", 1)
OBSERVE = Verdict(Action.OBSERVE, Reason.LISTED, "trial", 1)
MILDEST_FIRST = [PASS, OBSERVE, UNREADABLE, STOP]


EXPIRY = EXPIRES.timestamp()


@pytest.mark.parametrize(
    ("host", "now", "expected"),
    [
        pytest.param("pass.example", EXPIRY - 1, (Action.PASS, Reason.NOT_LISTED), id="a second before"),
        pytest.param("pass.example", EXPIRY, (Action.REFUSE, Reason.EXPIRED), id="unlisted"),
        pytest.param("listed.example", EXPIRY, (Action.REFUSE, Reason.EXPIRED), id="listed"),
        pytest.param("192.0.2.1", EXPIRY, (Action.REFUSE, Reason.EXPIRED), id="an address"),
        pytest.param(CHECK_HOST, EXPIRY, (Action.STOP, Reason.CHECK_HOST), id="the check host"),
    ],
)
def test_an_expired_list_refuses_all_where_the_policy_says_so(
    host: str, now: float, expected: tuple[Action, Reason]
) -> None:
    assert outcome(ruleset(signed("listed.example"), when_expired="refuse-all"), host, now) == expected


def test_an_expired_list_is_kept_where_the_policy_says_so() -> None:
    rules = ruleset(signed("listed.example"))
    assert outcome(rules, "listed.example", EXPIRY + 1) == (Action.STOP, Reason.LISTED)
    assert outcome(rules, "pass.example", EXPIRY + 1) == (Action.PASS, Reason.NOT_LISTED)


@pytest.mark.parametrize("stricter", range(1, len(MILDEST_FIRST)))
def test_the_strictest_verdict_wins_wherever_it_stands(stricter: int) -> None:
    for milder in MILDEST_FIRST[:stricter]:
        assert strictest([milder, MILDEST_FIRST[stricter]]) == MILDEST_FIRST[stricter]
        assert strictest([MILDEST_FIRST[stricter], milder]) == MILDEST_FIRST[stricter]


@given(st.lists(st.sampled_from(MILDEST_FIRST), min_size=1))
def test_the_strictest_of_any_verdicts_is_one_of_them_and_no_milder_than_any(verdicts: list[Verdict]) -> None:
    rank = MILDEST_FIRST.index
    assert rank(strictest(verdicts)) == max(map(rank, verdicts))


def test_a_request_that_claims_no_name_is_refused() -> None:
    verdict = strictest([])
    assert (verdict.action, verdict.reason) == (Action.REFUSE, Reason.UNREADABLE)


@pytest.mark.parametrize(
    ("verdict", "action", "reason"),
    [
        pytest.param(PASS, Action.PASS, Reason.NOT_LISTED, id="not listed"),
        pytest.param(PASS_ADDRESS, Action.PASS, Reason.ADDRESS, id="address"),
        pytest.param(PASS_EXCEPTION, Action.PASS, Reason.EXCEPTION, id="exception"),
        pytest.param(UNREADABLE, Action.REFUSE, Reason.UNREADABLE, id="unreadable"),
        pytest.param(AMBIGUOUS, Action.REFUSE, Reason.AMBIGUOUS, id="ambiguous"),
        pytest.param(NOT_FORWARDED, Action.REFUSE, Reason.NOT_FORWARDED, id="not forwarded"),
        pytest.param(FAULT, Action.REFUSE, Reason.FAULT, id="fault"),
        pytest.param(STOP, Action.STOP, Reason.LISTED, id="stop"),
        pytest.param(OBSERVE, Action.OBSERVE, Reason.LISTED, id="observe"),
    ],
)
def test_all_but_the_check_host_is_counted(verdict: Verdict, action: Action, reason: Reason) -> None:
    assert (verdict.action, verdict.reason) == (action, reason)
    assert verdict.is_counted


# Clients that are only observed


PART = ruleset(
    signed("listed.example", "both.example", serial=7),
    signed("listed.example", "both.example", "new.example", serial=8),
    signed("both.example", "trial.example", list_id="trial", check_host="check.trial.invalid"),
    modes=("enforce", "observe", "observe"),
    exceptions={"excepted.listed.example": "2099-12-31"},
    observe_clients=("10.7.0.0/16", "2001:db8:7::/48"),
)


@pytest.mark.parametrize(
    ("host", "enforced", "observed"),
    [
        pytest.param("listed.example", ("stop", "worst-of", 7), ("observe", "worst-of", 7), id="on the enforced list"),
        pytest.param("new.example", ("observe", "worst-of", 8), ("observe", "worst-of", 8), id="on the new version"),
        pytest.param("trial.example", ("observe", "trial", 1), ("observe", "trial", 1), id="on an observed list"),
        pytest.param("both.example", ("stop", "worst-of", 7), ("observe", "worst-of", 7), id="on all of them"),
        pytest.param("excepted.listed.example", ("pass", None, None), ("pass", None, None), id="excepted"),
        pytest.param("pass.example", ("pass", None, None), ("pass", None, None), id="on none"),
        pytest.param(CHECK_HOST, ("stop", "worst-of", 7), ("stop", "worst-of", 7), id="the check host"),
        pytest.param("127.0.0.1", ("refuse", None, None), ("refuse", None, None), id="a denied address"),
    ],
)
def test_what_is_stopped_for_others_is_observed_for_a_client_that_is_only_observed(
    host: str, enforced: tuple[str, str | None, int | None], observed: tuple[str, str | None, int | None]
) -> None:
    for observes, expected in ((False, enforced), (True, observed)):
        verdict = decide(PART, Host.parse(host), NOON, observes=observes)
        assert (verdict.action, verdict.list, verdict.serial) == expected


def test_an_observed_client_is_refused_what_all_are_once_a_list_has_expired() -> None:
    rules = ruleset(signed("listed.example"), when_expired="refuse-all", observe_clients=("10.7.0.0/16",))
    assert decide(rules, Host("listed.example"), rules.refuse_from, observes=True).reason is Reason.EXPIRED


@pytest.mark.parametrize(
    ("address", "observed"),
    [
        pytest.param("10.7.0.1", True, id="inside"),
        pytest.param("10.8.0.1", False, id="outside"),
        pytest.param("::ffff:10.7.255.255", True, id="inside, by IPv4 in IPv6"),
        pytest.param("2001:db8:7::1", True, id="inside, IPv6"),
        pytest.param("2001:db8:8::1", False, id="outside, IPv6"),
    ],
)
def test_who_is_observed_is_a_matter_of_the_address(address: str, observed: bool) -> None:
    assert PART.observes(ip_address(address)) is observed


def test_nobody_is_observed_where_the_policy_names_no_network() -> None:
    assert LISTED.observed == ()
    assert not LISTED.observes(ip_address("10.7.0.1"))


def test_a_policy_that_observes_decides_by_the_list_that_would_be_enforced() -> None:
    """Else the numbers of each list would not be those of enforcing."""
    lists = (signed("both.example", list_id="trial"), signed("both.example"))
    for mode, action in (("enforce", Action.STOP), ("observe", Action.OBSERVE)):
        verdict = decide(ruleset(*lists, modes=("observe", "enforce"), mode=mode), Host("both.example"), NOON)
        assert (verdict.action, verdict.list) == (action, "worst-of")


# The ruleset


def test_the_age_is_that_of_the_very_list_and_the_check_host_that_of_the_enforced_one() -> None:
    for modes, serial in ((("enforce", "observe"), 7), (("observe", "enforce"), 8)):
        rules = ruleset(signed("listed.example", serial=7), signed("new.example", serial=8), modes=modes)
        verdict = decide(rules, Host(CHECK_HOST), NOON)
        assert verdict.serial == serial
        assert rules.age(verdict, EXPIRES) >= 0


def test_a_ruleset_needs_one_list_for_each_of_its_policy() -> None:
    rules = ruleset(signed("listed.example"))
    with pytest.raises(ValueError, match="zip"):
        Ruleset.of(rules.policy, [])


def test_a_ruleset_is_frozen() -> None:
    rules: Any = ruleset(signed("listed.example"))
    with pytest.raises(AttributeError):
        rules.lists = ()
    with pytest.raises(AttributeError):
        decide(rules, Host("listed.example"), NOON).action = Action.PASS


def test_a_ruleset_shows_no_domain_of_its_lists() -> None:
    shown = repr(ruleset(signed("listed.example"), exceptions={}))
    assert "worst-of" in shown
    assert "listed.example" not in shown
