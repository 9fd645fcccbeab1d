"""The program itself: its versions, its completion in a shell, its manual page."""

from __future__ import annotations

import platform
import ssl
from importlib import metadata

import click
from click import shell_completion

from stoplist import __version__
from stoplist.cli import manual_page
from stoplist.cli.base import Command

_NAME = "stoplist"


def version() -> str:
    """The version of Stoplist, and of what it runs on, in one line."""
    parts = [
        f"Python {platform.python_version()}",
        f"mitmproxy {metadata.version('mitmproxy')}",
        ssl.OPENSSL_VERSION.rsplit(" ", 3)[0],
        f"{platform.system()} {platform.machine()}",
    ]
    return f"{_NAME} {__version__} ({', '.join(parts)})"


@click.command(cls=Command, example="stoplist completion bash > ~/.local/share/bash-completion/completions/stoplist")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash loads it from the file in the example, and fish from ~/.config/fish/completions/stoplist.fish. For zsh, write
    eval "$(stoplist completion zsh)" into ~/.zshrc.
    """
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, _NAME, "_STOPLIST_COMPLETE").source())


@click.command(cls=Command, example="stoplist man > stoplist.1")
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual page, for man(1).

    It says what --help says, of all commands.
    """
    click.echo(manual_page.of(context.find_root()), nl=False)
