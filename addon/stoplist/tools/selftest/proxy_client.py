"""A client of an HTTP proxy: a connection, a tunnel through it, TLS in the tunnel, and an answer.

Layers stack: TLS runs over a TCP connection, or over the TLS that a client speaks to the proxy itself.

Rules
  - The client contacts nothing but the proxy, and resolves no name but the proxy's. It follows no redirect.
  - It trusts nothing that it receives: a connection takes 64 KB in all, and ends at its timeout.
  - It sends a password to the proxy, and shows it nowhere: not in an error, not in a `repr`.
"""

from __future__ import annotations

import base64
import http.client
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, cast
from urllib.parse import unquote, urlsplit

from stoplist.core.hosts import Host
from stoplist.errors import StoplistError

MAX_BYTES = 64 * 1024
"""How many bytes the client takes from one connection, whatever they are."""

_AUTHENTICATION_REQUIRED = 407
_LOOK = "see the gate's log, and what is between the gate and here"


class UnreachableError(StoplistError):
    """The client cannot ask the proxy. This says nothing about the proxy's answer."""


class SilentError(StoplistError):
    """The client made a connection, and no answer came over it."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """The place of the proxy. If `is_secure`, clients speak TLS to it. `credentials` are ``name:password``."""

    host: Host
    port: int
    is_secure: bool = False
    credentials: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> Proxy:
        """Read ``[http[s]://][NAME:PASSWORD@]HOST:PORT``. Raises StoplistError, which does not quote the text.

        >>> proxy = Proxy.parse("https://gate.example:8443")
        >>> proxy.host.name, proxy.port, proxy.is_secure
        ('gate.example', 8443, True)
        >>> Proxy.parse("gate.example")
        Traceback (most recent call last):
        stoplist.errors.StoplistError: the URL of a proxy holds only a host and a port; ...
        """
        hint = "write, for example, http://gate.example:8080, and percent-encode what is special in a password"
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = Host.parse(parts.hostname or ""), parts.port
        except (ValueError, StoplistError):
            raise StoplistError("this is not the URL of a proxy", hint=hint) from None
        if parts.scheme not in ("http", "https"):
            raise StoplistError("only http:// and https:// proxies can be tested", hint=hint)
        if not port or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise StoplistError("the URL of a proxy holds only a host and a port", hint=hint)
        credentials = None
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return cls(host, port, parts.scheme == "https", credentials)


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer: its status, its fields, and its body as far as it was read."""

    status: int
    fields: Mapping[str, str]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The members of a field that holds a list (RFC 9110, section 5.6.1)."""
        return [value.strip() for value in self.fields.get(name.lower(), "").split(",") if value.strip()]


class Channel(Protocol):
    """Bytes in both directions. `receive` gives at most `size` of them, none at the end."""

    def send(self, data: bytes) -> None: ...

    def receive(self, size: int) -> bytes: ...


class ProxyClient:
    """Makes connections to one proxy. Each of them has `seconds`, from the first step to the last byte."""

    def __init__(self, proxy: Proxy, context: ssl.SSLContext | None, seconds: float) -> None:
        """`context` is for the TLS to a proxy that `is_secure`."""
        self._proxy = proxy
        self._context = context
        self._seconds = seconds
        self._addresses: list[Any] = []

    @contextmanager
    def connect(self) -> Iterator[Channel]:
        """A connection to the proxy. Raises UnreachableError."""
        deadline = _Deadline(self._seconds)
        self._addresses = self._addresses or _resolve(self._proxy, deadline)
        with self._reach(deadline) as connection:
            channel: Channel = _Tcp(connection, deadline)
            if self._proxy.is_secure and self._context is not None:
                try:
                    channel = Tls(channel, self._context, self._proxy.host)
                except OSError as error:
                    is_distrust = isinstance(error, ssl.SSLCertVerificationError)
                    raise UnreachableError(
                        f"TLS to the proxy fails: {_reason(error)}",
                        hint="name its roots with --proxy-ca" if is_distrust else "do clients speak TLS to this port?",
                    ) from None
            yield channel

    @contextmanager
    def tunnel(self, host: Host, port: int) -> Iterator[tuple[Response, Channel]]:
        """The proxy's answer to CONNECT, and the channel, which is a tunnel if the status is 2xx."""
        with self.connect() as channel:
            authority = f"{host.name}:{port}"
            yield self.ask(channel, "CONNECT", authority, authority), channel

    def get(self, channel: Channel, host: Host) -> Response:
        """The proxy's answer to a plain request for the first page of a host."""
        return self.ask(channel, "GET", f"http://{host.name}/", host.name)

    def ask(self, channel: Channel, method: str, target: str, authority: str) -> Response:
        """An answer of the proxy itself. Raises UnreachableError if the proxy does not accept the password."""
        fields = []
        if credentials := self._proxy.credentials:
            token = base64.b64encode(credentials.encode()).decode()
            fields.append(f"Proxy-Authorization: Basic {token}")
        answer = ask(channel, method, target, authority, *fields)
        if answer.status == _AUTHENTICATION_REQUIRED:
            has_tried = self._proxy.credentials is not None
            raise UnreachableError(
                f"the proxy {'refuses this name and password' if has_tried else 'asks for a name and a password'}",
                hint="write http://NAME:PASSWORD@HOST:PORT, in STOPLIST_PROXY",
            )
        return answer

    @contextmanager
    def _reach(self, deadline: _Deadline) -> Iterator[socket.socket]:
        """A TCP connection to the first address that accepts one."""
        why = ""
        for tried, (family, kind, protocol, _, address) in enumerate(self._addresses):
            with socket.socket(family, kind, protocol) as connection:
                try:
                    connection.settimeout(deadline.left() / (len(self._addresses) - tried))
                    connection.connect(address)
                except OSError as error:
                    why = _reason(error)
                    continue
                yield connection
                return
        raise UnreachableError(
            f"the proxy cannot be reached: {why}", hint="is it running, and is this its address and port?"
        )


class Tls:
    """TLS of a client over a channel, after the handshake. `certificate` is the other side's certificate (DER)."""

    def __init__(self, below: Channel, context: ssl.SSLContext, host: Host) -> None:
        """Do the handshake. Raises OSError, of which ssl.SSLError is one."""
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.address)
        self._step(self._tls.do_handshake)
        self.certificate = self._tls.getpeercert(binary_form=True) or b""

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def receive(self, size: int) -> bytes:
        try:
            return self._step(lambda: self._tls.read(size))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return b""

    def _step[T](self, step: Callable[[], T]) -> T:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                received = self._below.receive(MAX_BYTES)
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                with suppress(OSError):  # an alert tells the other side why; the other side may be gone
                    self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if waiting := self._outgoing.read():
            self._below.send(waiting)


