"""The command line: arguments, printing, exit codes; no logic.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 refused, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from stoplist import __version__, loading
from stoplist.core.hosts import HostError
from stoplist.core.policy import ListenAddress
from stoplist.core.signedlist import ListHeader, format_time
from stoplist.errors import StoplistError
from stoplist.tools import check as checking
from stoplist.tools import publish, scaffold
from stoplist.tools import status as remembered

_FILE = click.Path(path_type=Path)


class _Command(click.Command):
    """A command whose help ends in an example, and whose errors say what to do."""

    def __init__(self, name: str, *, example: str, **kwargs: Any) -> None:
        super().__init__(name, epilog=f"\b\nExample:\n  {example}", **kwargs)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StoplistError as error:
            click.echo(str(error), err=True)
            context.exit(1)


class _Group(click.Group):
    command_class = _Command


class _Listen(click.ParamType[ListenAddress]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> ListenAddress:
        try:
            return ListenAddress.parse(value)
        except (ValueError, HostError):
            self.fail(f"{value!r} is not HOST:PORT; write, for example, 127.0.0.1:8080", param, context)


class _Expiry(click.ParamType[datetime]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> datetime:
        try:
            return publish.parse_expiry(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write, for example, 2027-01-31", param, context)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stoplist")
def main() -> None:
    """An egress proxy that stops the domains of a signed list, and records nobody."""


@main.command(example="stoplist run school.yaml --listen 127.0.0.1:3128")
@click.argument("policy", type=_FILE, required=False)
@click.option("--listen", type=_Listen(), help="Listen here, not where the policy says. Port 0: any free one.")
@click.option("--state-dir", type=_FILE, help="Where the gate keeps its CA and what it remembers of lists.")
def run(policy: Path | None, listen: ListenAddress | None, state_dir: Path | None) -> None:
    """Run the gate with POLICY, or with the demo policy."""
    if policy is None:
        policy = loading.demo_policy()
        click.echo(f"stoplist: demo policy {policy}; its keys are public: for trying out only", err=True)
    text = loading.read_policy(policy)
    from stoplist.proxy import runner

    runner.run(policy, listen or text.policy.listen, state_dir or loading.default_state_dir())


@main.command(example="stoplist check school.yaml")
@click.argument("policy", type=_FILE)
def check(policy: Path) -> None:
    """Validate POLICY with its lists, keys and tests, and print a summary."""
    loaded = checking.check(policy)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    ruleset = loaded.ruleset
    for signed, verdict in ruleset.entries:
        click.echo(
            f"list {signed.header.list}: serial {signed.header.serial}, {_number(signed.header.count, 'domain')}, "
            f"expires {format_time(signed.header.expires)}, signed by {_number(len(signed.signers), 'trusted key')}, "
            f"{'enforced' if verdict.action == 'stop' else 'observed'}"
        )
    click.echo(f"{_number(len(ruleset.policy.exceptions), 'exception')}")
    click.echo(f"{_number(len(ruleset.policy.tests), 'test')} passed")
    click.echo(f"{policy}: fine")


@main.command(example="stoplist lookup school.yaml www.listed.example")
@click.argument("policy", type=_FILE)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def lookup(policy: Path, hosts: tuple[str, ...], as_json: bool) -> None:
    """Say what becomes of each HOST under POLICY, and why."""
    for answer in checking.lookup(policy, list(hosts)):
        verdict = answer.verdict
        if as_json:
            click.echo(json.dumps({"host": answer.asked, **dataclasses.asdict(verdict)}))
        else:
            by = f" ({verdict.list}, serial {verdict.serial})" if verdict.list else ""
            click.echo(f"{answer.asked}: {verdict.action}, {verdict.reason}{by}")


@main.command(example="stoplist init my-gate")
@click.argument("folder", metavar="DIR", type=_FILE)
def init(folder: Path) -> None:
    """Write a working set to edit into DIR: policy, keys, list key, demo list."""
    for name in scaffold.make(folder, loading.now()):
        click.echo(str(folder / name))
    click.echo(
        f"Next: edit {folder / 'policy.yaml'} and {folder / 'domains.txt'}, "
        f"then 'stoplist run {folder / 'policy.yaml'}'.\n"
        f"A gate needs only the .pub files of {folder / 'keys'}: keep the private keys elsewhere.",
        err=True,
    )


@main.command(example="stoplist status school.yaml")
@click.argument("policy", type=_FILE)
@click.option("--state-dir", type=_FILE, help="The gate's --state-dir.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each list, one a line.")
def status(policy: Path, state_dir: Path | None, as_json: bool) -> None:
    """Say what is in force, refused and held for the lists of POLICY; exit 1 if a person is needed."""
    found = remembered.status(policy, state_dir or loading.default_state_dir(), loading.now())
    for entry in found:
        if as_json:
            click.echo(json.dumps(_status_fields(entry)))
        else:
            _print_status(entry)
    if any(entry.needs for entry in found):
        raise click.exceptions.Exit(1)


@main.group(name="list", cls=_Group)
def list_() -> None:
    """Make keys and lists."""


@list_.command(example="stoplist list keygen authority")
@click.argument("keyfile", type=_FILE, required=False)
@click.option("--list-key", metavar="FILE", type=_FILE, help="Make a list key instead.")
@click.option("--force", is_flag=True, help="Overwrite an existing key.")
def keygen(keyfile: Path | None, list_key: Path | None, force: bool) -> None:
    """Make a signing key, KEYFILE and KEYFILE.pub, or a list key."""
    if (keyfile is None) == (list_key is None):
        raise click.UsageError("name either KEYFILE or --list-key FILE")
    if keyfile is not None:
        publish.make_signing_key(keyfile, force=force)
        click.echo(f"{keyfile}\n{keyfile}.pub")
    elif list_key is not None:
        publish.make_list_key(list_key, force=force)
        click.echo(f"{list_key}")


@list_.command(
    example="stoplist list build domains.txt --list demo --serial 2 --expires 2027-01-31 "
    "--list-key demo.listkey --sign-with authority -o demo.stoplist"
)
@click.argument("domains", type=click.File(encoding="utf-8"))
@click.option("--list", "list_id", metavar="ID", required=True, help="The list's name.")
@click.option("--serial", type=click.IntRange(min=1), required=True, help="Higher than that of the list before.")
@click.option("--expires", type=_Expiry(), required=True, help="The last day, or an RFC 3339 time.")
@click.option("--list-key", type=_FILE, required=True, help="The list key of the recipient.")
@click.option("--sign-with", "signers", type=_FILE, multiple=True, required=True, help="A private key; repeatable.")
@click.option("--recipient", default="", metavar="NAME", help="Whom this copy is made for.")
@click.option("-o", "--output", type=_FILE, required=True, help="The list file to write.")
def build(
    domains: TextIO,
    list_id: str,
    serial: int,
    expires: datetime,
    list_key: Path,
    signers: tuple[Path, ...],
    recipient: str,
    output: Path,
) -> None:
    """Build a signed list from DOMAINS: one a line, '#' begins a comment; '-' is stdin."""
    read = publish.read_domains(domains, domains.name)
    header = publish.build_list(
        read,
        list_id=list_id,
        serial=serial,
        expires=expires,
        list_key=list_key,
        signers=signers,
        recipient=recipient,
        output=output,
        now=loading.now(),
    )
    click.echo(
        f"{output}: {_number(header.count, 'domain')}, signed by {_number(len(signers), 'key')} "
        f"({_number(read.duplicates, 'duplicate')} and {read.covered} covered by a parent left out)"
    )


@list_.command(example="stoplist list sign demo.stoplist --sign-with operator")
@click.argument("file", type=_FILE)
@click.option("--sign-with", "signer", type=_FILE, required=True, help="A private key.")
def sign(file: Path, signer: Path) -> None:
    """Add a signature to the list FILE."""
    header = publish.sign_list(file, signer)
    click.echo(f"{file}: signed list {header.list}, serial {header.serial}, {_number(header.count, 'domain')}")


@list_.command(example="stoplist list verify demo.stoplist --trusted-key authority.pub --threshold 1")
@click.argument("file", type=_FILE)
@click.option("--trusted-key", "trusted", type=_FILE, multiple=True, required=True, help="A public key; repeatable.")
@click.option("--threshold", type=click.IntRange(min=1), required=True, help="How many of them must have signed.")
def verify(file: Path, trusted: tuple[Path, ...], threshold: int) -> None:
    """Verify the list FILE: form, signatures, times and order."""
    verified = publish.verify_list(file, trusted, threshold, loading.now())
    header = verified.header
    click.echo(
        f"{file}: fine; list {header.list}, serial {header.serial}, {_number(header.count, 'domain')}, "
        f"expires {format_time(header.expires)}, signed by {_number(len(verified.signers), 'trusted key')}"
    )


@list_.command(example="stoplist list show demo.stoplist")
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Print the header and the signers of the list FILE, unverified; never its entries."""
    envelope = publish.read_envelope(file)
    fields = _header_fields(envelope.header)
    signers = [signature.keyid for signature in envelope.signatures]
    if as_json:
        click.echo(json.dumps({**fields, "signers": signers}))
        return
    for name, value in fields.items():
        click.echo(f"{name}: {value}")
    for signer in signers:
        click.echo(f"signer: {signer}")


