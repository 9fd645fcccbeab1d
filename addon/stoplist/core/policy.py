"""Policy: what the operator wants, read strictly from YAML.

Rules
  - Every fault is found in one run, each with its line, the value as it was written, and a remedy.
  - An unknown key is an error that suggests the right one; so are a duplicate key, a tab, an anchor
    and an alias: a policy says what it means, once.
  - Only keys that do something exist. Values are frozen; a changed policy is a new Policy.
  - Paths are as written, relative to the policy's folder; nothing is read here.
"""

from __future__ import annotations

import difflib
import math
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from ipaddress import IPv6Network, ip_network
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    StrictInt,
    StrictStr,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema

from stoplist.core.addresses import Network
from stoplist.core.hosts import Host, HostError
from stoplist.errors import Problems, StoplistError

MAX_POLICY_SIZE = 1024 * 1024
"""Largest policy file, in bytes."""

type Path = tuple[str | int, ...]
"""Where a value stands in a policy: keys and positions, such as ``("lists", 0, "file")``."""


def _host(value: object) -> Host:
    if not isinstance(value, str):
        raise PydanticCustomError("host", "is not a host name")
    try:
        return Host.parse(value)
    except HostError as error:
        raise PydanticCustomError("host", "is not a host name: {why}", {"why": error.message}) from None


def _domain(value: object) -> Host:
    host = _host(value)
    if host.is_address or "." not in host.name:
        raise PydanticCustomError("domain", "is not a domain of two labels or more")
    return host


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
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


def _network(value: object) -> Network:
    if isinstance(value, str) and "%" not in value:
        try:
            network = ip_network(value)
            if not (isinstance(network, IPv6Network) and network.network_address.ipv4_mapped):
                return network
        except ValueError as error:
            if "host bits" in str(error):
                wider = ip_network(value, strict=False)
                raise PydanticCustomError(
                    "network", "is an address in the network {wider}", {"wider": str(wider)}
                ) from None
    raise PydanticCustomError("network", "is not an address or a network in CIDR form")


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


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _duration(value: object) -> int:
    match = re.fullmatch(r"([0-9]{1,5})\s*([smh])", value) if isinstance(value, str) else None
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= 3600:
        raise PydanticCustomError("duration", "is not a time from 1s to 1h")
    return seconds


def _link(value: str) -> str:
    parts = urlsplit(value)
    if re.search(r'[\s<>"\x00-\x1f\x7f]', value):
        raise PydanticCustomError("link", "holds a space, a quote or an angle bracket")
    if (parts.scheme in ("http", "https") and parts.hostname) or (parts.scheme in ("mailto", "tel") and parts.path):
        return value
    raise PydanticCustomError("link", "is not a link (https:, http:, mailto: or tel:)")


def _in_languages(value: object) -> object:
    return value if isinstance(value, dict) else {"": value}


_TAG = r"^[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?$"
Text = Annotated[StrictStr, StringConstraints(min_length=1, max_length=400, strip_whitespace=True)]
Link = Annotated[Text, AfterValidator(_link)]
Language = Annotated[StrictStr, StringConstraints(pattern=_TAG)]
Country = Annotated[StrictStr, StringConstraints(pattern=r"^[A-Z]{2}$")]
HostName = Annotated[Host, BeforeValidator(_host), PlainSerializer(str)]
Domain = Annotated[Host, BeforeValidator(_domain), PlainSerializer(str)]
Day = Annotated[date, BeforeValidator(_day)]
Percent = Annotated[int, BeforeValidator(_percent)]
Duration = Annotated[int, BeforeValidator(_duration)]
Keep = Annotated[Span, BeforeValidator(_span)]
Zone = Annotated[zoneinfo.ZoneInfo, BeforeValidator(_zone), PlainSerializer(str)]
Listen = Annotated[ListenAddress, BeforeValidator(_listen)]
NetworkName = Annotated[Network, BeforeValidator(_network), PlainSerializer(str)]
Mode = Literal["enforce", "observe"]


