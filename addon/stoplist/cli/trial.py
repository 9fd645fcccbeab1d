"""What a policy would have done with the requests in logs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stoplist import clock, files
from stoplist.cli.base import FILE, Command
from stoplist.cli.output_options import Output, output_options
from stoplist.cli.printing import number
from stoplist.tools import progress
from stoplist.tools.output import trial_formats, trial_words
from stoplist.tools.trial import trial as trying
from stoplist.tools.trial.logs import formats


@click.command(
    cls=Command,
    example="stoplist trial school.yaml /var/log/squid/access.log* --known sites.txt -o trial.html",
)
@click.argument("policy", type=FILE)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--log-format",
    "log_format",
    metavar="NAME",
    type=click.Choice(formats.NAMES),
    help=f"The format of all inputs: {', '.join(formats.NAMES)}. Default: detected from the beginning of each input.",
)
@click.option(
    "--column", metavar="NAME", help="The column that holds the hosts. The inputs are then CSV with a header row."
)
@click.option(
    "--known",
    metavar="FILE",
    type=FILE,
    help="A file of well-known sites, one per line. Count how many of the hosts that would be stopped are among them.",
)
@output_options(*trial_formats.FORMATS, to_file=True)
@click.option("--exact", is_flag=True, help="Print exact numbers, neither hidden nor rounded. Keep them to yourself.")
@click.option(
    "--reveal", is_flag=True, help="Print the hosts that would be stopped, to a terminal or to FILE. Implies --exact."
)
def trial(
    policy: Path,
    inputs: tuple[str, ...],
    log_format: str | None,
    column: str | None,
    known: Path | None,
    output: Output,
    exact: bool,
    reveal: bool,
) -> None:
    """Show what POLICY would do with your logs.

    No gate needs to run. INPUT is a log file, plain or compressed with gzip or zstd; '-' is stdin. The output shows
    numbers only, and no host of a log unless you add --reveal.
    """
    if column is not None and log_format not in (None, formats.CSV):
        raise click.UsageError(f"--column is for CSV, not for --log-format {log_format}; leave out one of the two")
    if column is None and log_format == formats.CSV:
        raise click.UsageError("--log-format csv needs the column that holds the hosts: --column NAME")
    if output.file is None and reveal and not sys.stdout.isatty():
        raise click.UsageError("--reveal writes hosts only to a terminal or to a file that you name: -o hosts.txt")
    swapped = next((each for each in inputs if each.endswith((".yaml", ".yml"))), None)
    if swapped is not None and policy.suffix not in (".yaml", ".yml"):
        raise click.UsageError(
            f"{policy} is no policy, and {swapped} may be one; write: stoplist trial {swapped} {policy}"
        )
    if output.file is not None and not output.file.absolute().parent.is_dir():
        raise click.UsageError(f"-o {output.file}: there is no such folder; make it, or name another")
    if inputs.count("-") > 1:
        raise click.UsageError("stdin can be read once; name '-' once")
    tried = trying.run(
        trying.TrialOptions(policy, inputs, log_format, column, known, exact, reveal),
        sys.stdin.buffer,
        clock.now(),
        lambda batches, total: progress.shown(batches, "reading", total, lambda batch: batch.consumed, every=1),
    )
    is_private = exact or reveal
    output.write(
        trial_formats.FORMATS[output.format](tried.trial),
        f"{number(len(tried.trial.days), 'day')}, {number(len(inputs), 'input')}",
        mode=files.PRIVATE if is_private else files.PUBLIC,
    )
    for warning in tried.warnings:
        click.echo(f"warning: {warning}", err=True)
    if is_private:
        click.echo(f"warning: {trial_words.REVEALED if reveal else trial_words.EXACT}", err=True)
    for unparsable in tried.unparsable:
        first = f", the first: {', '.join(map(str, unparsable.told))}" if unparsable.told else ""
        click.echo(f"{unparsable.name}: {number(unparsable.lines, 'unparsable line')}{first}", err=True)
    for fault in tried.faults:
        click.echo(str(fault), err=True)
    if tried.faults:
        raise click.exceptions.Exit(1)
