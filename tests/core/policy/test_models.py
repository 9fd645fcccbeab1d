"""Policy: every fault of a text in one run, each with its line, what was written, and what to write instead."""

from __future__ import annotations

import math
import pickle
import re
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from stoplist.core.hosts import Host
from stoplist.core.policy.document import PolicyError
from stoplist.core.policy.models import CountsPolicy, LdapPolicy, TestPolicy
from stoplist.core.policy.text import PolicyText
from stoplist.core.policy.values import ListenAddress, Span
from stoplist.errors import Problems
from tests.examples import examples

# fixed time: a policy is read without a clock

GOOD = """\
version: 1
mode: enforce
lists:
  - file: worst-of.stoplist
    key: {file: worst-of.listkey}
    trusted_keys: [keys/authority.pub, keys/operator.pub]
    threshold: 2
  - file: own.stoplist
    key: {env: STOPLIST_KEY}
    trusted_keys:
      - keys/own.pub
    threshold: 1
    mode: observe
exceptions:
  - {domain: Appeal.example, reason: "appeal 2026-14 upheld", until: 2026-12-31}
stop_page:
  authority: Example Authority
  operator: Example School
  contact: it@school.example
  complaints: mailto:complaints@school.example
  legislation: {name: Example Act, link: "https://law.example/act"}
  help:
    - {topic: report, name: Example hotline, link: "https://hotline.example/"}
    - {topic: worry, name: Example helpline, link: "tel:0000"}
    - {topic: thoughts, name: Example advice, link: "https://advice.example/"}
  status: 403
counts: {period: hour, hide_below: 20, round_to: 10}
listen: 127.0.0.1:3128
tests:
  - {host: check.stoplist.invalid, expect: stop}
  - {host: BÜCHER.example., expect: pass}
"""

NETWORK = """\
certificate: {cert: proxy.pem, key: proxy.key}
clients: [10.0.0.0/8, 192.0.2.1, "2001:db8::/32", "::1"]
proxy_auth: {htpasswd: users.htpasswd}
upstream: {allow: [127.0.0.1, "fd00::/8"], deny: [10.0.0.0/8]}
tls: intercept
"""

LDAP = "server: ldaps://directory.example, bind_dn: 'cn=gate', password_file: ldap.password, base_dn: 'ou=people'"

SHORTEST = """\
version: 1
lists: [{file: a.stoplist, key: {file: a.listkey}, trusted_keys: [a.pub], threshold: 1}]
stop_page:
  operator: Example School
  contact: it@school.example
  complaints: mailto:complaints@school.example
  legislation: {name: Example Act, link: "https://law.example/act"}
  help:
    - {topic: report, name: Example hotline, link: "https://hotline.example/"}
    - {topic: worry, name: Example helpline, link: "tel:0000"}
    - {topic: thoughts, name: Example advice, link: "https://advice.example/"}
"""


def changed(old: str, new: str) -> str:
    """GOOD with one place changed."""
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def faults(text: str | bytes) -> list[str]:
    """The faults of a policy as an operator sees them, one each, but for the column."""
    with pytest.raises(Problems) as caught:
        PolicyText.parse(text if isinstance(text, bytes) else text.encode(), "school.yaml")
    for problem in caught.value.problems:
        assert isinstance(problem, PolicyError)
        assert problem.hint
        assert problem.place.startswith("school.yaml:")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [re.sub(r"^(school\.yaml:\d+):\d+: ", r"\1: ", str(problem)) for problem in caught.value.problems]


# What a good policy gives


def test_every_key_of_a_policy_is_read() -> None:
    policy = PolicyText.parse(GOOD.encode(), "school.yaml").policy
    worst, own = policy.lists
    assert (policy.version, policy.mode) == (1, "enforce")
    assert (worst.file, worst.key[0].file, worst.key[0].env) == ("worst-of.stoplist", "worst-of.listkey", None)
    assert (worst.trusted_keys, worst.threshold) == (("keys/authority.pub", "keys/operator.pub"), 2)
    assert (own.key[0].file, own.key[0].env, own.mode, worst.mode) == (None, "STOPLIST_KEY", "observe", "enforce")
    (exception,) = policy.exceptions
    assert (exception.domain, exception.reason) == (Host("appeal.example"), "appeal 2026-14 upheld")
    assert exception.until == date(2026, 12, 31)
    page = policy.stop_page
    said = (page.authority, page.operator, page.contact, page.complaints, page.legislation.name, page.legislation.link)
    assert [text.in_language("en") for text in said] == [
        *("Example Authority", "Example School", "it@school.example", "mailto:complaints@school.example"),
        *("Example Act", "https://law.example/act"),
    ]
    assert [line.topic for line in page.help] == ["report", "worry", "thoughts"]
    assert (page.status, page.checked_by_police) == (403, False)
    assert policy.counts == CountsPolicy(period="hour", hide_below=20, round_to=10)
    assert policy.listen == ListenAddress("127.0.0.1", 3128)
    assert policy.tests == (
        TestPolicy(host="check.stoplist.invalid", expect="stop"),
        TestPolicy(host="xn--bcher-kva.example", expect="pass"),
    )


def test_the_shortest_policy_enforces_stops_no_exception_and_counts_days() -> None:
    policy = PolicyText.parse(SHORTEST.encode(), "school.yaml").policy
    assert (policy.mode, policy.lists[0].mode) == ("enforce", "enforce")
    assert (policy.exceptions, policy.tests) == ((), ())
    assert policy.counts == CountsPolicy(period="day", hide_below=10, round_to=5)
    assert policy.listen == ListenAddress("127.0.0.1", 8080)
    page = policy.stop_page
    assert (page.authority, page.checked_by_police, page.status) == (None, False, 403)
    assert (page.languages, page.catalogues, page.template) == (("en", "fr", "es", "ar"), (), None)


LANGUAGES = """\
  languages: [en, fr, pt-BR]
  catalogues: [pt.po]
  template: page.html
  status"""


def test_what_the_page_says_in_several_languages_is_read() -> None:
    text = changed("operator: Example School", "operator: {en: Example School, fr: École Exemple, pt: Escola}")
    text = text.replace("  status", LANGUAGES, 1).replace(
        "  help:\n", "  help:\n    - {topic: worry, name: Ligne, link: 'tel:0001', language: fr, country: CH}\n"
    )
    page = PolicyText.parse(text.encode(), "school.yaml").policy.stop_page
    spoken = {tag: page.operator.in_language(tag) for tag in ("en", "fr", "fr-CH", "pt-BR", "ar")}
    assert spoken == {
        "en": "Example School",
        "fr": "École Exemple",
        "fr-CH": "École Exemple",
        "pt-BR": "Escola",
        "ar": "Example School",
    }
    assert (page.languages, page.catalogues, page.template) == (("en", "fr", "pt-BR"), ("pt.po",), "page.html")
    assert [(line.language, line.country) for line in page.help][:2] == [("fr", "CH"), (None, None)]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "operator: Example School",
            "operator: {en: Example School, French: École}",
            "school.yaml:18: stop_page.operator.French",
            id="a language that is no tag",
        ),
        pytest.param(
            "operator: Example School",
            "operator: {}",
            "school.yaml:18: stop_page.operator: is empty",
            id="no language",
        ),
        pytest.param(
            "operator: Example School",
            "operator: {en: Example School, fr: 5}",
            "school.yaml:18: stop_page.operator.fr: '5' is not a text",
            id="a number in one language",
        ),
        pytest.param(
            "complaints: mailto:complaints@school.example",
            "complaints: {en: 'mailto:a@school.example', fr: nowhere}",
            "school.yaml:20: stop_page.complaints.fr: 'nowhere' is not a link",
            id="no link in one language",
        ),
        pytest.param(
            'link: "tel:0000"}',
            'link: "tel:0000", language: fr}',
            "school.yaml:22: stop_page: 'help' has no line for worry in 'en'",
            id="help in another language only",
        ),
        pytest.param(
            'link: "tel:0000"}',
            'link: "tel:0000", country: CH}',
            "school.yaml:22: stop_page: 'help' has no line for worry",
            id="help in one country only",
        ),
        pytest.param(
            'link: "tel:0000"}',
            'link: "tel:0000", country: ch}',
            "school.yaml:24: stop_page.help[2].country: 'ch'",
            id="a country in lower case",
        ),
        pytest.param(
            "  status: 403", "  languages: []\n  status: 403", "stop_page.languages: is empty", id="no languages"
        ),
    ],
)
def test_what_the_page_cannot_say_in_a_language_is_told(old: str, new: str, fault: str) -> None:
    (told,) = faults(changed(old, new))
    assert fault in told


