"""A preview of the stop page for its operator: its HTML, and the messages to translate."""

from __future__ import annotations

from pathlib import Path

from stoplist import files, loading
from stoplist.errors import StoplistError
from stoplist.page import languages
from stoplist.page.answers import Subject
from stoplist.page.asker import Kind
from stoplist.page.page_files import load_page


def html(policy: Path, language: str | None, country: str | None) -> bytes:
    """The stop page of a policy. Raises Problems, or StoplistError if it does not have this language or country."""
    text = loading.read_policy(policy)
    page = load_page(text, policy.parent, files.Reader())
    language = language or page.languages[0]
    if language not in page.languages:
        raise StoplistError(
            f"the page is not in '{language}'",
            hint=f"it is in {', '.join(page.languages)}",
            place=text.place("stop_page"),
        )
    if country is not None and country not in page.countries:
        known = ", ".join(sorted(page.countries)) or "none"
        raise StoplistError(
            f"there is no help line for '{country}'",
            hint=f"name one of those that have their own: {known}",
            place=text.place("stop_page", "help"),
        )
    return page.answers[Subject.STOPPED, Kind.PAGE, language, country].body


def messages() -> bytes:
    """The messages to translate, as a PO template."""
    return languages.template_of_catalogues()
