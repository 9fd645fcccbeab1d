"""Policy: what the operator wants, read strictly from YAML.

Rules
  - Every fault is found in one run, each with its line, the value as it was written, and a remedy.
  - An unknown key is an error that suggests the right one; so are a duplicate key, a tab, an anchor
    and an alias: a policy says what it means, once.
  - Only keys that do something exist. Values are frozen; a changed policy is a new Policy.
  - Paths are as written, relative to the policy's folder; nothing is read here.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from ipaddress import IPv6Network, ip_address, ip_network, summarize_address_range
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    StrictInt,
    StrictStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from stoplist.core.addresses import Network
from stoplist.core.hosts import Host, HostError
from stoplist.core.policy.document import Document, Path, name
from stoplist.core.policy.document import PolicyError as PolicyError
from stoplist.errors import Place, Problems, StoplistError

MAX_POLICY_SIZE = 1024 * 1024
"""Largest policy file, in bytes."""


@dataclass(frozen=True, slots=True)
class _Form:
    """A text that matches a pattern, or else is told not to be `what`."""

    pattern: str
    what: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self.pattern}

    def _checked(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise PydanticCustomError("form", "is not {what}", {"what": self.what})
        return value


_HOST_IN_A_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?([^/:@?#]+)(?::[0-9]*)?(?:[/?#].*)?")


def _host(value: object) -> Host:
    if not isinstance(value, str):
        raise PydanticCustomError("host", "is not a host name")
    try:
        return Host.parse(value)
    except HostError as error:
        given = {"why": error.message}
        if (url := _HOST_IN_A_URL.fullmatch(value)) and url[1] != value:
            given["hint"] = f"write the host alone: '{url[1]}'"
        raise PydanticCustomError("host", "is not a host name: {why}", given) from None


def _domain(value: object) -> Host:
    if isinstance(value, str) and value.startswith(("*.", ".")):
        bare = value.lstrip("*.")
        raise PydanticCustomError(
            "domain", "is a pattern", {"hint": f"write '{bare}': what is below it is covered as well"}
        )
    host = _host(value)
    if host.is_address or "." not in host.name:
        raise PydanticCustomError("domain", "is not a domain of two labels or more")
    return host


_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(_DAY, value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("day", "is no date that exists") from None
    raise PydanticCustomError("day", "is not a date")


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where the gate listens. Port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ADDRESS:PORT``, an IPv6 address in brackets. Raises ValueError or HostError."""
        address, _, port = text.rpartition(":")
        bare_ipv6 = ":" in address and not address.startswith("[")
        if bare_ipv6 or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError
        return cls(Host.parse(address).address, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PORT`` or ``FIRST-LAST``. Raises ValueError."""
        match = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        found = cls(int(match[1]), int(match[2] or match[1])) if match else None
        if found is None or not 1 <= found.first <= found.last <= 65535:
            raise ValueError
        return found

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def _version(value: object) -> object:
    if type(value) is not int:  # True and 1.0 are equal to 1
        raise PydanticCustomError("version", "is not one of 1")
    return value


def _listen(value: object) -> ListenAddress:
    try:
        if isinstance(value, str):
            return ListenAddress.parse(value)
    except (ValueError, HostError):
        pass
    raise PydanticCustomError("listen", "is not ADDRESS:PORT")


def _ports(value: object) -> PortRange:
    try:
        if isinstance(value, str) or type(value) is int:
            return PortRange.parse(str(value))
    except ValueError:
        pass
    raise PydanticCustomError("ports", "is not a port, or a range such as 8000-8099")


def _network(value: object) -> Network:
    if isinstance(value, str) and "%" not in value:
        try:
            network = ip_network(value)
            if not (isinstance(network, IPv6Network) and network.network_address.ipv4_mapped):
                return network
        except ValueError as error:
            if "host bits" in str(error):
                wider = str(ip_network(value, strict=False))
                hint = f"write '{wider}' for the network, or '{value.partition('/')[0]}' for the address"
                raise PydanticCustomError(
                    "network", "is an address in the network {wider}", {"wider": wider, "hint": hint}
                ) from None
        if networks := _networks_of_range(value):
            raise PydanticCustomError("network", "is a range", {"hint": f"write {', '.join(networks)}"})
    raise PydanticCustomError("network", "is not an address or a network in CIDR form")


def _networks_of_range(value: str) -> list[str]:
    """The networks of ``FIRST-LAST``, if they are few; nothing where it is no range."""
    first, _, last = value.partition("-")
    try:
        networks = summarize_address_range(ip_address(first.strip()), ip_address(last.strip()))
        return [str(network) for network in itertools.islice(networks, 33)]
    except (ValueError, TypeError):
        return []


def _given(value: object) -> object:
    if value is None:
        raise PydanticCustomError("too_short", "is empty")
    return value


def _several(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _percent(value: object) -> int:
    match = re.fullmatch(r"([0-9]{1,4})\s*%", value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise PydanticCustomError("percent", "is not a percentage from 1% on")
    return int(match[1])


@dataclass(frozen=True, slots=True)
class Span:
    """A time by the calendar: so many months, and so many days."""

    months: int
    days: int

    def before(self, now: datetime) -> datetime:
        """This long before `now`; the last day of a month where it has no such day."""
        month = now.year * 12 + now.month - 1 - self.months
        year, month = divmod(month, 12)
        last = (datetime(year + (month == 11), (month + 1) % 12 + 1, 1, tzinfo=UTC) - timedelta(days=1)).day
        return now.replace(year=year, month=month + 1, day=min(now.day, last)) - timedelta(days=self.days)

    def __str__(self) -> str:
        count, unit = (self.months, "month") if self.months else (self.days, "day")
        return f"{count} {unit}{'' if count == 1 else 's'}"


_SPANS = {"day": Span(0, 1), "week": Span(0, 7), "month": Span(1, 0), "year": Span(12, 0)}


def _span(value: object) -> Span:
    match = re.fullmatch(r"([0-9]{1,4})\s*(day|week|month|year)s?", value) if isinstance(value, str) else None
    unit = _SPANS[match[2]] if match else Span(0, 0)
    span = Span(unit.months * int(match[1]), unit.days * int(match[1])) if match else unit
    if not 1 <= span.months * 30 + span.days <= 3650:
        raise PydanticCustomError("span", "is not a time from 1 day to 10 years")
    return span


def _zone(value: object) -> zoneinfo.ZoneInfo:
    try:
        if isinstance(value, str):
            return zoneinfo.ZoneInfo(value)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):  # no file can have it; a folder; no such zone
        pass
    raise PydanticCustomError("zone", "is not the name of a time zone")


_DURATION = r"([0-9]{1,5})\s*(?:(s|sec|seconds?)|(m|min|minutes?)|(h|hours?))"


def _duration(value: object) -> int:
    match = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    seconds = int(match[1]) * (1 if match[2] else 60 if match[3] else 3600) if match else 0
    if not 1 <= seconds <= 3600:
        hint = {"hint": f"write the unit as well: '{value}s' or '{value} minutes'"} if type(value) is int else {}
        raise PydanticCustomError("duration", "is not a time from 1s to 1h", hint)
    return seconds


def _link(value: str) -> str:
    parts = urlsplit(value)
    if re.search(r'[\s<>"\x00-\x1f\x7f]', value):
        raise PydanticCustomError("link", "holds a space, a quote or an angle bracket")
    if (parts.scheme in ("http", "https") and parts.hostname) or (parts.scheme in ("mailto", "tel") and parts.path):
        return value
    meant = f"mailto:{value}" if re.fullmatch(r"[^\s:/@]+@[^\s:/@]+", value) else f"https://{value}"
    hint = {"hint": f"write '{meant}'"} if re.fullmatch(r"[^\s:/]+\.[a-z]+(/\S*)?", value) else {}
    raise PydanticCustomError("link", "is not a link (https:, http:, mailto: or tel:)", hint)


def _in_languages(value: object) -> object:
    return value if isinstance(value, dict) else {"": value}


_TAG = r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$"
_LANGUAGE = "a language tag such as 'en' or 'pt-BR'"


def _as(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Text = Annotated[StrictStr, StringConstraints(min_length=1, max_length=400, strip_whitespace=True)]
_FILE = "a file, by its path from the folder of the policy file in which it stands"
FileName = Annotated[Text, Field(description=_FILE)]
Link = Annotated[Text, AfterValidator(_link), _as("^\\s*(https?|mailto|tel|HTTPS?|MAILTO|TEL):")]
Language = Annotated[StrictStr, _Form(_TAG, _LANGUAGE)]
Country = Annotated[StrictStr, _Form("^[A-Z]{2}$", "a country code of two capital letters")]
HostName = Annotated[Host, BeforeValidator(_host), PlainSerializer(str), _as(r"^[^/?#@\\\s]+$")]
Domain = Annotated[Host, BeforeValidator(_domain), PlainSerializer(str), _as(r"^[^*.\s][^/?#@\\*\s]*[^/?#@\\\s]$")]
Day = Annotated[date, BeforeValidator(_day), _as(_DAY)]
Percent = Annotated[int, BeforeValidator(_percent), _as(r"^[0-9]{1,4}\s*%$")]
Duration = Annotated[int, BeforeValidator(_duration), _as(f"^{_DURATION}$")]
Keep = Annotated[Span, BeforeValidator(_span), _as(r"^[0-9]{1,4}\s*(day|week|month|year)s?$")]
Zone = Annotated[zoneinfo.ZoneInfo, BeforeValidator(_zone), PlainSerializer(str), _as("^[A-Za-z]")]
Listen = Annotated[ListenAddress, BeforeValidator(_listen), _as(":[0-9]{1,5}$")]
NetworkName = Annotated[Network, BeforeValidator(_network), PlainSerializer(str), _as("^[0-9a-fA-F:.]+(/[0-9.]+)?$")]
_PORTS = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": "^[0-9]+(-[0-9]+)?$"}]
}
Ports = Annotated[PortRange, BeforeValidator(_ports), PlainSerializer(str), WithJsonSchema(_PORTS)]
Mode = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class SpokenText:
    """A text in each language that it is written in: pairs of a language tag and the text, the tag '' where it is
    one for all."""

    texts: tuple[tuple[str, str], ...]

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        tag = handler.generate_schema(Annotated[StrictStr, _Form(f"{_TAG}|^$", _LANGUAGE)])
        spoken = core_schema.dict_schema(tag, handler.generate_schema(cls.one()))
        some = core_schema.no_info_before_validator_function(_in_languages, spoken)
        return core_schema.no_info_after_validator_function(cls._checked, some)

    @classmethod
    def one(cls) -> Any:
        """The type of one of the texts."""
        return Text

    @classmethod
    def _checked(cls, texts: dict[str, str]) -> Self:
        if not texts:
            raise PydanticCustomError("too_short", "is empty")
        return cls(tuple(texts.items()))

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = handler.resolve_ref_schema(TypeAdapter(cls.one()).json_schema())
        tags = {"type": "object", "minProperties": 1, "patternProperties": {_TAG: one}, "additionalProperties": False}
        return {"anyOf": [one, tags]}

    def in_language(self, language: str) -> str:
        """The text in this language, or else in its base language, or else the first one."""
        for tag in (language, language.partition("-")[0], ""):
            if tag in dict(self.texts):
                return dict(self.texts)[tag]
        return self.texts[0][1]


class SpokenLink(SpokenText):
    """The same for a link."""

    __slots__ = ()

    @classmethod
    def one(cls) -> Any:
        return Link


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class ListKeySource(_Section):
    """Where the list key is: in a file, or in an environment variable."""

    file: FileName | None = Field(None, examples=["worst-of.listkey"])
    env: Annotated[Text, _Form("^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable")] | None = Field(
        None, examples=["STOPLIST_KEY"]
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.env is None):
            raise PydanticCustomError("one_source", "needs either 'file' or 'env'")
        return self


class GuardPolicy(_Section):
    """How much a list may change at once, in percent of its domains, before a person must look."""

    grow: Percent = Field(50, examples=["50%"])
    shrink: Percent = Field(30, examples=["30%"])


class ListPolicy(_Section):
    """One signed list, and what it takes to believe it. `key` is one source, or several while the
    list key changes."""

    file: FileName = Field(examples=["worst-of.stoplist"])
    key: Annotated[
        tuple[ListKeySource, ...],
        BeforeValidator(_several, json_schema_input_type=ListKeySource | tuple[ListKeySource, ...]),
        Field(min_length=1),
    ] = Field(examples=["{file: worst-of.listkey}"])
    trusted_keys: Annotated[tuple[FileName, ...], Field(min_length=1)] = Field(examples=["[keys/authority.pub]"])
    threshold: Annotated[StrictInt, Field(ge=1, le=16)] = Field(examples=["2"])
    mode: Mode = Field("enforce", examples=["enforce"])
    when_expired: Literal["keep", "refuse-all"] = Field("keep", examples=["keep"])
    guard: GuardPolicy = Field(GuardPolicy(), examples=["{grow: 50%, shrink: 30%}"])

    @property
    def once_expired(self) -> str:
        """What happens when the list has expired, in words."""
        return "every request is refused" if self.when_expired == "refuse-all" else "it stays in force"

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.threshold > len(self.trusted_keys):
            raise PydanticCustomError(
                "threshold",
                "asks for {threshold} signatures, and {keys} trusted keys are named",
                {"threshold": self.threshold, "keys": len(self.trusted_keys)},
            )
        return self


class ExceptionPolicy(_Section):
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


class HelpLine(_Section):
    """Somebody to turn to, named on the stop page: on all of them, or for one language or country."""

    topic: Literal["report", "worry", "thoughts"] = Field(examples=["report"])
    name: Text = Field(examples=["Example hotline"])
    link: Link = Field(examples=["https://hotline.example/"])
    language: Language | None = Field(None, examples=["fr"])
    country: Country | None = Field(None, examples=["CH"])


class NamedLink(_Section):
    name: SpokenText = Field(examples=["Example Act, section 1"])
    link: SpokenLink = Field(examples=["https://law.example/act"])


class StopPagePolicy(_Section):
    """What the stop page says of this operator. Texts and links are the same in all languages, or one for each."""

    authority: SpokenText = Field(SpokenText((("", "INTERPOL"),)), examples=["INTERPOL"])
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


class CountsPolicy(_Section):
    """How coarse the counts are. Coarser than the defaults is possible, finer is not."""

    period: Literal["day", "hour"] = Field("day", examples=["day"])
    hide_below: Annotated[StrictInt, Field(ge=10, le=1000)] = Field(10, examples=["10"])
    round_to: Annotated[StrictInt, Field(ge=5, le=1000)] = Field(5, examples=["5"])
    keep: Keep = Field(Span(24, 0), examples=["24 months"])


class MetricsPolicy(_Section):
    """Where the gate says how it is: Prometheus and OpenMetrics, and whether it lives and is ready."""

    listen: Listen = Field(ListenAddress("127.0.0.1", 9464), examples=["127.0.0.1:9464"])


class UpstreamPolicy(_Section):
    """Addresses that clients may reach through the gate beyond the defaults, and those they may not;
    and, where the gate makes TLS by itself, whose certificates it believes instead of the public ones."""

    allow: tuple[NetworkName, ...] = Field((), examples=["[127.0.0.1]"])
    deny: tuple[NetworkName, ...] = Field((), examples=["[10.0.0.0/8]"])
    ca: FileName | None = Field(None, examples=["roots.pem"])


class TunnelsPolicy(_Section):
    """Which ports clients may open tunnels to, by CONNECT or SOCKS, all of them where none is named; what becomes of
    tunnels that hold neither TLS nor HTTP; and the ports on which such a one passes only where the server is no web
    server."""

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
        """Whether there is the web on this port, or nothing."""
        return any(port in ports for ports in self.web_ports)


class LdapPolicy(_Section):
    """A directory that clients' names and passwords are tried against."""

    server: Annotated[
        Text, _Form("^ldaps?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$", "a server: ldap://HOST:PORT or ldaps://HOST:PORT")
    ] = Field(examples=["ldaps://directory.example:636"])
    bind_dn: Annotated[Text, _Form("^[^:]+$", "a name without ':'")] = Field(
        examples=['"cn=gate,dc=directory,dc=example"']
    )
    password_file: FileName = Field(examples=["ldap.password"])
    base_dn: Annotated[Text, _Form("^[^:?]+$", "a name without ':' and '?'")] = Field(
        examples=['"ou=people,dc=directory,dc=example"']
    )
    attribute: Annotated[Text, _Form("^[A-Za-z][A-Za-z0-9-]*$", "the name of an attribute")] = Field(
        "uid", examples=["uid"]
    )


class ProxyAuthPolicy(_Section):
    """Who may use the gate: names and passwords in an Apache htpasswd file, or in a directory."""

    htpasswd: FileName | None = Field(None, examples=["users.htpasswd"])
    ldap: LdapPolicy | None = Field(None, examples=["{server: ldaps://directory.example, ...}"])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.htpasswd is None) == (self.ldap is None):
            raise PydanticCustomError("one_directory", "needs either 'htpasswd' or 'ldap'")
        return self