def test_the_shortest_policy_decrypts_nothing_asks_no_password_and_serves_clients_that_are_not_public() -> None:
    policy = PolicyText.parse(SHORTEST.encode(), "school.yaml").policy
    assert (policy.tls, policy.certificate, policy.proxy_auth, policy.clients) == ("passthrough", None, None, None)
    assert (policy.upstream.allow, policy.upstream.deny) == ((), ())


def test_every_key_of_the_network_is_read() -> None:
    policy = PolicyText.parse((GOOD + NETWORK).encode(), "school.yaml").policy
    assert policy.certificate is not None
    assert (policy.certificate.cert, policy.certificate.key) == ("proxy.pem", "proxy.key")
    assert policy.clients == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128")))
    assert policy.proxy_auth is not None
    assert (policy.proxy_auth.htpasswd, policy.proxy_auth.ldap) == ("users.htpasswd", None)
    assert policy.upstream.allow == (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))
    assert policy.upstream.deny == (ip_network("10.0.0.0/8"),)
    assert policy.tls == "intercept"


@pytest.mark.parametrize(
    ("extra", "attribute"),
    [
        pytest.param("", "uid", id="default attribute"),
        pytest.param(", attribute: sAMAccountName", "sAMAccountName", id="another attribute"),
    ],
)
def test_a_directory_is_read(extra: str, attribute: str) -> None:
    text = f"{GOOD}proxy_auth: {{ldap: {{{LDAP}{extra}}}}}\n"
    proxy_auth = PolicyText.parse(text.encode(), "school.yaml").policy.proxy_auth
    assert proxy_auth is not None
    assert proxy_auth.htpasswd is None
    assert proxy_auth.ldap == LdapPolicy(
        server="ldaps://directory.example",
        bind_dn="cn=gate",
        password_file="ldap.password",
        base_dn="ou=people",
        attribute=attribute,
    )


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("ldap://directory.example", id="without TLS"),
        pytest.param("ldaps://directory.example:636", id="with a port"),
        pytest.param("ldap://192.0.2.1:389", id="an address"),
    ],
)
def test_a_server_of_a_directory_is_a_url(server: str) -> None:
    text = f"{GOOD}proxy_auth: {{ldap: {{{LDAP.replace('ldaps://directory.example', server)}}}}}\n"
    proxy_auth = PolicyText.parse(text.encode(), "school.yaml").policy.proxy_auth
    assert proxy_auth is not None
    assert proxy_auth.ldap is not None
    assert proxy_auth.ldap.server == server


@pytest.mark.parametrize(
    ("written", "network"),
    [
        pytest.param("192.0.2.1", "192.0.2.1/32", id="an address"),
        pytest.param("192.0.2.1/32", "192.0.2.1/32", id="a network of one"),
        pytest.param("0.0.0.0/0", "0.0.0.0/0", id="all of IPv4"),
        pytest.param("2001:DB8::1", "2001:db8::1/128", id="an address, IPv6"),
        pytest.param("2001:db8:0:0::/32", "2001:db8::/32", id="a network, IPv6"),
        pytest.param("::/0", "::/0", id="all of IPv6"),
    ],
)
@pytest.mark.parametrize(
    "key",
    [
        pytest.param("clients: [{}]", id="clients"),
        pytest.param("upstream: {{allow: [{}]}}", id="allow"),
        pytest.param("upstream: {{deny: [{}]}}", id="deny"),
    ],
)
def test_a_network_is_an_address_or_written_in_cidr_form(key: str, written: str, network: str) -> None:
    text = key.format(f"'{written}'")
    policy = PolicyText.parse(f"{GOOD}{text}\n".encode(), "school.yaml").policy
    assert ip_network(network) in (*(policy.clients or ()), *policy.upstream.allow, *policy.upstream.deny)


def test_a_byte_order_mark_and_windows_newlines_change_nothing() -> None:
    written = ("\ufeff" + GOOD).replace("\n", "\r\n").encode()
    assert PolicyText.parse(written, "school.yaml") == PolicyText.parse(GOOD.encode(), "school.yaml")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        pytest.param(("version",), "school.yaml:1:10", id="first key"),
        pytest.param(("lists", 0, "file"), "school.yaml:4:11", id="key of a list"),
        pytest.param(("lists", 1, "key", "env"), "school.yaml:9:16", id="key in a line"),
        pytest.param(("lists", 1, "trusted_keys", 0), "school.yaml:11:9", id="item on a line of its own"),
        pytest.param(("lists", 0, "mode"), "school.yaml:4:5", id="key left out, so its section"),
        pytest.param(("tests", 1), "school.yaml:31:5", id="item"),
        pytest.param(("nothing",), "school.yaml:1:1", id="nothing of the kind"),
    ],
)
def test_a_value_is_found_again_by_its_line_and_column(path: tuple[str | int, ...], place: str) -> None:
    assert str(PolicyText.parse(GOOD.encode(), "school.yaml").place(*path)) == place


@pytest.mark.parametrize(
    ("until", "end"),
    [
        pytest.param(date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC), id="end of a year"),
        pytest.param(date(2028, 2, 28), datetime(2028, 2, 29, tzinfo=UTC), id="leap year"),
        pytest.param(date(2026, 3, 29), datetime(2026, 3, 30, tzinfo=UTC), id="a day with a change of clocks"),
    ],
)
def test_an_exception_ends_with_its_day_in_utc_where_no_zone_is_named(until: date, end: datetime) -> None:
    policy = PolicyText.parse(changed("until: 2026-12-31", f"until: {until}").encode(), "school.yaml").policy
    (exception,) = policy.exceptions
    assert exception.ends(policy.time_zone) == end.timestamp()


@pytest.mark.parametrize(
    ("zone", "until", "end"),
    [
        pytest.param("Europe/Paris", "2026-12-31", "2026-12-31T23:00Z", id="east of Greenwich"),
        pytest.param("Europe/Paris", "2026-06-30", "2026-06-30T22:00Z", id="in summer"),
        pytest.param("America/New_York", "2026-12-31", "2027-01-01T05:00Z", id="west of Greenwich"),
        pytest.param("Asia/Kathmandu", "2026-06-01", "2026-06-01T18:15Z", id="not by whole hours"),
        pytest.param("Pacific/Kiritimati", "2026-06-01", "2026-06-01T10:00Z", id="where a day is over first"),
        pytest.param("Etc/GMT+12", "2026-06-01", "2026-06-02T12:00Z", id="where a day is over last"),
        pytest.param("Africa/Cairo", "2025-04-24", "2025-04-24T22:00Z", id="before a day without a midnight"),
        pytest.param("America/Havana", "2026-10-31", "2026-11-01T04:00Z", id="before a day with two midnights"),
        pytest.param("Pacific/Apia", "2011-12-29", "2011-12-30T10:00Z", id="before a day that never was"),
    ],
)
def test_an_exception_ends_with_its_day_in_the_zone_of_the_policy(zone: str, until: str, end: str) -> None:
    text = changed("until: 2026-12-31", f"until: {until}") + f"time_zone: {zone}\n"
    policy = PolicyText.parse(text.encode(), "school.yaml").policy
    assert policy.exceptions[0].ends(policy.time_zone) == datetime.fromisoformat(end).timestamp()


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize(
    ("until", "later_than"),
    [
        pytest.param("9999-12-31", math.nextafter(math.inf, 0), id="the last day there is"),
        pytest.param("9999-12-30", datetime(9999, 12, 30, tzinfo=UTC).timestamp(), id="the day before it"),
    ],
)
def test_an_exception_until_the_last_day_there_is_ends_later_than_any_clock(
    zone: str, until: str, later_than: float
) -> None:
    """9999-12-31 is how people write 'for good'."""
    text = changed("until: 2026-12-31", f"until: {until}") + f"time_zone: {zone}\n"
    policy = PolicyText.parse(text.encode(), "school.yaml").policy
    assert policy.exceptions[0].ends(policy.time_zone) > later_than


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_an_exception_until_the_first_day_there_is_has_ended(zone: str) -> None:
    text = changed("until: 2026-12-31", "until: 0001-01-01") + f"time_zone: {zone}\n"
    policy = PolicyText.parse(text.encode(), "school.yaml").policy
    assert policy.exceptions[0].ends(policy.time_zone) < 0


