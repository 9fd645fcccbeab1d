"""What holds of the code as a whole, so that a newcomer finds their way in it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import stoplist

PACKAGE = Path(stoplist.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
PRIVATE_NAMES = PACKAGE / "proxy" / "mitm" / "private_names.py"
MAX_MODULES = 14
"""In one package: more than about a dozen are no longer seen at a glance."""

MAX_LINES = 400
"""In one module: more than that holds several jobs."""


def _name(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


def _public_classes(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.ClassDef(name=name) | ast.TypeAlias(name=ast.Name(id=name)) if not name.startswith("_"):
                yield name


def _private_imports(module: Path) -> Iterator[str]:
    """Names that are private to libraries: of a module, or in one."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names=names):
                imported = [each.name for each in names]
            case ast.ImportFrom(module=str(source), names=names):
                imported = [f"{source}.{each.name}" for each in names]
            case _:
                continue
        yield from (each for each in imported if any(part[0] == "_" != part[1:2] for part in each.split(".")))


@pytest.mark.parametrize("module", MODULES, ids=_name)
def test_a_module_is_short_enough_for_one_job(module: Path):
    assert len(module.read_text().splitlines()) <= MAX_LINES


def test_no_two_public_classes_have_one_name():
    places = defaultdict(list)
    for module in MODULES:
        for name in _public_classes(module):
            places[name].append(_name(module))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("module", [each for each in MODULES if each != PRIVATE_NAMES], ids=_name)
def test_private_names_of_libraries_are_imported_in_one_module(module: Path):
    assert [name for name in _private_imports(module) if not name.startswith("stoplist.")] == []


def test_that_module_imports_private_names():
    assert any(name.startswith("mitmproxy.") for name in _private_imports(PRIVATE_NAMES))


@pytest.mark.parametrize("package", sorted({each.parent for each in MODULES}), ids=_name)
def test_a_package_says_what_lives_in_it_and_is_seen_at_a_glance(package: Path):
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert len(list(package.glob("*.py"))) - 1 <= MAX_MODULES
