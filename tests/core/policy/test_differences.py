"""differences: the names of keys that changed, and never a value."""

from __future__ import annotations

import pytest

from stoplist.core.policy.differences import changed_keys
from tests.rulesets import ruleset, signed

OLD = ruleset(signed("listed.example"), signed("own.example", list_id="own"), exceptions={"a.example": "2099-12-31"})


@pytest.mark.parametrize(
    ("changed", "keys"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"mode": "observe"}, ["mode"], id="a value"),
        pytest.param({"modes": ("enforce", "observe")}, ["lists[2].mode"], id="a value of a list"),
        pytest.param({"when_expired": "refuse-all"}, ["lists[1].when_expired", "lists[2].when_expired"], id="of each"),
        pytest.param({"counts": {"period": "hour", "round_to": 10}}, ["counts.period", "counts.round_to"], id="deeper"),
        pytest.param({"observe_clients": ("10.7.0.0/16",)}, ["observe_clients"], id="networks"),
        pytest.param({"exceptions": {"b.example": "2099-12-31"}}, ["exceptions[1].domain"], id="another domain"),
        pytest.param({"exceptions": {}}, ["exceptions[1]"], id="one fewer"),
        pytest.param(
            {"exceptions": {"a.example": "2099-12-31", "b.example": "2099-01-01"}}, ["exceptions[2]"], id="one more"
        ),
    ],
)
def test_a_change_is_told_by_the_names_of_its_keys(changed: dict[str, object], keys: list[str]) -> None:
    lists = (signed("listed.example"), signed("own.example", list_id="own"))
    new = ruleset(*lists, **({"exceptions": {"a.example": "2099-12-31"}} | changed))
    assert changed_keys(OLD.policy, new.policy) == keys