# How often files are looked at


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *(("10s", 10), ("10 s", 10), ("10 sec", 10), ("1 second", 1), ("10 seconds", 10)),
        *(("5m", 300), ("2 min", 120), ("1 minute", 60), ("2minutes", 120), ("1h", 3600), ("1 hour", 3600)),
    ],
)
def test_a_time_is_written_in_plain_words(written: str, seconds: int) -> None:
    assert PolicyText.parse(f"{GOOD}watch: {{poll: {written}}}\n".encode(), "x").policy.watch.poll == seconds


@pytest.mark.parametrize("written", ["0s", "2h", "61 minutes", "10 days", "1.5h", "1h 5m", "10 Seconds", "-1s", "s"])
def test_what_is_no_time_to_look_again_is_refused(written: str) -> None:
    (fault,) = faults(f"{GOOD}watch: {{poll: {written}}}\n")
    assert fault.startswith(f"school.yaml:32: watch.poll: '{written}' is not a time from 1s to 1h; ")


@pytest.mark.parametrize("written", ["2026-12-31", "'2026-12-31'"])
def test_a_day_may_stand_in_quotes(written: str) -> None:
    text = changed("until: 2026-12-31", f"until: {written}")
    assert PolicyText.parse(text.encode(), "x").policy.exceptions[0].until == date(2026, 12, 31)


# The time zone, how long counts are kept, and metrics


def test_the_shortest_policy_counts_days_of_utc_for_two_years_and_has_no_metrics() -> None:
    policy = PolicyText.parse(SHORTEST.encode(), "school.yaml").policy
    assert policy.time_zone == zoneinfo.ZoneInfo("UTC")
    assert policy.counts.keep == Span(months=24, days=0)
    assert policy.metrics is None


@pytest.mark.parametrize("name", ["UTC", "Europe/Paris", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "Asia/Kolkata"])
def test_a_time_zone_is_one_of_the_tz_database(name: str) -> None:
    policy = PolicyText.parse(f"{GOOD}time_zone: {name}\n".encode(), "school.yaml").policy
    assert policy.time_zone.key == name


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("Nowhere/City", id="no such zone"),
        pytest.param("europe/paris", id="in lower case"),
        pytest.param("Europe", id="a folder of zones"),
        pytest.param("zone.tab", id="a file that is no zone"),
        pytest.param("+01:00", id="an offset"),
        pytest.param("../etc/passwd", id="a way out of the folder"),
        pytest.param("/etc/localtime", id="a file by its path"),
        pytest.param("Europe/Paris/x", id="below a zone"),
        pytest.param("Ünï/x", id="letters of no zone"),
        pytest.param("''", id="empty"),
        pytest.param("5", id="a number"),
        pytest.param("x" * 300, id="longer than a name of a file"),
    ],
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    written = name.strip("'")
    assert faults(f"{GOOD}time_zone: {name}\n") == [
        f"school.yaml:32: time_zone: '{written}' is not the name of a time zone; "
        "write, for example, 'time_zone: Europe/Paris'"
    ]


def with_keep(text: str) -> str:
    return changed("round_to: 10", f"round_to: 10, keep: {text}")


@pytest.mark.parametrize(
    ("written", "span"),
    [
        pytest.param("1 day", Span(0, 1), id="the shortest"),
        pytest.param("90 days", Span(0, 90), id="days"),
        pytest.param("1 week", Span(0, 7), id="a week"),
        pytest.param("6 weeks", Span(0, 42), id="weeks"),
        pytest.param("1 month", Span(1, 0), id="a month"),
        pytest.param("24 months", Span(24, 0), id="months"),
        pytest.param("1 year", Span(12, 0), id="a year"),
        pytest.param("10 years", Span(120, 0), id="the longest, in years"),
        pytest.param("120 months", Span(120, 0), id="the longest, in months"),
        pytest.param("521 weeks", Span(0, 3647), id="the longest, in weeks"),
        pytest.param("3650 days", Span(0, 3650), id="the longest, in days"),
        pytest.param("24months", Span(24, 0), id="without a space"),
        pytest.param("0024 months", Span(24, 0), id="with zeros before it"),
    ],
)
def test_counts_are_kept_for_a_time_by_the_calendar(written: str, span: Span) -> None:
    assert PolicyText.parse(with_keep(written).encode(), "school.yaml").policy.counts.keep == span


@pytest.mark.parametrize(
    "written",
    [
        *("0 days", "0 years", "3651 days", "522 weeks", "122 months", "11 years", "99999 days", "-1 day", "1.5 years"),
        *("24", "24 m", "24 Months", "months", "1 hour", "24 months 3 days", "٣ days", "forever"),
    ],
)
def test_what_is_no_time_to_keep_counts_for_is_refused(written: str) -> None:
    assert faults(with_keep(f"'{written}'")) == [
        f"school.yaml:27: counts.keep: '{written}' is not a time from 1 day to 10 years; "
        "write, for example, 'keep: 24 months'"
    ]


@pytest.mark.parametrize(
    ("span", "now", "before"),
    [
        pytest.param(Span(0, 1), "2026-03-01T12:30:15", "2026-02-28T12:30:15", id="a day, over the end of a month"),
        pytest.param(Span(0, 1), "2028-03-01T00:00:00", "2028-02-29T00:00:00", id="a day, to a leap day"),
        pytest.param(Span(0, 7), "2026-01-03T00:00:00", "2025-12-27T00:00:00", id="a week, over new year"),
        pytest.param(Span(1, 0), "2026-03-15T12:30:15", "2026-02-15T12:30:15", id="a month"),
        pytest.param(Span(1, 0), "2026-01-31T00:00:00", "2025-12-31T00:00:00", id="a month, over new year"),
        pytest.param(Span(1, 0), "2026-12-31T00:00:00", "2026-11-30T00:00:00", id="a month, to a shorter one"),
        pytest.param(Span(1, 0), "2026-03-31T00:00:00", "2026-02-28T00:00:00", id="a month, to the end of February"),
        pytest.param(Span(1, 0), "2028-03-31T00:00:00", "2028-02-29T00:00:00", id="a month, to a leap day"),
        pytest.param(Span(1, 0), "2026-02-28T00:00:00", "2026-01-28T00:00:00", id="a month, to a longer one"),
        pytest.param(Span(12, 0), "2028-02-29T00:00:00", "2027-02-28T00:00:00", id="a year, from a leap day"),
        pytest.param(Span(48, 0), "2028-02-29T00:00:00", "2024-02-29T00:00:00", id="four years, to a leap day"),
        pytest.param(Span(24, 0), "2026-12-01T00:00:00", "2024-12-01T00:00:00", id="years, in December"),
        pytest.param(Span(11, 0), "2026-12-31T00:00:00", "2026-01-31T00:00:00", id="to January"),
        pytest.param(Span(120, 0), "2026-06-15T00:00:00", "2016-06-15T00:00:00", id="ten years"),
        pytest.param(Span(12000, 0), "2100-03-31T00:00:00", "1100-03-31T00:00:00", id="a thousand years"),
    ],
)
def test_a_time_before_another_goes_by_the_calendar(span: Span, now: str, before: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert span.before(at) == datetime.fromisoformat(before).replace(tzinfo=UTC)


@given(st.datetimes(datetime(1971, 1, 1), datetime(9998, 12, 31)), st.integers(0, 120))
def test_so_many_months_before_any_day_is_in_that_month(now: datetime, months: int) -> None:
    now = now.replace(tzinfo=UTC)
    before = Span(months, 0).before(now)
    assert (now.year - before.year) * 12 + now.month - before.month == months
    assert before.day == now.day or (before + timedelta(days=1)).day == 1
    assert before.timetz() == now.timetz()


@pytest.mark.parametrize(
    ("written", "address"),
    [
        pytest.param("{}", ListenAddress("127.0.0.1", 9464), id="nothing said"),
        pytest.param("{listen: 192.0.2.1:9000}", ListenAddress("192.0.2.1", 9000), id="an address"),
        pytest.param("{listen: '[::1]:9000'}", ListenAddress("::1", 9000), id="IPv6"),
        pytest.param("{listen: 127.0.0.1:0}", ListenAddress("127.0.0.1", 0), id="any port"),
    ],
)
def test_metrics_are_at_an_address(written: str, address: ListenAddress) -> None:
    metrics = PolicyText.parse(f"{GOOD}metrics: {written}\n".encode(), "school.yaml").policy.metrics
    assert metrics is not None
    assert metrics.listen == address


METRICS_EXAMPLE = "write, for example, 'metrics: {listen: 127.0.0.1:9464}'"


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        pytest.param("", f"metrics: '' is empty; {METRICS_EXAMPLE}", id="nothing"),
        pytest.param("true", f"metrics: 'true' is not a set of keys and values; {METRICS_EXAMPLE}", id="a bool"),
        pytest.param(
            "127.0.0.1:9464",
            f"metrics: '127.0.0.1:9464' is not a set of keys and values; {METRICS_EXAMPLE}",
            id="the address alone",
        ),
        pytest.param(
            "{listen: 9464}",
            "metrics.listen: '9464' is not ADDRESS:PORT; write, for example, 'listen: 127.0.0.1:9464'",
            id="a port alone",
        ),
        pytest.param("{lisen: 127.0.0.1:9464}", "unknown key 'lisen'; did you mean 'listen'?", id="typo"),
    ],
)
def test_what_is_no_address_for_metrics_is_refused(written: str, fault: str) -> None:
    assert faults(f"{GOOD}metrics: {written}\n") == [f"school.yaml:32: {fault}"]