@dataclass(frozen=True, slots=True)
class SpokenText:
    """A text in each language that it is written in: pairs of a language tag and the text, the tag '' where it is
    one for all."""

    texts: tuple[tuple[str, str], ...]

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        tag = core_schema.str_schema(pattern=f"{_TAG}|^$", strict=True)
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

    file: Text | None = Field(None, examples=["worst-of.listkey"])
    env: Annotated[Text, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
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

    file: Text = Field(examples=["worst-of.stoplist"])
    key: Annotated[tuple[ListKeySource, ...], BeforeValidator(_several), Field(min_length=1)] = Field(
        examples=["{file: worst-of.listkey}"]
    )
    trusted_keys: Annotated[tuple[Text, ...], Field(min_length=1)] = Field(examples=["[keys/authority.pub]"])
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
    until: Day = Field(examples=["2026-12-31"])

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
    catalogues: tuple[Text, ...] = Field((), examples=["[de.po]"])
    template: Text | None = Field(None, examples=["stop-page.html"])
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
    ca: Text | None = Field(None, examples=["roots.pem"])


class LdapPolicy(_Section):
    """A directory that clients' names and passwords are tried against."""

    server: Annotated[Text, StringConstraints(pattern=r"^ldaps?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$")] = Field(
        examples=["ldaps://directory.example:636"]
    )
    bind_dn: Annotated[Text, StringConstraints(pattern=r"^[^:]+$")] = Field(
        examples=['"cn=gate,dc=directory,dc=example"']
    )
    password_file: Text = Field(examples=["ldap.password"])
    base_dn: Annotated[Text, StringConstraints(pattern=r"^[^:?]+$")] = Field(
        examples=['"ou=people,dc=directory,dc=example"']
    )
    attribute: Annotated[Text, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]*$")] = Field("uid", examples=["uid"])


class ProxyAuthPolicy(_Section):
    """Who may use the gate: names and passwords in an Apache htpasswd file, or in a directory."""

    htpasswd: Text | None = Field(None, examples=["users.htpasswd"])
    ldap: LdapPolicy | None = Field(None, examples=["{server: ldaps://directory.example, ...}"])

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.htpasswd is None) == (self.ldap is None):
            raise PydanticCustomError("one_directory", "needs either 'htpasswd' or 'ldap'")
        return self


class CertificatePolicy(_Section):
    """The certificate that the gate shows to clients which speak TLS to the gate itself."""

    cert: Text = Field(examples=["proxy.pem"])
    key: Text = Field(examples=["proxy.key"])


class CaPolicy(_Section):
    """The operator's own CA in place of the gate's: its certificate, with those above it, and its key."""

    cert: Text = Field(examples=["intermediate.pem"])
    key: Text = Field(examples=["intermediate.key"])


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
    mode: Mode = Field("enforce", examples=["enforce"])
    lists: Annotated[tuple[ListPolicy, ...], Field(min_length=1)] = Field(
        examples=[
            "[{file: worst-of.stoplist, key: {file: worst-of.listkey}, trusted_keys: [authority.pub], threshold: 1}]"
        ]
    )
    never_block: tuple[HostName, ...] = Field((), examples=["[school.example, library.example]"])
    exceptions: tuple[ExceptionPolicy, ...] = Field(
        (), examples=['[{domain: appeal.example, reason: "appeal upheld", until: 2026-12-31}]']
    )
    stop_page: StopPagePolicy = Field(examples=["{operator: Example School, contact: it@school.example, ...}"])
    counts: CountsPolicy = Field(
        CountsPolicy(), examples=["{period: day, hide_below: 10, round_to: 5, keep: 24 months}"]
    )
    time_zone: Zone = Field(zoneinfo.ZoneInfo("UTC"), examples=["Europe/Paris"])
    metrics: Annotated[MetricsPolicy | None, BeforeValidator(_given)] = Field(
        None, examples=["{listen: 127.0.0.1:9464}"]
    )
    watch: WatchPolicy = Field(WatchPolicy(), examples=["{poll: 10s}"])
    listen: Listen = Field(ListenAddress("127.0.0.1", 8080), examples=["127.0.0.1:8080"])
    certificate: Annotated[CertificatePolicy | None, BeforeValidator(_given)] = Field(
        None, examples=["{cert: proxy.pem, key: proxy.key}"]
    )
    clients: Annotated[Annotated[tuple[NetworkName, ...], Field(min_length=1)] | None, BeforeValidator(_given)] = Field(
        None, examples=["[10.0.0.0/8]"]
    )
    observe_clients: tuple[NetworkName, ...] = Field((), examples=["[10.7.0.0/16]"])
    proxy_auth: Annotated[ProxyAuthPolicy | None, BeforeValidator(_given)] = Field(
        None, examples=["{htpasswd: users.htpasswd}"]
    )
    upstream: UpstreamPolicy = Field(UpstreamPolicy(), examples=["{allow: [127.0.0.1], deny: [10.0.0.0/8]}"])
    https: Literal["page", "refuse"] = Field("page", examples=["page"])
    ca: Annotated[CaPolicy | None, BeforeValidator(_given)] = Field(
        None, examples=["{cert: intermediate.pem, key: intermediate.key}"]
    )
    tls: Literal["passthrough", "intercept"] = Field("passthrough", examples=["passthrough"])
    tests: tuple[TestPolicy, ...] = Field((), examples=["[{host: check.stoplist.invalid, expect: stop}]"])

    def enforces(self, wanted: ListPolicy) -> bool:
        """Whether a list of this policy is enforced, for clients that are not among `observe_clients`."""
        return "observe" not in (self.mode, wanted.mode)


