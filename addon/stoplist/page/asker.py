"""Asker: the client that asks, as the head of its request tells: the kind of answer and the language that it wants.

A person who opens a page gets a page to read; a program gets an answer that it can process. Browsers name the
purpose of an answer (Sec-Fetch-Dest, https://www.w3.org/TR/fetch-metadata/); without that field, Accept tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

SWITCH = "stoplist-language"
"""The query of a link that switches the page to another language."""
_MAX_RANGES = 32
"""How many entries of a header the module looks at."""


MAX_SEARCHED = 16 * 1024
"""How many bytes `asker_in` searches."""
_LINES = re.compile(rb"^(accept|accept-language|sec-fetch-dest):([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Kind(StrEnum):
    """The kind of answer that is of use to the client."""

    PAGE = "page"
    FRAME = "frame"
    TEXT = "text"
    PROBLEM = "problem"
    IMAGE = "image"
    SCRIPT = "script"
    STYLE = "style"
    EVENTS = "events"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    PREFLIGHT = "preflight"
    NOTHING = "nothing"


_OF_DESTINATION = {
    "document": Kind.PAGE,
    **dict.fromkeys(("frame", "iframe", "embed", "object", "fencedframe"), Kind.FRAME),
    "image": Kind.IMAGE,
    **dict.fromkeys(("script", "worker", "sharedworker", "serviceworker"), Kind.SCRIPT),
    "style": Kind.STYLE,
    **dict.fromkeys(("json", "report", "webidentity"), Kind.PROBLEM),
    **dict.fromkeys(
        ("audio", "audioworklet", "font", "manifest", "paintworklet", "speculationrules", "track", "video", "xslt"),
        Kind.NOTHING,
    ),
}
"""The kind for each value of Sec-Fetch-Dest (https://fetch.spec.whatwg.org/#concept-request-destination)."""
_OF_TYPE = {
    "text/html": Kind.PAGE,
    "application/xhtml+xml": Kind.PAGE,
    "application/json": Kind.PROBLEM,
    "application/problem+json": Kind.PROBLEM,
    "text/event-stream": Kind.EVENTS,
    "text/plain": Kind.TEXT,
    "text/*": Kind.TEXT,
    "text/css": Kind.STYLE,
    "text/javascript": Kind.SCRIPT,
    "application/javascript": Kind.SCRIPT,
    "*/*": Kind.TEXT,
}


class Fields(Protocol):
    """The header fields of a request, by name in any case. `get` joins fields of one name by commas."""

    def get(self, name: str, default: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Asker:
    """A client that asks. `languages` are its language ranges in lower case, the best first (RFC 4647).
    `switched_to` is the language that somebody chose on the page."""

    kind: Kind
    languages: tuple[str, ...] = ()
    switched_to: str | None = None

    @classmethod
    def of(cls, method: str, path: str, fields: Fields) -> Asker:
        return cls(_kind(method, fields), _languages(fields.get("accept-language", "")), switch_of(path))


def asker_in(data: bytes) -> Asker:
    """The asker of a request whose head cannot be parsed, or not yet: by the lines that say it, wherever they are.

    >>> asker_in(b"GET ftp://site.test/ HTTP/1.1\\r\\nAccept: text/html\\r\\nAccept-Language: de\\r\\n\\r\\n")
    Asker(kind=<Kind.PAGE: 'page'>, languages=('de',), switched_to=None)
    """
    found = {
        name.decode().lower(): value.decode("latin-1").strip()
        for name, value in _LINES.findall(data.partition(b"\n\r\n")[0], 0, MAX_SEARCHED)
    }
    return Asker.of("GET", "", found)


def switch_of(path: str) -> str | None:
    """The language to which a link on the page switches; `path` is with its query."""
    match = re.fullmatch(rf"{SWITCH}=([A-Za-z-]{{2,35}})", path.partition("?")[2])
    return match[1].lower() if match else None


def _kind(method: str, fields: Fields) -> Kind:
    content = fields.get("content-type", "").partition(";")[0].strip().lower()
    if method == "OPTIONS" and fields.get("access-control-request-method", ""):
        return Kind.PREFLIGHT
    if content.startswith("application/grpc-web"):
        return Kind.GRPC_WEB
    if content == "application/grpc" or content.startswith("application/grpc+"):
        return Kind.GRPC
    if "websocket" in fields.get("upgrade", "").lower():
        return Kind.TEXT
    accepted = _accepted(fields.get("accept", ""))
    destination = fields.get("sec-fetch-dest", "").strip().lower()
    if destination in _OF_DESTINATION:
        return _OF_DESTINATION[destination]
    if destination == "empty" or fields.get("x-requested-with", "").strip().lower() == "xmlhttprequest":
        return Kind.EVENTS if accepted is Kind.EVENTS else Kind.PROBLEM
    return accepted


def _accepted(accept: str) -> Kind:
    """The kind that the client accepts best; of equals, the first (RFC 9110, section 12.5.1)."""
    for entry in _ranked(accept):
        if entry in _OF_TYPE:
            return _OF_TYPE[entry]
        if entry.startswith("image/"):
            return Kind.IMAGE
        if entry.endswith("+json"):
            return Kind.PROBLEM
        if entry.startswith(("audio/", "video/", "font/")):
            return Kind.NOTHING
    return Kind.TEXT


def _languages(accept_language: str) -> tuple[str, ...]:
    return tuple(_ranked(accept_language))


def _ranked(header: str) -> Iterable[str]:
    """The entries of a header with weights, the best first, without entries that the client does not accept."""
    weighted = [(name, weight) for name, weight in _entries(header) if weight > 0]
    return [name for name, _ in sorted(weighted, key=lambda entry: -entry[1])]


def _entries(header: str) -> Iterator[tuple[str, float]]:
    for entry in header.lower().split(",", _MAX_RANGES)[:_MAX_RANGES]:
        name, *parameters = (part.strip() for part in entry.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if name:
            yield name, float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 0.0
