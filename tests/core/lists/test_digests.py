"""DigestSet: the longest listed suffix of a host, among digests that nobody can read without the list key."""

from __future__ import annotations

import hashlib
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoplist.core.hosts import Host
from stoplist.core.lists.digests import DIGEST_SIZE, DigestSet, are_sorted_and_unique, sorted_and_unique, sorted_digests
from tests.keys import LIST_KEY

KEY = LIST_KEY.secret

# Few labels, so that suffixes collide; the empty one stands in names such as ``a..example``.
NAMES = st.lists(st.sampled_from(["a", "b", "aa", "listed", "example", ""]), min_size=1, max_size=6).map(".".join)
CANONICAL = NAMES.filter(lambda name: name and not name.endswith("."))


def digests_of(*domains: str) -> DigestSet:
    return DigestSet(KEY, sorted_digests(KEY, domains))


def digest_of(domain: str) -> bytes:
    """The digest of the list format, computed as its specification says."""
    return hashlib.blake2b(domain.encode(), digest_size=16, key=KEY, person=b"stoplist-domain").digest()


@pytest.mark.parametrize(
    ("host", "labels"),
    [
        pytest.param("listed.example", 2, id="the domain"),
        pytest.param("www.listed.example", 2, id="a subdomain"),
        pytest.param("a.b.c.d.listed.example", 2, id="a deep subdomain"),
        pytest.param(".listed.example", 2, id="an empty label before it"),
        pytest.param("deep.host.listed.example", 4, id="a listed subdomain of it"),
        pytest.param("x.deep.host.listed.example", 4, id="below a listed subdomain"),
        pytest.param("host.listed.example", 2, id="between the two"),
        pytest.param("notlisted.example", 0, id="look-alike beside it"),
        pytest.param("listed.example.test", 0, id="look-alike in front of another domain"),
        pytest.param("listed.examplee", 0, id="look-alike top level"),
        pytest.param("listed-example.test", 0, id="hyphen for a dot"),
        pytest.param("example", 0, id="its top level"),
        pytest.param("listed", 0, id="its first label alone"),
        pytest.param("other.example", 0, id="a neighbour"),
        pytest.param("single", 0, id="a single label that is listed"),
        pytest.param("www.single", 0, id="below a single label that is listed"),
    ],
)
def test_the_longest_listed_suffix_of_a_host(host: str, labels: int) -> None:
    assert digests_of("listed.example", "deep.host.listed.example", "single").longest_suffix(Host(host)) == labels


@pytest.mark.parametrize("text", [pytest.param("192.0.2.1", id="IPv4"), pytest.param("::ffff:192.0.2.1", id="IPv6")])
def test_an_address_has_no_suffix_even_where_its_text_is_listed(text: str) -> None:
    host = Host.parse(text)
    assert digests_of(host.name, "2.1", "0.2.1").longest_suffix(host) == 0


def test_an_empty_set_lists_nothing() -> None:
    digests = DigestSet(KEY, b"")
    assert digests.count == 0
    assert digests.longest_suffix(Host("listed.example")) == 0


def test_an_empty_set_behind_a_header_lists_nothing() -> None:
    assert DigestSet(KEY, digest_of("listed.example"), offset=DIGEST_SIZE).longest_suffix(Host("listed.example")) == 0


def test_the_digest_is_that_of_the_list_format() -> None:
    assert sorted_digests(KEY, ["listed.example"]) == digest_of("listed.example")


def test_another_list_key_opens_nothing() -> None:
    other = DigestSet(bytes(32), sorted_digests(KEY, ["listed.example"]))
    assert other.longest_suffix(Host("listed.example")) == 0


def test_the_same_domain_twice_is_one_digest() -> None:
    assert sorted_digests(KEY, ["listed.example", "listed.example"]) == digest_of("listed.example")


@pytest.mark.parametrize("offset", [pytest.param(0, id="no header"), pytest.param(7, id="odd header")])
@pytest.mark.parametrize("shift", range(1, DIGEST_SIZE))
def test_bytes_across_two_digests_are_no_match(shift: int, offset: int) -> None:
    """Two neighbours can hold, between them, the digest of a domain that nobody listed."""
    target = digest_of("unlisted.example")
    first = bytes(shift) + target[: DIGEST_SIZE - shift]
    second = target[DIGEST_SIZE - shift :].ljust(DIGEST_SIZE, b"\xff")
    assert target in first + second
    assert first < second
    assert DigestSet(KEY, bytes(offset) + first + second, offset).longest_suffix(Host("unlisted.example")) == 0


