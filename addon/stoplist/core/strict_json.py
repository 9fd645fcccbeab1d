"""JSON exactly as it is specified: this module refuses a text that two readers could read in two ways."""

from __future__ import annotations

import json
from typing import Any


def parse(data: bytes) -> Any:
    """The value of a JSON text in UTF-8 (RFC 8259).

    Raises ValueError, also if an object has a name twice, or if a number is not finite (NaN, Infinity).

    >>> parse(b'{"serial": 7}')
    {'serial': 7}
    >>> parse(b'{"serial": 7, "serial": 8}')
    Traceback (most recent call last):
    ValueError: a name stands twice
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_distinct, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _no_number(_: str) -> None:
    raise ValueError("no number")
