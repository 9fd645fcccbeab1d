"""Policies: check one, look up hosts in it, begin one, see its stop page."""

from __future__ import annotations

import io
import json
import shlex
import sys
from datetime import date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from stoplist import clock, files
from stoplist.cli.base import FILE, Command
from stoplist.cli.output_options import Output, output_options
from stoplist.cli.printing import number
from stoplist.core.addresses import Address
from stoplist.core.decide import Action
from stoplist.errors import Problems, StoplistError
from stoplist.tools.policies import check as checking
from stoplist.tools.policies import lookup as asking
from stoplist.tools.policies import page_preview, problem_output, scaffold
from stoplist.tools.policies import schema as schemas


class _Moment(click.ParamType[date]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> date:
        try:
            if len(value) == len("2026-01-31"):
                return date.fromisoformat(value)
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError
            return moment
        except ValueError:
            self.fail(f"{value!r} is no time; write, for example, 2027-01-31 or 2027-01-31T12:00:00Z", param, context)


class _ClientAddress(click.ParamType[Address]):
    name = "ADDRESS"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Address:
        try:
            return ip_address(str(value).partition("%")[0])
        except ValueError:
            self.fail(f"{value!r} is no address; write, for example, 10.0.0.7", param, context)


@click.command(cls=Command, example="stoplist check school.yaml --diff /etc/stoplist/school.yaml")
@click.argument("policies", metavar="POLICY...", type=FILE, nargs=-1, required=True)
@click.option(
    "--diff",
    "running",
    metavar="RUNNING",
    type=FILE,
    help="Show the changes compared with RUNNING, the policy in force.",
)
@click.option(
    "--state-dir",
    metavar="DIR",
    type=FILE,
    help="The gate's state directory: also check that the gate would take up the lists. Default: the policy's "
    "'state_dir', if there is a state.",
)
@output_options(
    *("text", "json", "sarif"),
    help_text="json: one object per policy, each on its own line. sarif: SARIF 2.1.0, for code scanning.",
)
def check(policies: tuple[Path, ...], running: Path | None, state_dir: Path | None, output: Output) -> None:
    """Check policies with lists, keys and tests."""
    now = clock.now()
    findings = [checking.check(policy, running, state_dir, now=now) for policy in policies]
    problems = [problem for finding in findings for problem in finding.problems]
    warnings = [warning for finding in findings for warning in finding.warnings]
    if output.format == "sarif":
        click.echo(json.dumps(problem_output.as_sarif(problems, warnings), indent=2))
    elif output.is_json:
        for finding in findings:
            click.echo(json.dumps(checking.as_fields(finding)))
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        for line in (line for finding in findings for line in checking.as_lines(finding)):
            click.echo(line)
        if problems:
            raise Problems(problems)
    if problems:
        raise click.exceptions.Exit(1)


@click.command(cls=Command, example="stoplist lookup school.yaml www.listed.example https://library.example/ --explain")
@click.argument("policy", type=FILE)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option("--explain", "explained", is_flag=True, help="Print every step of each decision, and its result.")
@click.option(
    "--at", metavar="TIME", type=_Moment(), help="Decide as of this time: a date (its beginning) or an RFC 3339 time."
)
@click.option("--client", type=_ClientAddress(), help="Also show whether the gate serves a client with this address.")
@click.option(
    "--expect",
    "expected",
    type=click.Choice([each.value for each in Action]),
    help="Exit with 1 unless the decision for each HOST is this one.",
)
@output_options("text", "json", help_text="json: one object per host, each on its own line.")
def lookup(
    policy: Path,
    hosts: tuple[str, ...],
    explained: bool,
    at: date | None,
    client: Address | None,
    expected: str | None,
    output: Output,
) -> None:
    """Show what POLICY decides for each HOST.

    A HOST may be a URL. '-' reads hosts from stdin, one per line.
    """
    asker = asking.HostLookup.of(policy, at, client, now=clock.now())
    write = asking.as_json if output.is_json else asking.as_text
    if client is not None and not output.is_json:
        served = f"served{', and only observed' if asker.observes else ''}"
        click.echo(f"client {client}: {served if asker.served else 'not served, the gate closes its connection'}")
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()  # a service may have closed it
    unexpected = 0
    for batch in asking.batches(hosts, stdin):
        click.echo(write(asker, batch, explained=explained), nl=False)
        if expected is not None:
            unexpected += sum(asker.verdict(host).action.value != expected for host in batch)
    if unexpected:
        raise StoplistError(
            f"the decision for {number(unexpected, 'host')} is not {expected!r}",
            hint="see the lines above, and --explain",
            place=str(policy),
        )


@click.command(cls=Command, example="stoplist schema > policy.schema.json")
def schema() -> None:
    """Print the JSON Schema of a policy.

    Editors use it to complete and check what you write.

    'stoplist init' writes it beside the policy.
    """
    click.echo(schemas.text(), nl=False)


@click.command(cls=Command, example="stoplist init my-gate --for school")
@click.argument("folder", metavar="DIR", type=FILE)
@click.option(
    "--for",
    "purpose",
    type=click.Choice(list(scaffold.PURPOSES)),
    default="demo",
    show_default=True,
    help="What the policy is for. trial: it observes, and stops nothing yet.",
)
def init(folder: Path, purpose: str) -> None:
    """Write a working example into DIR.

    It has a policy, keys and a demo list.
    """
    for name in scaffold.make(folder, clock.now(), purpose):
        click.echo(str(folder / name))
    click.echo(
        f"Next: edit {folder / 'policy.yaml'} and {folder / 'domains.txt'}, then run:\n"
        f"  stoplist run {shlex.quote(str(folder / 'policy.yaml'))}\n"
        f"A gate needs only the .pub files of {folder / 'keys'}: keep the private keys elsewhere.",
        err=True,
    )


@click.command(cls=Command, example="stoplist page school.yaml --lang fr -o page.html")
@click.argument("policy", type=FILE)
@click.option(
    "--lang", "language", metavar="TAG", help="The language of the page. Default: the first language of the policy."
)
@click.option("--country", metavar="CC", help="Include the help lines of this country.")
@click.option("--messages", is_flag=True, help="Write a PO template for a new language, instead of the page.")
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Write to FILE instead of stdout.")
def page(policy: Path, language: str | None, country: str | None, messages: bool, output: Path | None) -> None:
    """Show the stop page of POLICY.

    It is the page that clients see. No gate needs to run.
    """
    data = page_preview.messages() if messages else page_preview.html(policy, language, country)
    if output is None:
        click.echo(data, nl=False)
    else:
        files.write(output, data, mode=files.PUBLIC, replace=True)
        click.echo(f"{output}: {len(data)} bytes")
