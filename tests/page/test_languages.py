"""A page is in a language whole, or not at all."""

from __future__ import annotations

import io
from importlib import resources

import pytest
from babel.messages import pofile

from stoplist.errors import StoplistError
from stoplist.page import languages

FRENCH = (resources.files("stoplist.page") / "languages" / "fr.po").read_bytes()


def test_the_languages_of_the_list_provider_are_included():
    assert set(languages.included()) >= {"en", "fr", "es", "ar"}


@pytest.mark.parametrize("language", languages.included())
def test_every_message_is_translated_and_nothing_else_is(language: str):
    translations = languages.of_package(language)
    wanted = {message.id for message in languages.messages() if message.id}
    assert len(wanted) > 30
    if language == languages.SOURCE:
        return
    for message in wanted:
        assert translations.gettext(message) != message, message
    data = (resources.files("stoplist.page") / "languages" / f"{language}.po").read_bytes()
    assert {message.id for message in pofile.read_po(io.BytesIO(data)) if message.id} == wanted


def test_every_template_is_searched_for_messages():
    folder = resources.files("stoplist.page")
    written = {file.name for file in folder.iterdir() if file.name.endswith((".html", ".txt"))}
    assert written == set(languages.TEMPLATES)


def _changed(old: bytes, new: bytes) -> bytes:
    assert old in FRENCH
    return FRENCH.replace(old, new)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(b"", "does not say its language", id="empty"),
        pytest.param(_changed(b"Language: fr", b"Language: xx"), "does not say its language", id="no such language"),
        pytest.param(_changed(b'"Language: fr\\n"\n', b""), "does not say its language", id="no language"),
        pytest.param(_changed(b'msgstr "Aide"', b'msgstr ""'), "has no translation of 'Help'", id="one is missing"),
        pytest.param(
            _changed(b'msgid "Help"', b'#, fuzzy\nmsgid "Help"'), "has no translation of 'Help'", id="one is fuzzy"
        ),
        pytest.param(
            _changed("les réclamations au sujet de la liste".encode(), b"%(list)s"),
            "wrongly",
            id="a placeholder too many",
        ),
        pytest.param(_changed("jours\u00a0: %(days)s".encode(), b"jours"), "loses", id="a placeholder is lost"),
        pytest.param(
            _changed("jours\u00a0: %(days)s".encode(), b"jours %(days)d"), "loses", id="a placeholder of another type"
        ),
        pytest.param(FRENCH[:2000], "is not a PO file|has no translation", id="torn"),
        pytest.param(b"\xff" * 100, "is not a PO file", id="not text"),
    ],
)
def test_a_catalogue_that_lacks_something_is_refused_with_a_remedy(data: bytes, fault: str):
    with pytest.raises(StoplistError, match=fault) as told:
        languages.read(data)
    assert told.value.hint


def test_a_catalogue_is_known_by_its_language():
    language, translations = languages.read(_changed(b"Language: fr", b"Language: fr_CA"))
    assert (language, translations.gettext("Help")) == ("fr-CA", "Aide")


def test_what_there_is_to_translate_makes_a_catalogue_once_it_is_translated():
    catalogue = pofile.read_po(io.BytesIO(languages.template_of_catalogues()))
    assert {message.id for message in catalogue} == {message.id for message in languages.messages()}
