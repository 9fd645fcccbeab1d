"""The command line: arguments, printing, exit codes; no logic.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 refused, 2 wrong usage; those of `selftest`
are a monitoring plugin's.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import date, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, BinaryIO, Literal

import click
from cryptography.x509 import Certificate

from stoplist import __version__, files, loading
from stoplist.certificates import name_of
from stoplist.core.addresses import Address
from stoplist.core.hosts import CHECK_HOST, Host, HostError, parse_authority
from stoplist.core.policy import ListenAddress
from stoplist.core.signedlist import ListHeader
from stoplist.core.times import format_time
from stoplist.errors import Problems, StoplistError
from stoplist.state import CHANGED, EXCEPTIONS, Entry
from stoplist.tools import ca as authorities
from stoplist.tools import check as checking
from stoplist.tools import domains as read
from stoplist.tools import faults, progress, publish, rendering, scaffold, showing, signers, trust
from stoplist.tools import lookup as asking
from stoplist.tools import report as reporting
from stoplist.tools import rollout as rolling
from stoplist.tools import schema as schemas
from stoplist.tools import selftest as testing
from stoplist.tools import selftests as tested
from stoplist.tools import status as remembered
from stoplist.tools import trial as trying
from stoplist.tools.dial import Proxy
from stoplist.tools.logs import formats

_FILE = click.Path(path_type=Path)
_MAX_WORKERS = 256
_LINE = 160


class _Command(click.Command):
    """A command whose help ends in an example, and whose errors say what to do."""

    refused = 1

    def __init__(self, name: str, *, example: str, **kwargs: Any) -> None:
        super().__init__(name, epilog=f"\b\nExample:\n  {example}", **kwargs)

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except StoplistError as error:
            self.tell(error)
            context.exit(self.refused)

    def tell(self, error: StoplistError) -> None:
        """Say what is wrong, with the line of the file."""
        click.echo(faults.as_text(error, _width(), styled=_has_style()), err=True)


class _Service(_Command):
    """A command whose stderr is a log, one line for each fault, where nobody sits at a terminal."""

    def tell(self, error: StoplistError) -> None:
        if sys.stderr.isatty():
            super().tell(error)
        else:
            click.echo(str(error), err=True)


class _Plugin(_Command):
    """A command whose exit codes are a monitoring plugin's: what keeps it from testing leaves all unknown."""

    refused = testing.State.UNKNOWN.value

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _PluginUsageError(error.format_message(), error.ctx) from None


class _PluginUsageError(click.UsageError):
    exit_code = _Plugin.refused


class _Group(click.Group):
    command_class = _Command


class _Listen(click.ParamType[ListenAddress]):
    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> ListenAddress:
        try:
            return ListenAddress.parse(value)
        except (ValueError, HostError):
            self.fail(f"{value!r} is not HOST:PORT; write, for example, 127.0.0.1:8080", param, context)


class _Workers(click.ParamType[int]):
    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        if value == "auto":
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not str(value).isdecimal() or not 1 <= int(value) <= _MAX_WORKERS:
            self.fail(f"{value!r} is no number from 1 to {_MAX_WORKERS}, and not 'auto'", param, context)
        return int(value)


class _Seconds(click.ParamType[int]):
    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        match = re.fullmatch(r"([0-9]{1,4})(s|m)", str(value))
        if not match:
            self.fail(f"{value!r} is no time; write, for example, 30s or 5m", param, context)
        return int(match[1]) * {"s": 1, "m": 60}[match[2]]


