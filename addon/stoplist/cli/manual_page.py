"""The manual page: what `--help` says of each command, as roff (man(7)).

It holds no date and no version, so that it changes with the help alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click


def of(program: click.Context) -> str:
    """The page of a program and of all its commands."""
    name = program.info_name or ""
    lines = [f".TH {name.upper()} 1", ".SH NAME", f"{_text(name)} \\- {_text(_first(program.command))}"]
    lines += [".SH SYNOPSIS", f".B {_text(name)}", _text("COMMAND [OPTIONS] [ARGUMENTS]")]
    lines += [".SH DESCRIPTION", *_description(program.command), ".SH OPTIONS", *_options(program)]
    lines.append(".SH COMMANDS")
    for context in _commands(program):
        usage = " ".join(context.command.collect_usage_pieces(context))
        lines += [f".SS {_text(context.command_path)}", f".B {_text(context.command_path)}", _text(usage), ".PP"]
        lines += [*_description(context.command), *_options(context), *_example(context.command)]
    return "\n".join([*lines, ""])


def _commands(parent: click.Context) -> Iterator[click.Context]:
    group = parent.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = type(parent)(command, parent=parent, info_name=name)
        if isinstance(command, click.Group):
            yield from _commands(context)
        else:
            yield context


def _first(command: click.Command) -> str:
    return (command.help or "").strip().partition("\n\n")[0]


def _description(command: click.Command) -> Iterator[str]:
    for paragraph in (command.help or "").strip().split("\n\n"):
        yield from (_text(" ".join(paragraph.split())), ".PP")


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield from (".TP", f".B {_text(record[0])}", _text(record[1]))


def _example(command: click.Command) -> Iterator[str]:
    example = (command.epilog or "").partition("Example:\n")[2]
    if example:
        yield from (".PP", "Example:", ".PP", ".nf", *(_text(line) for line in example.splitlines()), ".fi")


def _text(text: str) -> str:
    """Text in which nothing is a request of roff: a backslash, a hyphen, and a dot or a quote at the beginning."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