class CertificatePolicy(_Section):
    """The certificate that the gate shows to clients which speak TLS to the gate itself."""

    cert: FileName = Field(examples=["proxy.pem"])
    key: FileName = Field(examples=["proxy.key"])


class CaPolicy(_Section):
    """The operator's own CA in place of the gate's: its certificate, with those above it, and its key."""

    cert: FileName = Field(examples=["intermediate.pem"])
    key: FileName = Field(examples=["intermediate.key"])


class WatchPolicy(_Section):
    """How often files are looked at where the file system tells of no change; in seconds."""

    poll: Duration = Field(10, examples=["10s"])


class TestPolicy(_Section):
    """A host and what must become of it: run by `check` and before every activation."""

    __test__ = False

    host: HostName = Field(examples=["check.stoplist.invalid"])
    expect: Literal["stop", "pass", "observe"] = Field(examples=["stop"])


class Policy(_Section):
    """A whole policy, version 1."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(examples=["1"])
    include: Annotated[
        tuple[FileName, ...], BeforeValidator(_several, json_schema_input_type=FileName | tuple[FileName, ...])
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
    metrics: Annotated[MetricsPolicy | None, BeforeValidator(_given, json_schema_input_type=MetricsPolicy)] = Field(
        None, examples=["{listen: 127.0.0.1:9464}"]
    )
    watch: WatchPolicy = Field(WatchPolicy(), examples=["{poll: 10s}"])
    listen: Listen = Field(ListenAddress("127.0.0.1", 8080), examples=["127.0.0.1:8080"])
    certificate: Annotated[
        CertificatePolicy | None, BeforeValidator(_given, json_schema_input_type=CertificatePolicy)
    ] = Field(None, examples=["{cert: proxy.pem, key: proxy.key}"])
    clients: Annotated[
        Annotated[tuple[NetworkName, ...], Field(min_length=1)] | None,
        BeforeValidator(_given, json_schema_input_type=Annotated[tuple[NetworkName, ...], Field(min_length=1)]),
    ] = Field(None, examples=["[10.0.0.0/8]"])
    observe_clients: tuple[NetworkName, ...] = Field((), examples=["[10.7.0.0/16]"])
    proxy_auth: Annotated[ProxyAuthPolicy | None, BeforeValidator(_given, json_schema_input_type=ProxyAuthPolicy)] = (
        Field(None, examples=["{htpasswd: users.htpasswd}"])
    )
    upstream: UpstreamPolicy = Field(UpstreamPolicy(), examples=["{allow: [127.0.0.1], deny: [10.0.0.0/8]}"])
    tunnels: TunnelsPolicy = Field(TunnelsPolicy(), examples=["{ports: [443], other: refuse}"])
    https: Literal["page", "refuse"] = Field("page", examples=["page"])
    ca: Annotated[CaPolicy | None, BeforeValidator(_given)] = Field(
        None, examples=["{cert: intermediate.pem, key: intermediate.key}"]
    )
    tls: Literal["passthrough", "intercept"] = Field("passthrough", examples=["passthrough"])
    tests: tuple[TestPolicy, ...] = Field((), examples=["[{host: check.stoplist.invalid, expect: stop}]"])

    def enforces(self, wanted: ListPolicy) -> bool:
        """Whether a list of this policy is enforced, for clients that are not among `observe_clients`."""
        return "observe" not in (self.mode, wanted.mode)


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy that was read, with the place of each of its values for later errors."""

    document: Document
    policy: Policy

    @classmethod
    def parse(cls, data: bytes, source: str) -> PolicyText:
        """Read the bytes of a policy file; `source` names it in errors. Raises Problems."""
        return cls.of(Document.read(data, source))

    @classmethod
    def of(cls, document: Document) -> PolicyText:
        """The policy that a document says. Raises Unsound, or else Problems."""
        try:
            policy = Policy.model_validate(document.values)
        except ValidationError as error:
            details = error.errors()
            told = in_order([*document.problems, *_explain_all(document, details)], document.source)
            raise _unsound(document, told, details) from None
        if document.problems:
            raise Problems(in_order(document.problems, document.source))
        return cls(document, policy)

    def place(self, *path: str | int) -> Place:
        """Where a value stands, or the section nearest to it."""
        return self.document.place(path)


