"""A test of a gate from outside, for people and monitoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stoplist import clock
from stoplist.cli.base import FILE, Command
from stoplist.cli.output_options import Output, output_options
from stoplist.core.hosts import CHECK_HOST, Host, HostError, parse_authority
from stoplist.errors import StoplistError
from stoplist.tools.selftest import checks as testing
from stoplist.tools.selftest import results as tested
from stoplist.tools.selftest.proxy_client import Proxy
from stoplist.tools.selftest.self_test import CheckState, as_text


class _Plugin(Command):
    """A command with the exit codes of a monitoring plugin: if it cannot test, the state is unknown."""

    refused = CheckState.UNKNOWN.value

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            raise _PluginUsageError(error.format_message(), error.ctx) from None


class _PluginUsageError(click.UsageError):
    exit_code = _Plugin.refused


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


@click.command(
    cls=_Plugin,
    example="stoplist selftest --proxy http://gate.example:8080 --ca ca-cert.pem --control www.school.example",
)
@click.option(
    "--proxy",
    type=_ProxyUrl(),
    required=True,
    envvar="STOPLIST_PROXY",
    show_envvar=True,
    help="The gate: http://HOST:PORT, or https:// if clients speak TLS to it. Add NAME:PASSWORD@ if it asks for a "
    "password. Set the variable instead of the option to keep the password out of the process list.",
)
@click.option(
    "--ca",
    metavar="FILE",
    type=FILE,
    help="The CA certificate of the gate, ca-cert.pem. Without it, trust is not tested.",
)
@click.option(
    "--proxy-ca",
    metavar="FILE",
    type=FILE,
    help="Trusted CA certificates for an https:// proxy, instead of the system's.",
)
@click.option(
    "--control",
    type=_Authority(),
    default="example.org",
    show_default=True,
    help="A host that is not listed and speaks TLS. It must pass, and show its own certificate.",
)
@click.option(
    "--control-ca",
    metavar="FILE",
    type=FILE,
    help="Trusted CA certificates for the control host, instead of the system's.",
)
@click.option(
    "--check-host", type=_HostName(), default=CHECK_HOST, show_default=True, help="The check host of the list."
)
@click.option("--max-age", metavar="DAYS", type=click.IntRange(min=0), help="Warn if the list is older than this.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=300, min_open=True),
    default=10,
    show_default=True,
    help="The timeout of each connection.",
)
@output_options("text", "json")
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
    output: Output,
    quiet: bool,
) -> None:
    """Test a running gate, as a client sees it.

    The test checks that the gate stops the check host, and that a host that is not listed passes untouched.

    The exit codes are those of monitoring plugins: 0 fine, 1 the list is older than --max-age, 2 the filter or the way
    through it fails, 3 the proxy gives no usable answer, or wrong usage.
    """
    host, port = control
    began = clock.now()
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
    if not quiet or found.state is not CheckState.OK:
        click.echo(tested.as_line(found, began) if output.is_json else as_text(found))
    raise click.exceptions.Exit(found.state.value)