def test_policies_that_differ_in_their_zone_or_their_keeping_differ() -> None:
    texts = [GOOD, f"{GOOD}time_zone: Europe/Paris\n", with_keep("1 year"), f"{GOOD}metrics: {{}}\n"]
    policies = [PolicyText.parse(text.encode(), "school.yaml").policy for text in texts]
    assert len(set(policies)) == len(texts)


def test_a_policy_is_the_same_in_another_process() -> None:
    text = with_keep("1 year") + "time_zone: Europe/Paris\nmetrics: {}\n"
    policy = PolicyText.parse(text.encode(), "school.yaml").policy
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    assert hash(again) == hash(policy)


# Faults, one at a time

LISTS_KEYS = "file, key, trusted_keys, threshold, mode, when_expired, guard"
POLICY_KEYS = (
    "version, include, mode, lists, never_block, exceptions, stop_page, counts, time_zone, metrics, watch, listen, "
    "state_dir, certificate, clients, observe_clients, proxy_auth, upstream, tunnels, https, ca, tls, tests"
)
NO_NETWORK = "is not an address or a network in CIDR form; write, for example,"
NO_SERVER = "is not a server: ldap://HOST:PORT or ldaps://HOST:PORT"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "mode: enforce\nlists",
            "mode: on\nlists",
            "school.yaml:2: mode: 'on' is not one of 'enforce' or 'observe'; write, for example, 'mode: enforce'",
            id="value not of a choice, shown as written",
        ),
        pytest.param(
            "version: 1",
            "version: 2",
            "school.yaml:1: version: '2' is not one of 1; write, for example, 'version: 1'",
            id="later version",
        ),
        pytest.param(
            "version: 1",
            "version: '1'",
            "school.yaml:1: version: '1' is not one of 1; write, for example, 'version: 1'",
            id="version as a text",
        ),
        pytest.param(
            "version: 1",
            "version: true",
            "school.yaml:1: version: 'true' is not one of 1; write, for example, 'version: 1'",
            id="version as a bool",
        ),
        pytest.param(
            "version: 1",
            "version: 1.0",
            "school.yaml:1: version: '1.0' is not one of 1; write, for example, 'version: 1'",
            id="version as a float",
        ),
        pytest.param(
            "version: 1\n",
            "",
            "school.yaml:1: the key 'version' is missing; write, for example, 'version: 1'",
            id="missing key",
        ),
        pytest.param(
            "  - file: own.stoplist\n    key",
            "  - key",
            "school.yaml:8: the key 'lists[2].file' is missing; write, for example, 'file: worst-of.stoplist'",
            id="missing key of an item",
        ),
        pytest.param(
            "listen:",
            "blok: x\nlisten:",
            f"school.yaml:28: unknown key 'blok'; known here: {POLICY_KEYS}",
            id="unknown key, nothing like it",
        ),
        pytest.param(
            "exceptions:",
            "exeptions:",
            "school.yaml:14: unknown key 'exeptions'; did you mean 'exceptions'?",
            id="typo",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: 2\n    treshold: 2\n",
            "school.yaml:8: unknown key 'treshold'; did you mean 'threshold'?",
            id="typo in an item",
        ),
        pytest.param(
            "threshold: 2\n",
            "threshold: 2\n    never_block: [a.example]\n",
            "school.yaml:8: unknown key 'never_block'; it belongs at the beginning of a line",
            id="a key in the wrong section",
        ),
        pytest.param(
            "threshold: 2\n",
            "threshold: 2\n    blok: [a.example]\n",
            f"school.yaml:8: unknown key 'blok'; known here: {LISTS_KEYS}",
            id="unknown key in an item",
        ),
        pytest.param(
            "listen:",
            "threshold: 2\nlisten:",
            "school.yaml:28: unknown key 'threshold'; it belongs under 'lists'",
            id="a key of a section at the beginning of a line",
        ),
        pytest.param(
            "complaints: mailto:complaints@school.example",
            "complaints: complaints@school.example",
            "school.yaml:20: stop_page.complaints: 'complaints@school.example' is not a link "
            "(https:, http:, mailto: or tel:); write 'mailto:complaints@school.example'",
            id="a mail address for a link",
        ),
        pytest.param(
            '"https://law.example/act"',
            "law.example/act",
            "school.yaml:21: stop_page.legislation.link: 'law.example/act' is not a link "
            "(https:, http:, mailto: or tel:); write 'https://law.example/act'",
            id="a link without its scheme",
        ),
        pytest.param(
            "domain: Appeal.example",
            "domain: '*.appeal.example'",
            "school.yaml:15: exceptions[1].domain: '*.appeal.example' is a pattern; "
            "write 'appeal.example': it covers its subdomains as well",
            id="a pattern for a domain",
        ),
        pytest.param(
            "host: check.stoplist.invalid",
            "host: https://check.stoplist.invalid/page",
            "school.yaml:30: tests[1].host: 'https://check.stoplist.invalid/page' is not a host name: "
            "the host holds a character that no host may hold; write the host alone: 'check.stoplist.invalid'",
            id="a URL for a host",
        ),
        pytest.param(
            "listen:",
            "watch: {poll: 30}\nlisten:",
            "school.yaml:28: watch.poll: '30' is not a time from 1s to 1h; "
            "write the unit as well: '30s' or '30 minutes'",
            id="a time without its unit",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "{env: STOPLIST_KEY, fil: a}",
            "school.yaml:9: unknown key 'fil'; did you mean 'file'?",
            id="typo in a section of an item",
        ),
        pytest.param(
            "round_to: 10",
            "round_up: 10",
            "school.yaml:27: unknown key 'round_up'; did you mean 'round_to'?",
            id="typo in a line",
        ),
        pytest.param(
            "  authority: Example Authority",
            "  checked_by_police: 2",
            "school.yaml:17: stop_page.checked_by_police: '2' is neither true nor false; "
            "write, for example, 'checked_by_police: true'",
            id="neither true nor false",
        ),
        pytest.param(
            "  authority: Example Authority",
            "  authority:",
            "school.yaml:17: stop_page.authority: '' is empty; write, for example, 'authority: Example Authority'",
            id="nobody keeps the list",
        ),
        pytest.param(
            "  authority: Example Authority",
            "  autority: Example Authority",
            "school.yaml:17: unknown key 'autority'; did you mean 'authority'?",
            id="typo in a section",
        ),
        pytest.param(
            "Example hotline, link",
            "Example hotline, links: x, link",
            "school.yaml:23: unknown key 'links'; did you mean 'link'?",
            id="typo in an item of a section",
        ),
        pytest.param(
            "listen:",
            "1: x\nlisten:",
            f"school.yaml:28: unknown key '1'; known here: {POLICY_KEYS}",
            id="a number as a key",
        ),
        pytest.param(
            "listen:",
            "<<: {mode: observe}\nlisten:",
            f"school.yaml:28: unknown key '<<'; known here: {POLICY_KEYS}",
            id="merge key",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: two\n",
            "school.yaml:7: lists[1].threshold: 'two' is not a whole number; write, for example, 'threshold: 2'",
            id="a word for a number",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: true\n",
            "school.yaml:7: lists[1].threshold: 'true' is not a whole number; write, for example, 'threshold: 2'",
            id="a bool for a number",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: 2.0\n",
            "school.yaml:7: lists[1].threshold: '2.0' is not a whole number; write, for example, 'threshold: 2'",
            id="a float for a number",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: 0\n",
            "school.yaml:7: lists[1].threshold: '0' is less than 1; write, for example, 'threshold: 2'",
            id="threshold 0",
        ),
        pytest.param(
            "    threshold: 2\n",
            "    threshold: 3\n",
            "school.yaml:7: lists[1]: asks for 3 signatures, but names only 2 trusted keys; "
            "name more trusted keys, or ask for fewer signatures",
            id="threshold out of reach",
        ),
        pytest.param(
            "[keys/authority.pub, keys/operator.pub]",
            "[]",
            "school.yaml:6: lists[1].trusted_keys: is empty; write, for example, 'trusted_keys: [keys/authority.pub]'",
            id="nobody trusted",
        ),
        pytest.param(
            "[keys/authority.pub, keys/operator.pub]",
            "keys/authority.pub",
            "school.yaml:6: lists[1].trusted_keys: 'keys/authority.pub' is not a list; "
            "put it in brackets: 'trusted_keys: [keys/authority.pub]'",
            id="one value for a list",
        ),
        pytest.param(
            "      - keys/own.pub",
            "      - 5",
            "school.yaml:11: lists[2].trusted_keys[1]: '5' is not a text; put quotes around it: '5'",
            id="a number for a text",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "{}",
            "school.yaml:9: lists[2].key: needs either 'file' or 'env'; "
            "write 'key: {file: worst-of.listkey}' or 'key: {env: STOPLIST_KEY}'",
            id="no source of the list key",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "{env: STOPLIST_KEY, file: a}",
            "school.yaml:9: lists[2].key: needs either 'file' or 'env'; "
            "write 'key: {file: worst-of.listkey}' or 'key: {env: STOPLIST_KEY}'",
            id="two sources of the list key",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "STOPLIST_KEY",
            "school.yaml:9: lists[2].key: 'STOPLIST_KEY' is not a set of keys and values; "
            "write, for example, 'key: {file: worst-of.listkey}'",
            id="a word for a section",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "{env: STOPLIST-KEY}",
            "school.yaml:9: lists[2].key.env: 'STOPLIST-KEY' is not the name of an environment variable; "
            "write, for example, 'env: STOPLIST_KEY'",
            id="no name of a variable",
        ),
        pytest.param(
            "domain: Appeal.example",
            "domain: example",
            "school.yaml:15: exceptions[1].domain: 'example' is not a domain of two labels or more; "
            "write the domain as it is registered, such as 'appeal.example'",
            id="a top level for a domain",
        ),
        pytest.param(
            "domain: Appeal.example",
            "domain: 192.0.2.1",
            "school.yaml:15: exceptions[1].domain: '192.0.2.1' is not a domain of two labels or more; "
            "write the domain as it is registered, such as 'appeal.example'",
            id="an address for a domain",
        ),
        pytest.param(
            "until: 2026-12-31",
            "until: 2026-02-30",
            "school.yaml:15: exceptions[1].until: '2026-02-30' is not a valid date or number; "
            "write a date as YYYY-MM-DD",
            id="a date that does not exist",
        ),
        pytest.param(
            "until: 2026-12-31",
            "until: 31.12.2026",
            "school.yaml:15: exceptions[1].until: '31.12.2026' is not a date; write, for example, 'until: 2099-12-31'",
            id="a date in another form",
        ),
        pytest.param(
            "until: 2026-12-31",
            "until: 2026-12-31T12:00:00Z",
            "school.yaml:15: exceptions[1].until: '2026-12-31T12:00:00Z' is not a date; "
            "write, for example, 'until: 2099-12-31'",
            id="a moment for a date",
        ),
        pytest.param(
            ', reason: "appeal 2026-14 upheld"',
            "",
            "school.yaml:15: the key 'exceptions[1].reason' is missing; "
            "write, for example, 'reason: \"appeal 2026-14 upheld\"'",
            id="an exception without a reason",
        ),
        pytest.param(
            "listen: 127.0.0.1:3128",
            "listen: 3128",
            "school.yaml:28: listen: '3128' is not ADDRESS:PORT; write, for example, 'listen: 127.0.0.1:8080'",
            id="a port alone",
        ),
        pytest.param(
            "listen: 127.0.0.1:3128",
            "listen: 127.0.0.1:65536",
            "school.yaml:28: listen: '127.0.0.1:65536' is not ADDRESS:PORT; "
            "write, for example, 'listen: 127.0.0.1:8080'",
            id="a port too large",
        ),
        pytest.param(
            "listen: 127.0.0.1:3128",
            "listen: 127.0.0.1:80:3128",
            "school.yaml:28: listen: '127.0.0.1:80:3128' is not ADDRESS:PORT; "
            "write, for example, 'listen: 127.0.0.1:8080'",
            id="two ports",
        ),
        pytest.param(
            "complaints: mailto:complaints@school.example",
            "complaints: javascript:alert(1)",
            "school.yaml:20: stop_page.complaints: 'javascript:alert(1)' is not a link "
            "(https:, http:, mailto: or tel:); write, for example, 'complaints: mailto:complaints@school.example'",
            id="a link of another kind",
        ),
        pytest.param(
            '"https://law.example/act"',
            "'https://law.example/\"><b>'",
            "school.yaml:21: stop_page.legislation.link: 'https://law.example/\"><b>' holds a space, a quote or an "
            "angle bracket; write, for example, 'link: https://law.example/act'",
            id="a link that is markup",
        ),
        pytest.param(
            '    - {topic: worry, name: Example helpline, link: "tel:0000"}\n',
            "",
            "school.yaml:22: stop_page: 'help' has no line for worry; "
            "add a line for each, such as '{topic: worry, name: Example helpline, link: \"tel:0000\"}'",
            id="no help for the worried",
        ),
        pytest.param(
            "status: 403",
            "status: 404",
            "school.yaml:26: stop_page.status: '404' is not one of 403 or 451; write, for example, 'status: 403'",
            id="a fake 404",
        ),
        pytest.param(
            "hide_below: 20",
            "hide_below: 9",
            "school.yaml:27: counts.hide_below: '9' is less than 10; write, for example, 'hide_below: 10'",
            id="counts finer than allowed",
        ),
        pytest.param(
            "round_to: 10",
            "round_to: 1",
            "school.yaml:27: counts.round_to: '1' is less than 5; write, for example, 'round_to: 5'",
            id="rounding finer than allowed",
        ),
        pytest.param(
            "host: check.stoplist.invalid",
            "host: check.stoplist.invalid:443",
            "school.yaml:30: tests[1].host: 'check.stoplist.invalid:443' is not a host name: the host has a port; "
            "write the host alone: 'check.stoplist.invalid'",
            id="a host with a port",
        ),
        pytest.param(
            "host: check.stoplist.invalid",
            "host: 1.5",
            "school.yaml:30: tests[1].host: '1.5' is not a host name; "
            "write, for example, 'host: check.stoplist.invalid'",
            id="a number for a host",
        ),
        pytest.param(
            "expect: stop",
            "expect: block",
            "school.yaml:30: tests[1].expect: 'block' is not one of 'stop', 'pass' or 'observe'; "
            "write, for example, 'expect: stop'",
            id="another word for stop",
        ),
        pytest.param(
            "listen:",
            "certificate: {cert: proxy.pem}\nlisten:",
            "school.yaml:28: the key 'certificate.key' is missing; write, for example, 'key: proxy.key'",
            id="a certificate without its key",
        ),
        pytest.param(
            "listen:",
            "certificate: {key: proxy.key}\nlisten:",
            "school.yaml:28: the key 'certificate.cert' is missing; write, for example, 'cert: proxy.pem'",
            id="a key without its certificate",
        ),
        pytest.param(
            "listen:",
            "certificate: proxy.pem\nlisten:",
            "school.yaml:28: certificate: 'proxy.pem' is not a set of keys and values; "
            "write, for example, 'certificate: {cert: proxy.pem, key: proxy.key}'",
            id="a file for a certificate and its key",
        ),
        pytest.param(
            "listen:",
            "certificate: {cert: proxy.pem, key: proxy.key, chain: x}\nlisten:",
            "school.yaml:28: unknown key 'chain'; known here: cert, key",
            id="unknown key of a certificate",
        ),
        pytest.param(
            "listen:",
            "certificate: {cert: '', key: proxy.key}\nlisten:",
            "school.yaml:28: certificate.cert: '' is empty; write, for example, 'cert: proxy.pem'",
            id="a certificate without a name",
        ),
        pytest.param(
            "listen:",
            "clients: []\nlisten:",
            "school.yaml:28: clients: is empty; write, for example, 'clients: [10.0.0.0/8]'",
            id="no client at all",
        ),
        pytest.param(
            "listen:",
            "clients: 10.0.0.0/8\nlisten:",
            "school.yaml:28: clients: '10.0.0.0/8' is not a list; put it in brackets: 'clients: [10.0.0.0/8]'",
            id="one network for a list",
        ),
        pytest.param(
            "listen:",
            "clients:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\nlisten:",
            "school.yaml:30: clients[2]: '10.0.0.1/8' is an address in the network 10.0.0.0/8; "
            "write '10.0.0.0/8' for the network, or '10.0.0.1' for the address",
            id="an address with the length of its network",
        ),
        pytest.param(
            "listen:",
            "clients: [10.0.0.0/33]\nlisten:",
            f"school.yaml:28: clients[1]: '10.0.0.0/33' {NO_NETWORK} 'clients: [10.0.0.0/8]'",
            id="a network that is too small",
        ),
        pytest.param(
            "listen:",
            "clients: [010.0.0.0/8]\nlisten:",
            f"school.yaml:28: clients[1]: '010.0.0.0/8' {NO_NETWORK} 'clients: [10.0.0.0/8]'",
            id="a network that some read as octal",
        ),
        pytest.param(
            "listen:",
            "clients: [10.1]\nlisten:",
            f"school.yaml:28: clients[1]: '10.1' {NO_NETWORK} 'clients: [10.0.0.0/8]'",
            id="a number for a network",
        ),
        pytest.param(
            "listen:",
            "clients: [10.0.0.0-10.0.0.9]\nlisten:",
            "school.yaml:28: clients[1]: '10.0.0.0-10.0.0.9' is a range; write 10.0.0.0/29, 10.0.0.8/31",
            id="a range for a network",
        ),
        pytest.param(
            "listen:",
            "clients: ['[::1]']\nlisten:",
            f"school.yaml:28: clients[1]: '[::1]' {NO_NETWORK} 'clients: [10.0.0.0/8]'",
            id="IPv6 in brackets",
        ),
        pytest.param(
            "listen:",
            "upstream: {allow: [localhost]}\nlisten:",
            f"school.yaml:28: upstream.allow[1]: 'localhost' {NO_NETWORK} 'allow: [127.0.0.1]'",
            id="a name that clients may reach",
        ),
        pytest.param(
            "listen:",
            "upstream: {deny: ['*']}\nlisten:",
            f"school.yaml:28: upstream.deny[1]: '*' {NO_NETWORK} 'deny: [10.0.0.0/8]'",
            id="all that clients may not reach",
        ),
        pytest.param(
            "listen:",
            "upstream: {deny: ['2001:db8::1/32']}\nlisten:",
            "school.yaml:28: upstream.deny[1]: '2001:db8::1/32' is an address in the network 2001:db8::/32; "
            "write '2001:db8::/32' for the network, or '2001:db8::1' for the address",
            id="an address with the length of its network, IPv6",
        ),
        pytest.param(
            "listen:",
            "upstream: {allow: 127.0.0.1}\nlisten:",
            "school.yaml:28: upstream.allow: '127.0.0.1' is not a list; put it in brackets: 'allow: [127.0.0.1]'",
            id="one address for a list",
        ),
        pytest.param(
            "listen:",
            "upstream: {alow: [127.0.0.1]}\nlisten:",
            "school.yaml:28: unknown key 'alow'; did you mean 'allow'?",
            id="typo under upstream",
        ),
        pytest.param(
            "listen:",
            "upstream: [127.0.0.1]\nlisten:",
            "school.yaml:28: upstream: is not a set of keys and values; "
            "write, for example, 'upstream: {allow: [127.0.0.1], deny: [10.0.0.0/8]}'",
            id="a list for allow and deny",
        ),
        pytest.param(
            "listen:",
            "proxy_auth: {}\nlisten:",
            "school.yaml:28: proxy_auth: needs either 'htpasswd' or 'ldap'; "
            "write 'proxy_auth: {htpasswd: users.htpasswd}'",
            id="nobody who knows the passwords",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{htpasswd: users.htpasswd, ldap: {{{LDAP}}}}}\nlisten:",
            "school.yaml:28: proxy_auth: needs either 'htpasswd' or 'ldap'; "
            "write 'proxy_auth: {htpasswd: users.htpasswd}'",
            id="two who know the passwords",
        ),
        pytest.param(
            "listen:",
            "proxy_auth: users.htpasswd\nlisten:",
            "school.yaml:28: proxy_auth: 'users.htpasswd' is not a set of keys and values; "
            "write, for example, 'proxy_auth: {htpasswd: users.htpasswd}'",
            id="a file for who knows the passwords",
        ),
        pytest.param(
            "listen:",
            "proxy_auth: {htpasswd: 5}\nlisten:",
            "school.yaml:28: proxy_auth.htpasswd: '5' is not a text; put quotes around it: '5'",
            id="a number for a file",
        ),
        pytest.param(
            "listen:",
            "proxy_auth: {htpaswd: users.htpasswd}\nlisten:",
            "school.yaml:28: unknown key 'htpaswd'; did you mean 'htpasswd'?",
            id="typo under proxy_auth",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP.replace('password_file', 'password')}}}}}\nlisten:",
            "school.yaml:28: the key 'proxy_auth.ldap.password_file' is missing; "
            "write, for example, 'password_file: ldap.password'\n"
            "school.yaml:28: unknown key 'password'; did you mean 'password_file'?",
            id="a password in the policy",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP.replace('ldaps', 'https')}}}}}\nlisten:",
            "school.yaml:28: proxy_auth.ldap.server: 'https://directory.example' "
            f"{NO_SERVER}; write, for example, 'server: ldaps://directory.example:636'",
            id="a directory that speaks HTTPS",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP.replace('.example,', '.example/people,')}}}}}\nlisten:",
            "school.yaml:28: proxy_auth.ldap.server: 'ldaps://directory.example/people' "
            f"{NO_SERVER}; write, for example, 'server: ldaps://directory.example:636'",
            id="a directory with a path",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP.replace('cn=gate', 'cn=gate:x')}}}}}\nlisten:",
            "school.yaml:28: proxy_auth.ldap.bind_dn: 'cn=gate:x' is not a name without ':'; "
            "write, for example, 'bind_dn: \"cn=gate,dc=directory,dc=example\"'",
            id="a name with a colon",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP.replace('ou=people', 'ou=people?sub')}}}}}\nlisten:",
            "school.yaml:28: proxy_auth.ldap.base_dn: 'ou=people?sub' is not a name without ':' and '?'; "
            "write, for example, 'base_dn: \"ou=people,dc=directory,dc=example\"'",
            id="a base with a question mark",
        ),
        pytest.param(
            "listen:",
            f"proxy_auth: {{ldap: {{{LDAP}, attribute: '*)(uid=*'}}}}\nlisten:",
            "school.yaml:28: proxy_auth.ldap.attribute: '*)(uid=*' is not the name of an attribute; "
            "write, for example, 'attribute: uid'",
            id="an attribute that is a filter",
        ),
        pytest.param(
            "listen:",
            "tls: off\nlisten:",
            "school.yaml:28: tls: 'off' is not one of 'passthrough' or 'intercept'; "
            "write, for example, 'tls: passthrough'",
            id="a bool for what becomes of TLS",
        ),
        pytest.param(
            "listen:",
            "tls: Intercept\nlisten:",
            "school.yaml:28: tls: 'Intercept' is not one of 'passthrough' or 'intercept'; "
            "write, for example, 'tls: passthrough'",
            id="what becomes of TLS in upper case",
        ),
        pytest.param(
            "listen:",
            "https: stop\nlisten:",
            "school.yaml:28: https: 'stop' is not one of 'page' or 'refuse'; write, for example, 'https: page'",
            id="what a listed host meets over HTTPS",
        ),
        pytest.param(
            "listen:",
            "ca: {cert: intermediate.pem}\nlisten:",
            "school.yaml:28: the key 'ca.key' is missing; write, for example, 'key: intermediate.key'",
            id="a CA without a key",
        ),
        pytest.param(
            "listen:",
            "ca:\nlisten:",
            "school.yaml:28: ca: '' is empty; "
            "write, for example, 'ca: {cert: intermediate.pem, key: intermediate.key}'",
            id="an empty CA",
        ),
    ],
)
def test_a_fault_is_told_with_its_line_its_value_and_a_remedy(old: str, new: str, fault: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    assert faults(text) == fault.split("\n")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("certificate", id="certificate"),
        pytest.param("clients", id="clients"),
        pytest.param("proxy_auth", id="proxy_auth"),
    ],
)
def test_a_key_without_a_value_is_no_default(key: str) -> None:
    """Where all below `proxy_auth:` is a comment, the operator must not find the gate open."""
    (fault,) = faults(f"{GOOD}{key}:\n  # later\n")
    assert fault.startswith(f"school.yaml:32: {key}: ")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("clients: ['{}']", id="clients"),
        pytest.param("upstream: {{allow: ['{}']}}", id="allow"),
        pytest.param("upstream: {{deny: ['{}']}}", id="deny"),
    ],
)
@pytest.mark.parametrize(
    "network",
    [
        pytest.param("::ffff:10.0.0.0/104", id="mapped addresses, judged as IPv4"),
        pytest.param("::ffff:10.0.0.1", id="a mapped address, judged as IPv4"),
        pytest.param("fe80::1%eth0", id="a zone, not looked at"),
    ],
)
def test_a_network_that_would_not_do_what_it_says_is_refused(key: str, network: str) -> None:
    (fault,) = faults(f"{GOOD}{key.format(network)}\n")
    assert fault.startswith("school.yaml:32: ")