class Unsound(Problems):
    """Faults of a policy. `sound` is the policy without them, so that all that it names can be looked at all the
    same; `left_out` are the keys that `sound` has no value of its own for."""

    def __init__(self, problems: list[StoplistError], sound: PolicyText, left_out: frozenset[str]) -> None:
        super().__init__(problems)
        self.sound = sound
        self.left_out = left_out


def in_order(problems: list[StoplistError], source: str) -> list[StoplistError]:
    """In the order of lines; those of the file `source` before those of what it includes."""

    def order(problem: StoplistError) -> tuple[bool, str, int, int]:
        where = problem.where or Place(source, 1)
        return where.source != source, where.source, where.line, where.column

    return sorted(problems, key=order)


def _unsound(document: Document, problems: list[StoplistError], details: list[ErrorDetails]) -> Unsound:
    locs = [loc for loc in (*(detail["loc"] for detail in details), *document.faulty) if loc]
    faulty = frozenset(str(loc[0]) for loc in locs)
    values = {
        key: TypeAdapter(field.rebuild_annotation()).validate_python(document.values[key])
        for key, field in Policy.model_fields.items()
        if key in document.values and key not in faulty
    }
    places = dict(document.places)
    if "lists" not in values:
        values["lists"] = ()
        for number in _sound_items(document, "lists", locs):
            for at, place in document.places.items():
                if at[:2] == ("lists", number):
                    places["lists", len(values["lists"]), *at[2:]] = place
            values["lists"] += (ListPolicy.model_validate(document.values["lists"][number]),)
    sound = PolicyText(dataclasses.replace(document, places=places), Policy.model_construct(**values))
    return Unsound(problems, sound, faulty)


