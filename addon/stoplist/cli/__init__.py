"""The command line: arguments, printing, exit codes; no logic.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 refused, 2 wrong usage; `selftest` has those
of a monitoring plugin.

The tables below name the module of each command. `Program` imports a module when somebody asks for one of its
commands. A module imports what its commands need; a heavy import that only one command needs stands in that command.
`base` has the building blocks of commands, and `printing` the output that several share.
"""

from __future__ import annotations

import click

from stoplist.cli.base import Program

_SECTIONS = {
    "Run a gate": {
        "run": "stoplist.cli.gate:run",
        "status": "stoplist.cli.status:status",
        "selftest": "stoplist.cli.selftest:selftest",
        "ca": "stoplist.cli.ca:ca",
    },
    "Write a policy": {
        "init": "stoplist.cli.policies:init",
        "check": "stoplist.cli.policies:check",
        "lookup": "stoplist.cli.policies:lookup",
        "page": "stoplist.cli.policies:page",
        "schema": "stoplist.cli.policies:schema",
    },
    "Try and report": {
        "trial": "stoplist.cli.trial:trial",
        "rollout": "stoplist.cli.reports:rollout",
        "report": "stoplist.cli.reports:report",
    },
    "Publish lists": {"list": "stoplist.cli.lists:lists"},
    "Set up this program": {
        "completion": "stoplist.cli.program:completion",
        "man": "stoplist.cli.program:man",
    },
}


def _print_version(context: click.Context, _: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        from stoplist.cli.program import version

        click.echo(version())
        context.exit()


@click.group(
    cls=Program,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n  stoplist run        # the demo policy\n  stoplist init my-gate",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the versions of this program and of what it is built on.",
)
def main() -> None:
    """Run an egress proxy that enforces a signed blocklist and keeps no record of its clients."""