class _Expiry(click.ParamType[datetime]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> datetime:
        try:
            return publish.parse_expiry(value)
        except ValueError:
            self.fail(f"{value!r} is no date; write, for example, 2027-01-31", param, context)


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


class _Day(click.ParamType[date]):
    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> date:
        try:
            return datetime.strptime(value, "%Y-%m-%d").date()
        except ValueError:
            self.fail(f"{value!r} is no date; write, for example, 2026-11-30", param, context)


class _ProxyUrl(click.ParamType[Proxy]):
    name = "URL"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Proxy:
        try:
            return Proxy.parse(value)
        except StoplistError as error:
            self.fail(str(error), param, context)


class _Authority(click.ParamType[tuple[Host, int]]):
    name = "HOST[:PORT]"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[Host, int]:
        try:
            host, port = parse_authority(value)
        except HostError:
            self.fail(f"{value!r} is not HOST or HOST:PORT; write, for example, example.org", param, context)
        return host, port or testing.HTTPS_PORT


class _HostName(click.ParamType[Host]):
    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Host:
        try:
            return Host.parse(value)
        except HostError:
            self.fail(f"{value!r} is no host; write, for example, {CHECK_HOST}", param, context)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stoplist")
def main() -> None:
    """An egress proxy that stops the domains of a signed list, and records nobody."""


@main.command(cls=_Service, example="stoplist run school.yaml --listen 127.0.0.1:3128")
@click.argument("policy", type=_FILE, required=False)
@click.option("--listen", type=_Listen(), help="Listen here, not where the policy says. Port 0: any free one.")
@click.option(
    "--mode",
    "wanted",
    metavar="MODE",
    multiple=True,
    help="How clients come in, as mitmproxy writes it: regular (as without it), upstream:URL, socks5, transparent, "
    "dns, tun, wireguard, local; with @HOST:PORT for an address of its own. Repeatable.",
)
@click.option("--state-dir", type=_FILE, help="Where the gate keeps its CA and what it remembers of lists.")
@click.option(
    "--workers",
    type=_Workers(),
    help="Serve with N processes, or with one for each core (auto), and a supervisor that starts a failed one again, "
    "and takes up new code on SIGHUP. Without it: one process.",
)
@click.option(
    "--drain",
    type=_Seconds(),
    default="30s",
    show_default=True,
    help="How long open connections have to end in, on SIGTERM.",
)
@click.option(
    "--log",
    type=click.Choice(["auto", "human", "json", "syslog"]),
    default="auto",
    show_default=True,
    help="How stderr is written. auto: sentences on a terminal, lines with a severity to journald, JSON otherwise.",
)
def run(
    policy: Path | None,
    listen: ListenAddress | None,
    wanted: tuple[str, ...],
    state_dir: Path | None,
    workers: int | None,
    drain: int,
    log: str,
) -> None:
    """Run the gate with POLICY, or with the demo policy."""
    from stoplist.proxy import modes, quiet, runner

    if policy is None:
        policy = loading.demo_policy()
        if runner.is_started_by_a_person():
            click.echo(f"stoplist: demo policy {policy}; its keys are public: for trying out only", err=True)
    text = loading.read_policy(policy)
    try:
        placed = modes.place(wanted or ("regular",), listen or text.policy.listen)
    except StoplistError as error:
        raise click.BadParameter(str(error), param_hint="'--mode'") from None
    runner.Gate(
        policy,
        text.policy,
        placed,
        state_dir or loading.default_state_dir(),
        workers,
        drain,
        quiet.LogFormat(log),
    ).run()


@main.command(example="stoplist check school.yaml --diff /etc/stoplist/school.yaml")
@click.argument("policies", metavar="POLICY...", type=_FILE, nargs=-1, required=True)
@click.option(
    "--diff", "running", metavar="RUNNING", type=_FILE, help="Say what would change against the policy in force."
)
@click.option(
    "--format",
    "wanted",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="json: one object for each policy, one a line. sarif: SARIF 2.1.0, for code scanning.",
)
def check(policies: tuple[Path, ...], running: Path | None, wanted: str) -> None:
    """Validate each POLICY with its lists, keys and tests, and print a summary."""
    findings = [checking.check(policy, running) for policy in policies]
    problems = [problem for finding in findings for problem in finding.problems]
    warnings = [warning for finding in findings for warning in finding.warnings]
    if wanted == "sarif":
        click.echo(json.dumps(faults.as_sarif(problems, warnings), indent=2))
    elif wanted == "json":
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


@main.command(example="stoplist lookup school.yaml www.listed.example https://library.example/ --explain")
@click.argument("policy", type=_FILE)
@click.argument("hosts", metavar="HOST...", nargs=-1, required=True)
@click.option("--explain", "explained", is_flag=True, help="Print the path of each decision: what was tried, and why.")
@click.option("--at", metavar="TIME", type=_Moment(), help="Judge as of a day (its beginning) or an RFC 3339 time.")
@click.option("--client", type=_ClientAddress(), help="Say whether the gate serves a client with this address.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def lookup(
    policy: Path, hosts: tuple[str, ...], explained: bool, at: date | None, client: Address | None, as_json: bool
) -> None:
    """Say what becomes of each HOST under POLICY, and why.

    A HOST may be a URL; '-' reads them from stdin, one a line.
    """
    asker = asking.Asker.of(policy, at, client)
    write = asking.as_json if as_json else asking.as_text
    if client is not None and not as_json:
        served = f"served{', and only observed' if asker.observes else ''}"
        click.echo(f"client {client}: {served if asker.served else 'not served, it is hung up on'}")
    stdin = sys.stdin.buffer if sys.stdin else io.BytesIO()  # a service may have closed it
    for batch in asking.batches(hosts, stdin):
        click.echo(write(asker, batch, explained=explained), nl=False)


@main.command(example="stoplist schema > policy.schema.json")
def schema() -> None:
    """Print the JSON Schema of a policy, for editors: 'init' writes it beside the policy."""
    click.echo(schemas.text(), nl=False)


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
@click.option(
    "--journal", type=click.IntRange(min=1), metavar="N", help="Show the last N entries of the journal instead."
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object a line, for each list, each exception and the CA, or for each entry.",
)
@click.option(
    "--watch",
    "is_watched",
    is_flag=True,
    help="Show lists, workers, throughput and faults, anew every 2 s, until 'q'; where stdout is no terminal, once.",
)
def status(policy: Path, state_dir: Path | None, journal: int | None, as_json: bool, is_watched: bool) -> None:
    """Say what is in force, refused and held for the lists of POLICY, what it excepts, and how its CA is; exit 1 if a
    person is needed."""
    if is_watched and (as_json or journal is not None):
        raise click.UsageError("--watch is for the eye: leave --json and --journal out")
    if journal is not None:
        for noted in remembered.journal(policy, state_dir or loading.default_state_dir(), journal):
            click.echo(json.dumps(dataclasses.asdict(noted)) if as_json else _journal_line(noted))
        return
    if is_watched:
        _watch(policy, state_dir or loading.default_state_dir())
        return
    found = remembered.status(policy, state_dir or loading.default_state_dir(), loading.now())
    for entry in found:
        if as_json:
            click.echo(json.dumps(_status_fields(entry)))
        else:
            _print_status(entry)
    for exception in remembered.exceptions(policy, loading.now()):
        _say_exception(exception, as_json=as_json)
    needs = [need for entry in found for need in entry.needs]
    needs += _say_ca_status(policy, state_dir or loading.default_state_dir(), as_json=as_json)
    if needs:
        raise click.exceptions.Exit(1)


@main.command(name="ca", example="stoplist ca school.yaml --export mobileconfig -o stop-page.mobileconfig")
@click.argument("policy", type=_FILE)
@click.option("--state-dir", metavar="DIR", type=_FILE, help="The gate's --state-dir.")
@click.option(
    "--export",
    "wanted",
    type=click.Choice(list(trust.FORMATS)),
    help="Write what clients must trust: for most systems (pem, der), Apple's (mobileconfig), Windows' registry (reg).",
)
@click.option(
    "--which",
    type=click.Choice(["current", "next"]),
    help="Export one of the two, where there are two. Without it: both.",
)
@click.option("-o", "--output", metavar="FILE", type=_FILE, help="Export to FILE, and not to stdout.")
@click.option("--renew", is_flag=True, help="Make the next CA beside the current one, which stays in force.")
@click.option("--switch", is_flag=True, help="Put the next CA in force. A running gate takes it up by itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def certificate_authority(
    policy: Path,
    state_dir: Path | None,
    wanted: Literal["pem", "der", "mobileconfig", "reg"] | None,
    which: Literal["current", "next"] | None,
    output: Path | None,
    renew: bool,
    switch: bool,
    as_json: bool,
) -> None:
    """Say who the CA of POLICY is, export it for the clients, and change it without a gap."""
    folder, now = state_dir or loading.default_state_dir(), loading.now()
    if (wanted is not None) + renew + switch > 1:
        raise click.UsageError("--export, --renew and --switch are for one at a time")
    if wanted is None:
        if which or output:
            raise click.UsageError("--which and -o go with --export")
        act = authorities.renew if renew else authorities.switch if switch else authorities.show
        _say_ca(act(policy, folder, now), as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json does not go with --export")
    if output is None and wanted in ("der", "reg") and sys.stdout.isatty():
        raise click.UsageError(f"{wanted} is not for a terminal; name a file: -o stop-page.{wanted}")
    data = authorities.export(policy, folder, wanted, which, now)
    if output is None:
        click.echo(data, nl=False)
    else:
        files.write(output, data, mode=files.PUBLIC, replace=True)
        click.echo(f"{output}")


@main.command(example="stoplist report school.yaml --from 2026-11-01 --to 2026-11-30 -o november.html")
@click.argument("policy", type=_FILE)
@click.option(
    "--from", "since", type=_Day(), help="The first day, in the policy's time zone. Without it: all that is kept."
)
@click.option("--to", "until", type=_Day(), help="The last day. Without it: up to the last period that has closed.")
@click.option(
    "--format",
    "wanted",
    type=click.Choice(list(rendering.FORMATS)),
    help="Without it: as the name of FILE ends, or else a table.",
)
@click.option("-o", "--output", metavar="FILE", type=_FILE, help="Write to FILE, and not to stdout.")
@click.option("--state-dir", metavar="DIR", type=_FILE, help="The gate's --state-dir.")
@click.option(
    "--merge",
    "others",
    metavar="DIR",
    type=_FILE,
    multiple=True,
    help="The --state-dir of a further gate, or a copy of it: its counts are added up with the others. Repeatable.",
)
@click.option(
    "--selftests",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="Lines of 'stoplist selftest --format json': say how many passed, and when one did not. Repeatable.",
)
def report(
    policy: Path,
    since: date | None,
    until: date | None,
    wanted: str | None,
    output: Path | None,
    state_dir: Path | None,
    others: tuple[Path, ...],
    selftests: tuple[Path, ...],
) -> None:
    """Say how many requests were stopped by the lists of POLICY, and when a fresh list was enforced."""
    if since and until and until < since:
        raise click.UsageError(f"--from {since} is after --to {until}; swap the two")
    wanted = wanted or rendering.format_of(output.name if output else "")
    if wanted == "html" and output is None and sys.stdout.isatty():
        raise click.UsageError("a page of HTML is not for a terminal; name a file: -o report.html")
    states = [state_dir or loading.default_state_dir(), *others]
    made, problems = reporting.make(policy, states, since=since, until=until, now=loading.now(), selftests=selftests)
    data = rendering.FORMATS[wanted](made)
    if output is None:
        click.echo(data, nl=False)
    else:
        files.write(output, data, mode=files.PUBLIC, replace=True)
        click.echo(f"{output}: {_number(len(made.periods), made.length)}, {_number(made.gates, 'gate')}")
    for problem in problems:
        said = "warning" if made.policy_tests.passed else "the policy's tests fail"
        click.echo(f"{said}: {problem}", err=True)


@main.command(
    example="stoplist trial school.yaml /var/log/squid/access.log* --known sites.txt --output html -o trial.html"
)
@click.argument("policy", type=_FILE)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--format",
    "wanted",
    metavar="NAME",
    type=click.Choice(formats.NAMES),
    help=f"The format of all inputs: {', '.join(formats.NAMES)}. Without it: as each begins.",
)
@click.option("--column", metavar="NAME", help="The inputs are CSV with a header row: the column that holds the hosts.")
@click.option(
    "--known",
    metavar="FILE",
    type=_FILE,
    help="Well-known sites, one a line: of the hosts that would be stopped, say how many are among them.",
)
@click.option("--output", "shown", type=click.Choice(list(showing.FORMATS)), default="table", show_default=True)
@click.option("-o", "target", metavar="FILE", type=_FILE, help="Write to FILE, and not to stdout.")
@click.option("--exact", is_flag=True, help="Hide and round no number: for your own eyes.")
@click.option(
    "--reveal", is_flag=True, help="Show the hosts that would be stopped, on a terminal or in FILE; implies --exact."
)
def trial(
    policy: Path,
    inputs: tuple[str, ...],
    wanted: str | None,
    column: str | None,
    known: Path | None,
    shown: str,
    target: Path | None,
    exact: bool,
    reveal: bool,
) -> None:
    """Say what POLICY would have done with the requests in logs, before any gate runs.

    INPUT is a log, plain, gzip or zstd; '-' is stdin. Nothing that a log holds is shown, but for numbers.
    """
    if column is not None and wanted not in (None, formats.CSV):
        raise click.UsageError(f"--column is for CSV, not for --format {wanted}; leave out one of the two")
    if column is None and wanted == formats.CSV:
        raise click.UsageError("--format csv needs the column that holds the hosts: --column NAME")
    if target is None and reveal and not sys.stdout.isatty():
        raise click.UsageError("--reveal shows hosts on a terminal only, or in a file that is named: -o hosts.txt")
    if target is None and shown == "html" and sys.stdout.isatty():
        raise click.UsageError("a page of HTML is not for a terminal; name a file: -o trial.html")
    if target is not None and not target.absolute().parent.is_dir():
        raise click.UsageError(f"-o {target}: there is no such folder; make it, or name another")
    if inputs.count("-") > 1:
        raise click.UsageError("stdin can be read once; name '-' once")
    tried = trying.run(
        trying.Wanted(policy, inputs, wanted, column, known, exact, reveal),
        sys.stdin.buffer,
        loading.now(),
        lambda batches, total: progress.shown(batches, "reading", total, lambda batch: batch.consumed, every=1),
    )
    data = showing.FORMATS[shown](tried.trial)
    is_private = exact or reveal
    if target is None:
        click.echo(data, nl=False)
    else:
        files.write(target, data, mode=files.PRIVATE if is_private else files.PUBLIC, replace=True)
        click.echo(f"{target}: {_number(len(tried.trial.days), 'day')}, {_number(len(inputs), 'input')}")
    for warning in tried.warnings:
        click.echo(f"warning: {warning}", err=True)
    if is_private:
        click.echo(f"warning: {showing.REVEALED if reveal else showing.EXACT}", err=True)
    for unparsable in tried.unparsable:
        first = f", the first: {', '.join(map(str, unparsable.told))}" if unparsable.told else ""
        click.echo(f"{unparsable.name}: {_number(unparsable.lines, 'unparsable line')}{first}", err=True)
    for fault in tried.faults:
        click.echo(str(fault), err=True)
    if tried.faults:
        raise click.exceptions.Exit(1)


@main.command(example="stoplist rollout school.yaml --from 2026-11-01 --to 2026-11-14")
@click.argument("policy", type=_FILE)
@click.option(
    "--from", "since", type=_Day(), help="The first day, in the policy's time zone. Without it: all that is kept."
)
@click.option("--to", "until", type=_Day(), help="The last day. Without it: up to the last period that has closed.")
@click.option("--format", "wanted", type=click.Choice(list(rolling.FORMATS)), default="table", show_default=True)
@click.option("--state-dir", metavar="DIR", type=_FILE, help="The gate's --state-dir.")
@click.option(
    "--merge", "others", metavar="DIR", type=_FILE, multiple=True, help="The --state-dir of a further gate. Repeatable."
)
def rollout(
    policy: Path,
    since: date | None,
    until: date | None,
    wanted: str,
    state_dir: Path | None,
    others: tuple[Path, ...],
) -> None:
    """Say what enforcing would have stopped of what POLICY has observed; exit 1 if nothing was."""
    if since and until and until < since:
        raise click.UsageError(f"--from {since} is after --to {until}; swap the two")
    states = [state_dir or loading.default_state_dir(), *others]
    made = rolling.make(policy, states, since=since, until=until, now=loading.now())
    click.echo(rolling.FORMATS[wanted](made), nl=False)


@main.command(example="stoplist page school.yaml --lang fr -o page.html")
@click.argument("policy", type=_FILE)
@click.option("--lang", "language", metavar="TAG", help="Its language. Without it: the first of the policy's.")
@click.option("--country", metavar="CC", help="With the help lines of this country.")
@click.option("--messages", is_flag=True, help="Write a PO template with what a new language translates, and no page.")
@click.option("-o", "--output", metavar="FILE", type=_FILE, help="Write to FILE, and not to stdout.")
def page(policy: Path, language: str | None, country: str | None, messages: bool, output: Path | None) -> None:
    """Show the stop page of POLICY as clients see it, without a gate."""
    from stoplist.tools import stoppage

    data = stoppage.messages() if messages else stoppage.html(policy, language, country)
    if output is None:
        click.echo(data, nl=False)
    else:
        files.write(output, data, mode=files.PUBLIC, replace=True)
        click.echo(f"{output}: {len(data)} bytes")


@main.command(
    cls=_Plugin,
    example="stoplist selftest --proxy http://gate.example:8080 --ca ca-cert.pem --control www.school.example",
)
@click.option(
    "--proxy",
    type=_ProxyUrl(),
    required=True,
    envvar="STOPLIST_PROXY",
    show_envvar=True,
    help="The gate: http://HOST:PORT, or https:// where clients speak TLS to it, with NAME:PASSWORD@ where it asks for "
    "them. In the environment, it is not seen among the processes.",
)
@click.option("--ca", metavar="FILE", type=_FILE, help="The gate's CA, ca-cert.pem. Without it, trust is not tested.")
@click.option("--proxy-ca", metavar="FILE", type=_FILE, help="Roots of an https:// proxy, not the system's.")
@click.option(
    "--control",
    type=_Authority(),
    default="example.org",
    show_default=True,
    help="A host that is not listed, and speaks TLS: it must pass, and show its own certificate.",
)
@click.option("--control-ca", metavar="FILE", type=_FILE, help="Roots of the control host, not the system's.")
@click.option(
    "--check-host", type=_HostName(), default=CHECK_HOST, show_default=True, help="The check host of the list."
)
@click.option("--max-age", metavar="DAYS", type=click.IntRange(min=0), help="Warn of a list that is older.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=300, min_open=True),
    default=10,
    show_default=True,
    help="How long each connection may take.",
)
@click.option("--format", "wanted", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--quiet", is_flag=True, help="Print only if something is wrong.")
def selftest(
    proxy: Proxy,
    ca: Path | None,
    proxy_ca: Path | None,
    control: tuple[Host, int],
    control_ca: Path | None,
    check_host: Host,
    max_age: int | None,
    timeout: float,
    wanted: str,
    quiet: bool,
) -> None:
    """Ask the gate behind a proxy as a client would: is the filter on, and all else untouched?

    Exit codes are those of monitoring plugins: 0 fine, 1 the list is older than --max-age, 2 the filter or the way
    through it fails, 3 the proxy cannot be asked, or wrong usage.
    """
    host, port = control
    began = loading.now()
    found = testing.run(
        testing.Wanted(
            proxy,
            host,
            check_host,
            control_port=port,
            ca=ca,
            proxy_ca=proxy_ca,
            control_ca=control_ca,
            max_age=max_age,
            seconds=timeout,
        )
    )
    if not quiet or found.state is not testing.State.OK:
        click.echo(tested.as_line(found, began) if wanted == "json" else testing.as_text(found))
    raise click.exceptions.Exit(found.state.value)


def _sign_with(*, multiple: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that name private keys: with `multiple` several of them."""
    more = "; repeatable" if multiple else ""
    private = click.option(
        "--sign-with",
        "private_keys",
        metavar="KEY",
        multiple=multiple,
        required=True,
        help=f"A private key: a PEM file, or a URI such as 'hsm:2?label=TOKEN'{more}.",
    )
    public = click.option(
        "--public-key",
        "public_keys",
        metavar="FILE",
        type=_FILE,
        multiple=multiple,
        help=f"The PEM public key of a URI{', in the order of the URIs' if multiple else ''}{more}.",
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
    "--list-key demo.listkey --sign-with authority --diff demo.stoplist -o demo.stoplist"
)
@click.argument("domains", type=click.File("rb"))
@click.option("--column", metavar="NAME", help="DOMAINS is CSV with a header row: the column that holds the domains.")
@click.option(
    "--allow-suffix",
    "allowed",
    metavar="NAME",
    multiple=True,
    help="A public suffix among the domains that is meant, with all below it; repeatable.",
)
@click.option("--list", "list_id", metavar="ID", required=True, help="The list's name.")
@click.option("--serial", type=click.IntRange(min=1), required=True, help="Higher than that of the list before.")
@click.option("--expires", type=_Expiry(), required=True, help="The last day, or an RFC 3339 time.")
@click.option("--list-key", type=_FILE, required=True, help="The list key of the recipient.")
@_sign_with(multiple=True)
@click.option("--recipient", default="", metavar="NAME", help="Whom this copy is made for.")
@click.option("--diff", "old", metavar="OLD", type=_FILE, help="A list file to compare with: the one before.")
@click.option("-o", "--output", type=_FILE, required=True, help="The list file to write.")
def build(
    domains: BinaryIO,
    column: str | None,
    allowed: tuple[str, ...],
    list_id: str,
    serial: int,
    expires: datetime,
    list_key: Path,
    private_keys: tuple[str, ...],
    public_keys: tuple[Path, ...],
    recipient: str,
    old: Path | None,
    output: Path,
) -> None:
    """Build a signed list from DOMAINS: one a line, '#' begins a comment; '-' is stdin."""
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
        now=loading.now(),
        compare_with=old,
        track=lambda names: progress.shown(names, "digesting", len(found.names)),
    )
    click.echo(
        f"{output}: {_number(built.header.count, 'domain')}, signed by {_number(len(keys), 'key')} "
        f"({_number(found.duplicates, 'duplicate')} and {found.covered} covered by a parent left out)"
    )
    if built.comparison is not None:
        click.echo(_compared(built.comparison))


@list_.command(example="stoplist list sign demo.stoplist --sign-with operator --diff before.stoplist")
@click.argument("file", type=_FILE)
@_sign_with(multiple=False)
@click.option("--diff", "old", metavar="OLD", type=_FILE, help="A list file to compare with: the one before.")
@click.option("--yes", is_flag=True, help="Sign without a question.")
def sign(file: Path, private_keys: str, public_keys: Path | None, old: Path | None, yes: bool) -> None:
    """Show the list FILE, ask where there is a terminal, and add a signature to it."""
    (key,) = _signing_keys((private_keys,), (public_keys,) if public_keys else ())
    review = publish.review(file, old)
    header = review.header
    for name in ("list", "serial", "issued", "expires", "count", "recipient"):
        click.echo(f"{name}: {_header_fields(header)[name]}", err=True)
    for signer in review.signers:
        click.echo(f"signer (unverified): {_printable(signer)}", err=True)
    if review.comparison is not None:
        click.echo(_compared(review.comparison), err=True)
    if not yes and sys.stdin.isatty() and not click.confirm("Sign this list?", err=True):
        raise StoplistError("not signed", place=str(file))
    review.sign(key)
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
        click.echo(f"signer: {_printable(signer)}")


@list_.command(example="stoplist list release school.yaml --serial 7")
@click.argument("policy", type=_FILE)
@click.option("--serial", type=click.IntRange(min=1), required=True, help="The serial of the held list.")
@click.option("--state-dir", type=_FILE, help="The gate's --state-dir.")
def release(policy: Path, serial: int, state_dir: Path | None) -> None:
    """Let a list come into force that the guard of POLICY holds. Look at it with its publisher first."""
    held = remembered.release(policy, serial, state_dir or loading.default_state_dir(), loading.now())
    click.echo(f"list {held.list}: serial {held.serial} is released; it was held because {_reason(held.why)}")


def _width() -> int:
    """The columns of the terminal behind stderr, or of a line elsewhere."""
    return shutil.get_terminal_size((_LINE, 24)).columns if "COLUMNS" in os.environ or sys.stderr.isatty() else _LINE


def _has_style() -> bool:
    """Whether stderr is a terminal that may show bold and red (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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


def _journal_line(entry: Entry) -> str:
    of_policy = "exception" if entry.result in EXCEPTIONS else "policy" if entry.result == CHANGED else ""
    what = f"list {entry.list} serial {entry.serial}" if entry.list else of_policy
    signed = f"signed by {', '.join(entry.signers)}" if entry.signers else ""
    return "  ".join(part for part in (entry.time, entry.result, what, entry.why, signed) if part)


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


def _watch(policy: Path, state_dir: Path) -> None:
    from rich.console import Console

    from stoplist.tools import screen, watch

    console = Console(highlight=False, markup=False)
    try:
        last = screen.show(lambda: watch.look(policy, state_dir, loading.now()), console)
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
    click.echo(f"  exceptions[{exception.number}]: {_printable(exception.reason)}, to the end of {exception.until}")
    click.echo("  ended, and ignored; remove it from the policy" if exception.has_ended else "  open")


def _say_ca_status(policy: Path, state_dir: Path, *, as_json: bool) -> list[str]:
    """Print how the CA is, after the lists; what needs a person."""
    found, needs = None, []
    try:
        found = authorities.status(policy, state_dir, loading.now())
    except StoplistError as error:
        needs = [str(error)]
    else:
        needs = list(found.needs) if found is not None else []
    if as_json:
        click.echo(json.dumps({"ca": _ca_fields(found), "needs": needs}))
    elif found is not None or needs:
        if found is not None:
            click.echo(f"{found.file}\n  CA {_printable(name_of(found.certificate))}, ends {format_time(found.ends)}")
        else:
            click.echo("CA")
        click.echo(f"  needs a person: {'; '.join(needs)}" if needs else "  fine")
    return needs


def _say_ca(found: authorities.Overview | None, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"ca": _ca_fields(found), "needs": list(found.needs) if found else []}))
    elif found is None:
        click.echo("no CA is used ('https: refuse'): clients need none")
    else:
        click.echo(f"{found.file}")
        click.echo(f"  name: {_printable(name_of(found.certificate))}")
        click.echo(f"  SHA-256: {_in_pairs(trust.fingerprint(found.certificate))}")
        click.echo(f"  ends: {format_time(found.ends)}")
        if found.following is not None:
            click.echo(f"  next: {_printable(name_of(found.following))}, ends {_end_of(found.following)}")
            click.echo(f"  SHA-256: {_in_pairs(trust.fingerprint(found.following))}")
        click.echo(f"  {_what_to_trust(found)}")
        for need in found.needs:
            click.echo(f"  needs a person: {need}")


def _what_to_trust(found: authorities.Overview) -> str:
    if found.following is not None:
        return "clients must trust both; once they do: stoplist ca POLICY --switch"
    if found.certificate in found.trusted:
        return "clients must trust it: stoplist ca POLICY --export pem|der|mobileconfig|reg"
    root = name_of(found.trusted[-1]) if found.trusted else found.certificate.issuer.rfc4514_string()
    return f"clients must trust the root above it: {_printable(root)}"


def _ca_fields(found: authorities.Overview | None) -> dict[str, object] | None:
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
        "sha256": trust.fingerprint(certificate),
        "ends": _end_of(certificate),
    }


def _end_of(certificate: Certificate) -> str:
    return format_time(certificate.not_valid_after_utc)


def _in_pairs(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)).upper()


def _header_fields(header: ListHeader) -> dict[str, object]:
    fields = dataclasses.asdict(header)
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in fields.items()}


def _printable(text: str) -> str:
    """A text out of a file that nobody has verified: it must not write to the terminal what it likes."""
    return text if text.isprintable() else ascii(text)


def _compared(comparison: publish.Comparison) -> str:
    old, change = comparison.old, comparison.change
    before = f"{comparison.file} (unverified): serial {old.serial}, {_number(change.before, 'domain')}"
    if change.same_key:
        return f"against {before}; {change.added} added, {change.removed} removed"
    return (
        f"against {before}, now {change.after}; made with another list key, "
        "so what was added and removed cannot be counted"
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
