"""The self-test: whether the filter works, as a client sees it.

  http       the gate stops the check host over HTTP
  https      it stops the check host over HTTPS, under a certificate of the gate's CA
  control    another host passes
  untouched  that host shows its own certificate: nobody has decrypted it
  list age   the list is fresh enough, if the gate says how old it is

The result has the form of monitoring plugins (https://www.monitoring-plugins.org/doc/guidelines.html): one of four
states, which are exit codes too, and a first line with performance data.

Rules
  - The test sends requests for the check host only: they are never counted. A handshake with the control host is
    enough.
  - If the test cannot ask the proxy, it knows nothing: that is neither fine nor a failure.
  - The result shows the text of an answer short and printable, or not at all.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist import files
from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.tools.selftest.proxy_client import (
    Dialler,
    Proxy,
    Response,
    SilentError,
    Tls,
    UnreachableError,
    ask,
    open_tls,
)

HTTPS_PORT = 443

_STOPPED = (403, 451)
_CAPTIVE = 511
_SHOWN = 80
_MAX_CA_SIZE = 1024 * 1024
_MAX_AGE = 100_000
_NO_GATE = "is this the address of the gate, and does its list have this check host? if so, see the gate's log"
_COUNTED = "tag:stoplist.invalid,2026:stopped"
"""The type of a stop for any other host than the check host (RFC 9457)."""


class CheckName(StrEnum):
    """The checks of a self-test, in their order."""

    HTTP = "http"
    HTTPS = "https"
    CONTROL = "control"
    UNTOUCHED = "untouched"
    LIST_AGE = "list age"


class Result(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


class CheckState(IntEnum):
    """The state of a self-test; the value is the exit code of a monitoring plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3

    @property
    def word(self) -> str:
        """The state in the form for programs."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check: a sentence about the observation and, if it is not fine, a remedy."""

    name: CheckName
    result: Result
    seen: str
    remedy: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The subject of a test. `seconds` is the time for each connection; `max_age` is in days."""

    proxy: Proxy
    control: Host
    check_host: Host
    control_port: int = HTTPS_PORT
    ca: Path | None = None
    proxy_ca: Path | None = None
    control_ca: Path | None = None
    max_age: int | None = None
    seconds: float = 10


@dataclass(frozen=True, slots=True)
class SelfTest:
    """The results of a self-test. `list_age` is in days."""

    checks: tuple[Check, ...]
    list_age: int | None = None
    max_age: int | None = None

    @property
    def state(self) -> CheckState:
        """The state of all checks together."""
        return worst(check.result for check in self.checks)


_WORST_FIRST = {
    Result.FAILED: CheckState.CRITICAL,
    Result.UNKNOWN: CheckState.UNKNOWN,
    Result.WARNING: CheckState.WARNING,
}


def worst(results: Iterable[Result]) -> CheckState:
    """The state for the worst of these results: a failure is worse than an unknown result."""
    found = set(results)
    return next((state for result, state in _WORST_FIRST.items() if result in found), CheckState.OK)


def run(wanted: Wanted) -> SelfTest:
    """Test the gate behind a proxy. Raises StoplistError if a file of certificates cannot be read."""
    tester = _Tester(wanted)
    http = _look(CheckName.HTTP, tester.http)
    if http.result is Result.UNKNOWN:
        why = "not tried: the proxy does not answer"
        skipped = (Check(name, Result.SKIPPED, why) for name in CheckName if name is not http.name)
        return SelfTest((http, *skipped))
    https = _look(CheckName.HTTPS, tester.https)
    control = _look(CheckName.CONTROL, tester.control)
    if control.result is Result.OK:
        untouched = _look(CheckName.UNTOUCHED, tester.untouched)
    else:
        untouched = Check(CheckName.UNTOUCHED, Result.SKIPPED, "not tried: the control host is not reached")
    return SelfTest((http, https, control, untouched, tester.freshness()), tester.age, wanted.max_age)


def _look(name: CheckName, check: Callable[[], str]) -> Check:
    """Do one check, a function that returns its observation or raises an error."""
    began = time.monotonic()
    try:
        result, seen, remedy = Result.OK, check(), ""
    except StoplistError as error:
        result = Result.UNKNOWN if isinstance(error, UnreachableError) else Result.FAILED
        seen, remedy = error.message, error.hint
    return Check(name, result, seen, remedy, round(time.monotonic() - began, 3))


class _Tester:
    """The checks, in their order: some need the observation of an earlier one."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._check_host = wanted.check_host
        self._authorities = _certificates(wanted.ca)
        self._gate_context = _trusting(wanted.ca) if wanted.ca else _trusting_all()
        self._control_context = _trusting(wanted.control_ca)
        self._dialler = Dialler(wanted.proxy, _trusting(wanted.proxy_ca), wanted.seconds)
        self._of_page: x509.Certificate | None = None
        """The certificate under which the gate showed its page."""
        self._of_control: x509.Certificate | None = None
        self._distrust = ""
        """The reason why the certificate of the control host is not trusted."""
        self.age: int | None = None

    def http(self) -> str:
        try:
            with self._dialler.connect() as channel:
                answer = self._dialler.get(channel, self._check_host)
        except SilentError as error:
            raise UnreachableError(
                f"the proxy does not answer: {error.message}", hint="does it serve this client, and plain HTTP?"
            ) from None
        _expect_stop(answer)
        self._take_age(answer)
        return f"the check host is stopped ({answer.status})"

    def https(self) -> str:
        try:
            answer, is_page = self._stop_over_https(self._gate_context)
        except ssl.SSLCertVerificationError as error:
            self._stop_over_https(_trusting_all())
            raise StoplistError(
                f"the check host is stopped, under a certificate that does not verify: {_words(error)}",
                hint="name the ca-cert.pem of this gate with --ca, and roll it out to the clients",
            ) from None
        if not is_page:
            return f"the check host is stopped without a page: CONNECT is refused ({answer.status})"
        trust = (
            "under a certificate of its CA"
            if self._wanted.ca
            else "that was not verified: name the gate's CA with --ca"
        )
        return f"the check host is stopped ({answer.status}) by a page {trust}"

    def _stop_over_https(self, context: ssl.SSLContext) -> tuple[Response, bool]:
        """The answer that stops a request to the check host over HTTPS, and whether it is a page inside the tunnel."""
        host = self._check_host
        with self._dialler.tunnel(host, HTTPS_PORT) as (answer, tunnel):
            if not _is_tunnel(answer):
                _expect_stop(answer)
                return answer, False
            tls = open_tls(tunnel, context, host)
            answer = ask(tls, "GET", "/", host.name)
            _expect_stop(answer)
            self._of_page = _certificate(tls)
            self._take_age(answer)
            return answer, True

    def control(self) -> str:
        try:
            self._shake_hands(self._control_context)
        except ssl.SSLCertVerificationError as error:
            self._distrust = _words(error)
            self._shake_hands(_trusting_all())
        return f"{self._control} passes"

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        """Do a TLS handshake with the control host, and note its certificate."""
        wanted = self._wanted
        with self._dialler.tunnel(wanted.control, wanted.control_port) as (answer, tunnel):
            if not _is_tunnel(answer):
                raise StoplistError(
                    f"{self._control} does not pass: CONNECT is answered with {_described(answer)}",
                    hint="is it up, can the gate reach it, and is it not listed?",
                )
            try:
                self._of_control = _certificate(open_tls(tunnel, context, wanted.control))
            except StoplistError as error:
                raise StoplistError(
                    f"{self._control} passes, but {error.message}", hint="name a host that speaks TLS with --control"
                ) from None

    def untouched(self) -> str:
        shown = self._of_control
        issuer = _printable(shown.issuer.rfc4514_string()) if shown else "an issuer that cannot be read"
        if shown and self._is_of_the_gate(shown):
            raise StoplistError(
                f"{self._control} is decrypted by the gate: its certificate is issued by the gate's own CA, {issuer}",
                hint="take 'tls: intercept' out of the policy; if it is not there, the host is listed: "
                "name another one with --control",
            )
        if self._distrust:
            raise StoplistError(
                f"{self._control} does not show a certificate of its own: "
                f"it is issued by {issuer}, and not trusted ({self._distrust})",
                hint="find out what decrypts between the gate and this host; if nothing does, or this machine has no "
                "public roots, name its roots with --control-ca",
            )
        return f"{self._control} shows its own certificate, issued by {issuer}"

    def freshness(self) -> Check:
        age, limit = self.age, self._wanted.max_age
        if age is None and limit is None:
            return Check(CheckName.LIST_AGE, Result.SKIPPED, "the gate does not say how old its list is")
        if age is None:
            return Check(
                CheckName.LIST_AGE,
                Result.UNKNOWN,
                "the gate does not say how old its list is",
                "update the gate, or leave out --max-age",
            )
        seen = f"the list is {age} day{'' if age == 1 else 's'} old"
        if limit is not None and age > limit:
            return Check(CheckName.LIST_AGE, Result.WARNING, f"{seen}, more than {limit}", "fetch a fresh list")
        return Check(CheckName.LIST_AGE, Result.OK, seen)

    @property
    def _control(self) -> str:
        port = self._wanted.control_port
        return self._wanted.control.name + ("" if port == HTTPS_PORT else f":{port}")

    def _is_of_the_gate(self, shown: x509.Certificate) -> bool:
        """Whether the gate's CA has signed this certificate, also if the system trusts that CA.

        The stop page tells best which CA that is: the CA of --ca may be above it, and sign for other hosts too.
        """
        if self._of_page is not None:
            return _have_one_issuer(shown, self._of_page)
        return any(_has_signed(authority, shown) for authority in self._authorities)

    def _take_age(self, answer: Response) -> None:
        self.age = _list_age(answer) if self.age is None else self.age