def test_status_451_needs_the_legal_demand_as_a_web_link() -> None:
    text = changed("status: 403", "status: 451").replace("https://law.example/act", "mailto:law@school.example")
    assert faults(text) == [
        "school.yaml:26: stop_page: status 451 needs the legal demand as a web link under 'legislation'; "
        "write the address of the legal demand, or status 403"
    ]


# Faults of the YAML itself

TAG = "write the value without a tag"
UNREAD = " (the rest of the file was not read)"
WRITE_OUT = f"write the value out, or put quotes around it{UNREAD}"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(
            "  authority:",
            "\tauthority:",
            f"school.yaml:17: a tab where YAML wants spaces: '\\t'; indent with spaces{UNREAD}",
            id="tab",
        ),
        pytest.param(
            "    key: {env: STOPLIST_KEY}",
            "    key: &key {env: STOPLIST_KEY}",
            f"school.yaml:9: an anchor or alias ('&' or '*' before a value); {WRITE_OUT}",
            id="anchor",
        ),
        pytest.param(
            "operator: Example School",
            "operator: *school",
            f"school.yaml:18: an anchor or alias ('&' or '*' before a value); {WRITE_OUT}",
            id="alias",
        ),
        pytest.param(
            "listen:",
            "mode: observe\nlisten:",
            "school.yaml:28: duplicate key 'mode'; keep one; the first is on line 2",
            id="duplicate key",
        ),
        pytest.param(
            "{env: STOPLIST_KEY}",
            "{env: STOPLIST_KEY, env: OTHER}",
            "school.yaml:9: duplicate key 'env'; keep one; the first is on line 9",
            id="duplicate key in a line",
        ),
        pytest.param(
            "listen:",
            "'mode': observe\nlisten:",
            "school.yaml:28: duplicate key 'mode'; keep one; the first is on line 2",
            id="duplicate key in quotes",
        ),
        pytest.param(
            "listen:",
            "? [a, b]\n: c\nlisten:",
            "school.yaml:28: a key that is no word; write 'key: value'",
            id="list as key",
        ),
        pytest.param(
            "operator: Example School",
            "operator: !secret school",
            f"school.yaml:18: stop_page.operator: a value with the tag '!secret'; {TAG}",
            id="tag",
        ),
        pytest.param(
            "operator: Example School",
            "operator: !!python/name:os.system school",
            "school.yaml:18: stop_page.operator: a value with the tag "
            f"'tag:yaml.org,2002:python/name:os.system'; {TAG}",
            id="tag of Python",
        ),
        pytest.param(
            "operator: Example School",
            "operator: =",
            "school.yaml:18: stop_page.operator: '=' is no plain value; put quotes around it",
            id="the value sign of YAML 1.1",
        ),
        pytest.param(
            "operator: Example School",
            'operator: "Example\x07 School"',
            f"school.yaml:18: holds the control character '\\x07'; remove it{UNREAD}",
            id="control character",
        ),
        pytest.param(
            "operator: Example School",
            "operator: Example\x00 School",
            f"school.yaml:18: holds the control character '\\x00'; remove it{UNREAD}",
            id="NUL",
        ),
        pytest.param(
            "counts: {period",
            "counts: period",
            "school.yaml:27: a ':' where no key is allowed; put quotes around a value that holds ': ', or indent "
            f"the line like its neighbours{UNREAD}",
            id="no YAML",
        ),
        pytest.param(
            "listen:",
            "---\nlisten:",
            f"school.yaml:28: a second document; remove the line '---'{UNREAD}",
            id="two documents",
        ),
    ],
)
def test_yaml_that_does_not_say_what_it_means_once_is_refused(old: str, new: str, fault: str) -> None:
    assert faults(changed(old, new)) == [fault]


