"""The command line: arguments, printing, exit codes; no logic.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 refused, 2 wrong usage; `selftest` has those
of a monitoring plugin.

The table below names the module of each command. `Program` imports a module when somebody asks for one of its
commands. A module imports what its commands need; a heavy import that only one command needs stands in that command.
`base` has the building blocks of commands, and `printing` the output that several share.
"""

from __future__ import annotations

import click

from stoplist import __version__
from stoplist.cli.base import Program

_PLACES = {
    "run": "stoplist.cli.gate:run",
    "check": "stoplist.cli.policies:check",
    "lookup": "stoplist.cli.policies:lookup",
    "schema": "stoplist.cli.policies:schema",
    "init": "stoplist.cli.policies:init",
    "page": "stoplist.cli.policies:page",
    "status": "stoplist.cli.status:status",
    "ca": "stoplist.cli.ca:ca",
    "report": "stoplist.cli.reports:report",
    "rollout": "stoplist.cli.reports:rollout",
    "trial": "stoplist.cli.trial:trial",
    "list": "stoplist.cli.lists:lists",
    "selftest": "stoplist.cli.selftest:selftest",
}


@click.group(cls=Program, places=_PLACES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stoplist")
def main() -> None:
    """Run an egress proxy that enforces a signed blocklist and keeps no record of its clients."""
