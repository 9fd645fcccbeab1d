"""The lists that a gate has in force, refused and held, and the status of its CA."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import click

from stoplist import clock
from stoplist.certificates import name_of
from stoplist.cli.base import FILE, STATE_DIR, Command, pasteable, state_dir_of
from stoplist.cli.ca import ca_fields
from stoplist.cli.output_options import Output, output_options
from stoplist.cli.printing import header_fields, number, printable
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.state_records import CHANGED, EXCEPTIONS, Entry
from stoplist.tools.policies import trusted_keys
from stoplist.tools.status import ca as authorities
from stoplist.tools.status import lists as remembered
from stoplist.tools.status import running_gate


@click.command(cls=Command, example="stoplist status school.yaml")
@click.argument("policy", type=FILE)
@click.option("--state-dir", type=FILE, help=STATE_DIR)
@click.option(
    "--journal",
    type=click.IntRange(min=1),
    metavar="[N]",
    is_flag=False,
    flag_value=20,
    help="Show the last N entries of the journal instead, or the last 20.",
)
@output_options(
    *("text", "json"),
    help_text="json: one object per line, for each list, each exception, the gate and the CA. With --journal: for each "
    "entry.",
)
@click.option(
    "--watch",
    "is_watched",
    is_flag=True,
    help="Show lists, workers, throughput and faults, and refresh every 2 s until 'q'. If stdout is no terminal, show "
    "once.",
)
def status(policy: Path, state_dir: Path | None, journal: int | None, output: Output, is_watched: bool) -> None:
    """Show lists, gate and CA of POLICY.

    It shows exceptions as well, and for each list the serial in force, and the file that is refused or held. The exit
    code is 1 if something needs a person, or if no gate is running.
    """
    as_json = output.is_json
    if is_watched and (as_json or journal is not None):
        raise click.UsageError("--watch cannot be combined with --json or --journal; leave these out")
    folder = state_dir_of(policy, state_dir)
    if journal is not None:
        names = trusted_keys.names_in(policy)
        for noted in remembered.journal(policy, folder, journal):
            click.echo(json.dumps(dataclasses.asdict(noted)) if as_json else _journal_line(noted, names))
        return
    if is_watched:
        _watch(policy, folder)
        return
    found, names = remembered.status(policy, folder, clock.now()), trusted_keys.names_in(policy)
    for entry in found:
        if as_json:
            click.echo(json.dumps(_status_fields(entry)))
        else:
            _print_status(entry, names)
    for exception in remembered.exceptions(policy, clock.now()):
        _say_exception(exception, as_json=as_json)
    needs = [need for entry in found for need in entry.needs]
    needs += _say_gate_status(folder, as_json=as_json)
    needs += _say_ca_status(policy, folder, as_json=as_json)
    if needs:
        raise click.exceptions.Exit(1)


def _journal_line(entry: Entry, names: Mapping[str, str]) -> str:
    of_policy = "exception" if entry.result in EXCEPTIONS else "policy" if entry.result == CHANGED else ""
    what = f"list {entry.list} serial {entry.serial}" if entry.list else of_policy
    signers = ", ".join(trusted_keys.named(signer, names) for signer in entry.signers)
    signed = f"signed by {signers}" if signers else ""
    return "  ".join(part for part in (entry.time, entry.result, what, entry.why, signed) if part)


def _status_fields(entry: remembered.ListStatus) -> dict[str, object]:
    in_force, refusal, held = entry.in_force, entry.refusal, entry.held
    return {
        "file": str(entry.file),
        "mode": "enforce" if entry.is_enforced else "observe",
        "in_force": None
        if in_force is None
        else {
            **header_fields(in_force.header),
            "age_seconds": int(entry.age.total_seconds()),
            "signers": in_force.signers,
            "since": in_force.since,
        },
        "refused": None if refusal is None else {"time": refusal.time, "why": refusal.why},
        "held": None
        if held is None
        else {"list": held.list, "serial": held.serial, "since": held.since, "why": held.why},
        "needs": entry.needs,
    }


def _print_status(entry: remembered.ListStatus, names: Mapping[str, str]) -> None:
    click.echo(f"{entry.file}")
    if in_force := entry.in_force:
        header = in_force.header
        click.echo(
            f"  list {header.list}: serial {header.serial}, {number(header.count, 'domain')}, issued "
            f"{format_time(header.issued)} ({number(entry.age.days, 'day')} old), "
            f"expires {format_time(header.expires)}"
        )
        mode = "enforced" if entry.is_enforced else "observed"
        click.echo(f"  in force since {in_force.since}, {mode}, signed by")
        for signer in in_force.signers:
            click.echo(f"    {trusted_keys.named(signer, names)}")
    if held := entry.held:
        click.echo(f"  held since {held.since}: {held.why}")
    if refusal := entry.refusal:
        click.echo(f"  refused on {refusal.time}: {refusal.why}")
    click.echo(f"  needs a person: {'; '.join(entry.needs)}" if entry.needs else "  fine")


def _watch(policy: Path, state_dir: Path) -> None:
    from rich.console import Console

    from stoplist.tools.status import watch, watch_screen

    console = Console(highlight=False, markup=False)
    try:
        last = watch_screen.show(lambda: watch.look(policy, state_dir, clock.now()), console)
    except KeyboardInterrupt:
        return
    if last.needs and not console.is_terminal:
        raise click.exceptions.Exit(1)


def _say_exception(exception: remembered.ExceptionStatus, *, as_json: bool) -> None:
    if as_json:
        fields = {
            "exception": exception.number,
            "place": exception.place,
            "reason": exception.reason,
            "until": exception.until.isoformat(),
            "ended": exception.has_ended,
            "needs": [],
        }
        click.echo(json.dumps(fields))
        return
    click.echo(f"{exception.place}")
    click.echo(f"  exceptions[{exception.number}]: {printable(exception.reason)}, to the end of {exception.until}")
    click.echo("  ended, and ignored; remove it from the policy" if exception.has_ended else "  open")


def _say_gate_status(state_dir: Path, *, as_json: bool) -> list[str]:
    """Print which gate uses the state directory, after the lists; return the matters that need a person."""
    found = running_gate.status(state_dir)
    needs = list(found.needs)
    if as_json:
        gate = dataclasses.asdict(found.gate) if found.gate is not None else None
        click.echo(json.dumps({"gate": gate, "needs": needs}))
        return needs
    click.echo(f"{state_dir}")
    if found.gate is not None:
        click.echo(f"  gate: {found.gate}")
    click.echo(f"  needs a person: {pasteable('; '.join(needs))}" if needs else "  fine")
    return needs


def _say_ca_status(policy: Path, state_dir: Path, *, as_json: bool) -> list[str]:
    """Print the status of the CA, after the lists; return the matters that need a person."""
    found, needs = None, []
    try:
        found = authorities.status(policy, state_dir, clock.now())
    except StoplistError as error:
        needs = [str(error)]
    else:
        needs = list(found.needs) if found is not None else []
    if as_json:
        click.echo(json.dumps({"ca": ca_fields(found), "needs": needs}))
    elif found is not None or needs:
        if found is not None:
            click.echo(f"{found.file}\n  CA {printable(name_of(found.certificate))}, ends {format_time(found.ends)}")
        else:
            click.echo("CA")
        click.echo(f"  needs a person: {pasteable('; '.join(needs))}" if needs else "  fine")
    return needs
