"""Policy: the models of the operator's policy. They are the reference of the policy's keys.

Rules
  - Only keys that do something exist. Values are frozen; a changed policy is a new Policy.
  - Paths are as written, relative to the policy's folder; this module reads no file.
"""

from __future__ import annotations

import math
import zoneinfo
from datetime import date, datetime, timedelta, tzinfo
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stoplist.core.policy.values import (
    Country,
    Day,
    Domain,
    Duration,
    FileName,
    FolderName,
    Form,
    HostName,
    Keep,
    Language,
    Link,
    Listen,
    ListenAddress,
    Mode,
    NetworkName,
    Percent,
    PortRange,
    Ports,
    Span,
    SpokenLink,
    SpokenText,
    Text,
    Zone,
    exact_version,
    is_given,
    one_or_several,
)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ListKeySource(Section):
    """Where the list key is: in a file, or in an environment variable."""

    file: FileName | None = Field(None, examples=["worst-of.listkey"])
    env: Annotated[Text, Form("^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable")] | None = Field(
        None, examples=["STOPLIST_KEY"]
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise PydanticCustomError("one_source", "needs either 'file' or 'env'")
        return self


class GuardPolicy(Section):
    """The change of a list, in percent of its domains, above which the gate holds it until a person releases it."""

    grow: Percent = Field(50, examples=["50%"])
    shrink: Percent = Field(30, examples=["30%"])


class ListPolicy(Section):
    """One signed list, and the keys and signatures that the gate requires of it. `key` is one source, or several
    while the list key changes."""

    file: FileName = Field(examples=["worst-of.stoplist"])
    key: Annotated[
        tuple[ListKeySource, ...],
        BeforeValidator(one_or_several, json_schema_input_type=ListKeySource | tuple[ListKeySource, ...]),
        Field(min_length=1),
    ] = Field(examples=["{file: worst-of.listkey}"])
    trusted_keys: Annotated[tuple[FileName, ...], Field(min_length=1)] = Field(examples=["[keys/authority.pub]"])
    threshold: Annotated[StrictInt, Field(ge=1, le=16)] = Field(examples=["2"])
    mode: Mode = Field("enforce", examples=["enforce"])
    when_expired: Literal["keep", "refuse-all"] = Field("keep", examples=["keep"])
    guard: GuardPolicy = Field(GuardPolicy(), examples=["{grow: 50%, shrink: 30%}"])

    @property
    def once_expired(self) -> str:
        """The consequence once the list has expired, in words."""
        return "every request is refused" if self.when_expired == "refuse-all" else "it stays in force"

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.threshold > len(self.trusted_keys):
            raise PydanticCustomError(
                "threshold",
                "asks for {threshold} signatures, but names only {keys} trusted keys",
                {"threshold": self.threshold, "keys": len(self.trusted_keys)},
            )
        return self


class ExceptionPolicy(Section):
    """A domain that passes although it is listed, to the end of a day."""

    domain: Domain = Field(examples=["appeal.example"])
    reason: Text = Field(examples=['"appeal 2026-14 upheld"'])
    until: Day = Field(examples=["2099-12-31"])

    def ends(self, zone: tzinfo) -> float:
        """The POSIX time at which the exception ends."""
        if self.until == date.max:
            return math.inf
        following = self.until + timedelta(days=1)
        return datetime(following.year, following.month, following.day, tzinfo=zone).timestamp()


class HelpLine(Section):
    """A help line on the stop page: on every page, or only for one language or country."""

    topic: Literal["report", "worry", "thoughts"] = Field(examples=["report"])
    name: Text = Field(examples=["Example hotline"])
    link: Link = Field(examples=["https://hotline.example/"])
    language: Language | None = Field(None, examples=["fr"])
    country: Country | None = Field(None, examples=["CH"])


class NamedLink(Section):
    name: SpokenText = Field(examples=["Example Act, section 1"])
    link: SpokenLink = Field(examples=["https://law.example/act"])


class StopPagePolicy(Section):
    """The texts and links of the stop page. Each is one text for all languages, or one text per language. `authority`
    keeps the list; without it, the page does not say who does. `checked_by_police` says that police of several
    countries check each domain: write it only if that is true of the list that is in force."""

    authority: Annotated[SpokenText | None, BeforeValidator(is_given, json_schema_input_type=SpokenText)] = Field(
        None, examples=["Example Authority"]
    )
    checked_by_police: StrictBool = Field(False, examples=["true"])
    operator: SpokenText = Field(examples=["Example School"])
    contact: SpokenText = Field(examples=["it@school.example"])
    complaints: SpokenLink = Field(examples=["mailto:complaints@school.example"])
    authority_contact: SpokenLink | None = Field(None, examples=["mailto:list@authority.example"])
    legislation: NamedLink = Field(examples=['{name: "Example Act", link: "https://law.example/act"}'])
    help: tuple[HelpLine, ...] = Field(
        examples=['[{topic: report, name: Example hotline, link: "https://hotline.example/"}]']
    )
    languages: Annotated[tuple[Language, ...], Field(min_length=1)] = Field(
        ("en", "fr", "es", "ar"), examples=["[en, fr, es, ar]"]
    )
    catalogues: tuple[FileName, ...] = Field((), examples=["[de.po]"])
    template: FileName | None = Field(None, examples=["stop-page.html"])
    status: Literal[403, 451] = Field(403, examples=["403"])

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for language in self.languages:
            spoken = {line.topic for line in self.help if line.country is None and line.language in (None, language)}
            missing = [topic for topic in ("report", "worry", "thoughts") if topic not in spoken]
            if missing:
                of_language = "" if all(line.language is None for line in self.help) else f" in '{language}'"
                raise PydanticCustomError(
                    "help",
                    "'help' has no line for {missing}{of_language}",
                    {"missing": ", ".join(missing), "of_language": of_language},
                )
        if self.status == 451 and not all(link.startswith("http") for _, link in self.legislation.link.texts):
            raise PydanticCustomError("legal", "status 451 needs the legal demand as a web link under 'legislation'")
        return self


class CountsPolicy(Section):
    """The period, hiding and rounding of the counts, and how long the gate keeps them. `period`, `hide_below` and
    `round_to` may be coarser than the defaults, not finer."""

    period: Literal["day", "hour"] = Field("day", examples=["day"])
    hide_below: Annotated[StrictInt, Field(ge=10, le=1000)] = Field(10, examples=["10"])
    round_to: Annotated[StrictInt, Field(ge=5, le=1000)] = Field(5, examples=["5"])
    keep: Keep = Field(Span(24, 0), examples=["24 months"])


class MetricsPolicy(Section):
    """The address that serves metrics (Prometheus and OpenMetrics) and health checks."""

    listen: Listen = Field(ListenAddress("127.0.0.1", 9464), examples=["127.0.0.1:9464"])


class UpstreamPolicy(Section):
    """Addresses that clients may reach through the gate beyond the defaults (`allow`), and addresses that they may not
    reach (`deny`). `ca` is a file of CA certificates that the gate trusts instead of the public ones, for TLS
    connections that it makes itself."""

    allow: tuple[NetworkName, ...] = Field((), examples=["[127.0.0.1]"])
    deny: tuple[NetworkName, ...] = Field((), examples=["[10.0.0.0/8]"])
    ca: FileName | None = Field(None, examples=["roots.pem"])


class TunnelsPolicy(Section):
    """The ports to which clients may open tunnels, by CONNECT or SOCKS (`ports`, empty for all). `other` says what to
    do with tunnels that hold neither TLS nor HTTP: relay or refuse. On `web_ports`, such a tunnel passes only if the
    server is no web server."""

    ports: tuple[Ports, ...] = Field((), examples=["[443, 8443]"])
    other: Literal["relay", "refuse"] = Field("relay", examples=["refuse"])
    web_ports: tuple[Ports, ...] = Field(
        tuple(map(PortRange.parse, ("80", "443", "8000-8099", "8443", "8888"))),
        examples=["[80, 443, 8000-8099, 8443, 8888]"],
    )

    def permits(self, port: int) -> bool:
        """Whether a tunnel may lead to this port."""
        return not self.ports or any(port in ports for ports in self.ports)

    def is_web(self, port: int) -> bool:
        """Whether this port is in `web_ports`, where text passes only once the server has spoken."""
        return any(port in ports for ports in self.web_ports)


class LdapPolicy(Section):
    """An LDAP directory that checks the names and passwords of clients."""

    server: Annotated[
        Text, Form("^ldaps?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$", "a server: ldap://HOST:PORT or ldaps://HOST:PORT")
    ] = Field(examples=["ldaps://directory.example:636"])
    bind_dn: Annotated[Text, Form("^[^:]+$", "a name without ':'")] = Field(
        examples=['"cn=gate,dc=directory,dc=example"']
    )
    password_file: FileName = Field(examples=["ldap.password"])
    base_dn: Annotated[Text, Form("^[^:?]+$", "a name without ':' and '?'")] = Field(
        examples=['"ou=people,dc=directory,dc=example"']
    )
    attribute: Annotated[Text, Form("^[A-Za-z][A-Za-z0-9-]*$", "the name of an attribute")] = Field(
        "uid", examples=["uid"]
    )


class ProxyAuthPolicy(Section):
    """The names and passwords with which clients may use the gate: in an Apache htpasswd file, or in a directory."""

    htpasswd: FileName | None = Field(None, examples=["users.htpasswd"])
    ldap: LdapPolicy | None = Field(None, examples=["{server: ldaps://directory.example, ...}"])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.htpasswd is None) == (self.ldap is None):
            raise PydanticCustomError("one_directory", "needs either 'htpasswd' or 'ldap'")
        return self