def test_a_wildcard_without_quotes_is_told_as_the_alias_that_yaml_takes_it_for() -> None:
    (fault,) = faults(changed("domain: Appeal.example", "domain: *.appeal.example"))
    assert fault.startswith("school.yaml:15: ")
    assert fault.endswith(f"; write the domain without '*.': it covers its subdomains as well{UNREAD}")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param(
            GOOD.encode().replace(b"Example School", b"\xc9cole"),
            f"18: not UTF-8 text; save it as UTF-8{UNREAD}",
            id="Latin-1",
        ),
        pytest.param(
            b"\xff\xfe" + GOOD.encode("utf-16-le"), f"1: not UTF-8 text; save it as UTF-8{UNREAD}", id="UTF-16"
        ),
        pytest.param(b"", "1: a policy is a set of keys and values; start with 'version: 1'", id="empty"),
        pytest.param(
            b"# later\n\n", "1: a policy is a set of keys and values; start with 'version: 1'", id="only a comment"
        ),
        pytest.param(b"---\n", "1: a policy is a set of keys and values; start with 'version: 1'", id="only a marker"),
        pytest.param(b"enforce", "1: a policy is a set of keys and values; start with 'version: 1'", id="a word"),
        pytest.param(b"- 1\n", "1: a policy is a set of keys and values; start with 'version: 1'", id="a list"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(data: bytes, fault: str) -> None:
    assert faults(data) == [f"school.yaml:{fault}"]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("!!timestamp tomorrow", id="no timestamp"),
        pytest.param("!!int ''", id="empty integer"),
        pytest.param("!!float ''", id="empty float"),
        pytest.param("!!bool maybe", id="no bool"),
        pytest.param("!!int two", id="no integer"),
        pytest.param("!!binary '%'", id="no base64"),
        pytest.param("!!null x", id="no null"),
    ],
)
def test_a_value_that_does_not_fit_its_tag_is_a_fault_on_its_line(value: str) -> None:
    (fault,) = faults(changed("mode: enforce\nlists", f"mode: {value}\nlists"))
    assert fault.startswith("school.yaml:2: mode: ")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param("counts: {period: hour", "counts: !custom {period: hour", 27, id="section"),
        pytest.param("trusted_keys: [keys", "trusted_keys: !custom [keys", 6, id="list"),
        pytest.param("exceptions:\n  - {", "exceptions: !!seq x\nx:\n  - {", 14, id="a word tagged as a list"),
    ],
)
def test_a_tag_on_a_section_or_a_list_is_refused(old: str, new: str, line: int) -> None:
    assert any(fault.startswith(f"school.yaml:{line}: ") and "tag" in fault for fault in faults(changed(old, new)))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'mode: "\\U00110000"', id="escape beyond Unicode"),
        pytest.param(b'mode: "\\UFFFFFFFF"', id="escape beyond a C integer"),
        pytest.param(b'mode: "\\ud800"', id="escape of a lone surrogate"),
        pytest.param(b"%YAML " + b"1" * 5000 + b".1\n--- {}", id="huge version of YAML"),
        pytest.param(b"version: " + b"1" * 5000, id="huge integer"),
        pytest.param(b"version: 0b_", id="binary number without digits"),
        pytest.param(b"[" * 50_000, id="deep nesting without an end"),
        pytest.param(b"version: " + b"[" * 5000 + b"]" * 5000, id="deep nesting"),
        pytest.param(b"{a: " * 5000, id="deep nesting of sections"),
        pytest.param(b"- " * 5000, id="deep nesting of items"),
    ],
)
def test_yaml_made_to_break_its_reader_is_refused_with_problems(data: bytes) -> None:
    assert faults(data)


