"""The language of a page is the best one there is for who asks."""

from __future__ import annotations

import pytest

from stoplist.page.answers import StopPage
from stoplist.page.asker import Asker, Kind

PAGE = StopPage(("en", "fr", "pt-BR", "zh-Hant"), frozenset({"CH", "BR"}), {}, {})


@pytest.mark.parametrize(
    ("ranges", "language"),
    [
        pytest.param((), "en", id="none said: the first"),
        pytest.param(("fr",), "fr", id="one"),
        pytest.param(("fr-ch", "en"), "fr", id="of a country"),
        pytest.param(("de", "fr"), "fr", id="the second is known"),
        pytest.param(("de",), "en", id="unknown: the first"),
        pytest.param(("*",), "en", id="any"),
        pytest.param(("pt-br",), "pt-BR", id="with a region"),
        pytest.param(("pt",), "en", id="lookup makes a range shorter, not longer"),
        pytest.param(("zh-hant-tw",), "zh-Hant", id="with a script"),
        pytest.param(("-", "--", "-fr"), "en", id="no range at all"),
    ],
)
def test_the_best_language_is_taken(ranges: tuple[str, ...], language: str):
    assert PAGE.language(Asker(Kind.PAGE, ranges)) == language


def test_a_switch_is_stronger_than_what_the_browser_says():
    assert PAGE.language(Asker(Kind.PAGE, ("fr",), "zh-hant")) == "zh-Hant"
    assert PAGE.language(Asker(Kind.PAGE, ("fr",), "xx")) == "fr"


@pytest.mark.parametrize(
    ("ranges", "country"),
    [((), None), (("fr-ch",), "CH"), (("fr", "pt-br"), "BR"), (("en-us", "de-ch"), "CH"), (("zh-hant",), None)],
)
def test_the_country_is_the_first_that_has_lines(ranges: tuple[str, ...], country: str | None):
    assert PAGE.country(Asker(Kind.PAGE, ranges)) == country


@pytest.mark.parametrize(
    ("asker", "is_switch"),
    [
        (Asker(Kind.PAGE, (), "fr"), True),
        (Asker(Kind.PAGE, (), "xx"), False),
        (Asker(Kind.PAGE), False),
        (Asker(Kind.PROBLEM, (), "fr"), False),
    ],
)
def test_only_a_page_in_a_language_there_is_is_a_switch(asker: Asker, is_switch: bool):
    assert PAGE.is_switch(asker) is is_switch
