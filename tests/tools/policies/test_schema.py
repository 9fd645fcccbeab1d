"""The JSON Schema: it is the policy's own, and refuses nothing that the parser takes."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stoplist.core.policy.models import Policy
from stoplist.core.policy.text import PolicyText
from stoplist.errors import Problems
from stoplist.tools.policies import schema
from tests.core.policy.test_models import GOOD, NETWORK, PIECES, SHORTEST
from tests.examples import examples

FOLDER = Path(__file__).parents[3] / "policies"
SCAFFOLD = FOLDER.parent / "addon" / "stoplist" / "tools" / "policies" / "starter"
POLICIES = [*FOLDER.glob("*.yaml"), *SCAFFOLD.glob("*.yaml")]
FULL = GOOD + NETWORK + "metrics: {}\nwatch: {poll: 2 min}\ntime_zone: UTC\n"


def as_json(value: Any) -> Any:
    """What an editor, which reads YAML 1.2, hands to the schema."""
    if isinstance(value, dict):
        return {str(key): as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


@pytest.fixture(scope="module")
def validator() -> Any:
    made = json.loads(schema.text())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def refused(validator: Any, text: str) -> list[str]:
    return [error.message for error in validator.iter_errors(as_json(yaml.safe_load(text)))]


def parses(text: str) -> bool:
    try:
        PolicyText.parse(text.encode(), "x")
    except Problems:
        return False
    return True


def test_the_file_beside_the_examples_is_the_schema() -> None:
    """Stale? Run: stoplist schema > policies/policy.schema.json"""
    assert (FOLDER / schema.FILE).read_text() == schema.text()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_an_example_begins_with_its_schema_and_passes_it(validator: Any, path: Path) -> None:
    first, text = path.read_text().split("\n", 1)
    assert first == f"# yaml-language-server: $schema={schema.FILE}"
    assert refused(validator, text) == []


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_what_is_commented_out_in_an_example_passes_as_well(validator: Any, path: Path) -> None:
    text = path.read_text()
    for line, key in re.findall(rf"^# (({'|'.join(Policy.model_fields)}): \S.*)$", text, re.MULTILINE):
        if f"\n{key}:" not in text:
            assert refused(validator, f"{text}\n{line}\n") == []


@pytest.mark.parametrize("text", [GOOD, FULL, SHORTEST, GOOD.replace("until: 2026-12-31", "until: '2026-12-31'")])
def test_what_the_parser_takes_passes(validator: Any, text: str) -> None:
    assert parses(text)
    assert refused(validator, text) == []


def test_every_key_has_an_example_and_a_description(validator: Any) -> None:
    assert set(validator.schema["properties"]) == set(Policy.model_fields)
    for section in [validator.schema, *validator.schema["$defs"].values()]:
        assert all(value["examples"] for value in section["properties"].values())
    assert all(value["description"] for value in validator.schema["properties"].values())


def test_what_a_base_may_say_is_not_missed(validator: Any) -> None:
    assert refused(validator, "include: base.yaml\n") == []
    assert refused(validator, "mode: enforce\n") != []


# fixed time: a policy is read without a clock

BROKEN = [
    ("version: 1", "version: 2"),
    ("version: 1\n", ""),
    ("version: 1", "version: '1'"),
    ("mode: enforce\nl", "mode: on\nl"),
    ("mode: enforce\nl", "mod: enforce\nl"),
    ("    threshold: 2", "    threshold: two"),
    ("    threshold: 2", "    threshold: 0"),
    ("    threshold: 2", "    threshold: 17"),
    ("    threshold: 2", "    treshold: 2"),
    ("[keys/authority.pub, keys/operator.pub]", "[]"),
    ("[keys/authority.pub, keys/operator.pub]", "keys/authority.pub"),
    ("{env: STOPLIST_KEY}", "STOPLIST_KEY"),
    ("{env: STOPLIST_KEY}", "{env: STOPLIST-KEY}"),
    ("domain: Appeal.example", "domain: '*.appeal.example'"),
    ("domain: Appeal.example", "domain: https://appeal.example/"),
    ("until: 2026-12-31", "until: 31.12.2026"),
    ("until: 2026-12-31", "until: tomorrow"),
    (', reason: "appeal 2026-14 upheld"', ""),
    ("listen: 127.0.0.1:3128", "listen: 3128"),
    ("listen: 127.0.0.1:3128", "listen: 127.0.0.1"),
    ("mailto:complaints@school.example", "nowhere"),
    ("topic: worry", "topic: sorry"),
    ("status: 403", "status: 404"),
    ("hide_below: 20", "hide_below: 1"),
    ("round_to: 10", "round_to: many"),
    ("period: hour", "period: minute"),
    ("expect: stop", "expect: block"),
    ("host: check.stoplist.invalid", "host: https://check.stoplist.invalid/"),
    ("clients: [10.0.0.0/8,", "clients: [localhost,"),
    ("clients: [10.0.0.0/8,", "clients: [10.0.0.0-10.0.0.9,"),
    ("poll: 2 min", "poll: 10"),
    ("poll: 2 min", "poll: often"),
    ("tls: intercept", "tls: Intercept"),
    ("upstream: {allow", "upstream: {alow"),
    ("  operator: Example School\n", ""),
    ("operator: Example School", "operator: {French: École}"),
]


@pytest.mark.parametrize(("old", "new"), BROKEN)
def test_what_the_schema_refuses_the_parser_refuses(validator: Any, old: str, new: str) -> None:
    text = FULL.replace(old, new, 1)
    assert text != FULL
    assert refused(validator, text)
    assert not parses(text)


@st.composite
def edited(draw: st.DrawFn) -> str:
    """A policy in which a piece or two was written over."""
    pieces = draw(st.lists(st.tuples(st.integers(0, len(FULL)), st.integers(0, 20), PIECES), min_size=1, max_size=2))
    text = FULL
    for start, length, piece in pieces:
        text = text[:start] + piece + text[start + length :]
    return text


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # a piece may be long
@settings(max_examples=examples(200))
@given(text=edited())
def test_the_schema_is_never_stricter_than_the_parser(validator: Any, text: str) -> None:
    if parses(text):
        assert refused(validator, text) == []
