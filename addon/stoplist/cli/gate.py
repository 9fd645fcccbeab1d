"""The gate itself: run."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from stoplist import loading, state_directory
from stoplist.cli.base import FILE, Command
from stoplist.core.hosts import HostError
from stoplist.core.policy.values import ListenAddress
from stoplist.errors import Problems, StoplistError, with_paths

_MAX_WORKERS = 256


class _Service(Command):
    """A command that writes its errors as records of its log, one for each fault, if stderr is not a terminal."""

    @staticmethod
    def tell(error: StoplistError) -> None:
        if sys.stderr.isatty():
            Command.tell(error)
            return
        from stoplist.proxy.log import log_allowlist, records

        wanted = log_allowlist.LogFormat(click.get_current_context().params["log"])
        for each in error.problems if isinstance(error, Problems) else (error,):
            log_allowlist.write(records.NotStarted(each), wanted)


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


@click.command(cls=_Service, example="stoplist run school.yaml --listen 127.0.0.1:3128")
@click.argument("policy", type=FILE, required=False)
@click.option(
    "--listen", type=_Listen(), help="Listen on this address instead of the policy's. Port 0 takes any free port."
)
@click.option(
    "--mode",
    "wanted",
    metavar="MODE",
    multiple=True,
    help="How clients reach the gate, in mitmproxy's notation: regular (the default), upstream:URL, socks5, "
    "transparent, dns, tun, wireguard or local. Add @HOST:PORT for an address of its own. Repeatable.",
)
@click.option(
    "--state-dir", type=FILE, help="The folder for the gate's CA and its state. Default: the policy's 'state_dir'."
)
@click.option(
    "--workers",
    type=_Workers(),
    help="Run N worker processes, or one for each core (auto), under a supervisor. It restarts workers that fail, and "
    "loads new code on SIGHUP. Default: one process, no supervisor.",
)
@click.option(
    "--drain",
    type=_Seconds(),
    default="30s",
    show_default=True,
    help="On SIGTERM, wait this long for open connections to end.",
)
@click.option(
    "--log",
    type=click.Choice(["auto", "human", "json", "syslog"]),
    default="auto",
    show_default=True,
    help="The format of log lines on stderr. auto: sentences on a terminal, lines with a severity for journald, JSON "
    "otherwise.",
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
    """Run the gate with POLICY, or with the demo."""
    from stoplist.proxy.mitm.lean_imports import import_add_ons_one_by_one

    import_add_ons_one_by_one()
    from stoplist.proxy.log import log_allowlist
    from stoplist.proxy.mitm import gate_process, modes

    if policy is None:
        policy = loading.demo_policy()
        if gate_process.is_started_by_a_person():
            click.echo(f"stoplist: demo policy {policy}; its keys are public: for trying out only", err=True)
            if sys.stderr.isatty():
                click.echo(_what_next(policy, listen or loading.read_policy(policy).policy.listen), err=True)
    text = loading.read_policy(policy)
    try:
        placed = modes.place(wanted or ("regular",), listen or text.policy.listen)
    except StoplistError as error:
        raise click.BadParameter(str(error), param_hint="'--mode'") from None
    gate_process.Gate(
        policy,
        text.policy,
        placed,
        state_dir or state_directory.of_policy(policy, text.policy),
        workers,
        drain,
        log_allowlist.LogFormat(log),
    ).run()


def _what_next(policy: Path, listen: ListenAddress) -> str:
    """What to do with the demo."""
    lines = [
        "Try in another terminal:",
        f"  curl -x {listen} http://www.listed.example/            # the stop page",
        f"  {with_paths('stoplist lookup POLICY www.listed.example', policy)} --explain   # why",
        "  stoplist init my-gate                                # a policy, keys and a list of your own",
        "Ctrl-C ends the gate.",
    ]
    return "\n".join(lines)