@list_.command(example="stoplist list release school.yaml --serial 7")
@click.argument("policy", type=_FILE)
@click.option("--serial", type=click.IntRange(min=1), required=True, help="The serial of the held list.")
@click.option("--state-dir", type=_FILE, help="The gate's --state-dir.")
def release(policy: Path, serial: int, state_dir: Path | None) -> None:
    """Let a list come into force that the guard of POLICY holds. Look at it with its publisher first."""
    held = remembered.release(policy, serial, state_dir or loading.default_state_dir(), loading.now())
    click.echo(f"list {held.list}: serial {held.serial} is released; it was held because {_reason(held.why)}")


def _reason(why: str) -> str:
    return why.partition(": ")[2] or why


def _status_fields(entry: remembered.ListStatus) -> dict[str, object]:
    in_force, refusal, held = entry.in_force, entry.refusal, entry.held
    return {
        "file": str(entry.file),
        "in_force": None
        if in_force is None
        else {
            **_header_fields(in_force.header),
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


def _print_status(entry: remembered.ListStatus) -> None:
    click.echo(f"{entry.file}")
    if in_force := entry.in_force:
        header = in_force.header
        click.echo(
            f"  list {header.list}: serial {header.serial}, {_number(header.count, 'domain')}, issued "
            f"{format_time(header.issued)} ({_number(entry.age.days, 'day')} old), "
            f"expires {format_time(header.expires)}"
        )
        click.echo(f"  in force since {in_force.since}, signed by")
        for signer in in_force.signers:
            click.echo(f"    {signer}")
    if held := entry.held:
        click.echo(f"  held since {held.since}: {held.why}")
    if refusal := entry.refusal:
        click.echo(f"  refused on {refusal.time}: {refusal.why}")
    click.echo(f"  needs a person: {'; '.join(entry.needs)}" if entry.needs else "  fine")


def _header_fields(header: ListHeader) -> dict[str, object]:
    fields = dataclasses.asdict(header)
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
