"""The examples in docstrings: they say what is so, and each parser has one that is accepted and one that is refused."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import stoplist

PACKAGE = Path(stoplist.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text() or "def parse" in path.read_text()
]
OTHER_PARSERS = {"day_of", "extensions_of_body", "host_of", "read_domains", "server_name"}
TOO_LONG = {"stoplist.certificates.CertificateAuthority.parse", "stoplist.core.policy.text.PolicyText.parse"}
"""What these parse is longer than an example should be; tests/pki.py and policies/ have some."""


def _parsers(module: ModuleType) -> dict[str, str]:
    """The public functions that parse, with their docstrings."""
    classes = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    places = [(module.__name__, vars(module))] + [
        (f"{module.__name__}.{each.__name__}", vars(each)) for each in classes
    ]
    found = {}
    for place, names in places:
        for name, value in names.items():
            function = getattr(value, "__func__", value)
            is_parser = name == "parse" or name.startswith("parse_") or name in OTHER_PARSERS
            if is_parser and inspect.isfunction(function) and function.__module__ == module.__name__:
                found[f"{place}.{name}"] = function.__doc__ or ""
    return found


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_hold(name: str):
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not results.failed
    for parser, text in _parsers(module).items():
        if parser not in TOO_LONG:
            examples = doctest.DocTestParser().get_examples(text)
            refused = [each for each in examples if each.exc_msg is not None or each.want == "False\n"]
            assert refused, f"{parser} has no example that is refused"
            assert [each for each in examples if each.want and each not in refused], f"{parser} has none accepted"


def test_there_are_parsers():
    assert len([parser for name in MODULES for parser in _parsers(importlib.import_module(name))]) > 15
