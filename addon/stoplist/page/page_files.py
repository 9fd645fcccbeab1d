"""Page files: the catalogues and the template that a policy names, and the stop page that is made with them."""

from __future__ import annotations

from pathlib import Path

from stoplist import files
from stoplist.core.policy.document import PolicyError
from stoplist.core.policy.text import PolicyText
from stoplist.errors import Problems, StoplistError
from stoplist.page import languages, rendering
from stoplist.page.answers import StopPage
from stoplist.page.template import MAX_TEMPLATE_SIZE, Template


def load_page(text: PolicyText, folder: Path, reader: files.Reader) -> StopPage:
    """The stop page of a policy, with the catalogues and the template that the policy names, from `folder`. Raises
    Problems."""
    wanted, problems, spoken = text.policy.stop_page, list[StoplistError](), {}

    def fault(error: StoplistError, what: str, *path: str | int) -> None:
        place = text.place("stop_page", *path)
        problems.append(PolicyError(f"{what}: {error.message}", hint=error.hint, place=place))

    for number, name in enumerate(wanted.catalogues):
        try:
            language, translations = languages.read(reader.read(folder / name, languages.MAX_CATALOGUE_SIZE))
            spoken[language] = translations
        except StoplistError as error:
            fault(error, name, "catalogues", number)
    for number, language in enumerate(wanted.languages):
        try:
            languages.locale(language)
            if language not in spoken and not problems:
                spoken[language] = languages.of_package(language)
        except StoplistError as error:
            fault(error, "languages", "languages", number)
    if problems:
        raise Problems(problems)
    try:
        own = None
        if wanted.template is not None:
            own = Template(wanted.template, reader.read(folder / wanted.template, MAX_TEMPLATE_SIZE).decode())
        return rendering.render(text.policy, {language: spoken[language] for language in wanted.languages}, own)
    except UnicodeDecodeError:
        fault(StoplistError("not UTF-8 text", hint="save it as UTF-8"), str(wanted.template), "template")
    except StoplistError as error:
        fault(error, error.place or str(wanted.template), "template")
    raise Problems(problems)
