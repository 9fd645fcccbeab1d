"""Output options: --format, --json and -o, alike in each command that has them.

--format and --json choose the format of the output. -o writes it to a file, whose ending decides if neither is given.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from stoplist import files
from stoplist.cli.base import FILE

_ENDINGS = {"txt": ("text", "table")}
"""Endings of files that are not named as their format is, with the formats that they may stand for."""


@dataclass(frozen=True, slots=True)
class Output:
    """The format of the output, and the file to write; stdout if there is none."""

    format: str
    file: Path | None = None

    @property
    def is_json(self) -> bool:
        return self.format == "json"

    @classmethod
    def of(cls, formats: Sequence[str], wanted: str | None, file: Path | None, *, as_json: bool) -> Output:
        """The format that was `wanted`, or else the one of the file's ending, or else the first. Raises UsageError."""
        if as_json and wanted not in (None, "json"):
            raise click.UsageError(f"--json and --format {wanted} cannot be combined; leave out one of the two")
        found = "json" if as_json else wanted or (formats[0] if file is None else format_of_file(file, formats))
        if found == "html" and file is None and sys.stdout.isatty():
            raise click.UsageError("HTML is not printed to a terminal; name a file: -o FILE.html")
        return cls(found, file)

    def write(self, data: bytes, said: str, *, mode: int = files.PUBLIC) -> None:
        """Write the output, and for a file, print what was `said`. Raises StoplistError."""
        if self.file is None:
            click.echo(data, nl=False)
        else:
            files.write(self.file, data, mode=mode, replace=True)
            click.echo(f"{self.file}: {said}")


def format_of_file(file: Path, formats: Sequence[str]) -> str:
    """The format that the ending of a file's name asks for. Raises UsageError."""
    ending = file.suffix.removeprefix(".").lower()
    for name in formats:
        if name in (ending, *_ENDINGS.get(ending, ())):
            return name
    known = [next((each for each in _ENDINGS if name in _ENDINGS[each]), name) for name in formats]
    remedy = f"end the name with .{', .'.join(known)}, or name the format"
    raise click.UsageError(f"-o {file}: the ending says no format that is known; {remedy}")


def output_options(
    *formats: str, help_text: str = "", to_file: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options to a command, which gets an `Output` as `output`. The first of the formats is the default."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def with_output(*args: Any, wanted: str | None, as_json: bool, **others: Any) -> None:
            target = others.pop("target", None)
            command(*args, output=Output.of(formats, wanted, target, as_json=as_json), **others)

        default = f"Default: {'by the ending of FILE, or ' if to_file else ''}{formats[0]}."
        with_output = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")(with_output)
        if to_file:
            with_output = click.option(
                "-o", "--output", "target", metavar="FILE", type=FILE, help="Write to FILE instead of stdout."
            )(with_output)
        return click.option(
            "--format",
            "wanted",
            type=click.Choice(formats),
            help=f"The format of the output. {help_text}{' ' if help_text else ''}{default}",
        )(with_output)

    return decorate