class PolicyError(StoplistError):
    """One fault of a policy. `place` is ``file:line``."""


@dataclass(frozen=True, slots=True)
class PolicyText:
    """A policy that was read, with the line of each of its values for later errors."""

    source: str
    policy: Policy
    lines: Mapping[Path, int]

    @classmethod
    def parse(cls, data: bytes, source: str) -> PolicyText:
        """Read the bytes of a policy file; `source` names it in errors. Raises Problems."""
        document = _Document.read(data, source)
        problems = list(document.problems)
        try:
            policy = Policy.model_validate(document.values)
        except ValidationError as error:
            problems += document.explain_all(error.errors())
        if problems:
            raise Problems(sorted(problems, key=lambda problem: int(problem.place.rpartition(":")[2])))
        return cls(source, policy, document.lines)

    def place(self, *path: str | int) -> str:
        """``file:line`` of a value, or of the section nearest to it."""
        return _place(self.source, self.lines, path)


@dataclass(frozen=True, slots=True)
class _Document:
    """A YAML document as plain values, with the line and the text of each.

    `problems` are values that YAML itself cannot read; they stand in `values` as None, and their
    paths in `faulty`.
    """

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Path, int] = field(default_factory=dict)
    written: dict[Path, str] = field(default_factory=dict)
    faulty: set[Path] = field(default_factory=set)
    problems: list[StoplistError] = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, source: str) -> _Document:
        """Read YAML. Raises Problems where it is none, or not a set of keys and values."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _broken(source, line, "not UTF-8 text", "save it as UTF-8") from None
        line = 1
        try:
            loader = _Loader(text)
            try:
                node = loader.get_single_node()
            finally:
                line = loader.line + 1
            document = cls(source)
            if not isinstance(node, yaml.MappingNode):
                raise _broken(source, 1, "a policy is a set of keys and values", "start with 'version: 1'")
            document.values.update(document._section(loader, node, ()))
        except yaml.MarkedYAMLError as error:
            raise _syntax_error(error, source) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise _broken(source, line, f"holds the control character {chr(error.character)!r}", "remove it") from None
        except (ValueError, OverflowError):
            raise _broken(source, line, "holds a number or character that does not exist", "correct the line") from None
        except RecursionError:
            raise _broken(source, line, "is nested too deeply", "write the values out in a few levels") from None
        return document

    def _convert(self, loader: _Loader, node: yaml.Node, path: Path) -> Any:
        """The plain value of a node, and of all below it."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node in loader.tagged:
            self._faulty_value(path, node, f"a value with the tag {node.tag!r}", "write the value without a tag")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(loader, item, (*path, position)) for position, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._section(loader, node, path)
        assert isinstance(node, yaml.ScalarNode)
        self.written[path] = node.value
        try:
            return loader.construct_object(node)
        except ValueError:
            message = f"'{node.value}' is no date or number that exists"
            self._faulty_value(path, node, message, "write a date as YYYY-MM-DD")
        except yaml.constructor.ConstructorError:
            self._faulty_value(path, node, f"'{node.value}' is no plain value", "put quotes around it")
        return None

    def _section(self, loader: _Loader, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._fault(key, "a key that is no word", "write 'key: value'")
            elif key.value in values:
                first = self.lines[(*path, key.value)]
                self._fault(key, f"duplicate key {key.value!r}", f"keep one; the first is on line {first}")
            else:
                self.lines[(*path, key.value)] = key.start_mark.line + 1
                values[key.value] = self._convert(loader, value, (*path, key.value))
        return values

    def _faulty_value(self, path: Path, node: yaml.Node, message: str, hint: str) -> None:
        self.faulty.add(path)
        self._fault(node, f"{_name(path)}: {message}", hint)

    def _fault(self, node: yaml.Node, message: str, hint: str) -> None:
        place = f"{self.source}:{node.start_mark.line + 1}"
        self.problems.append(PolicyError(message, hint=hint, place=place))

    def explain_all(self, details: list[ErrorDetails]) -> list[StoplistError]:
        """The errors of pydantic as ours. A section that is empty only because all of it
        was faulty is no fault of its own."""
        locs = [detail["loc"] for detail in details]
        found = [(self._as_written(detail["loc"]), detail) for detail in details]
        return [
            self._explain(path, detail)
            for path, detail in found
            if not any(path[: len(faulty)] == faulty for faulty in self.faulty)
            and not any(len(loc) > len(detail["loc"]) and loc[: len(detail["loc"])] == detail["loc"] for loc in locs)
        ]

    def _as_written(self, loc: Path) -> Path:
        """The path of a value in the document: one value may stand where several may be."""
        path: Path = ()
        for step in loc:
            if (isinstance(step, str) and step) or (*path, step) in self.lines:
                path = (*path, step)
        return path

    def _explain(self, path: Path, detail: ErrorDetails) -> PolicyError:
        kind = detail["type"]
        place = _place(self.source, self.lines, path)
        section, found = _field(path)
        if kind == "extra_forbidden":
            known = list(section.model_fields) if section else []
            close = difflib.get_close_matches(str(path[-1]), known, 1)
            hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"
            return PolicyError(f"unknown key '{path[-1]}'", hint=hint, place=place)
        example = _HINTS.get(kind, "")
        if not example and found is not None:
            key = next(step for step in reversed(path) if isinstance(step, str))
            example = f"write, for example, '{key}: {found.examples[0]}'"
        if kind == "missing":
            return PolicyError(f"the key '{_name(path)}' is missing", hint=example, place=place)
        message = _MESSAGES.get(kind) or detail["msg"].removeprefix("Input ")
        if kind == "literal_error":
            message = f"is not one of {detail['ctx']['expected']}"
        written = f" '{self.written[path]}'" if path in self.written else ""
        return PolicyError(f"{_name(path)}:{written} {message}", hint=example, place=place)


_MESSAGES = {
    "tuple_type": "is not a list",
    "model_type": "is not a set of keys and values",
    "int_type": "is not a whole number",
    "string_type": "is not a text",
    "too_short": "is empty",
}
_HINTS = {
    "one_source": "write 'key: {file: worst-of.listkey}' or 'key: {env: STOPLIST_KEY}'",
    "one_directory": "write 'proxy_auth: {htpasswd: users.htpasswd}'",
    "threshold": "name more trusted keys, or ask for fewer signatures",
    "help": "add a line for each, such as '{topic: worry, name: Example helpline, link: \"tel:0000\"}'",
    "legal": "write the address of the legal demand, or status 403",
    "domain": "write the domain as it is registered, such as 'appeal.example'",
}


class _Loader(yaml.SafeLoader):
    """YAML without anchors and aliases; `tagged` are the nodes whose tag was written out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tagged: set[yaml.Node] = set()

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        if getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="an anchor or alias ('&' or '*' before a value)", problem_mark=event.start_mark
            )
        node = super().compose_node(parent, index)
        if node is not None and getattr(event, "tag", None):
            self.tagged.add(node)
        return node


def _broken(source: str, line: int, message: str, hint: str) -> Problems:
    return Problems([PolicyError(message, hint=hint, place=f"{source}:{line}")])


def _syntax_error(error: yaml.MarkedYAMLError, source: str) -> Problems:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "cannot be read as YAML"
    hint = "see the line and the one above it: indentation, quotes, or a missing ':'"
    if "\\t" in problem:
        problem, hint = "a tab where YAML wants spaces: '\\t'", "indent with spaces"
    elif "anchor" in problem or "alias" in (error.context or ""):
        hint = "write the value out, or put quotes around it"
    return _broken(source, mark.line + 1 if mark else 1, problem, hint)


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


def _sections(annotation: Any) -> Iterator[type[_Section]]:
    if isinstance(annotation, type) and issubclass(annotation, _Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _sections(part)


def _name(path: Path) -> str:
    name = ""
    for step in path:
        name += f"[{step + 1}]" if isinstance(step, int) else f".{step}" if name else step
    return name


def _line(lines: Mapping[Path, int], path: Path) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _place(source: str, lines: Mapping[Path, int], path: Path) -> str:
    return f"{source}:{_line(lines, path)}"
