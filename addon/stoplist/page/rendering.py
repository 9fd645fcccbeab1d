"""Rendering: from a policy, templates and translations to the answers of a StopPage."""

from __future__ import annotations

import base64
import functools
import gettext
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import jinja2
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup, escape

from stoplist.core.decide import Reason
from stoplist.core.policy.models import HelpLine, Policy, StopPagePolicy
from stoplist.core.policy.values import SpokenText
from stoplist.page import languages, template
from stoplist.page.answers import AGE_MARK, PROXY_NAME, Answer, Headers, Key, StopPage, Subject
from stoplist.page.asker import SWITCH, Kind
from stoplist.page.refusals import Cause, Obstacle, refusal

TYPE = "tag:stoplist.invalid,2026:stopped"
TYPE_OF_CHECK = "tag:stoplist.invalid,2026:works"
"""The `type` of problem details (RFC 9457, section 3.1.1)."""
_COLUMNS = 100
"""Width of a line of plain text, in columns."""
_FOLDER = resources.files("stoplist.page")
_MOST_LANGUAGES_IN_VIEW = 4
"""How many languages the page lists; of more, it shows the names when somebody opens them."""
_CAUSES: tuple[Cause, ...] = (
    *(Reason.UNREADABLE, Reason.AMBIGUOUS, Reason.SCHEME, Reason.DENIED, Reason.PROTOCOL, Reason.CLOSED),
    *(Reason.NOT_FORWARDED, Reason.TOO_MANY, Reason.EXPIRED, Reason.FAULT, *Obstacle),
)
_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""One transparent pixel."""
_RETRY = b"retry: 86400000\n\n"
"""The body for a client of server-sent events, which tries again whatever the status: it should wait a day."""


def render(
    policy: Policy,
    translations: Mapping[str, gettext.NullTranslations],
    own: template.Template | None = None,
) -> StopPage:
    """Render every answer. `translations` are those of the policy's languages. `own` is the operator's template,
    which must be complete.

    Raises StoplistError if it is not.
    """
    page = policy.stop_page
    answers: dict[Key, Answer] = dict(_fixed(policy))
    refusals: dict[tuple[StrEnum, str], Answer] = {}
    countries = {line.country for line in page.help if line.country is not None}
    for language, translated in translations.items():
        general = _Voice(policy, language, None, translated, tuple(translations), own)
        refusals |= {(cause, language): answer for cause, answer in general.refusals()}
        for country in (None, *sorted(countries)):
            voice = _Voice(policy, language, country, translated, tuple(translations), own)
            for subject in Subject:
                answers |= {(subject, kind, language, country): answer for kind, answer in voice.answers(subject)}
    return StopPage(tuple(translations), frozenset(countries), answers, refusals)


def _fixed(policy: Policy) -> Iterator[tuple[Key, Answer]]:
    """The answers that have no language."""
    for kind, media_type, body in (
        (Kind.IMAGE, "image/gif", _GIF),
        (Kind.SCRIPT, "text/javascript; charset=utf-8", b""),
        (Kind.STYLE, "text/css; charset=utf-8", b""),
        (Kind.NOTHING, None, b""),
        (Kind.EVENTS, "text/event-stream", _RETRY),
    ):
        yield (
            (Subject.STOPPED, kind, None, None),
            _answer(policy, media_type, body, is_for_programs=kind is Kind.EVENTS),
        )
    allowed: Headers = (
        (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"Access-Control-Allow-Headers", b"*, Authorization"),
        (b"Access-Control-Max-Age", b"0"),
    )
    preflight = _answer(policy, None, b"", is_for_programs=True, extra=allowed)
    yield (Subject.STOPPED, Kind.PREFLIGHT, None, None), Answer(204, preflight.headers, b"")


@dataclass(frozen=True, slots=True)
class _Voice:
    """The page in one language, for one country."""

    policy: Policy
    language: str
    country: str | None
    translations: gettext.NullTranslations
    all_languages: tuple[str, ...]
    own: template.Template | None

    def answers(self, subject: Subject) -> Iterator[tuple[Kind, Answer]]:
        is_check = subject is Subject.CHECK
        html = self._render("check.html" if is_check else "stop.html", subject)
        if self.own is not None and not is_check:
            html = self._render_own(subject, html)
        yield Kind.PAGE, self._answer("text/html; charset=utf-8", html, extra=template.security_policy(html))
        frame = self._render("frame.html", subject)
        yield Kind.FRAME, self._answer("text/html; charset=utf-8", frame, extra=template.security_policy(frame))
        text = self._render("check.txt" if is_check else "stop.txt", subject)
        lines = (textwrap.fill(line, _COLUMNS, break_long_words=False) for line in text.splitlines())
        yield Kind.TEXT, self._answer("text/plain; charset=utf-8", "\n".join(lines) + "\n")
        title, detail = self._render("problem.txt", subject).split("\n\n")
        yield Kind.PROBLEM, self._problem(subject, title, detail)
        for kind in (Kind.GRPC, Kind.GRPC_WEB):
            yield kind, self._grpc(kind, f"{title} ({self._said.operator.in_language(self.language)})")

    def refusals(self) -> Iterator[tuple[Cause, Answer]]:
        """The pages of the gate itself, by cause."""
        values = self._context(Subject.STOPPED, is_html=True)
        values["languages"] = []  # their links would go to the site
        page = _environment(True).get_template("refusal.html")
        headers: Headers = (
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Content-Language", self.language.encode()),
            (b"Vary", b"Accept, Accept-Language, Sec-Fetch-Dest"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Referrer-Policy", b"no-referrer"),
            *template.security_policy(page.render(values | {"cause": Obstacle.GATE.name})),  # one style for all of them
        )
        for cause in _CAUSES:
            contact = _isolated(self._said.contact.in_language(self.language))  # the page of the gate links nothing
            own = {"contact": contact} if cause is Obstacle.GATE else {}
            html, plain = page.render(values | {"cause": cause.name} | own), refusal(cause)
            yield cause, Answer(plain.status, headers + plain.headers[1:], html.encode())

    @property
    def _said(self) -> StopPagePolicy:
        return self.policy.stop_page

    def _answer(self, media_type: str | None, body: str, **options: Any) -> Answer:
        return _answer(self.policy, media_type, body.encode(), language=self.language, **options)

    def _problem(self, subject: Subject, title: str, detail: str) -> Answer:
        said, language = self._said, self.language
        type_ = TYPE_OF_CHECK if subject is Subject.CHECK else TYPE
        problem: dict[str, Any] = {"type": type_, "title": title, "status": said.status, "detail": detail}
        if subject is Subject.CHECK:
            problem["list_age_days"] = 0
        else:
            problem |= {
                "operator": said.operator.in_language(language),
                "contact": said.contact.in_language(language),
                "complaints": said.complaints.in_language(language),
                "legislation": {
                    "name": said.legislation.name.in_language(language),
                    "link": said.legislation.link.in_language(language),
                },
                "help": [{"topic": line.topic, "name": line.name, "link": line.link} for line in self._lines()],
            }
        body = json.dumps(problem, ensure_ascii=False, indent=1).replace(
            '"list_age_days": 0', f'"list_age_days": {AGE_MARK}'
        )
        return self._answer("application/problem+json", body + "\n", is_for_programs=True)

    def _grpc(self, kind: Kind, message: str) -> Answer:
        """An answer with trailers only, in the form of the gRPC protocol: HTTP status 200, PERMISSION_DENIED
        (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)."""
        trailers: Headers = (
            (b"grpc-status", b"7"),
            (b"grpc-message", quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()),
        )
        answer = self._answer(f"application/{kind}", "", is_for_programs=True, extra=trailers)
        return Answer(200, answer.headers, b"")

    def _lines(self) -> list[HelpLine]:
        """The help lines for this language and country; those of all countries if the page is for no country."""
        spoken = [line for line in self._said.help if line.language in (None, self.language)]
        return [line for line in spoken if self.country is None or line.country in (None, self.country)]

    def _render(self, name: str, subject: Subject) -> str:
        is_html = name.endswith("html")
        return _environment(is_html).get_template(name).render(self._context(subject, is_html=is_html))

    def _render_own(self, subject: Subject, standard: str) -> str:
        assert self.own is not None
        own = self.own
        return own.checked(
            lambda disguise: own.render(_environment(True), self._context(subject, is_html=True, disguise=disguise)),
            standard,
        )

    def _context(self, subject: Subject, *, is_html: bool, disguise: Callable[[str], str] = str) -> dict[str, Any]:
        """The values for templates. `disguise` changes every text of the policy."""
        said, language = self._said, self.language
        link = _html_link if is_html else _text_link
        of_policy = _isolated if is_html else str

        def text(spoken: SpokenText) -> str:
            return disguise(spoken.in_language(language))

        def help_line(line: HelpLine) -> dict[str, str]:
            name = line.name
            if line.country is not None and self.country is None:
                name = f"{name} ({languages.locale(language).territories.get(line.country, line.country)})"
            return {"topic": line.topic, "link": link(disguise(name), line.link)}

        contact, target = text(said.contact), _reach(said.contact.in_language(language))
        translate = _translator(self.translations)
        return {
            "gettext": translate,
            "_": translate,
            "language": language,
            "direction": _direction(language),
            "languages": [
                {"tag": each, "name": _own_name(each), "direction": _direction(each)} for each in self.all_languages
            ],
            "most_languages_in_view": _MOST_LANGUAGES_IN_VIEW,
            "switch": SWITCH,
            "subject": subject.value,
            "keeps_nothing": subject is not Subject.RECORDED,
            "observes": all("observe" in (self.policy.mode, wanted.mode) for wanted in self.policy.lists),
            "days": AGE_MARK,
            "operator": of_policy(text(said.operator)),
            "authority": of_policy(text(said.authority)) if said.authority else None,
            "checked_by_police": said.checked_by_police,
            "contact": link(contact, target) if is_html else contact,
            "complaints": said.complaints.in_language(language),
            "authority_contact": said.authority_contact.in_language(language) if said.authority_contact else None,
            "legislation": link(text(said.legislation.name), said.legislation.link.in_language(language)),
            "help": [help_line(line) for line in self._lines()],
            "counts": self.policy.counts,
            "link": link,
        }


@functools.cache
def _environment(is_html: bool) -> jinja2.Environment:
    environment = SandboxedEnvironment(
        autoescape=is_html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        loader=jinja2.FunctionLoader(lambda wanted: (_FOLDER / wanted).read_text("utf-8")),
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]
    return environment


def _translator(translations: gettext.NullTranslations) -> Callable[..., str]:
    """The function that `trans` in a template calls with the values of its placeholders."""

    @jinja2.pass_eval_context
    def translate(context: jinja2.nodes.EvalContext, message: str, **values: Any) -> str:
        translated = translations.gettext(message)
        return (escape(translated) if context.autoescape else translated) % values

    return translate


def _answer(
    policy: Policy,
    media_type: str | None,
    body: bytes,
    *,
    language: str | None = None,
    is_for_programs: bool = False,
    extra: Headers = (),
) -> Answer:
    said = policy.stop_page
    blocked_by = said.complaints.in_language(language or policy.stop_page.languages[0])
    headers: Headers = (
        *(((b"Content-Type", media_type.encode()),) if media_type else ()),
        *(((b"Content-Language", language.encode()),) if language else ()),
        (b"Cache-Control", b"no-store"),
        (b"Vary", b"Accept, Accept-Language, Sec-Fetch-Dest"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Proxy-Status", f"{PROXY_NAME}; error=http_request_denied".encode()),
        (b"Link", f'<{_uri(blocked_by)}>; rel="blocked-by"'.encode()),
        *extra,
    )
    if is_for_programs:
        headers += (
            (b"Access-Control-Allow-Origin", b"*"),
            (b"Access-Control-Expose-Headers", b"Link, Proxy-Status, grpc-message, grpc-status"),
        )
    return Answer(said.status, headers, body)


def _uri(link: str) -> str:
    """A link in the form for a header: characters beyond ASCII are percent-encoded (RFC 3987, section 3.1)."""
    return quote(link, safe="%:/?#[]@!$&'()*+,;=~-._")


def _isolated(text: str) -> Markup:
    """A text that may run in another direction than the text around it."""
    return Markup("<bdi>{}</bdi>").format(text)


def _html_link(text: str, target: str | None) -> Markup:
    if target is None:
        return _isolated(text)
    shown = _to_read(target)
    readable = Markup(' (<bdi dir="ltr">{}</bdi>)').format(shown) if shown and not _has(text, shown) else ""
    return Markup('<a href="{}" rel="noreferrer"><bdi>{}</bdi>{}</a>').format(target, text, readable)


def _text_link(text: str, target: str | None) -> str:
    shown = _to_read(target or "") or target
    return text if shown is None or _has(text, shown) else f"{text}: {shown}"


def _to_read(target: str) -> str | None:
    """The number of a tel: link, or the address of a mailto: link: somebody may read it here and use another device.

    >>> _to_read("tel:+000-000;ext=1"), _to_read("mailto:it@school.example?subject=page")
    ('+000-000', 'it@school.example')
    >>> _to_read("https://school.example/")
    """
    scheme, _, rest = target.partition(":")
    if scheme.lower() not in ("tel", "mailto"):
        return None
    return unquote(re.split("[;?]", rest, maxsplit=1)[0])


def _has(text: str, shown: str) -> bool:
    """Whether a text has this address or number in it already, however the number is written."""

    def plain(written: str) -> str:
        return re.sub(r"[\s()/.-]", "", written).casefold()

    return plain(shown) in plain(text)


def _reach(contact: str) -> str | None:
    """The link if `contact` is a link or an e-mail address; None for other text."""
    if urlsplit(contact).scheme in ("http", "https", "mailto", "tel"):
        return contact
    return f"mailto:{contact}" if "@" in contact and " " not in contact else None


def _direction(language: str) -> str:
    return "rtl" if languages.locale(language).text_direction == "rtl" else "ltr"


def _own_name(language: str) -> str:
    name = languages.locale(language).get_display_name() or language
    return name[0].upper() + name[1:]