def _sound_items(document: Document, key: str, locs: list[Path]) -> list[int]:
    """The positions of a list's items that have no fault; none where the list itself has one."""
    items, faulty = document.values.get(key), {loc[1:2] for loc in locs if loc[0] == key}
    if not isinstance(items, list) or () in faulty:
        return []
    return [position for position in range(len(items)) if (position,) not in faulty]


def _explain_all(document: Document, details: list[ErrorDetails]) -> list[StoplistError]:
    """The errors of pydantic as ours. A section that is empty only because all of it
    was faulty is no fault of its own."""
    locs = [detail["loc"] for detail in details]
    found = [(_as_written(document, detail["loc"]), detail) for detail in details]
    return [
        _explain(document, path, detail)
        for path, detail in found
        if not any(path[: len(faulty)] == faulty for faulty in document.faulty)
        and not any(len(loc) > len(detail["loc"]) and loc[: len(detail["loc"])] == detail["loc"] for loc in locs)
    ]


def _as_written(document: Document, loc: Path) -> Path:
    """The path of a value in the document: one value may stand where several may be."""
    path: Path = ()
    for step in loc:
        if (isinstance(step, str) and step) or (*path, step) in document.places:
            path = (*path, step)
    return path


def _explain(document: Document, path: Path, detail: ErrorDetails) -> PolicyError:
    kind = detail["type"]
    place = document.place((*path, _ABOUT[kind]) if kind in _ABOUT else path)
    section, found = _field(path)
    if kind == "extra_forbidden":
        known = list(section.model_fields) if section else []
        close, home = difflib.get_close_matches(str(path[-1]), known, 1), _home(str(path[-1]), Policy, ())
        if home is not None and () in (home, path[:-1]):
            hint = f"it belongs under '{name(home)}'" if home else "it belongs at the beginning of a line"
        else:
            hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
        where = document.keys.get(path, place)
        return PolicyError(f"unknown key '{path[-1]}'", hint=hint, place=where, kind="unknown-key")
    given = detail.get("ctx", {})
    hint = given.get("hint") or _HINTS.get(kind, "")
    if not hint and found is not None:
        key = next(step for step in reversed(path) if isinstance(step, str))
        written = document.written.get(path, "")
        if kind == "string_type" and written:
            hint = f"put quotes around it: '{written}'"
        elif kind == "tuple_type" and written:
            hint = f"put it in brackets: '{key}: [{written}]'"
        else:
            hint = f"write, for example, '{key}: {found.examples[0]}'"
    if kind == "missing":
        return PolicyError(f"the key '{name(path)}' is missing", hint=hint, place=place, kind="missing-key")
    message = _MESSAGES[kind].format(**given) if kind in _MESSAGES else detail["msg"].removeprefix("Input ")
    shown = f" '{document.written[path]}'" if path in document.written else ""
    return PolicyError(f"{name(path)}:{shown} {message}", hint=hint, place=place, kind="value")


