"""Lookup: what the gate would do with a host, and why; for one host, or a stream of them.

Rules
  - The judgement is the gate's own: `verdict_of`, which all code of the gate asks.
  - One line, one answer, in the same order. A line that cannot be read is refused, as the gate would refuse it; it
    does not end the stream.
  - The tool prints a line only to the person who wrote it. The line goes nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, BinaryIO

from stoplist import loading
from stoplist.core.addresses import Address, is_client
from stoplist.core.decide import Action, Ruleset, Verdict, verdict_of
from stoplist.core.explain import Explanation, Rule, Step, explain
from stoplist.core.hosts import Host, HostError, name_in_url
from stoplist.core.times import format_time

_CHUNK = 256 * 1024
_MAX_LINE = 64 * 1024
"""Length of a line up to which the tool looks at it, in bytes: no host is longer, and the host of a URL stands at
its beginning."""


@dataclass(frozen=True, slots=True)
class HostLookup:
    """Judges as the gate with this ruleset would at the POSIX time `now`.

    `served` says whether the gate would serve the client; it is None if nobody named a client. `observes` says
    whether the client is only observed.
    """

    ruleset: Ruleset
    now: float
    served: bool | None = None
    observes: bool = False

    @classmethod
    def of(cls, policy: Path, at: date | None, client: Address | None, *, now: datetime) -> HostLookup:
        """A lookup with the policy in this file: at a time, or the beginning of a day, or now; for a client, or for
        any. Raises Problems."""
        ruleset = loading.load(policy, now=now).ruleset
        if at is None:
            at = now
        elif not isinstance(at, datetime):
            at = datetime.combine(at, time(), ruleset.policy.time_zone)
        served = None if client is None else is_client(client, ruleset.policy.clients)
        return cls(ruleset, at.timestamp(), served, client is not None and ruleset.observes(client))

    def verdict(self, asked: str) -> Verdict:
        """The verdict for a host, or for the host of a URL."""
        return verdict_of(self.ruleset, name_in_url(asked), self.now, observes=self.observes)

    def explanation(self, asked: str) -> Explanation:
        """The verdict for a host, or for the host of a URL, with the steps to it."""
        try:
            return explain(self.ruleset, Host.parse(name_in_url(asked)), self.now, observes=self.observes)
        except HostError:
            return Explanation(self.verdict(asked), ())


def batches(hosts: Iterable[str], stdin: BinaryIO) -> Iterator[list[str]]:
    """The hosts to look up, in batches of as many as are there at once: each host, and for '-' the lines of `stdin`.
    Bytes there that are not UTF-8 are escaped, and so are no host."""
    for host in hosts:
        if host == "-":
            yield from _lines(stdin)
        else:
            yield [host]


def _lines(stream: BinaryIO) -> Iterator[list[str]]:
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    rest = b""
    while piece := read(_CHUNK):
        *whole, rest = (rest + piece).split(b"\n")
        rest = rest[:_MAX_LINE]
        if whole:
            yield [_text(line) for line in whole]
    if rest:
        yield [_text(rest)]


def _text(line: bytes) -> str:
    return line[:_MAX_LINE].decode("utf-8", "backslashreplace").strip()


def as_text(asker: HostLookup, asked: Iterable[str], *, explained: bool) -> str:
    """Answers for people, one line each, with the steps beneath if `explained`."""
    if not explained:
        verdict = asker.verdict
        return "".join([f"{_printable(each)}{_said(verdict(each))}\n" for each in asked])
    text = ""
    for each in asked:
        explanation = asker.explanation(each)
        steps = "".join(f"  {_step(step)}\n" for step in explanation.steps)
        text += f"{_printable(each)}{_said(explanation.verdict)}\n{steps}"
    return text


def as_json(asker: HostLookup, asked: Iterable[str], *, explained: bool) -> str:
    """Answers for scripts, one object a line."""
    dumps, verdict = json.dumps, asker.verdict
    served = "" if asker.served is None else f', "served": {dumps(asker.served)}'
    if not explained:
        return "".join([f'{{"host": {dumps(each)}, {_fields(verdict(each))}{served}}}\n' for each in asked])
    text = ""
    for each in asked:
        explanation = asker.explanation(each)
        steps = dumps([_step_fields(step) for step in explanation.steps])
        text += f'{{"host": {dumps(each)}, {_fields(explanation.verdict)}{served}, "steps": {steps}}}\n'
    return text


def _printable(text: str) -> str:
    """A line that somebody else may have written, without characters that could control the terminal."""
    return text if text.isprintable() else ascii(text)


@functools.cache
def _said(verdict: Verdict) -> str:
    by = f" ({verdict.list}, serial {verdict.serial})" if verdict.list else ""
    return f": {verdict.action}, {verdict.reason}{by}"


@functools.cache
def _fields(verdict: Verdict) -> str:
    return json.dumps(dataclasses.asdict(verdict))[1:-1]


def _step(step: Step) -> str:
    tried, time = ", ".join(step.tried), "" if step.expires is None else _time(step.expires)
    match step.rule:
        case Rule.CHECK_HOST:
            which = f"the check host of list {step.list}" if step.found else "no check host"
            return f"check host: {tried} is {which}"
        case Rule.EXPIRY:
            return f"expiry: a list with 'when_expired: refuse-all' {'expired' if step.ended else 'expires'} {time}"
        case Rule.ADDRESS:
            return f"address: {tried} is {'denied' if step.found else 'permitted'} by 'upstream'"
        case Rule.LIST:
            how = "enforced" if step.action is Action.STOP else "observed"
            about = f"serial {step.serial}, {how}, {'expired' if step.ended else 'expires'} {time}"
            return f"list {step.list} ({about}): tried {tried}; {'has ' + step.found if step.found else 'has none'}"
        case Rule.EXCEPTION:
            which = f"{step.found} {'ended' if step.ended else 'ends'} {time}" if step.found else "there is none"
            return f"exception: tried {tried}; {which}"


def _step_fields(step: Step) -> dict[str, Any]:
    fields = dataclasses.asdict(step)
    fields["expires"] = None if step.expires is None else _time(step.expires)
    return fields


def _time(posix: float) -> str:
    try:
        return format_time(datetime.fromtimestamp(posix, UTC))
    except (ValueError, OverflowError, OSError):  # later than the last day there is
        return "never"