# All faults at once


def test_all_faults_are_told_in_one_run_in_the_order_of_lines() -> None:
    text = GOOD
    for old, new in [
        ("mode: enforce\nlists", "mode: on\nlists"),
        ("    threshold: 2\n", "    threshold: 0\n"),
        ("{env: STOPLIST_KEY}", "{}"),
        ("domain: Appeal.example", "domain: example"),
        ("  authority: Example Authority", "  autority: Example Authority"),
        ("period: hour", "period: minute"),
        ("expect: pass", "expect: fail"),
    ]:
        assert old in text
        text = text.replace(old, new, 1)
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        f"school.yaml:{line}" for line in (2, 7, 9, 15, 17, 27, 31)
    ]


def test_a_duplicate_key_hides_no_other_fault() -> None:
    text = changed("listen:", "mode: observe\nlisten:").replace("exceptions:", "exeptions:")
    assert faults(text) == [
        "school.yaml:14: unknown key 'exeptions'; did you mean 'exceptions'?",
        "school.yaml:28: duplicate key 'mode'; keep one; the first is on line 2",
    ]


def test_a_date_that_does_not_exist_hides_no_other_fault() -> None:
    text = changed("until: 2026-12-31", "until: 2026-02-30").replace("period: hour", "period: minute")
    assert [fault.partition(": ")[0] for fault in faults(text)] == ["school.yaml:15", "school.yaml:27"]


