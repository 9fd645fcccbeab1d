"""The CA of the stop pages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal

import click
from cryptography.x509 import Certificate

from stoplist import clock, files
from stoplist.certificates import name_of
from stoplist.cli.base import FILE, STATE_DIR, Command, pasteable, state_dir_of
from stoplist.cli.output_options import format_of_file
from stoplist.cli.printing import printable
from stoplist.core.times import format_time
from stoplist.tools.status import ca as authorities
from stoplist.tools.status import ca_formats


@click.command(cls=Command, example="stoplist ca school.yaml --export mobileconfig -o stop-page.mobileconfig")
@click.argument("policy", type=FILE)
@click.option("--state-dir", metavar="DIR", type=FILE, help=STATE_DIR)
@click.option(
    "--export",
    "wanted",
    type=click.Choice(list(ca_formats.FORMATS)),
    help="Write the file that clients need to trust the CA: pem or der for most systems, mobileconfig for Apple, reg "
    "for Windows.",
)
@click.option(
    "--which",
    type=click.Choice(["current", "next"]),
    help="Export only the current CA, or only the next one. Default: both, if there is a next one.",
)
@click.option("-o", "--output", metavar="FILE", type=FILE, help="Export to FILE, in the format that its name ends in.")
@click.option("--create", is_flag=True, help="Make the CA of a gate that has not run yet.")
@click.option("--renew", is_flag=True, help="Make the next CA. The current one stays in force.")
@click.option("--switch", is_flag=True, help="Put the next CA in force. A running gate loads it by itself.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ca(
    policy: Path,
    state_dir: Path | None,
    wanted: str | None,
    which: Literal["current", "next"] | None,
    output: Path | None,
    create: bool,
    renew: bool,
    switch: bool,
    as_json: bool,
) -> None:
    """Show, export or replace the CA of POLICY.

    To replace it without a gap: make the next CA (--renew), have clients trust both, then switch (--switch).
    """
    folder, now = state_dir_of(policy, state_dir), clock.now()
    if (wanted is not None) + create + renew + switch > 1:
        raise click.UsageError("use only one of --export, --create, --renew and --switch")
    if wanted is None and output is not None and not (create or renew or switch):
        wanted = format_of_file(output, list(ca_formats.FORMATS))
    if wanted is None:
        if which or output:
            raise click.UsageError("--which and -o need --export: add it, or leave them out")
        makes = authorities.create if create else authorities.renew if renew else authorities.switch if switch else None
        _say_ca((makes or authorities.show)(policy, folder, now), as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json and --export cannot be combined; leave out one of the two")
    if output is None and wanted in ("der", "reg") and sys.stdout.isatty():
        raise click.UsageError(f"{wanted} is not printed to a terminal; name a file: -o stop-page.{wanted}")
    data = authorities.export(policy, folder, wanted, which, now)
    if output is None:
        click.echo(data, nl=False)
    else:
        files.write(output, data, mode=files.PUBLIC, replace=True)
        click.echo(f"{output}")


def _say_ca(found: authorities.Overview | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"ca": ca_fields(found), "needs": list(found.needs) if found else []}))
    elif found is None:
        click.echo("this policy uses no CA ('https: refuse'), so clients need none")
    else:
        click.echo(f"{found.file}")
        click.echo(f"  name: {printable(name_of(found.certificate))}")
        click.echo(f"  SHA-256: {_in_pairs(ca_formats.fingerprint(found.certificate))}")
        click.echo(f"  ends: {format_time(found.ends)}")
        if found.following is not None:
            click.echo(f"  next: {printable(name_of(found.following))}, ends {_end_of(found.following)}")
            click.echo(f"  SHA-256: {_in_pairs(ca_formats.fingerprint(found.following))}")
        click.echo(f"  {pasteable(_what_to_trust(found))}")
        for need in found.needs:
            click.echo(f"  needs a person: {pasteable(need)}")


def _what_to_trust(found: authorities.Overview) -> str:
    if found.following is not None:
        return "clients must trust both CAs; when they do, run: stoplist ca POLICY --switch"
    if found.certificate in found.trusted:
        return "clients must trust it; to export it, run: stoplist ca POLICY -o ca.mobileconfig (or .pem, .der, .reg)"
    root = name_of(found.trusted[-1]) if found.trusted else found.certificate.issuer.rfc4514_string()
    return f"clients must trust the root above it: {printable(root)}"


def ca_fields(found: authorities.Overview | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "file": str(found.file),
        **_certificate_fields(found.certificate),
        "ends": format_time(found.ends),
        "next": _certificate_fields(found.following) if found.following is not None else None,
        "trust": [_certificate_fields(each) for each in found.trusted],
    }


def _certificate_fields(certificate: Certificate) -> dict[str, object]:
    return {
        "name": name_of(certificate),
        "sha256": ca_formats.fingerprint(certificate),
        "ends": _end_of(certificate),
    }


def _end_of(certificate: Certificate) -> str:
    return format_time(certificate.not_valid_after_utc)


def _in_pairs(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)).upper()