_MESSAGES = {
    "literal_error": "is not one of {expected}",
    "greater_than_equal": "is less than {ge}",
    "less_than_equal": "is more than {le}",
    "string_too_short": "is empty",
    "string_too_long": "is longer than {max_length} characters",
    "tuple_type": "is not a list",
    "model_type": "is not a set of keys and values",
    "int_type": "is not a whole number",
    "string_type": "is not a text",
    "too_short": "is empty",
}
_ABOUT = {"threshold": "threshold", "help": "help", "legal": "status"}
"""The key of a section that a fault of the section is about."""
_HINTS = {
    "one_source": "write 'key: {file: worst-of.listkey}' or 'key: {env: STOPLIST_KEY}'",
    "one_directory": "write 'proxy_auth: {htpasswd: users.htpasswd}'",
    "threshold": "name more trusted keys, or ask for fewer signatures",
    "help": "add a line for each, such as '{topic: worry, name: Example helpline, link: \"tel:0000\"}'",
    "legal": "write the address of the legal demand, or status 403",
    "domain": "write the domain as it is registered, such as 'appeal.example'",
}


def _field(path: Path) -> tuple[type[_Section] | None, Any]:
    """The section that holds the value at `path`, and the value's own field where it has one."""
    section: type[_Section] | None = Policy
    found: Any = None
    for step in path:
        if isinstance(step, int):
            continue
        if found is not None:
            inner = next(_sections(found.annotation), None)
            if inner is None and section is not None:
                continue  # a text in one of several languages
            section = inner
        found = section.model_fields.get(step) if section else None
    return section, found


def _home(key: str, section: type[_Section], path: Path) -> Path | None:
    """The section that has this key, the outermost first; None where none has."""
    if key in section.model_fields:
        return path
    found = (
        _home(key, inner, (*path, step))
        for step, field in section.model_fields.items()
        for inner in _sections(field.annotation)
    )
    return next((home for home in found if home is not None), None)


def names_file(path: Path) -> bool:
    """Whether the value at `path` is the path of a file."""
    _, found = _field(path)
    return found is not None and is_file(found)


def is_file(field: FieldInfo) -> bool:
    """Whether a field holds the path of a file, or several."""
    return _FILE in _descriptions(field)


def _descriptions(part: Any) -> Iterator[str | None]:
    yield getattr(part, "description", None)
    for inner in (
        *getattr(part, "metadata", ()),
        getattr(part, "annotation", None),
        *getattr(part, "__args__", ()),
        *getattr(part, "__metadata__", ()),
    ):
        if inner is not None:
            yield from _descriptions(inner)


def _sections(annotation: Any) -> Iterator[type[_Section]]:
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)
