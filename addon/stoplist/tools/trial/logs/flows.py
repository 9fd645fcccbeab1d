"""Flows: the requests in a flow file of mitmproxy (``mitmdump -w``), without mitmproxy.

A flow file is one tnetstring after the other: ``LENGTH:DATA`` and a character for the type. The module reads only
the fields in `_WANTED` of each flow; it skips bodies, whatever their size.

Rules
  - A flow of HTTP is one request for its host; if the client gave an address (as in transparent mode), for its Host
    header. A flow of TCP or UDP is one request for its server name, or for the host that it connected to. A flow of
    DNS is one for each question.
  - Data that is no tnetstring ends the reading, and is the input's fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stoplist.core.hosts import HostError
from stoplist.tools.trial.logs.formats import Hit
from stoplist.tools.trial.logs.inputs import Input
from stoplist.tools.trial.logs.stamps import unix
from stoplist.tools.trial.logs.targets import host_of

MAX_VALUE = 1024 * 1024
"""The longest value that the module reads, in bytes."""
_MAX_LENGTH = 12
_MAX_DEPTH = 20

type _Wanted = Mapping[str, "_Wanted"]

_ALL: _Wanted = {}
_WANTED: _Wanted = {
    "type": _ALL,
    "request": {"host": _ALL, "headers": _ALL, "timestamp_start": _ALL, "questions": _ALL, "timestamp": _ALL},
    "client_conn": {"sni": _ALL, "timestamp_start": _ALL},
    "server_conn": {"address": _ALL},
}


class _Broken(Exception):  # noqa: N818  it never leaves this module
    """The next bytes are no tnetstring."""


class _CutError(_Broken):
    """The data ends before the announced length."""


def read(source: Input, blocks: Iterator[bytes]) -> Iterator[Hit | None]:
    """A hit for each request, None for a flow that holds none."""
    stream = _Stream(blocks)
    try:
        while not stream.is_at_end():
            stream.mark()
            size = stream.length()
            flow = _dictionary(stream, size, _WANTED)
            if stream.take(1) != b"}":
                raise _Broken
            yield from _hits(flow) or (None,)
    except _CutError:
        if source.fault is None:
            source.fail("the flow file ends in the middle of a flow", "everything before it is counted")
    except (_Broken, ValueError, TypeError):
        source.fail("broken flow file", "everything before it is counted", back=stream.since_mark)


@dataclass(slots=True)
class _Stream:
    """Bytes to take in order. `since_mark` is how many were seen, taken or not, since the last `mark`."""

    blocks: Iterator[bytes]
    data: bytes = b""
    at: int = 0
    since_mark: int = 0

    def is_at_end(self) -> bool:
        return self.at >= len(self.data) and not self._more()

    def mark(self) -> None:
        self.since_mark = len(self.data) - self.at

    def take(self, size: int) -> bytes:
        if size > MAX_VALUE:
            raise _Broken
        while len(self.data) - self.at < size:
            if not self._more():
                raise _CutError
        self.at += size
        return self.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        while (left := len(self.data) - self.at) < size:
            size -= left
            self.at = len(self.data)
            if not self._more():
                raise _CutError
        self.at += size

    def length(self) -> int:
        """A length, up to its colon."""
        digits = b""
        while (digit := self.take(1)) != b":":
            digits += digit
            if not digit.isdigit() or len(digits) > _MAX_LENGTH:
                raise _Broken
        return int(digits)

    def _more(self) -> bool:
        block = next(self.blocks, b"")
        self.data = self.data[self.at :] + block
        self.at = 0
        self.since_mark += len(block)
        return bool(block)


def _dictionary(stream: _Stream, size: int, wanted: _Wanted) -> dict[str, Any]:
    """The wanted fields of a dictionary of `size` bytes."""
    found: dict[str, Any] = {}
    while size > 0:
        length = stream.length()
        name = stream.take(length).decode("ascii", "replace")
        size -= _width(length)
        if stream.take(1) not in b",;":
            raise _Broken
        length = stream.length()
        size -= _width(length)
        below = wanted.get(name)
        if below is None:
            stream.skip(length)
            stream.take(1)
        elif below is _ALL:
            data = stream.take(length)
            found[name] = _value(data, stream.take(1))
        else:
            # An empty value, such as null, has no fields.
            found[name] = _dictionary(stream, length, below)
            stream.take(1)
    if size:
        raise _Broken
    return found


def _width(length: int) -> int:
    """The number of bytes of a value of this length, with its length field and type."""
    return len(str(length)) + 1 + length + 1


def _value(data: bytes, kind: bytes, depth: int = 0) -> Any:
    """A value: bytes (for text as well), a number, a list, or a dictionary; None for any other type."""
    if kind in (b",", b";"):
        return data
    if kind in (b"#", b"^"):
        return float(data)
    if kind == b"]" and depth < _MAX_DEPTH:
        return _values(data, depth)
    if kind == b"}" and depth < _MAX_DEPTH:
        flat = _values(data, depth)
        return dict(zip((bytes(key) for key in flat[::2]), flat[1::2], strict=True))
    return None


def _values(data: bytes, depth: int) -> list[Any]:
    found = []
    while data:
        digits, colon, data = data.partition(b":")
        if not colon or not digits.isdigit() or len(digits) > _MAX_LENGTH or len(data) <= int(digits):
            raise _Broken
        size = int(digits)
        found.append(_value(data[:size], data[size : size + 1], depth + 1))
        data = data[size + 1 :]
    return found


def _hits(flow: dict[str, Any]) -> list[Hit]:
    request, client, server = (flow.get(name, {}) for name in ("request", "client_conn", "server_conn"))
    kind = flow.get("type")
    if kind == b"http":
        hosts = [_named(request.get("host"), request.get("headers"))]
        seconds = request.get("timestamp_start")
    elif kind in (b"tcp", b"udp"):
        hosts = [client.get("sni") or next(iter(server.get("address") or ()), None)]
        seconds = client.get("timestamp_start")
    elif kind == b"dns":
        hosts = [each.get(b"name") for each in request.get("questions") or () if isinstance(each, dict)]
        seconds = request.get("timestamp")
    else:
        return []
    stamp = unix(seconds) if isinstance(seconds, float) else b""
    return [(stamp, host) for host in hosts if isinstance(host, bytes) and host]


def _named(host: Any, headers: Any) -> Any:
    """The host of a request; if the client gave an address, the host of its Host header."""
    if isinstance(host, bytes) and _is_address(host):
        for pair in headers or ():
            if isinstance(pair, list) and len(pair) == 2 and bytes(pair[0]).lower() == b"host":
                return pair[1]
    return host


def _is_address(host: bytes) -> bool:
    try:
        return host_of(host).is_address
    except HostError:
        return False