def _is_tunnel(answer: Response) -> bool:
    return answer.status in range(200, 300)


def _expect_stop(answer: Response) -> None:
    """Raise StoplistError if an answer is not the gate's answer to a stopped request."""
    status = answer.status
    if status in _STOPPED and _denied_by_stoplist(answer):
        if "no-store" not in (value.lower() for value in answer.values("Cache-Control")):
            raise StoplistError("the stop may be cached", hint="something between the gate and here changes answers")
        if changed := {"location", "set-cookie"} & answer.fields.keys():
            raise StoplistError(
                f"the stop has the header field {min(changed)}, which no gate sends with a stop",
                hint="something between the gate and here changes answers",
            )
        if _member(answer, "type") == _COUNTED:
            raise StoplistError(
                "the check host is stopped like a listed host, and the gate counted it",
                hint="name the check host of the gate's list with --check-host",
            )
        return
    if status in range(200, 300):
        raise StoplistError(f"the check host is not stopped: {_described(answer)}", hint=_NO_GATE)
    if status in range(300, 400) or status == _CAPTIVE:
        raise StoplistError(
            f"a login page or a redirect answers for the check host: {_described(answer)}",
            hint="is there a captive portal, or another proxy, before the gate?",
        )
    raise StoplistError(f"the check host is answered, but not by a stop: {_described(answer)}", hint=_NO_GATE)


