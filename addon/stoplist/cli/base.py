"""The building blocks of commands: an example in the help, errors that say what to do, groups."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from stoplist.errors import Problems, StoplistError, of_system, with_paths

FILE = click.Path(path_type=Path)
STATE_DIR = "The gate's state directory. Default: the policy's 'state_dir'."
_LINE = 160
_SHORT = 45
"""The length of a command's help in a list of commands."""
_INTERRUPTED = 128 + signal.SIGINT
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing. If such an error names no file, it is about what was printed."""


class Command(click.Command):
    """A command whose help ends in an example, and whose errors say what to do."""

    refused = 1

    def __init__(self, name: str, *, example: str, **kwargs: Any) -> None:
        super().__init__(name, epilog=f"\b\nExample:\n  {example}", **kwargs)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StoplistError as error:
            for each in error.problems if isinstance(error, Problems) else (error,):
                each.hint = pasteable(each.hint)
            self.tell(error)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends the program quietly
            self.tell(_explained(error))
        return context.exit(self.refused)

    @staticmethod
    def tell(error: StoplistError) -> None:
        """Print the error, with the line of the file."""
        from stoplist.tools.policies import problem_output

        click.echo(problem_output.as_text(error, _width(), styled=_has_style()), err=True)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, epilog=f"\b\nExample:\n  {example}", **kwargs)


class Program(click.Group):
    """A group that imports its commands when somebody asks for them.

    `sections` gives the place of each command, ``module:name``, under the title of its section in the help.
    """

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._places = {name: place for section in sections.values() for name, place in section.items()}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
                stream.reconfigure(errors="backslashreplace")  # an ASCII terminal cannot show every character
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # outside of a command, such as in a help text that cannot be written
            Command.tell(_explained(error))
            sys.exit(1)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            return context.exit(_INTERRUPTED)

    def list_commands(self, _: click.Context) -> list[str]:
        return list(self._places)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in self._sections.items():
            commands = [(name, self.get_command(context, name)) for name in section]
            with formatter.section(title):
                formatter.write_dl([(name, each.get_short_help_str(_SHORT)) for name, each in commands if each])

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        place = self._places.get(name)
        if place is None:
            return None
        module, attribute = place.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(context, arguments)
        except click.NoSuchCommand as error:
            # click looks for a similar name among the commands that it holds, and this group holds none.
            known = self.list_commands(context)
            raise click.NoSuchCommand(error.command_name, possibilities=known, ctx=context) from None


def _explained(error: OSError) -> StoplistError:
    """An error of the system that no other code has explained."""
    if error.filename is not None or error.errno not in _OF_DISKS:
        return of_system(error)
    with contextlib.suppress(OSError):  # what is left in the buffer is lost; nothing more is said of it at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    why = (error.strerror or str(error)).lower()
    return StoplistError(
        f"cannot be written ({why})", hint="free some space on the disk, or redirect the output", place="stdout"
    )


def pasteable(text: str) -> str:
    """A text in which commands about a POLICY name the policy, and the --state-dir, of the command that is running."""
    context = click.get_current_context(silent=True)
    policy = context.params.get("policy") if context is not None else None
    if context is None or not isinstance(policy, Path):
        return text
    return with_paths(text, policy, context.params.get("state_dir"))


def state_dir_of(policy: Path, wanted: Path | None) -> Path:
    """The value of --state-dir, or else the state directory of the policy. Raises StoplistError."""
    from stoplist import loading, state_directory

    return wanted or state_directory.of_policy(policy, loading.read_policy(policy).policy)


def _width() -> int:
    """The columns of the terminal behind stderr; without a terminal, the length of a line."""
    return shutil.get_terminal_size((_LINE, 24)).columns if "COLUMNS" in os.environ or sys.stderr.isatty() else _LINE


def _has_style() -> bool:
    """Whether stderr is a terminal that may show bold and red (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
