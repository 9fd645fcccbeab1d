"""Keys and lists: a publisher makes them, and an operator lets lists into force."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import click

from stoplist import clock
from stoplist.cli.base import FILE, STATE_DIR, Group, state_dir_of
from stoplist.cli.output_options import Output, output_options
from stoplist.cli.printing import header_fields, number, printable
from stoplist.core.times import format_time
from stoplist.errors import StoplistError
from stoplist.tools import progress
from stoplist.tools.publishing import domains as read
from stoplist.tools.publishing import publish, signers


class _Expiry(click.ParamType[datetime]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> datetime:
        try:
            return publish.parse_expiry(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write, for example, 2099-12-31", param, context)


class _Serial(click.ParamType["int | None"]):
    """A serial; None for the next one."""

    name = "N|next"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | None:
        if value == "next":
            return None
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is no serial; write a number from 1, or 'next'", param, context)
        return int(value)


def _sign_with(*, multiple: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that name private keys: several of them if `multiple`."""
    more = " Repeatable." if multiple else ""
    private = click.option(
        "--sign-with",
        "private_keys",
        metavar="KEY",
        multiple=multiple,
        required=True,
        help=f"A private key: a PEM file, or a URI such as 'hsm:2?label=TOKEN'.{more}",
    )
    public = click.option(
        "--public-key",
        "public_keys",
        metavar="FILE",
        type=FILE,
        multiple=multiple,
        help=f"The PEM public key for a URI{', in the order of the URIs' if multiple else ''}.{more}",
    )
    return lambda command: private(public(command))


def _signing_keys(private_keys: Sequence[str], public_keys: Sequence[Path]) -> list[signers.SigningKey]:
    try:
        pairs = signers.pair(private_keys, public_keys)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return [signers.open_key(name, public_key, _ask) for name, public_key in pairs]


def _ask(secret: str) -> str:
    if not sys.stdin.isatty():
        raise StoplistError(f"no {secret}", hint=f"set {signers.PIN_VARIABLE}, or run this in a terminal")
    return str(click.prompt(f"The {secret}", hide_input=True, err=True))


@click.group(name="list", cls=Group, example="stoplist list show demo.stoplist")
def lists() -> None:
    """Make keys; build, sign and verify lists."""


@lists.command(example="stoplist list keygen authority")
@click.argument("keyfile", type=FILE, required=False)
@click.option("--list-key", metavar="FILE", type=FILE, help="Make a list key instead.")
@click.option("--force", is_flag=True, help="Overwrite an existing key.")
def keygen(keyfile: Path | None, list_key: Path | None, force: bool) -> None:
    """Make a signing key, or a list key.

    KEYFILE is the private key, and KEYFILE.pub the public one.
    """
    if (keyfile is None) == (list_key is None):
        raise click.UsageError("name either KEYFILE or --list-key FILE")
    if keyfile is not None:
        publish.make_signing_key(keyfile, force=force)
        click.echo(f"{keyfile}\n{keyfile}.pub")
    elif list_key is not None:
        publish.make_list_key(list_key, force=force)
        click.echo(f"{list_key}")


@lists.command(
    example="stoplist list build domains.txt --list demo --serial next --expires 2099-12-31 "
    "--list-key demo.listkey --sign-with authority --diff before.stoplist -o demo.stoplist"
)
@click.argument("domains", type=click.File("rb"))
@click.option(
    "--column", metavar="NAME", help="The column that holds the domains. DOMAINS is then CSV with a header row."
)
@click.option(
    "--allow-suffix",
    "allowed",
    metavar="NAME",
    multiple=True,
    help="Allow this public suffix in the list, and so everything below it. Repeatable.",
)
@click.option("--list", "list_id", metavar="ID", required=True, help="The name of the list.")
@click.option(
    "--serial",
    type=_Serial(),
    required=True,
    help="The serial: a number higher than that of OLD and of the file to be replaced, or 'next' for one higher.",
)
@click.option(
    "--expires", type=_Expiry(), required=True, help="The last day on which the list is valid, or an RFC 3339 time."
)
@click.option("--list-key", type=FILE, required=True, help="The list key of the recipient.")
@_sign_with(multiple=True)
@click.option("--recipient", default="", metavar="NAME", help="The name of the recipient of this copy.")
@click.option("--diff", "old", metavar="OLD", type=FILE, help="Show the changes since OLD, the previous list file.")
@click.option("-o", "--output", type=FILE, required=True, help="The list file to write.")
@click.option(
    "--force",
    is_flag=True,
    help="Write the list even if its serial is not higher, or if it drops a signature of the list that it replaces.",
)
def build(
    domains: BinaryIO,
    column: str | None,
    allowed: tuple[str, ...],
    list_id: str,
    serial: int | None,
    expires: datetime,
    list_key: Path,
    private_keys: tuple[str, ...],
    public_keys: tuple[Path, ...],
    recipient: str,
    old: Path | None,
    output: Path,
    force: bool,
) -> None:
    """Build a signed list from DOMAINS.

    The file DOMAINS has one domain per line; '#' begins a comment. '-' is stdin.
    """
    keys = _signing_keys(private_keys, public_keys)
    lines = progress.shown(read.as_text(domains), "reading", progress.size_of(domains), read.bytes_of)
    found = read.read_domains(lines, domains.name, column=column, allowed=allowed)
    built = publish.build_list(
        found,
        list_id=list_id,
        serial=serial,
        expires=expires,
        list_key=list_key,
        signing_keys=keys,
        recipient=recipient,
        output=output,
        now=clock.now(),
        compare_with=old,
        force=force,
        track=lambda names: progress.shown(names, "digesting", len(found.names)),
    )
    click.echo(
        f"{output}: {number(built.header.count, 'domain')}, signed by {number(len(keys), 'key')} "
        f"({number(found.duplicates, 'duplicate')} and {found.covered} covered by a parent left out)"
    )
    if built.comparison is not None:
        click.echo(_compared(built.comparison))


