"""The guard holds what changes too much, or lists what must never be listed."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoplist.core.hosts import CHECK_HOST, Host
from stoplist.core.lists.guard import ALLOWANCE, DomainChanges, HeldListError, check
from stoplist.core.lists.keys import ListKey
from stoplist.core.lists.list_header import ListFault
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.models import GuardPolicy
from tests.keys import LIST_KEY, make_list, new_ed25519, open_list

SIGNER = new_ed25519()
GUARD = GuardPolicy(grow="50%", shrink="30%")


def signed(
    domains: Iterable[str], serial: int = 1, list_key: ListKey = LIST_KEY, check_host: str = CHECK_HOST
) -> SignedList:
    data = make_list(domains, SIGNER, serial=serial, list_key=list_key, check_host=check_host)
    return open_list(data, SIGNER, list_key=list_key)


def numbered(first: int, end: int) -> list[str]:
    return [f"d{number}.example" for number in range(first, end)]


OLD = signed(numbered(0, 100))


@pytest.mark.parametrize(
    "domains",
    [
        pytest.param(numbered(0, 100), id="the same"),
        pytest.param(numbered(0, 150), id="50% more"),
        pytest.param(numbered(30, 100), id="30% fewer"),
        pytest.param(numbered(30, 150), id="both"),
    ],
)
def test_a_change_within_the_bounds_passes(domains: list[str]):
    check(signed(domains, 2), OLD, GUARD, [])


@pytest.mark.parametrize(
    ("domains", "why"),
    [
        pytest.param(numbered(0, 151), "it adds 51 domains to 100, more than 50%", id="more than 50% more"),
        pytest.param(numbered(31, 100), "it removes 31 domains of 100, more than 30%", id="more than 30% fewer"),
        pytest.param(numbered(100, 200), "it adds 100 domains to 100", id="as many others"),
        pytest.param([], "it removes 100 domains of 100", id="none at all"),
    ],
)
def test_a_change_beyond_the_bounds_is_held(domains: list[str], why: str):
    new = signed(domains, 2)
    with pytest.raises(HeldListError) as held:
        check(new, OLD, GUARD, [])
    assert held.value.fault is ListFault.GUARD
    assert held.value.message.startswith(f"serial 2 is held: {why}")
    assert held.value.hint.endswith("stoplist list release POLICY --serial 2")
    assert held.value.signed is new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(numbered(0, 1), numbered(0, 1 + ALLOWANCE), id="grows"),
        pytest.param(numbered(0, 1 + ALLOWANCE), numbered(0, 1), id="shrinks"),
        pytest.param([], numbered(0, ALLOWANCE), id="was empty"),
    ],
)
def test_a_few_domains_of_a_small_list_are_never_held(old: list[str], new: list[str]):
    check(signed(new, 2), signed(old), GUARD, [])


def test_one_more_than_a_few_is_held():
    with pytest.raises(HeldListError):
        check(signed(numbered(0, 1 + ALLOWANCE), 2), signed([]), GUARD, [])


def test_without_a_list_before_it_any_size_passes():
    check(signed(numbered(0, 5000)), None, GUARD, [])


@pytest.mark.parametrize(
    ("listed", "never"),
    [
        pytest.param("school.example", "school.example", id="the very name"),
        pytest.param("school.example", "www.school.example", id="a parent of the name"),
    ],
)
def test_a_name_that_must_never_be_listed_holds_the_list_and_is_not_told(listed: str, never: str):
    names = [Host.parse("library.example"), Host.parse(never)]
    with pytest.raises(HeldListError, match="it lists 1 of the names in 'never_block'") as held:
        check(signed([listed]), None, GUARD, names)
    assert "school" not in str(held.value)


def test_a_listed_subdomain_of_a_never_blocked_name_passes():
    check(signed(["bad.school.example"]), None, GUARD, [Host.parse("school.example")])


def test_a_check_host_that_must_never_be_stopped_holds_the_list():
    new = signed([], check_host="intranet.test")
    with pytest.raises(HeldListError, match="it lists 1 of the names in 'never_block'"):
        check(new, None, GUARD, [Host.parse("intranet.test"), Host.parse("test.intranet.test")])


def test_another_check_host_than_before_holds_the_list():
    check(signed(numbered(0, 100), 2), OLD, GUARD, [])
    with pytest.raises(HeldListError, match="its check host has changed; self-tests must use the new one"):
        check(signed(numbered(0, 100), 2, check_host="other.invalid"), OLD, GUARD, [])


def test_after_a_change_of_list_key_the_sizes_are_compared():
    other = ListKey(b"\7" * 32)
    check(signed(numbered(0, 120), 2, other), OLD, GUARD, [])
    with pytest.raises(HeldListError, match="it adds 60 domains to 100"):
        check(signed(numbered(0, 160), 2, other), OLD, GUARD, [])


names = st.sets(st.integers(0, 60).map("d{}.example".format), max_size=60)


@given(names, names)
def test_a_change_counts_what_sets_would(old: set[str], new: set[str]):
    change = DomainChanges.between(signed(old), signed(new, 2))
    assert change == DomainChanges(len(old), len(new), len(new - old), len(old - new), same_key=True)
