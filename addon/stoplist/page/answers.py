"""StopPage: every answer there is under one policy, made when the policy is loaded, and the right one for an asker.

The answers are those to requests that are stopped, and those of the gate itself (refusals.py).

Rules
  - An answer is bytes that were made before anybody asked. A request chooses one of them, and adds nothing to it but
    the age of a list.
  - A page takes its words on counting from the policy. If the gate cannot know that nothing personal is kept, the
    page does not say so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from stoplist.page.asker import Asker, Kind

type Headers = tuple[tuple[bytes, bytes], ...]

PROXY_NAME = "stoplist"
"""The name of the gate in Proxy-Status (RFC 9209, section 2)."""
AGE_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"
"""The mark in an answer that the gate replaces with the age of the list, in days."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer: status, headers and body."""

    status: int
    headers: Headers
    body: bytes

    def as_http1(self) -> bytes:
        """The answer in the form in which a server sends it in HTTP/1.1 (RFC 9112, section 4)."""
        line = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()
        length = () if self.status == 204 else ((b"content-length", b"%d" % len(self.body)),)  # RFC 9110, section 8.6
        fields = b"".join(b"%b: %b\r\n" % field for field in (*self.headers, *length))
        return line + b"\r\n" + fields + b"\r\n" + self.body


class Subject(StrEnum):
    """The subject of an answer."""

    STOPPED = "stopped"
    RECORDED = "recorded"
    """A gate stopped the request in a program that may keep the requests."""
    CHECK = "check"


type Key = tuple[Subject, Kind, str | None, str | None]
"""Subject, kind of answer, language, country; the last two are None if they do not matter."""


@dataclass(frozen=True, slots=True)
class StopPage:
    """All answers under one policy. `languages` are those of the page, the first for a person who reads none of
    them. `countries` are those with help lines of their own, in upper case."""

    languages: tuple[str, ...]
    countries: frozenset[str]
    answers: Mapping[Key, Answer]
    refusals: Mapping[tuple[StrEnum, str], Answer]
    """The pages of the gate itself, by cause (see refusals.py) and language."""

    def answer(self, asker: Asker, subject: Subject = Subject.STOPPED, age: int | None = None) -> Answer:
        """The answer for `asker`. `age` is the age of the list, in days, for the check host."""
        language, country = self.language(asker), self.country(asker)
        for key in (
            (subject, asker.kind, language, country),
            (subject, asker.kind, language, None),
            (subject, asker.kind, None, None),
        ):
            if key in self.answers:
                return _aged(self.answers[key], age)
        return self.answers[Subject.STOPPED, asker.kind, None, None]

    def refusal(self, cause: StrEnum, asker: Asker) -> Answer | None:
        """The page of the gate itself for somebody who opens a page; None for a program."""
        if asker.kind not in (Kind.PAGE, Kind.FRAME):
            return None
        return self.refusals.get((cause, self.language(asker)))

    def language(self, asker: Asker) -> str:
        """The best language for `asker`, by lookup (RFC 4647, section 3.4)."""
        known = {language.lower(): language for language in self.languages}
        for wanted in (asker.switched_to, *asker.languages):
            found = _look_up(wanted, known) if wanted is not None else None
            if found is not None:
                return known[found]
        return self.languages[0]

    def country(self, asker: Asker) -> str | None:
        """The country of `asker` as its languages tell it, if that country has help lines of its own."""
        regions = [part.upper() for wanted in asker.languages for part in wanted.split("-")[1:] if len(part) == 2]
        return next((region for region in regions if region in self.countries), None)

    def is_switch(self, asker: Asker) -> bool:
        """Whether this client already shows the page, and only asks for it in another language."""
        return asker.kind is Kind.PAGE and asker.switched_to in {language.lower() for language in self.languages}


def _look_up(wanted: str, known: Collection[str]) -> str | None:
    while wanted:
        if wanted in known:
            return wanted
        wanted = wanted.rpartition("-")[0]
    return None


def _aged(answer: Answer, age: int | None) -> Answer:
    if age is None:
        return answer
    return Answer(answer.status, answer.headers, answer.body.replace(AGE_MARK.encode(), b"%d" % age))