def test_two_values_that_yaml_cannot_read_are_both_told() -> None:
    text = changed("until: 2026-12-31", "until: 2026-02-30").replace("period: hour", "period: !x hour")
    assert [fault.partition(": ")[0] for fault in faults(text)] == ["school.yaml:15", "school.yaml:27"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD.replace("mode: enforce", "!x mode: enforce", 1), "school.yaml:2: the tag '!x'; write it without a tag"),
        (GOOD.replace("mode: enforce", "!!int mode: enforce", 1), "school.yaml:2: the tag 'tag:yaml.org,2002:int'"),
        ("!x\n" + GOOD, "school.yaml:1: the tag '!x'"),
        (GOOD.replace("operator:", "!x operator:", 1), "school.yaml:18: the tag '!x'"),
    ],
    ids=["a key", "a key with a type", "the whole", "a key of a section"],
)
def test_a_tag_on_what_is_no_value_is_told(text: str, fault: str) -> None:
    (told,) = faults(text)
    assert told.startswith(fault)


# Values


@pytest.mark.parametrize(
    ("text", "address"),
    [
        pytest.param("127.0.0.1:8080", ListenAddress("127.0.0.1", 8080), id="IPv4"),
        pytest.param("[::1]:8080", ListenAddress("::1", 8080), id="IPv6"),
        pytest.param("LOCALHOST:8080", ListenAddress("localhost", 8080), id="name"),
        pytest.param("0.0.0.0:0", ListenAddress("0.0.0.0", 0), id="any port"),
        pytest.param(":8080", ListenAddress("0.0.0.0", 8080), id="every address"),
    ],
)
def test_a_listen_address_reads_back_what_it_wrote(text: str, address: ListenAddress) -> None:
    assert ListenAddress.parse(text) == address
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("127.0.0.1", id="no port"),
        pytest.param("127.0.0.1:", id="empty port"),
        pytest.param("127.0.0.1:-1", id="negative port"),
        pytest.param("127.0.0.1:٨٠", id="digits of another script"),
        pytest.param("::1:8080", id="IPv6 without brackets"),
        pytest.param("127.0.0.1:80:8080", id="two ports"),
        pytest.param("127.0.0.1::8080", id="two colons"),
        pytest.param("[::1]:443:8080", id="IPv6 and two ports"),
    ],
)
def test_what_is_no_listen_address_is_refused(text: str) -> None:
    assert faults(GOOD.replace("listen: 127.0.0.1:3128", f"listen: '{text}'")) == [
        f"school.yaml:28: listen: '{text}' is not ADDRESS:PORT; write, for example, 'listen: 127.0.0.1:8080'"
    ]


def sections(value: object) -> list[BaseModel]:
    """A section and all that it holds."""
    if isinstance(value, BaseModel):
        return [value, *(inner for name in type(value).model_fields for inner in sections(getattr(value, name)))]
    if isinstance(value, tuple):
        return [inner for item in value for inner in sections(item)]
    return []


@pytest.mark.parametrize(
    ("written", "port", "permits", "is_web"),
    [
        pytest.param("{}", 443, True, True, id="nothing said"),
        pytest.param("{}", 8050, True, True, id="a range of the web"),
        pytest.param("{}", 22, True, False, id="not of the web"),
        pytest.param("{ports: [443]}", 443, True, True, id="one port"),
        pytest.param("{ports: [443]}", 8443, False, True, id="another than the one"),
        pytest.param("{ports: ['8000-9000', 443]}", 8443, True, True, id="in a range"),
        pytest.param("{web_ports: [9000]}", 9000, True, True, id="a port of the web that is named"),
        pytest.param("{web_ports: []}", 80, True, False, id="no port of the web"),
    ],
)
def test_tunnels_may_lead_to_ports(written: str, port: int, permits: bool, is_web: bool) -> None:
    tunnels = PolicyText.parse((GOOD + f"tunnels: {written}\n").encode(), "school.yaml").policy.tunnels
    assert tunnels.permits(port) is permits
    assert tunnels.is_web(port) is is_web
    assert tunnels.other == "relay"


@pytest.mark.parametrize("ports", ["0", "65536", "443.0", "90-80", "a", "true", "'1-2-3'", "-5", "''"])
def test_what_is_no_port_is_told(ports: str) -> None:
    with pytest.raises(Problems, match="is not a port, or a range such as 8000-8099"):
        PolicyText.parse((GOOD + f"tunnels: {{ports: [{ports}]}}\n").encode(), "school.yaml")


def test_a_policy_is_frozen_to_its_last_value() -> None:
    text = (GOOD + NETWORK + "metrics: {}\n").encode()
    policy = PolicyText.parse(text, "school.yaml").policy
    assert len(sections(policy)) == 22
    for section in sections(policy):
        for name in type(section).model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(section, name, getattr(section, name))
    assert hash(policy) == hash(PolicyText.parse(text, "other.yaml").policy)


# Any bytes at all

PUNCTUATION = [
    "\n",
    "  ",
    "- ",
    ": ",
    "? ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "#",
    "|",
    ">",
    "@",
    "`",
    "=",
    "~",
    "---",
    "...",
]
MARKS = ["&a ", "*a ", "!x ", "!!int ", "!!bool ", "!!seq ", "!!timestamp ", "<<: ", "%YAML 1.9", '"\\U00110000"']
CHARACTERS = ["\t", "\x00", "\x85", "\u2028", "\ufeff"]
VALUES = ["2026-02-30", "9999-12-31", "0x_", "1:30", ".nan", "-.inf", "on", "1e999", "exceptions:", "mode: observe"]
PIECES = st.sampled_from(PUNCTUATION + MARKS + CHARACTERS + VALUES) | st.text(max_size=3)


def parsed_or_told(data: bytes) -> PolicyText | None:
    """The policy of some bytes, or None where each of its problems has a line and a remedy."""
    try:
        return PolicyText.parse(data, "school.yaml")
    except Problems as error:
        problems = error.problems
    assert problems
    assert all(problem.place.startswith("school.yaml:") and problem.hint for problem in problems)
    return None


@given(st.binary(max_size=200) | st.lists(PIECES, max_size=12).map("".join).map(str.encode))
@example(b"a: \xed\xa0\x80")
@example(b'"\\U00110000"')
def test_any_bytes_are_refused_with_problems(data: bytes) -> None:
    assert parsed_or_told(data) is None


@settings(max_examples=examples(150))
@given(st.data())
def test_a_mutated_policy_is_a_policy_or_problems(data: st.DataObject) -> None:
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(start + 20, len(text))))
        text = text[:start] + data.draw(PIECES) + text[end:]
    found = parsed_or_told(text.encode())
    if found is not None:
        assert str(found.place("version")).startswith("school.yaml:")
        assert all(exception.ends(found.policy.time_zone) > 0 for exception in found.policy.exceptions)
