"""HTML: one file, made from a template, with no script and nothing from elsewhere."""

from __future__ import annotations

from importlib import resources

import jinja2

_TEMPLATES = resources.files("stoplist.tools.output") / "templates"


def page(template: str, **values: object) -> bytes:
    """A page of HTML from one of the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(style=_template("report.css"), **values).encode()


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")
