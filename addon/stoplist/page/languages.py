"""Languages: the translations of the pages, one catalogue each (gettext PO files, read by Babel).

The templates are in English. The package has the catalogues in `languages/`; an operator can name more.

Rules
  - A catalogue translates every message, with the same placeholders, or the module does not use it at all: half a
    page in another language helps nobody.
"""

from __future__ import annotations

import functools
import gettext
import io
from importlib import resources

from babel import Locale, UnknownLocaleError
from babel.messages import Catalog, mofile, pofile
from jinja2.ext import babel_extract

from stoplist.errors import StoplistError

SOURCE = "en"
TEMPLATES = (
    "base.html",
    "stop.html",
    "check.html",
    "frame.html",
    "refusal.html",
    "stop.txt",
    "check.txt",
    "problem.txt",
)
MAX_CATALOGUE_SIZE = 256 * 1024
"""Largest catalogue, in bytes."""
_FOLDER = resources.files("stoplist.page")


def included() -> list[str]:
    """The languages that the package has."""
    catalogues = (_FOLDER / "languages").iterdir()
    return [SOURCE, *sorted(file.name.removesuffix(".po") for file in catalogues if file.name.endswith(".po"))]


def locale(language: str) -> Locale:
    """Babel's data about a language: its own name, its direction, names of countries. Raises StoplistError."""
    try:
        return Locale.parse(language, sep="-")
    except (ValueError, UnknownLocaleError):
        raise StoplistError(f"'{language}' is no language", hint="write a tag such as 'de' or 'pt-BR'") from None


@functools.cache
def of_package(language: str) -> gettext.NullTranslations:
    """The translations of one of the package's languages. Raises StoplistError."""
    if language == SOURCE:
        return gettext.NullTranslations()
    if language not in included():
        raise StoplistError(
            f"there is no catalogue for '{language}'",
            hint=f"here are {', '.join(included())}; name one of your own under 'catalogues'",
        )
    return read((_FOLDER / "languages" / f"{language}.po").read_bytes())[1]


def read(data: bytes) -> tuple[str, gettext.NullTranslations]:
    """The language of a PO file, and its translations. Raises StoplistError if a translation is missing or wrong."""
    try:
        catalogue = pofile.read_po(io.BytesIO(data), abort_invalid=True)
    except (pofile.PoFileError, ValueError, UnicodeError) as error:
        raise StoplistError(f"is not a PO file ({error})", hint="see 'stoplist page --messages'") from None
    if catalogue.locale is None:
        raise StoplistError("does not say its language", hint='write a header line such as "Language: de\\n"')
    for message in messages():
        if not message.id:
            continue  # the header
        translated = catalogue.get(message.id)
        if translated is None or not translated.string or translated.fuzzy:
            raise StoplistError(f"has no translation of {message.id!r}", hint="translate it; remove '#, fuzzy'")
        if any(message.python_format and name not in translated.string for name in _placeholders(message.id)):
            raise StoplistError(f"loses a %(name)s of {message.id!r}", hint="keep each of them in the translation")
        for wrong in translated.check():
            raise StoplistError(f"translates {message.id!r} wrongly: {wrong}", hint="correct the translation")
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return str(catalogue.locale).replace("_", "-"), gettext.GNUTranslations(compiled)


@functools.cache
def messages() -> Catalog:
    """All messages of the templates."""
    found = Catalog(project="stoplist", charset="utf-8")
    for name in TEMPLATES:
        with io.BytesIO((_FOLDER / name).read_bytes()) as template:
            for line, _, message, comments in babel_extract(template, ("gettext", "_"), [], {"trimmed": "true"}):
                if isinstance(message, str):
                    found.add(message, None, [(name, line)], auto_comments=comments)
    return found


def template_of_catalogues() -> bytes:
    """The template from which translators make a new catalogue."""
    written = io.BytesIO()
    pofile.write_po(written, messages(), width=100, omit_header=False)
    return written.getvalue()


def _placeholders(message: object) -> list[str]:
    return [part.partition(")s")[0].join(("%(", ")s")) for part in str(message).split("%(")[1:]]
