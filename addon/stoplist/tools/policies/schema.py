"""The JSON Schema of a policy (draft 2020-12), made from the models: editors complete and check a policy by it.

Rules
  - The parser refuses everything that the schema refuses, except for spaces around a text in quotes. The parser
    refuses more: dates that do not exist, a threshold out of reach, files that are missing. `stoplist check` has the
    last word.
  - Every key shows an example, and its purpose if its section says so.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from stoplist.core.policy.models import Policy

FILE = "policy.schema.json"
"""The file name of the schema, beside the policies that refer to it."""
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def text() -> str:
    """The text of the schema file."""
    schema = Policy.model_json_schema(schema_generator=_Generator)
    sections = schema.pop("$defs")
    complete = schema.pop("required")
    whole = {
        "$schema": _DIALECT,
        "title": "A Stoplist policy",
        **schema,
        # A base may hold the keys that are missing here.
        "if": {"not": {"required": ["include"]}},
        "then": {"required": complete},
        "$defs": sections,
    }
    for key, value in schema["properties"].items():
        section = sections.get(str(value.get("$ref")).rpartition("/")[2], {})
        value.setdefault("description", section.get("description") or f"Such as {key}: {_example(value)}")
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _Generator(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out defaults that are not plain: they have no form in JSON."""
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        plain = {str: "string", int: "integer"}.get(type(default))
        return {**inner, "default": default} if plain is not None and inner.get("type") == plain else inner

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        made = super().generate_inner(schema)
        if any(isinstance(each, str) for each in made.get("examples", ())):
            made["examples"] = [_plain(yaml.safe_load(each)) for each in made["examples"]]
        return made

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  pydantic calls it so
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        made.pop("title", None)
        if "description" in made:
            made["description"] = " ".join(made["description"].split())
        return made


def _plain(value: Any) -> Any:
    """A value of YAML in JSON, which has no dates."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


def _example(value: dict[str, Any]) -> str:
    return json.dumps(value["examples"][0], ensure_ascii=False)