@lists.command(example="stoplist list sign demo.stoplist --sign-with operator --diff before.stoplist")
@click.argument("file", type=FILE)
@_sign_with(multiple=False)
@click.option("--diff", "old", metavar="OLD", type=FILE, help="Show the changes since OLD, the previous list file.")
@click.option("--yes", is_flag=True, help="Sign without asking.")
def sign(file: Path, private_keys: str, public_keys: Path | None, old: Path | None, yes: bool) -> None:
    """Show a list, and add a signature to it.

    On a terminal, the command asks before it signs.
    """
    (key,) = _signing_keys((private_keys,), (public_keys,) if public_keys else ())
    review = publish.review(file, old)
    header = review.header
    for name in ("list", "serial", "issued", "expires", "count", "recipient"):
        click.echo(f"{name}: {header_fields(header)[name]}", err=True)
    for signer in review.signers:
        click.echo(f"signer (unverified): {printable(signer)}", err=True)
    if review.comparison is not None:
        click.echo(_compared(review.comparison), err=True)
    if not yes and sys.stdin.isatty() and not click.confirm("Sign this list?", err=True):
        raise StoplistError("not signed", place=str(file))
    review.sign(key)
    click.echo(f"{file}: signed list {header.list}, serial {header.serial}, {number(header.count, 'domain')}")


@lists.command(example="stoplist list verify demo.stoplist --policy school.yaml")
@click.argument("file", type=FILE)
@click.option("--policy", type=FILE, help="Take the trusted keys and the threshold from this policy.")
@click.option("--trusted-key", "trusted", type=FILE, multiple=True, help="A trusted public key. Repeatable.")
@click.option("--threshold", type=click.IntRange(min=1), help="How many trusted keys must have signed the list.")
def verify(file: Path, policy: Path | None, trusted: tuple[Path, ...], threshold: int | None) -> None:
    """Verify form, signatures and times of a list.

    Name either a policy, or the trusted keys and the threshold.
    """
    if policy is not None and (trusted or threshold):
        raise click.UsageError("--policy names the keys and the threshold: leave out --trusted-key and --threshold")
    if policy is None and not (trusted and threshold):
        raise click.UsageError("name --policy, or --trusted-key and --threshold")
    from stoplist.tools.policies import trusted_keys

    if policy is not None:
        trusted, threshold = trusted_keys.for_list(policy, file)
    verified = publish.verify_list(file, trusted, threshold or 1, clock.now())
    header = verified.header
    click.echo(
        f"{file}: fine; list {header.list}, serial {header.serial}, {number(header.count, 'domain')}, "
        f"expires {format_time(header.expires)}, signed by {number(len(verified.signers), 'trusted key')}"
    )
    names = trusted_keys.names_of(trusted)
    for signer in verified.signers:
        click.echo(f"  {trusted_keys.named(signer, names)}")


@lists.command(example="stoplist list show demo.stoplist")
@click.argument("file", type=FILE)
@output_options("text", "json")
def show(file: Path, output: Output) -> None:
    """Print the header and signers of a list.

    They are not verified. The command never prints the entries.
    """
    envelope = publish.read_envelope(file)
    fields = header_fields(envelope.header)
    signers = [signature.keyid for signature in envelope.signatures]
    if output.is_json:
        click.echo(json.dumps({**fields, "signers": signers}))
        return
    for name, value in fields.items():
        click.echo(f"{name}: {value}")
    for signer in signers:
        click.echo(f"signer: {printable(signer)}")


@lists.command(example="stoplist list release school.yaml --serial 7")
@click.argument("policy", type=FILE)
@click.option("--serial", type=click.IntRange(min=1), required=True, help="The serial of the held list.")
@click.option("--state-dir", type=FILE, help=STATE_DIR)
def release(policy: Path, serial: int, state_dir: Path | None) -> None:
    """Release a list that the guard holds.

    The gate then puts the list in force. Look at the changes with its publisher first.
    """
    from stoplist.tools.status import lists as remembered

    held = remembered.release(policy, serial, state_dir_of(policy, state_dir), clock.now())
    click.echo(f"list {held.list}: serial {held.serial} is released; it was held because {_reason(held.why)}")


def _compared(comparison: publish.Comparison) -> str:
    old, change = comparison.old, comparison.change
    before = f"{comparison.file} (unverified): serial {old.serial}, {number(change.before, 'domain')}"
    if change.same_key:
        return f"against {before}; {change.added} added, {change.removed} removed"
    return (
        f"against {before}, now {change.after}; made with another list key, so additions and removals cannot be counted"
    )


def _reason(why: str) -> str:
    return why.partition(": ")[2] or why