def test_a_match_behind_bytes_that_only_look_like_one_is_found() -> None:
    target = digest_of("listed.example")
    shift = next(n for n in range(1, DIGEST_SIZE) if target[DIGEST_SIZE - n] < target[0])
    first = bytes(shift) + target[: DIGEST_SIZE - shift]
    second = target[DIGEST_SIZE - shift :].ljust(DIGEST_SIZE, b"\0")
    payload = first + second + target
    assert are_sorted_and_unique(payload)
    assert payload.index(target) < 2 * DIGEST_SIZE
    assert DigestSet(KEY, payload).longest_suffix(Host("listed.example")) == 2


@given(st.frozensets(CANONICAL, max_size=40), st.lists(CANONICAL, max_size=10), st.integers(0, 40))
@example(frozenset({"a.b"}), ["a.b", "b", "a.a.b", "aa.b"], 1)
def test_a_set_answers_as_a_set_of_names_would(domains: frozenset[str], hosts: list[str], offset: int) -> None:
    digests = DigestSet(KEY, b"\xff" * offset + sorted_digests(KEY, domains), offset)
    assert digests.count == len(domains)
    for name in (*hosts, *domains):
        labels = name.split(".")
        suffixes = [labels[-length:] for length in range(len(labels), 1, -1)]
        expected = next((len(suffix) for suffix in suffixes if ".".join(suffix) in domains), 0)
        assert digests.longest_suffix(Host(name)) == expected


@pytest.mark.parametrize("count", [7, 8, 15, 16, 17, 255, 256, 20_000])
def test_every_domain_of_a_set_is_found_and_no_other(count: int) -> None:
    digests = digests_of(*(f"d{number}.listed.example" for number in range(count)))
    assert digests.count == count
    assert all(digests.longest_suffix(Host(f"d{number}.listed.example")) == 3 for number in range(count))
    assert not any(digests.longest_suffix(Host(f"u{number}.listed.example")) for number in range(count))


HALVES = st.sampled_from([0, 1, 2**63, 2**64 - 1])
DIGESTS = st.tuples(HALVES, HALVES).map(lambda halves: halves[0].to_bytes(8) + halves[1].to_bytes(8))


@given(st.lists(DIGESTS, max_size=6) | st.lists(DIGESTS, unique=True, max_size=6).map(sorted), st.integers(0, 9))
@example([bytes(16), bytes(16)], 0)
@example([bytes(15) + b"\x01", bytes(16)], 0)
@example([bytes(16), bytes(15) + b"\x01"], 0)
@example([b"\x01" + bytes(15), bytes(8) + b"\xff" * 8], 0)
def test_rising_order_is_judged_as_a_comparison_of_bytes_would(digests: list[bytes], offset: int) -> None:
    joined = b"\xff" * offset + b"".join(digests)
    expected = all(one < next_one for one, next_one in pairwise(digests))
    assert are_sorted_and_unique(memoryview(joined)[offset:]) is expected


@given(st.frozensets(CANONICAL, max_size=40))
def test_digests_are_written_sorted_and_unique(domains: frozenset[str]) -> None:
    assert are_sorted_and_unique(sorted_digests(KEY, domains))


@pytest.mark.parametrize(
    "count", [pytest.param(2**17, id="index at its largest"), pytest.param(2**17 - 1, id="smallest")]
)
def test_a_domain_costs_20_bytes_at_the_most(count: int) -> None:
    step = 2**128 // count
    payload = b"".join((number * step).to_bytes(DIGEST_SIZE) for number in range(count))
    tracemalloc.start()
    try:
        digests = DigestSet(KEY, payload)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert digests.count == count
    assert (len(payload) + kept) / count <= 20


def test_a_set_never_shows_its_digests() -> None:
    payload = sorted_digests(KEY, ["listed.example"])
    shown = repr(DigestSet(KEY, payload))
    assert "DigestSet" in shown
    for secret in (payload.hex(), KEY.hex(), str(payload), str(KEY), "listed"):
        assert secret not in shown


# Zeros at the end and few distinct values: where a sort of texts would go wrong.
@given(
    st.lists(
        st.binary(min_size=16, max_size=16)
        | st.text("\x00\x01\xff", min_size=16, max_size=16).map(lambda t: t.encode("latin-1"))
    )
)
def test_digests_are_sorted_as_bytes_and_each_is_kept_once(digests: list[bytes]) -> None:
    twice = bytearray(b"".join([*digests, *digests[::2]]))
    assert sorted_and_unique(twice) == b"".join(sorted(set(digests)))
