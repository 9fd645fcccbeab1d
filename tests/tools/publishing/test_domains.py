"""Domains to list: canonical, each once, and every fault of the input told in one run, with its line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from publicsuffixlist import PSLFILE, PublicSuffixList

from stoplist.core.hosts import Host
from stoplist.errors import Problems, StoplistError
from stoplist.tools.publishing.domains import DomainError, Domains, as_text, bytes_of, read_domains
from tests.examples import examples

TOO_LONG = ".".join(["a" * 54, *["b" * 63] * 3, "example"])
assert len(TOO_LONG) == 254


def domains(text: str, **options) -> Domains:
    return read_domains(io.StringIO(text, newline=""), "domains.txt", **options)


def faults(text: str | bytes, **options) -> list[str]:
    """The faults of a list of domains as a publisher sees them, one each."""
    lines = as_text(io.BytesIO(text)) if isinstance(text, bytes) else io.StringIO(text, newline="")
    with pytest.raises(Problems) as caught:
        read_domains(lines, "domains.txt", **options)
    assert all(isinstance(problem, DomainError) for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


# Text


def test_domains_are_read_one_a_line_with_comments_and_blank_lines() -> None:
    text = "# a list\n\nlisted.example\n  other.example  # why\n\t\n#hidden.example\nthird.test#no space"
    assert domains(text) == Domains(frozenset({"listed.example", "other.example", "third.test"}), 0, 0)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param("LISTED.Example", "listed.example", id="case"),
        pytest.param("listed.example.", "listed.example", id="trailing dot"),
        pytest.param("bücher.example", "xn--bcher-kva.example", id="Unicode"),
        pytest.param("BÜCHER.example", "xn--bcher-kva.example", id="Unicode upper case"),
        pytest.param("xn--bcher-kva.example", "xn--bcher-kva.example", id="punycode"),
        pytest.param("faß.example", "xn--fa-hia.example", id="sharp s"),
        pytest.param("listed。example", "listed.example", id="ideographic full stop"),
        pytest.param("listed.例え.test", "listed.xn--r8jz45g.test", id="Unicode in the middle"),
        pytest.param("\ufefflisted.example", "listed.example", id="byte order mark of the file"),
        pytest.param("listed.example\r", "listed.example", id="Windows newline"),
        pytest.param("\u00a0listed.example", "listed.example", id="no-break space"),
        pytest.param("_x.listed.example", "_x.listed.example", id="underscore"),
    ],
)
def test_a_domain_is_listed_in_its_canonical_form(line: str, name: str) -> None:
    assert read_domains([line], "domains.txt").names == {name}


def test_one_domain_in_several_forms_is_a_duplicate() -> None:
    text = "bücher.example\nxn--bcher-kva.example\nBÜCHER.example.\nlisted.example"
    assert domains(text) == Domains(frozenset({"xn--bcher-kva.example", "listed.example"}), 2, 0)


def test_what_a_parent_covers_is_dropped_wherever_the_parent_stands() -> None:
    text = "a.listed.example\nlisted.example\nb.a.listed.example\nnotlisted.example\nx.y.other.example"
    kept = frozenset({"listed.example", "notlisted.example", "x.y.other.example"})
    assert domains(text) == Domains(kept, 0, 2)


LABEL = st.sampled_from(["a", "b", "listed", "x1"])
NAMES = st.lists(LABEL, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "example"]))


@given(st.lists(NAMES, min_size=1, max_size=12))
def test_what_is_kept_covers_all_that_was_written_and_nothing_twice(written: list[str]) -> None:
    read = read_domains(written, "domains.txt")
    for name in written:
        assert len([kept for kept in read.names if f".{name}".endswith(f".{kept}")]) == 1
    assert read.names <= set(written)
    assert len(read.names) + read.covered + read.duplicates == len(written)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        pytest.param(
            "https://listed.example/page",
            "'https://listed.example/page' is a URL; write the domain alone: a list covers whole domains",
            id="URL",
        ),
        pytest.param(
            "listed.example/page",
            "'listed.example/page' is a URL; write the domain alone: a list covers whole domains",
            id="path",
        ),
        pytest.param(
            "*.listed.example",
            "'*.listed.example' is a wildcard; write the domain alone: its subdomains are covered",
            id="wildcard",
        ),
        pytest.param(
            "192.0.2.1",
            "'192.0.2.1' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv4",
        ),
        pytest.param(
            "0xC0000201",
            "'0xC0000201' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv4 in hexadecimal",
        ),
        pytest.param(
            "2001:db8::1",
            "'2001:db8::1' is an IP address; remove the line: addresses are shared, only names are listed",
            id="IPv6",
        ),
        pytest.param(
            "localhost",
            "'localhost' is a single label; write the domain as it is registered, such as 'listed.example'",
            id="single label",
        ),
        pytest.param(
            "example",
            "'example' is a single label; write the domain as it is registered, such as 'listed.example'",
            id="top level",
        ),
        pytest.param(
            "listed.example:443",
            "'listed.example:443' is no domain: the host has a port; correct or remove the line",
            id="port",
        ),
        pytest.param(
            "user@listed.example",
            "'user@listed.example' is no domain: the host holds a character that no host may hold; "
            "correct or remove the line",
            id="mail address",
        ),
        pytest.param(
            "listed example",
            "'listed example' is no domain: the host cannot be read by the URL Standard; correct or remove the line",
            id="two words",
        ),
        pytest.param(
            "a..listed.example",
            "'a..listed.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="empty label",
        ),
        pytest.param(
            ".listed.example",
            "'.listed.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="leading dot",
        ),
        pytest.param(
            "a" * 64 + ".example",
            f"'{'a' * 64}.example' is no domain: DNS cannot hold it; correct or remove the line",
            id="label too long",
        ),
        pytest.param(
            TOO_LONG,
            f"'{TOO_LONG}' is no domain: DNS cannot hold it; correct or remove the line",
            id="name too long",
        ),
    ],
)
def test_a_line_that_is_no_domain_is_told_with_its_number_and_a_remedy(line: str, fault: str) -> None:
    assert faults(f"# comment\ngood.example\n\n{line}  # ticket 5\n") == [f"domains.txt:4: {fault}"]


# Real ones: no reserved name is on the public suffix list.
@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        pytest.param("co.uk", "co.uk", id="plain"),
        pytest.param("CO.UK.", "co.uk", id="in another spelling"),
        pytest.param("個人.香港", "xn--gmqw5a.xn--j6w193g", id="Unicode"),
        pytest.param("xn--mxtq1m.xn--j6w193g", "xn--mxtq1m.xn--j6w193g", id="punycode"),
        pytest.param("listed.ck", "listed.ck", id="by a wildcard rule"),
        pytest.param("github.io", "github.io", id="of the private section"),
    ],
)
def test_a_public_suffix_is_told_with_its_number_and_a_remedy(suffix: str, name: str) -> None:
    assert faults(f"good.example\n{suffix}\n") == [
        f"domains.txt:2: {suffix!r} is a public suffix, under which anybody can register; "
        f"list the domains below it that were checked; to list all of it: --allow-suffix {name}"
    ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a" * 63 + ".example", id="label as long as DNS allows"),
        pytest.param(TOO_LONG[1:], id="name as long as DNS allows"),
    ],
)
def test_a_name_as_long_as_dns_allows_is_listed(name: str) -> None:
    assert domains(name).names == {name}


def test_every_faulty_line_is_told_in_one_run() -> None:
    text = "https://a.example/\ngood.example\n*.b.example\n192.0.2.1\nco.uk\nlocalhost\nc.example:1\n"
    assert [fault.partition(": ")[0] for fault in faults(text)] == [
        f"domains.txt:{line}" for line in (1, 3, 4, 5, 6, 7)
    ]


@pytest.mark.parametrize("text", [pytest.param("", id="empty"), pytest.param("# later\n\n", id="only comments")])
def test_a_list_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(StoplistError) as caught:
        domains(text)
    assert str(caught.value) == ("domains.txt: no domain at all; an empty list would stop nothing: check the file")


@settings(max_examples=examples(40))
@given(st.text(max_size=30) | st.text("abc.:/*#@[]xn-0%\t ß。", max_size=15))
def test_any_line_is_a_domain_or_told(line: str) -> None:
    try:
        read = read_domains([line], "domains.txt")
    except StoplistError as error:
        told = str(error)
    else:
        (name,) = read.names
        assert Host.parse(name) == Host(name)
        assert "." in name
        return
    assert told.startswith("domains.txt:")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_end_as_any_editor_ends_them(end: str) -> None:
    text = end.join(["# list", "listed.example # why", "", "listed.test", ""])
    assert read_domains(as_text(io.BytesIO(text.encode())), "x").names == {"listed.example", "listed.test"}
    assert faults(f"{text}co.uk{end}".encode())[0].startswith("domains.txt:5: 'co.uk'")


def test_what_is_not_utf8_is_told_with_its_line_beside_the_other_faults() -> None:
    assert faults("good.example\nbücher.example # Bücher\nco.uk\n# ü\n".encode("latin-1")) == [
        r"domains.txt:2: 'b\xfccher.example # B\xfccher' is not UTF-8 text; save the file as UTF-8",
        "domains.txt:3: 'co.uk' is a public suffix, under which anybody can register; "
        "list the domains below it that were checked; to list all of it: --allow-suffix co.uk",
        r"domains.txt:4: '# \xfc' is not UTF-8 text; save the file as UTF-8",
    ]


def test_a_value_without_end_is_cut_in_a_message() -> None:
    (fault,) = faults("a/" * 100_000)
    assert len(fault) < 500


@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda data: b"domain\n" + data), st.booleans())
def test_any_bytes_are_domains_or_told(data: bytes, is_csv: bool) -> None:
    try:
        found = read_domains(as_text(io.BytesIO(data)), "domains.txt", column="domain" if is_csv else None)
    except StoplistError as error:
        told = str(error)
    else:
        assert all(Host.parse(name) == Host(name) for name in found.names)
        return
    assert all(line.startswith("domains.txt:") and line.isprintable() for line in told.splitlines())


@given(st.binary(max_size=60))
def test_the_lines_of_a_file_have_its_bytes(data: bytes) -> None:
    assert sum(map(bytes_of, as_text(io.BytesIO(data)))) == len(data)


# CSV


def test_the_named_column_of_csv_is_read() -> None:
    text = 'id, domain ,why\n1,listed.example,"a, b"\n\n2, LISTED.test ,"two\nlines"\n,,\n3,www.listed.example,\n'
    assert domains(text, column="domain") == Domains({"listed.example", "listed.test"}, 0, 1)


def test_csv_as_a_spreadsheet_saves_it() -> None:
    data = "\ufeffdomain,why\r\nbücher.example,\r\n".encode()
    found = read_domains(as_text(io.BytesIO(data)), "x.csv", column="domain")
    assert found.names == {"xn--bcher-kva.example"}


def test_faults_in_csv_are_told_with_the_lines_of_the_file() -> None:
    text = 'why,domain\n"two\nlines",listed.example\n,co.uk\n"three\n\nlines",192.0.2.1\nshort\n,\nx,\n,a#b\n'
    found = faults(text, column="domain")
    assert [fault.partition("; ")[0] for fault in found] == [
        "domains.txt:4: 'co.uk' is a public suffix, under which anybody can register",
        "domains.txt:7: '192.0.2.1' is an IP address",
        "domains.txt:8: a row without a 'domain'",
        "domains.txt:10: a row without a 'domain'",
        "domains.txt:11: 'a#b' is no domain: the host holds a character that no host may hold",
    ]


def test_what_is_not_utf8_in_any_column_of_csv_is_told() -> None:
    assert faults("why,domain\nBücher,a.example\n".encode("latin-1"), column="domain") == [
        r"domains.txt:2: 'B\xfcchera.example' is not UTF-8 text; save the file as UTF-8"
    ]


def test_a_row_that_is_no_csv_is_told_beside_the_other_faults() -> None:
    assert [fault.partition("; ")[0] for fault in faults('domain\n"a"b\nco.uk\n"open\n', column="domain")] == [
        "domains.txt:2: not CSV: ',' expected after '\"'",
        "domains.txt:3: 'co.uk' is a public suffix, under which anybody can register",
        "domains.txt:4: not CSV: unexpected end of data",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param(
            "domain,added\na.example,1\n",
            "domains.txt:1: no column 'host'; the columns are 'domain', 'added'; name one of them with --column",
            id="another name",
        ),
        pytest.param(
            "\nhost;added\na.example;1\n",
            "domains.txt:2: no column 'host'; the columns are 'host;added'; separate the columns with commas",
            id="semicolons",
        ),
        pytest.param(
            "host,host\na.example,b.example\n",
            "domains.txt:1: two columns 'host'; the columns are 'host', 'host'; give each a name of its own",
            id="twice",
        ),
        pytest.param("", "domains.txt:1: no header row; begin with a row that names the columns", id="empty"),
        pytest.param(
            '"host',
            "domains.txt:1: not CSV: unexpected end of data; close the quotes, and double those inside",
            id="open",
        ),
    ],
)
def test_a_header_without_the_column_is_told(text: str, fault: str) -> None:
    assert faults(text, column="host") == [fault]


def test_csv_without_a_domain_is_refused() -> None:
    with pytest.raises(StoplistError, match="no domain at all"):
        domains("domain\n", column="domain")


# Public suffixes on purpose


@pytest.mark.parametrize("allowed", ["github.io", "GitHub.IO."])
def test_a_public_suffix_is_listed_where_a_person_allows_it(allowed: str) -> None:
    found = domains("github.io\nlisted.github.io\nlisted.example", allowed=[allowed])
    assert found == Domains({"github.io", "listed.example"}, 0, 1)


def test_one_allowed_suffix_allows_no_other() -> None:
    (fault,) = faults("github.io\nco.uk", allowed=["github.io"])
    assert fault.startswith("domains.txt:2: 'co.uk'")


@pytest.mark.parametrize(
    ("allowed", "fault"),
    [
        pytest.param(
            "listed.example", "is no public suffix; remove the option: only public suffixes need it", id="none"
        ),
        pytest.param("co.uk", "is not among the domains; add it there, or remove the option", id="not there"),
        pytest.param("com", "is a single label; write the suffix as it stands among the domains", id="top level"),
        pytest.param("*.ck", "is a wildcard; write the suffix as it stands among the domains", id="wildcard"),
    ],
)
def test_an_allowed_suffix_that_is_a_slip_of_the_pen_is_told(allowed: str, fault: str) -> None:
    assert faults("listed.example\n", allowed=[allowed]) == [f"--allow-suffix: {allowed!r} {fault}"]


def test_a_slip_of_the_pen_is_told_beside_the_faulty_lines() -> None:
    assert len(faults("listed.example\nco.uk\n", allowed=["co.um"])) == 2


def test_a_suffix_is_one_exactly_where_the_public_suffix_list_says_so() -> None:
    library = PublicSuffixList()
    lines = Path(PSLFILE).read_text("utf-8").splitlines()
    rules = [line.split()[0] for line in lines if line.strip() and not line.startswith("//")]
    assert len(rules) > 9000
    names = set()
    for rule in rules:
        base = Host.parse(rule.removeprefix("!").removeprefix("*.")).name
        names |= {base, f"x.{base}", f"x.x.{base}", base.partition(".")[2]}
    names = {name for name in names if "." in name}
    refused = {fault.split("'")[1] for fault in faults("\n".join(names))}
    assert refused == {name for name in names if library.is_public(name)}