def open_tls(tunnel: Channel, context: ssl.SSLContext, host: Host) -> Tls:
    """TLS in a tunnel. Raises ssl.SSLCertVerificationError, or StoplistError if TLS fails for another reason."""
    try:
        return Tls(tunnel, context, host)
    except ssl.SSLCertVerificationError:
        raise
    except TimeoutError:
        raise SilentError("TLS was not answered in time", hint=_LOOK) from None
    except OSError as error:
        raise StoplistError(f"TLS fails: {_reason(error)}", hint=_LOOK) from None


def ask(channel: Channel, method: str, target: str, authority: str, *fields: str) -> Response:
    """Send a request and read its answer. After an answer to CONNECT, the bytes behind its head stay in the channel."""
    head = (f"{method} {target} HTTP/1.1", f"Host: {authority}", "Accept: application/json", *fields)
    closing = () if method == "CONNECT" else ("Connection: close",)
    try:
        channel.send("\r\n".join((*head, *closing, "", "")).encode())
        # HTTPResponse needs only the file of a socket.
        response = http.client.HTTPResponse(cast("socket.socket", _Source(channel)), method=method)
        response.begin()
        body = b"" if method == "CONNECT" else response.read(MAX_BYTES)
        fields_of = {name.lower(): ", ".join(response.headers.get_all(name, [])) for name in response.headers}
        return Response(response.status, fields_of, body)
    except TimeoutError:
        raise SilentError("the answer was not complete in time", hint=_LOOK) from None
    except http.client.RemoteDisconnected:
        raise SilentError("the connection was closed without an answer", hint=_LOOK) from None
    except (http.client.HTTPException, ValueError):
        raise StoplistError("the answer is not HTTP", hint="is this the address of the gate?") from None
    except OSError as error:
        raise SilentError(f"the connection was lost: {_reason(error)}", hint=_LOOK) from None


class _Deadline:
    """The moment, `seconds` from now, at which an operation must have ended."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        """The time left, in seconds. Raises TimeoutError if there is none."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Tcp:
    """A TCP connection that gives up at its deadline, and after `MAX_BYTES`."""

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._room = MAX_BYTES

    def send(self, data: bytes) -> None:
        self._connection.settimeout(self._deadline.left())
        self._connection.sendall(data)

    def receive(self, size: int) -> bytes:
        if not self._room:
            raise StoplistError(f"more than {MAX_BYTES // 1024} KB arrived", hint="is this the address of the gate?")
        self._connection.settimeout(self._deadline.left())
        received = self._connection.recv(min(size, self._room))
        self._room -= len(received)
        return received


class _Source(io.RawIOBase):
    """The bytes that a channel receives, as a file. It has no buffer: bytes that nobody asked for stay in the
    channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def makefile(self, _: str) -> io.BufferedReader:
        return io.BufferedReader(self, 1)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        received = self._channel.receive(len(buffer))
        buffer[: len(received)] = received
        return len(received)


def _resolve(proxy: Proxy, deadline: _Deadline) -> list[Any]:
    """The addresses of the proxy. A resolver knows no deadline, so the function leaves one behind that hangs."""
    found: queue.SimpleQueue[list[Any] | str] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            found.put(socket.getaddrinfo(proxy.host.address, proxy.port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(_reason(error))

    threading.Thread(target=resolve, daemon=True).start()
    try:
        addresses = found.get(timeout=deadline.left())
    except queue.Empty:
        addresses = "no answer in time"
    if isinstance(addresses, str):
        raise UnreachableError(f"the name of the proxy cannot be resolved: {addresses}", hint="check it, and DNS")
    return addresses


def _reason(error: Exception) -> str:
    """The reason why a connection failed, in the words of the system or of OpenSSL."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it was closed").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or "the connection was closed"
