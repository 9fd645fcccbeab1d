"""Values of a policy: the forms that a key may hold, how this module reads them, and their JSON Schema.

Each type reads one form strictly, and for any other says which form it is not. pydantic runs them.
"""

from __future__ import annotations

import itertools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv6Network, ip_address, ip_network, summarize_address_range
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    StrictStr,
    StringConstraints,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from stoplist.core.addresses import Network
from stoplist.core.hosts import Host, HostError
from stoplist.core.policy.document import PolicyError as PolicyError


@dataclass(frozen=True, slots=True)
class Form:
    """Accepts a text that matches `pattern`; the error for any other says that it is not `what`."""

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
            "domain", "is a pattern", {"hint": f"write '{bare}': it covers its subdomains as well"}
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
            raise PydanticCustomError("day", "is not a valid date") from None
    raise PydanticCustomError("day", "is not a date")


_EVERY_ADDRESS = "0.0.0.0"  # noqa: S104  who writes no address asks for every one


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address on which the gate listens. With port 0 the system chooses a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``ADDRESS:PORT``, with an IPv6 address in brackets. ``:PORT`` means every IPv4 address of the machine.
        Raises ValueError or HostError.

        >>> ListenAddress.parse(":8080")
        ListenAddress(host='0.0.0.0', port=8080)
        >>> ListenAddress.parse("[::1]:8080")
        ListenAddress(host='::1', port=8080)
        >>> ListenAddress.parse("::1:8080")
        Traceback (most recent call last):
        ValueError
        """
        address, _, port = text.rpartition(":")
        bare_ipv6 = ":" in address and not address.startswith("[")
        if bare_ipv6 or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError
        return cls(Host.parse(address or _EVERY_ADDRESS).address, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``PORT`` or ``FIRST-LAST``. Raises ValueError.

        >>> PortRange.parse("8000-8099")
        PortRange(first=8000, last=8099)
        >>> PortRange.parse("8099-8000")
        Traceback (most recent call last):
        ValueError
        """
        match = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
        found = cls(int(match[1]), int(match[2] or match[1])) if match else None
        if found is None or not 1 <= found.first <= found.last <= 65535:
            raise ValueError
        return found

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def exact_version(value: object) -> object:
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
    """The networks of ``FIRST-LAST``, cut off after 33; empty if it is no range."""
    first, _, last = value.partition("-")
    try:
        networks = summarize_address_range(ip_address(first.strip()), ip_address(last.strip()))
        return [str(network) for network in itertools.islice(networks, 33)]
    except (ValueError, TypeError):
        return []


def is_given(value: object) -> object:
    if value is None:
        raise PydanticCustomError("too_short", "is empty")
    return value


def one_or_several(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _percent(value: object) -> int:
    match = re.fullmatch(r"([0-9]{1,4})\s*%", value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise PydanticCustomError("percent", "is not a percentage from 1% on")
    return int(match[1])


@dataclass(frozen=True, slots=True)
class Span:
    """A span of calendar time: a number of months and a number of days."""

    months: int
    days: int

    def before(self, now: datetime) -> datetime:
        """The time this long before `now`; the last day of the month if the month has no such day."""
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
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):  # not a file name; a folder; no such zone
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
FILE = "a file; its path is relative to the folder of the policy file that names it"
FileName = Annotated[Text, Field(description=FILE)]
FOLDER = "a folder; its path is relative to the folder of the policy file that names it"
FolderName = Annotated[Text, Field(description=FOLDER)]
Link = Annotated[Text, AfterValidator(_link), _as("^\\s*(https?|mailto|tel|HTTPS?|MAILTO|TEL):")]
Language = Annotated[StrictStr, Form(_TAG, _LANGUAGE)]
Country = Annotated[StrictStr, Form("^[A-Z]{2}$", "a country code of two capital letters")]
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
    """A text in each language that it is written in, as pairs of a language tag and the text. The tag is '' if one
    text serves all languages."""

    texts: tuple[tuple[str, str], ...]

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        tag = handler.generate_schema(Annotated[StrictStr, Form(f"{_TAG}|^$", _LANGUAGE)])
        spoken = core_schema.dict_schema(tag, handler.generate_schema(cls.one()))
        some = core_schema.no_info_before_validator_function(_in_languages, spoken)
        return core_schema.no_info_after_validator_function(cls._checked, some)

    @classmethod
    def one(cls) -> Any:
        """The type of each text."""
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
    """A link in each language, in the same form."""

    __slots__ = ()

    @classmethod
    def one(cls) -> Any:
        return Link