def _denied_by_stoplist(answer: Response) -> bool:
    """Whether the gate says of itself that it denied the request (RFC 9209)."""
    for member in answer.values("Proxy-Status"):
        name, *parameters = (part.strip() for part in member.split(";"))
        if name == "stoplist" and "error=http_request_denied" in parameters:
            return True
    return False


def _described(answer: Response) -> str:
    """The status of an answer, and the programs that it names, if any."""
    fields = ((name, answer.fields.get(name.lower(), "")) for name in ("Proxy-Status", "Server", "Via"))
    known = [f"{name}: {_printable(value)}" for name, value in fields if value]
    return f"status {answer.status}" + (f" ({', '.join(known)})" if known else "")


def _list_age(answer: Response) -> int | None:
    """The age of the list in days, if the gate gives it."""
    age = _member(answer, "list_age_days")
    return age if type(age) is int and 0 <= age <= _MAX_AGE else None


def _member(answer: Response, name: str) -> object:
    """A member of the JSON object in the body; None if there is none."""
    try:
        return json.loads(answer.body)[name]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


# Certificates


def _trusting(roots: Path | None) -> ssl.SSLContext:
    """A context that trusts these roots, or those of the system. Raises StoplistError."""
    certificates = _certificates(roots)
    pem = "".join(ssl.DER_cert_to_PEM_cert(each.public_bytes(Encoding.DER)) for each in certificates)
    context = ssl.create_default_context(cadata=pem or None)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 checks more strictly than browsers: a certificate that browsers accept is no sign of decryption.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _trusting_all() -> ssl.SSLContext:
    """A context for reading a certificate that other code judges."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _certificates(path: Path | None) -> list[x509.Certificate]:
    if path is None:
        return []
    try:
        return x509.load_pem_x509_certificates(files.read(path, _MAX_CA_SIZE))
    except ValueError:
        raise StoplistError("no certificates in PEM", hint="name a file such as ca-cert.pem", place=str(path)) from None


def _certificate(tls: Tls) -> x509.Certificate | None:
    """The certificate of the other side; None if it cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(tls.certificate)
        certificate.issuer.rfc4514_string()
    except ValueError:
        return None
    return certificate


def _has_signed(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _have_one_issuer(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Whether one issuer signed both: by its name, and by its key if both certificates identify the key."""
    keys = {_issuer_key(one), _issuer_key(other)} - {None}
    return one.issuer == other.issuer and len(keys) < 2


def _issuer_key(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


# Words


def _printable(text: str) -> str:
    """A text from outside, in one short line; without '|', which would begin performance data."""
    shown = "".join(character if character.isprintable() and character != "|" else "?" for character in text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."


def _words(error: ssl.SSLCertVerificationError) -> str:
    return _printable(error.verify_message.rstrip("."))


def as_text(found: SelfTest) -> str:
    """The lines of a monitoring plugin: the first gives the overall result, each of the others is a check."""
    lines = [f"STOPLIST {found.state.name} - {_summary(found)}{_performance(found)}"]
    for check in found.checks:
        remedy = f"; {check.remedy}" if check.remedy else ""
        lines.append(f"{check.name}: {check.result}, {check.seen}{remedy}")
    return "\n".join(lines)


def _summary(found: SelfTest) -> str:
    bad = next((result for result, state in _WORST_FIRST.items() if state is found.state), None)
    if bad is not None:
        return "; ".join(f"{check.name}: {check.seen}" for check in found.checks if check.result is bad)
    skipped = sum(check.result is Result.SKIPPED for check in found.checks)
    return f"{len(found.checks) - skipped} checks fine" + (f", {skipped} skipped" if skipped else "")


def _performance(found: SelfTest) -> str:
    values = [
        f"{check.name}={check.seconds:.3f}s"
        for check in found.checks
        if check.name in (CheckName.HTTP, CheckName.HTTPS, CheckName.CONTROL) and check.seconds is not None
    ]
    if found.list_age is not None:
        values.append(f"list_age={found.list_age}" + (f";{found.max_age}" if found.max_age is not None else ""))
    return f" | {' '.join(values)}" if values else ""
