"""Template: the operator's own page, with checks that it leaves nothing out, brings nothing in, and shows no text raw.

The best template extends "stop.html" and changes a block of it. Whatever it does, the module compares its page with
the page that Stoplist itself would show:

  - It holds each sentence and each link of that page.
  - Nothing runs, and the browser requests nothing: no script, no form, no frame, no address but those of links.
    Pictures and fonts stand in it as `data:` URIs.
  - The policy's texts come out as text, whatever characters they have.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import jinja2

from stoplist.errors import StoplistError
from stoplist.page.answers import Headers

MAX_TEMPLATE_SIZE = 256 * 1024
"""Largest template, and largest page, in bytes."""

_FORBIDDEN = frozenset(
    (
        *("applet", "audio", "base", "button", "embed", "form", "frame", "frameset"),
        *("iframe", "input", "link", "object", "script", "video"),
    )
)
_LOADING = frozenset(
    ("action", "background", "cite", "data", "formaction", "manifest", "ping", "poster", "src", "srcset")
)
"""Attributes that name something to request, or where to send something."""
_SENTENCES = frozenset(("p", "li"))
_HOSTILE = '<b id="x">&\''
"""Characters that a text of the policy may hold; a page must take them for nothing but text."""


@dataclass(frozen=True, slots=True)
class Template:
    """An operator's template: its `name`, for errors, and its `text`."""

    name: str
    text: str

    def render(self, environment: jinja2.Environment, context: Mapping[str, Any]) -> str:
        """Render the template. Raises StoplistError."""
        try:
            return environment.from_string(self.text).render(context)
        except jinja2.TemplateSyntaxError as error:
            raise StoplistError(
                f"cannot be read as a template ({error.message})",
                hint="correct it; see https://jinja.palletsprojects.com",
                place=f"{error.name or self.name}:{error.lineno}",
            ) from None
        except Exception as error:  # an expression in it may raise anything
            message = str(error) or type(error).__name__
            hint = "correct the expression; docs/stop-page.md says what a template knows"
            raise StoplistError(f"cannot be rendered ({message})", hint=hint, place=self.name) from None

    def checked(self, render: Callable[[Callable[[str], str]], str], standard: str) -> str:
        """The result of `render`, if that is a page that may be shown. `render` takes a function to apply to each
        text of the policy. `standard` is Stoplist's own page. Raises StoplistError."""
        html = render(str)
        if len(html.encode()) > MAX_TEMPLATE_SIZE:
            raise self._fault(f"makes a page of more than {MAX_TEMPLATE_SIZE} bytes", "make its pictures smaller")
        page, wanted = Page(html), Page(standard)
        for sentence in wanted.sentences:
            if sentence not in page.text:
                raise self._fault(f"leaves out: {sentence}", "extend 'stop.html' and keep what its blocks say")
        for link in sorted(wanted.links - page.links):
            raise self._fault(f"leaves out the link to {link}", "extend 'stop.html' and keep what its blocks say")
        if page.faults:
            raise self._fault(page.faults[0], "a page holds all it needs; pictures can be data: URIs")
        if Page(render(lambda text: text + _HOSTILE)).tags != page.tags:
            raise self._fault("shows a text of the policy as HTML", "remove '|safe' and 'autoescape false'")
        return html

    def _fault(self, message: str, hint: str) -> StoplistError:
        return StoplistError(message, hint=hint, place=self.name)


def security_policy(html: str) -> Headers:
    """The Content-Security-Policy under which `html` is shown: its own styles and pictures, and nothing else."""
    page = Page(html)
    digests = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in page.styles]
    styles = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    held = "; img-src data:; font-src data:" if page.has_data else ""
    rules = f"default-src 'none'; style-src {styles}{held}; base-uri 'none'; form-action 'none'"
    return ((b"Content-Security-Policy", rules.encode()),)


class Page(HTMLParser):
    """The parts of a page, as a browser reads HTML, that matter here."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.sentences: list[str] = []
        self.links: set[str] = set()
        self.tags: list[str] = []
        self.styles: list[str] = []
        self.faults: list[str] = []
        self.has_data = False
        self._pieces: list[str] = []
        self._begin: int | None = None
        self.feed(html)
        self.close()
        self.text = _flat(self._pieces)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in _FORBIDDEN:
            self.faults.append(f"has <{tag}>")
        if tag == "style":
            self.styles.append("")
        elif tag in _SENTENCES:
            self._begin = len(self._pieces)
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SENTENCES and self._begin is not None:
            self.sentences.append(_flat(self._pieces[self._begin :]))
            self._begin = None

    def handle_data(self, data: str) -> None:
        if self.cdata_elem != "style":
            self._pieces.append(data)
            return
        self.styles[-1] += data
        for address in re.findall(r"url\(\s*[\"']?([^)\"']*)|(@import)", data, re.IGNORECASE):
            if address[0].startswith("data:"):
                self.has_data = True
            elif not address[0].startswith("#"):
                self.faults.append("has a style that loads something (url() or @import)")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        is_reference = name.rpartition(":")[2] == "href"
        if is_reference and tag == "a":
            self.links.add(value)
            if re.match(r"[\s\x00-\x1f]*(javascript|data|vbscript):", value, re.IGNORECASE):
                self.faults.append(f"has a link that is a {value.partition(':')[0].strip()}: URI")
        elif is_reference or name in _LOADING:
            if value.startswith("data:"):
                self.has_data = True
            elif not (is_reference and value.startswith("#")):
                self.faults.append(f"has {name}= in <{tag}>")
        elif name.startswith("on"):
            self.faults.append(f"has {name}= in <{tag}>")
        elif name == "style":
            self.faults.append("has style=, which its security policy forbids; use <style>")
        elif name == "http-equiv":
            self.faults.append("has <meta http-equiv>")


def _flat(pieces: list[str]) -> str:
    return " ".join("".join(pieces).split())
