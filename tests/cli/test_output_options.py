"""The format and the file of an output: what was asked for, or what the name of the file ends in."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from stoplist.cli.output_options import Output

FORMATS = ("table", "csv", "json", "html")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("november.html", "html"),
        ("a.b.CSV", "csv"),
        ("x.json", "json"),
        ("report.txt", "table"),
        ("a.html/x.csv", "csv"),
    ],
)
def test_the_end_of_a_name_asks_for_a_format(name: str, wanted: str) -> None:
    assert Output.of(FORMATS, None, Path(name), as_json=False) == Output(wanted, Path(name))


@pytest.mark.parametrize("name", ["report.pdf", "report", "html", ".html", "report."])
def test_an_end_that_says_nothing_is_an_error(name: str) -> None:
    with pytest.raises(click.UsageError, match=r"end the name with \.txt, \.csv, \.json, \.html, or name the format"):
        Output.of(FORMATS, None, Path(name), as_json=False)


@pytest.mark.parametrize("name", ["report.pdf", "report.html"])
def test_a_format_that_is_named_needs_no_end(name: str) -> None:
    assert Output.of(FORMATS, "csv", Path(name), as_json=False).format == "csv"
    assert Output.of(FORMATS, None, Path(name), as_json=True).format == "json"


def test_two_formats_are_an_error() -> None:
    with pytest.raises(click.UsageError, match="--json and --format csv cannot be combined"):
        Output.of(FORMATS, "csv", None, as_json=True)
    assert Output.of(FORMATS, "json", None, as_json=True).is_json


def test_without_any_it_is_the_first() -> None:
    assert Output.of(FORMATS, None, None, as_json=False) == Output("table")
