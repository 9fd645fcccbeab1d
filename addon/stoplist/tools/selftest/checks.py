"""The self-test: whether the filter works, as a client sees it.

  http       the gate stops the check host over HTTP
  https      it stops the check host over HTTPS, under a certificate of the gate's CA
  control    another host passes
  untouched  that host shows its own certificate: nobody has decrypted it
  list age   the list is fresh enough, if the gate says how old it is

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from stoplist.core.hosts import Host
from stoplist.errors import StoplistError
from stoplist.tools.selftest.proxy_client import (
    Proxy,
    ProxyClient,
    Response,
    SilentError,
    UnreachableError,
    ask,
    open_tls,
)
from stoplist.tools.selftest.self_test import Check, CheckName, Result, SelfTest, printable
from stoplist.tools.selftest.shown_certificates import (
    certificate_shown,
    certificates_of,
    has_signed,
    have_one_issuer,
    trusting,
    trusting_all,
)

HTTPS_PORT = 443

_STOPPED = (403, 451)
_CAPTIVE = 511
_MAX_AGE = 100_000
_NO_GATE = "is this the address of the gate, and does its list have this check host? if so, see the gate's log"
_COUNTED = "tag:stoplist.invalid,2026:stopped"
"""The type of a stop for any other host than the check host (RFC 9457)."""


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
        self._authorities = certificates_of(wanted.ca)
        self._gate_context = trusting(wanted.ca) if wanted.ca else trusting_all()
        self._control_context = trusting(wanted.control_ca)
        self._client = ProxyClient(wanted.proxy, trusting(wanted.proxy_ca), wanted.seconds)
        self._of_page: x509.Certificate | None = None
        """The certificate under which the gate showed its page."""
        self._of_control: x509.Certificate | None = None
        self._distrust = ""
        """The reason why the certificate of the control host is not trusted."""
        self.age: int | None = None

    def http(self) -> str:
        try:
            with self._client.connect() as channel:
                answer = self._client.get(channel, self._check_host)
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
            self._stop_over_https(trusting_all())
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
        with self._client.tunnel(host, HTTPS_PORT) as (answer, tunnel):
            if not _is_tunnel(answer):
                _expect_stop(answer)
                return answer, False
            tls = open_tls(tunnel, context, host)
            answer = ask(tls, "GET", "/", host.name)
            _expect_stop(answer)
            self._of_page = certificate_shown(tls)
            self._take_age(answer)
            return answer, True

    def control(self) -> str:
        try:
            self._shake_hands(self._control_context)
        except ssl.SSLCertVerificationError as error:
            self._distrust = _words(error)
            self._shake_hands(trusting_all())
        return f"{self._control} passes"

    def _shake_hands(self, context: ssl.SSLContext) -> None:
        """Do a TLS handshake with the control host, and note its certificate."""
        wanted = self._wanted
        with self._client.tunnel(wanted.control, wanted.control_port) as (answer, tunnel):
            if not _is_tunnel(answer):
                raise StoplistError(
                    f"{self._control} does not pass: CONNECT is answered with {_described(answer)}",
                    hint="is it up, can the gate reach it, and is it not listed?",
                )
            try:
                self._of_control = certificate_shown(open_tls(tunnel, context, wanted.control))
            except StoplistError as error:
                raise StoplistError(
                    f"{self._control} passes, but {error.message}", hint="name a host that speaks TLS with --control"
                ) from None

    def untouched(self) -> str:
        shown = self._of_control
        issuer = printable(shown.issuer.rfc4514_string()) if shown else "an issuer that cannot be read"
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
            return have_one_issuer(shown, self._of_page)
        return any(has_signed(authority, shown) for authority in self._authorities)

    def _take_age(self, answer: Response) -> None:
        self.age = _list_age(answer) if self.age is None else self.age


def _is_tunnel(answer: Response) -> bool:
    return answer.status in range(200, 300)


def _expect_stop(answer: Response) -> None:
    """Raise StoplistError if an answer is not the gate's answer to a stopped request."""
    status = answer.status
    if status in _STOPPED and _denied_by_stoplist(answer):
        if "no-store" not in (value.lower() for value in answer.values("Cache-Control")):
            raise StoplistError(
                "the stop page lacks 'Cache-Control: no-store'",
                hint="find out what changes answers between the gate and here",
            )
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
    raise StoplistError(
        f"the proxy answered for the check host, but did not stop it: {_described(answer)}", hint=_NO_GATE
    )


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
    known = [f"{name}: {printable(value)}" for name, value in fields if value]
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


def _words(error: ssl.SSLCertVerificationError) -> str:
    return printable(error.verify_message.rstrip("."))