class CertificatePolicy(Section):
    """The certificate that the gate shows to clients which speak TLS to the gate itself."""

    cert: FileName = Field(examples=["proxy.pem"])
    key: FileName = Field(examples=["proxy.key"])


class CaPolicy(Section):
    """The operator's own CA instead of the gate's: the file of its certificate and of those above it, and the
    file of its key."""

    cert: FileName = Field(examples=["intermediate.pem"])
    key: FileName = Field(examples=["intermediate.key"])


class WatchPolicy(Section):
    """How often the gate looks for changed files, if the file system does not report changes."""

    poll: Duration = Field(10, examples=["10s"])


class TestPolicy(Section):
    """A host and the action that is expected for it. `check` runs these tests, and the gate runs them
    before it puts a change in force."""

    __test__ = False

    host: HostName = Field(examples=["check.stoplist.invalid"])
    expect: Literal["stop", "pass", "observe"] = Field(examples=["stop"])


class Policy(Section):
    """A whole policy, version 1."""

    version: Annotated[Literal[1], BeforeValidator(exact_version)] = Field(examples=["1"])
    include: Annotated[
        tuple[FileName, ...], BeforeValidator(one_or_several, json_schema_input_type=FileName | tuple[FileName, ...])
    ] = Field((), examples=["base.yaml"])
    mode: Mode = Field("enforce", examples=["enforce"])
    lists: Annotated[tuple[ListPolicy, ...], Field(min_length=1)] = Field(
        examples=[
            "[{file: worst-of.stoplist, key: {file: worst-of.listkey}, trusted_keys: [authority.pub], threshold: 1}]"
        ]
    )
    never_block: tuple[HostName, ...] = Field((), examples=["[school.example, library.example]"])
    exceptions: tuple[ExceptionPolicy, ...] = Field(
        (), examples=['[{domain: appeal.example, reason: "appeal upheld", until: 2099-12-31}]']
    )
    stop_page: StopPagePolicy = Field(examples=["{operator: Example School, contact: it@school.example, ...}"])
    counts: CountsPolicy = Field(
        CountsPolicy(), examples=["{period: day, hide_below: 10, round_to: 5, keep: 24 months}"]
    )
    time_zone: Zone = Field(zoneinfo.ZoneInfo("UTC"), examples=["Europe/Paris"])
    metrics: Annotated[MetricsPolicy | None, BeforeValidator(is_given, json_schema_input_type=MetricsPolicy)] = Field(
        None, examples=["{listen: 127.0.0.1:9464}"]
    )
    watch: WatchPolicy = Field(WatchPolicy(), examples=["{poll: 10s}"])
    listen: Listen = Field(ListenAddress("127.0.0.1", 8080), examples=["127.0.0.1:8080"])
    state_dir: FolderName | None = Field(None, examples=["/var/lib/stoplist"])
    certificate: Annotated[
        CertificatePolicy | None, BeforeValidator(is_given, json_schema_input_type=CertificatePolicy)
    ] = Field(None, examples=["{cert: proxy.pem, key: proxy.key}"])
    clients: Annotated[
        Annotated[tuple[NetworkName, ...], Field(min_length=1)] | None,
        BeforeValidator(is_given, json_schema_input_type=Annotated[tuple[NetworkName, ...], Field(min_length=1)]),
    ] = Field(None, examples=["[10.0.0.0/8]"])
    observe_clients: tuple[NetworkName, ...] = Field((), examples=["[10.7.0.0/16]"])
    proxy_auth: Annotated[ProxyAuthPolicy | None, BeforeValidator(is_given, json_schema_input_type=ProxyAuthPolicy)] = (
        Field(None, examples=["{htpasswd: users.htpasswd}"])
    )
    upstream: UpstreamPolicy = Field(UpstreamPolicy(), examples=["{allow: [127.0.0.1], deny: [10.0.0.0/8]}"])
    tunnels: TunnelsPolicy = Field(TunnelsPolicy(), examples=["{ports: [443], other: refuse}"])
    https: Literal["page", "refuse"] = Field("page", examples=["page"])
    ca: Annotated[CaPolicy | None, BeforeValidator(is_given)] = Field(
        None, examples=["{cert: intermediate.pem, key: intermediate.key}"]
    )
    tls: Literal["passthrough", "intercept"] = Field("passthrough", examples=["passthrough"])
    tests: tuple[TestPolicy, ...] = Field((), examples=["[{host: check.stoplist.invalid, expect: stop}]"])

    def enforces(self, wanted: ListPolicy) -> bool:
        """Whether a list of this policy is enforced, for clients that are not among `observe_clients`."""
        return "observe" not in (self.mode, wanted.mode)
