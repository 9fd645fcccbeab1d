r"""Formats: the lines of a log that hold a request, with its stamp (see `stamps`) and the host that it names.

A format is two regular expressions over many lines at once. `request` finds each line that holds a request, with its
stamp and its host as groups. `ignored` finds each line of the same program that holds none. Both never find the same
line. `other` finds the lines that neither finds. `parse` takes such a line apart alone, if the format has a `parse`;
otherwise the line is unparsable.

Rules
  - The patterns cut out a host as it stands, with its port or user: later code parses it once, not once for each
    line.
  - A repetition that the matcher has to take back would cost time on a hostile line. So repetitions of unknown
    length are possessive (``*+``), or end at a character that they cannot hold.
  - A line ends with "\n"; a "\r" before it is no part of a field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stoplist.core.hosts import HostError
from stoplist.tools.trial.logs.stamps import unix
from stoplist.tools.trial.logs.targets import host_of

type Hit = tuple[bytes, bytes]
"""A stamp, and a host as it was written."""


@dataclass(frozen=True, slots=True)
class LineFormat:
    """A format with one request a line."""

    name: str
    request: re.Pattern[bytes]
    ignored: re.Pattern[bytes]
    other: re.Pattern[bytes]
    """The lines that neither of the two finds."""
    parse: Callable[[bytes], Sequence[Hit] | None] | None = None
    """The requests in a line that neither pattern finds; None if it is unparsable."""


_EMPTY = rb"[ \t\r]*\n|\#"


def _format(
    name: str,
    request: bytes,
    ignored: bytes = rb"(?!)",
    parse: Callable[[bytes], Sequence[Hit] | None] | None = None,
) -> LineFormat:
    flags = re.MULTILINE | re.VERBOSE
    return LineFormat(
        name,
        re.compile(rb"^" + request, flags),
        re.compile(rb"^(?!" + request + rb")(?:" + _EMPTY + rb"|" + ignored + rb")", flags),
        re.compile(rb"^(?!" + request + rb")(?!" + _EMPTY + rb"|" + ignored + rb").*+\n", flags),
        parse,
    )


# Access logs: the target is a URL, or host:port with CONNECT. A target that is a path names no host.

_TARGET = rb"(?!error:)(?:[A-Za-z][A-Za-z0-9+._-]*+://)?([^\ /?\#\"\r\n]+)"
_SQUID_FIELDS = rb"\.[0-9]+\ +-?[0-9]+\ [^\ \n]+\ [^\ \n]+\ -?[0-9]+\ [^\ \n]+\ "
_MOMENT = rb"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8}\ [+-][0-9]{4}"
_BEFORE = rb"(?>[^\n]*?\[(?=[0-9]{2}/))"
_ASKED = rb"\]\ \"[A-Za-z_-]+\ "

SQUID = _format(
    "squid",
    rb"([0-9]{8})[0-9]{2}" + _SQUID_FIELDS + _TARGET,
    rb"[0-9]{10}" + _SQUID_FIELDS + rb"error:",
)
_FAILED = _BEFORE + _MOMENT + rb"\]\ \"(?:-?\"|[A-Za-z_-]+\ error:)"
COMBINED = _format(
    "combined",
    rb"[^\ \n]+\ [^\ \n]+\ " + _BEFORE + rb"(" + _MOMENT + rb")" + _ASKED + _TARGET,
    _FAILED,
)


def _combined_line(line: bytes) -> Sequence[Hit] | None:
    match = COMBINED.request.match(line)
    return [(match[1], match[2])] if match else None


VHOST_COMBINED = _format(
    "vhost-combined",
    rb"(?=" + _BEFORE + rb"(" + _MOMENT + rb")" + _ASKED + rb"/)(\[[0-9A-Fa-f:.]+\]|[^\ :\n]+):[0-9]+\ ",
    _FAILED,
    _combined_line,
)

# Query logs

# A query comes after "Nov 22 06:38:19 host", "2026-11-22T06:38:19.123456+00:00 host", or the program's own time.
_DATE = rb"[A-Z][a-z]{2}\ [\ 0-9][0-9](?=\ [0-9:]{8}\ )|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^\ \n]+"
_SYSLOG = rb"(?:(" + _DATE + rb")(?:\ [0-9:]{8})?\ (?:(?!dnsmasq)[^\ \n]+\ )?)?"
_DNSMASQ_HEAD = _SYSLOG + rb"dnsmasq[^\ \n]*:\ "
_DNSMASQ_QUERY = rb"(?:[0-9]+\ [^\ \n]+\ )?query\[[^\]\n]*+\]\ "
DNSMASQ = _format(
    "dnsmasq",
    _DNSMASQ_HEAD + _DNSMASQ_QUERY + rb"([^\ \n]+)\ from\ ",
    _DNSMASQ_HEAD + rb"(?!" + _DNSMASQ_QUERY + rb")",
)
_UNBOUND_HEAD = (
    rb"(?:\[?([0-9]{8}(?=[0-9]{2}\]\ )|" + _DATE + rb")(?:[0-9]{2}\]|\ [0-9:]{8})?\ (?:(?!unbound)[^\ \n]+\ )?)?"
    rb"unbound(?:\[[0-9:a-f]+\])?:?\ (?:\[[0-9]+:[0-9a-f]+\]\ )?"
)
UNBOUND = _format(
    "unbound",
    _UNBOUND_HEAD + rb"info:\ (?:query:\ )?[^\ \n]+\ ([^\ \n]+)\ [A-Z0-9]+\ (?:IN|CH|HS|ANY|CLASS[0-9]+)\r?$",
    _UNBOUND_HEAD + rb"[a-z]+:",
)
_OWN_DATE = rb"[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4}(?=\ )"
BIND = _format(
    "bind",
    rb"(?:(" + _OWN_DATE + rb"|" + _DATE + rb")(?:\ [0-9:]{8}(?:\.[0-9]+)?)?\ )?(?:(?!client\ )[^\ \n]+\ ){0,4}"
    rb"client\ (?:@0x[0-9a-f]+\ )?[^\ \n]+\#[0-9]+(?:/key\ [^\ \n]+)?(?:\ \([^\n)]*+\))?:\ (?:view\ [^\ \n]+:\ )?"
    rb"query:\ ([^\ \n]+)\ [A-Z]+[0-9]*\ [A-Z]+[0-9]*\ ",
    rb"(?![^\n]*:\ query:\ )(?:" + _OWN_DATE + rb"\ [0-9:]{8}|(?:[^\ \n]+\ ){0,4}named\[[0-9]+\]:\ |"
    rb"(?:[0-9TZ:.+-]{20,}\ )?(?:[a-z-]+:\ )?(?:info|notice|warning|error|critical|debug\ [0-9]+):\ )",
)

# JSON lines. A quote within a string has a backslash before it, so that "key": is a key wherever it stands.

_ISO = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[^\"\n]+"
_VALUE = rb"\":\"([^\"\\\n]+)\""


def _objects(extract: Callable[[dict[str, Any]], Sequence[Hit]]) -> Callable[[bytes], Sequence[Hit] | None]:
    """A parser of lines as JSON objects, for lines that the pattern does not find: other spacing, other order,
    escapes."""

    def parse(line: bytes) -> Sequence[Hit] | None:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return extract(found) if isinstance(found, dict) else None

    return parse


def _hits(stamp: object, *hosts: object) -> list[Hit]:
    if isinstance(stamp, str):
        written = stamp.encode(errors="replace")
    else:
        written = unix(stamp) if isinstance(stamp, int | float) else b""
    return [(written, host.encode(errors="replace")) for host in hosts if isinstance(host, str) and host]


def _zeek(line: dict[str, Any]) -> list[Hit]:
    return _hits(line.get("ts"), next(filter(None, (line.get(key) for key in ("host", "server_name", "query"))), None))


def _suricata(line: dict[str, Any]) -> list[Hit]:
    kind = line.get("event_type")
    about = line.get(kind) if isinstance(kind, str) else None
    if not isinstance(about, dict):
        return []
    stamp = line.get("timestamp")
    if kind == "http":
        return _hits(stamp, about.get("hostname"))
    if kind in ("tls", "quic"):
        return _hits(stamp, about.get("sni"))
    if kind == "dns" and about.get("type") in ("query", "request"):
        asked = about.get("queries")
        names = [each.get("rrname") for each in asked if isinstance(each, dict)] if isinstance(asked, list) else []
        return _hits(stamp, *(names or [about.get("rrname")]))
    return []


# The pattern cuts the stamp of a Unix time short. It takes the whole of a time in letters, which is shortened below.
ZEEK = _format(
    "zeek",
    rb"\{\"ts\":(?:\"(?=[0-9]{4}-))?([0-9]{8}(?=[0-9]{2}[.,])|" + _ISO + rb")[^\ \n]{0,12}?,"
    rb"(?>[^\n]*?\"(?:host|server_name|query)" + _VALUE + rb")",
    rb"\{\"ts\":(?![^\n]*?\"(?:host|server_name|query)\")[^\n]*\}\r?$",
    parse=_objects(_zeek),
)
SURICATA = _format(
    "suricata",
    rb"\{\"timestamp\":\"(" + _ISO + rb")\"(?>[^\n]*?,\"event_type\":\")"
    rb"(?:http\"(?>[^\n]*?,\"http\":\{)(?>[^{}\n]*?\"hostname)|(?:tls\"(?>[^\n]*?,\"tls\":\{)|quic\"(?>[^\n]*?,\"quic\":\{))"
    rb"(?>[^{}\n]*?\"sni)|dns\"(?>[^\n]*?,\"dns\":\{)(?=[^{}\n]*?\"type\":\"(?:query|request)\")(?>[^{}\n]*?\"rrname))"
    + _VALUE,
    rb"\{\"timestamp\":\"" + _ISO + rb"\"(?>[^\n]*?,\"event_type\":\")(?:(?!(?:http|tls|quic|dns)\")|"
    rb"dns\"(?>[^\n]*?,\"dns\":\{)(?=[^{}\n]*?\"type\":\"answer\"))[^\n]*\}\r?$",
    parse=_objects(_suricata),
)

# Nothing but hosts; URLs as well

HOSTS = _format(
    "hosts",
    rb"[\ \t]*+()(?:[A-Za-z][A-Za-z0-9+._-]*+://)?([^\ \t\r\n\#/?\",;]+)"
    rb"(?:[/?][^\ \t\r\n]*+)?[\ \t]*+(?:\#[^\n]*)?\r?$",
)

LINE_FORMATS = (SQUID, COMBINED, VHOST_COMBINED, DNSMASQ, UNBOUND, BIND, ZEEK, SURICATA, HOSTS)
HAR, CSV, FLOWS = "har", "csv", "flows"
NAMES = (*(each.name for each in LINE_FORMATS), HAR, CSV, FLOWS)

_SAMPLE = 50
_FLOWS = re.compile(rb"[0-9]{1,12}:[0-9]{1,4}:[a-z_]+[,;]")
_HAR = re.compile(rb"\xef\xbb\xbf|[ \t\r\n]*\{[ \t\r\n]*\"log\"[ \t\r\n]*:[ \t\r\n]*\{")


def recognise(head: bytes, file_name: str) -> str | None:
    """The name of the format with which a file begins; None if it is unknown, or if there are only empty lines."""
    name = re.sub(r"\.(?:gz|zst|[0-9]+)$", "", file_name.lower())
    if _FLOWS.match(head):
        return FLOWS
    if (match := _HAR.match(head)) and (match[0] != b"\xef\xbb\xbf" or name.endswith(".har")):
        return HAR
    if name.endswith(".csv"):
        return CSV
    lines = head.split(b"\n")
    sample = [line + b"\n" for line in (lines[:-1] or lines)[:_SAMPLE] if line.strip() and not line.startswith(b"#")]
    if sample and sample[0].startswith(b"{"):
        return _of_json(sample)
    best = max(LINE_FORMATS[:-1], key=lambda each: _score(each, sample))
    if _score(best, sample):
        return best.name
    return HOSTS.name if sum(map(_is_host, sample)) * 2 > len(sample) else None


def _score(wanted: LineFormat, lines: Sequence[bytes]) -> int:
    """How well the lines fit this format: a line with a request counts twice, an ignored line once."""
    return sum(2 * bool(wanted.request.match(line)) or bool(wanted.ignored.match(line)) for line in lines)


def _of_json(lines: Sequence[bytes]) -> str | None:
    for line in lines:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and "ts" in found:
            return ZEEK.name
        if isinstance(found, dict) and "event_type" in found:
            return SURICATA.name
    return None


def _is_host(line: bytes) -> bool:
    match = HOSTS.request.match(line)
    try:
        return match is not None and "." in host_of(match[2]).name
    except HostError:
        return False
