"""The header of a list: the first line of its payload, read strictly."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from stoplist.core import strict_json
from stoplist.core.hosts import Host, HostError
from stoplist.core.times import format_time
from stoplist.errors import StoplistError

CHECK_HOST_SUFFIXES = (".invalid", ".test")
"""Endings that a check host may have. The gate always stops a check host, so no site may have its name (RFC 6761)."""
_LIST_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_MAX_SERIAL = 2**53 - 1
_MAX_RECIPIENT = 200


class ListFault(StrEnum):
    """The faults of a list file, in the order in which the code looks for them."""

    SIZE = "size"
    ENVELOPE = "envelope"
    PAYLOAD_TYPE = "payload type"
    SIGNATURES = "signatures"
    HEADER = "header"
    SERIAL = "serial"
    CLOCK = "clock"
    DIGESTS = "digests"
    LIST_KEY = "list key"
    GUARD = "guard"


class ListError(StoplistError):
    """The file is not, or not yet, a list that the gate may enforce. `fault` says at which check it failed."""

    def __init__(self, fault: ListFault, message: str, *, hint: str = "ask the publisher for a new copy") -> None:
        super().__init__(message, hint=hint)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class ListHeader:
    """The first line of a payload. Times are UTC, to the second."""

    list: str
    serial: int
    issued: datetime
    expires: datetime
    count: int
    key_id: str
    recipient: str
    check_host: str

    @classmethod
    def parse(cls, line: bytes) -> ListHeader:
        """Read a header strictly: exactly these fields, each of its type. Raises ListError.

        >>> line = (
        ...     b'{"list":"demo","serial":1,"issued":"2026-01-01T00:00:00Z","expires":"2026-02-01T00:00:00Z","count":0,'
        ...     b'"key_id":"0123456789abcdef","recipient":"","check_host":"check.test"}'
        ... )
        >>> ListHeader.parse(line).expires.isoformat()
        '2026-02-01T00:00:00+00:00'
        >>> ListHeader.parse(line.replace(b"check.test", b"example.com"))
        Traceback (most recent call last):
        stoplist.core.lists.list_header.ListError: 'check_host' is not a canonical host below .invalid or .test; ...
        """
        fields = strict_value(line, ListFault.HEADER)
        if not isinstance(fields, dict) or set(fields) != set(cls.__slots__):
            raise ListError(ListFault.HEADER, f"the header needs exactly the fields {', '.join(cls.__slots__)}")
        _check(_matches(_LIST_ID, fields["list"]), "list", "a name of a-z, 0-9, '.', '_' and '-'")
        _check(_is_count(fields["serial"]) and fields["serial"] > 0, "serial", "a whole number above 0")
        _check(_is_count(fields["count"]), "count", "a whole number")
        _check(_matches(_KEY_ID, fields["key_id"]), "key_id", "16 hexadecimal digits")
        _check(
            isinstance(fields["recipient"], str)
            and len(fields["recipient"]) <= _MAX_RECIPIENT
            and fields["recipient"].isprintable(),
            "recipient",
            f"a printable text of at most {_MAX_RECIPIENT} characters",
        )
        fields["issued"] = _time(fields["issued"], "issued")
        fields["expires"] = _time(fields["expires"], "expires")
        _check(fields["issued"] < fields["expires"], "expires", "a time after 'issued'")
        try:
            canonical = Host.parse(fields["check_host"]) if isinstance(fields["check_host"], str) else None
        except HostError:
            canonical = None
        _check(
            canonical is not None
            and canonical.name == fields["check_host"]
            and canonical.name.endswith(CHECK_HOST_SUFFIXES),
            "check_host",
            f"a canonical host below {' or '.join(CHECK_HOST_SUFFIXES)}",
        )
        return cls(**fields)

    def expired(self, now: datetime) -> bool:
        return now >= self.expires

    def to_line(self) -> bytes:
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["issued"] = format_time(self.issued)
        fields["expires"] = format_time(self.expires)
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def strict_value(data: bytes, fault: ListFault) -> Any:
    """The value of a JSON text. Raises ListError, which names the fault."""
    try:
        return strict_json.parse(data)
    except ValueError:
        raise ListError(fault, "not a complete list file (strict JSON): it is cut off, or something else") from None


def _time(value: Any, name: str) -> datetime:
    try:
        _check(_matches(_TIME, value), name, "a time like 2026-01-31T00:00:00Z")
        return datetime.fromisoformat(value)
    except ValueError:
        raise ListError(ListFault.HEADER, f"{name!r} is not a valid date") from None


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None and value.isascii()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_SERIAL


def _check(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise ListError(ListFault.HEADER, f"{name!r} is not {expected}")
