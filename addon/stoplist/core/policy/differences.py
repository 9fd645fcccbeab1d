"""The differences between two policies, as names of keys: all that a journal may keep of a change.

Rules
  - Names and positions of keys only. A value may name a host, a network or a person.
  - If only one of the two has a section, the module names it as a whole. In a list of sections, it names those that
    differ.
"""

from __future__ import annotations

from itertools import zip_longest

from pydantic import BaseModel

from stoplist.core.policy.models import Policy


def changed_keys(old: Policy, new: Policy) -> list[str]:
    """Names such as ``lists[1].mode``, in the order of a policy; positions begin with 1, as in errors."""
    return _changed(old, new, "")


def _changed(old: object, new: object, name: str) -> list[str]:
    if old == new:
        return []
    if isinstance(old, BaseModel) and isinstance(new, BaseModel):
        prefix = f"{name}." if name else ""
        return [
            found
            for key in type(old).model_fields
            for found in _changed(getattr(old, key), getattr(new, key), f"{prefix}{key}")
        ]
    if isinstance(old, tuple) and isinstance(new, tuple) and any(isinstance(each, BaseModel) for each in (*old, *new)):
        pairs = enumerate(zip_longest(old, new), 1)
        return [found for number, pair in pairs for found in _changed(*pair, f"{name}[{number}]")]
    return [name]
