"""The counts of a gate: report, rollout."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from stoplist import clock
from stoplist.cli.base import FILE, STATE_DIR, Command, state_dir_of
from stoplist.cli.output_options import Output, output_options
from stoplist.cli.printing import number
from stoplist.tools.output import report_formats, rollout_formats
from stoplist.tools.reports import report as reporting
from stoplist.tools.reports import rollout as rolling


class _Day(click.ParamType[date]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> date:
        try:
            return datetime.strptime(value, "%Y-%m-%d").date()
        except ValueError:
            self.fail(f"{value!r} is no date; write, for example, 2026-11-30", param, context)


@click.command(cls=Command, example="stoplist report school.yaml --from 2026-11-01 --to 2026-11-30 -o november.html")
@click.argument("policy", type=FILE)
@click.option(
    "--from", "since", type=_Day(), help="The first day, in the policy's time zone. Default: the first day with counts."
)
@click.option("--to", "until", type=_Day(), help="The last day. Default: up to the last period that has closed.")
@output_options(*report_formats.FORMATS, to_file=True)
@click.option("--state-dir", metavar="DIR", type=FILE, help=STATE_DIR)
@click.option(
    "--merge",
    "others",
    metavar="DIR",
    type=FILE,
    multiple=True,
    help="Add the counts of another gate: name its --state-dir, or a copy of it. Repeatable.",
)
@click.option(
    "--selftests",
    metavar="FILE",
    type=FILE,
    multiple=True,
    help="Add the results of self-tests: a file with the output of 'stoplist selftest --format json'. Repeatable.",
)
def report(
    policy: Path,
    since: date | None,
    until: date | None,
    output: Output,
    state_dir: Path | None,
    others: tuple[Path, ...],
    selftests: tuple[Path, ...],
) -> None:
    """Report what the lists of POLICY stopped.

    The report also says in how many periods a fresh list was enforced.
    """
    if since and until and until < since:
        raise click.UsageError(f"--from {since} is after --to {until}; swap the two")
    states = [state_dir_of(policy, state_dir), *others]
    made, problems = reporting.make(policy, states, since=since, until=until, now=clock.now(), selftests=selftests)
    said = f"{number(len(made.periods), made.length)}, {number(made.gates, 'gate')}"
    output.write(report_formats.FORMATS[output.format](made), said)
    for problem in problems:
        kind = "warning" if made.policy_tests.passed else "the policy's tests fail"
        click.echo(f"{kind}: {problem}", err=True)


@click.command(cls=Command, example="stoplist rollout school.yaml --from 2026-11-01 --to 2026-11-14 -o rollout.html")
@click.argument("policy", type=FILE)
@click.option(
    "--from", "since", type=_Day(), help="The first day, in the policy's time zone. Default: the first day with counts."
)
@click.option("--to", "until", type=_Day(), help="The last day. Default: up to the last period that has closed.")
@output_options(*rollout_formats.FORMATS, to_file=True)
@click.option("--state-dir", metavar="DIR", type=FILE, help=STATE_DIR)
@click.option(
    "--merge",
    "others",
    metavar="DIR",
    type=FILE,
    multiple=True,
    help="Add the counts of another gate: name its --state-dir. Repeatable.",
)
def rollout(
    policy: Path,
    since: date | None,
    until: date | None,
    output: Output,
    state_dir: Path | None,
    others: tuple[Path, ...],
) -> None:
    """Show what enforcing would have stopped.

    The numbers come from observed requests. The exit code is 1 if nothing was observed.
    """
    if since and until and until < since:
        raise click.UsageError(f"--from {since} is after --to {until}; swap the two")
    states = [state_dir_of(policy, state_dir), *others]
    made = rolling.make(policy, states, since=since, until=until, now=clock.now())
    said = f"{number(len(made.periods), made.report.length)}, {number(made.report.gates, 'gate')}"
    output.write(rollout_formats.FORMATS[output.format](made), said)
