"""Where a gate's CA is: made once, private, and another one only when a person says so."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from stoplist.authority import CA_CERTIFICATE_FILE, CA_FILE, NEXT_CERTIFICATE_FILE, NEXT_FILE, Source, needs
from stoplist.errors import StoplistError
from tests import pki
from tests.fixed_time import NOW
from tests.pki import policy

YEAR = timedelta(days=365)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def source(folder: Path) -> Source:
    return Source(folder, folder / CA_FILE, folder / CA_FILE, is_own=True)


def test_key_is_private_and_certificate_is_not(source: Source, folder: Path):
    authority = source.open_or_make(NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / CA_FILE).stat().st_mode) == 0o600
    shown = (folder / CA_CERTIFICATE_FILE).read_bytes()
    assert shown == authority.certificate.public_bytes(Encoding.PEM)
    assert b"PRIVATE" not in shown


def test_opening_again_gives_the_same_ca(source: Source):
    assert source.open_or_make(NOW).certificate == source.open_or_make(NOW).certificate


def test_the_certificate_for_the_clients_is_shown_again_where_it_was_lost(source: Source, folder: Path):
    source.open_or_make(NOW)
    for harm in (lambda path: path.unlink(), lambda path: path.write_bytes(b"")):
        harm(folder / CA_CERTIFICATE_FILE)
        authority = source.open(NOW)
        assert (folder / CA_CERTIFICATE_FILE).read_bytes() == authority.certificate.public_bytes(Encoding.PEM)


def _readable(path: Path) -> None:
    path.chmod(0o640)


def _garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


def _other_key(path: Path) -> None:
    other = path.parent / "other"
    Source(other, other / CA_FILE, other / CA_FILE, is_own=True).open_or_make(NOW)
    key, end, _ = (other / CA_FILE).read_bytes().partition(b"-----END PRIVATE KEY-----\n")
    path.write_bytes(key + end + path.with_name(CA_CERTIFICATE_FILE).read_bytes())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_readable, "others can read the CA's key; chmod 600", id="readable by others"),
        pytest.param(
            _garbage,
            "not a certificate in PEM; restore the file from a backup; if there is none, remove it",
            id="garbage",
        ),
        pytest.param(_other_key, "not the key of the first certificate; restore the file", id="another key"),
    ],
)
def test_a_ca_that_cannot_be_trusted_is_refused(source: Source, folder: Path, spoil, message: str):
    source.open_or_make(NOW)
    spoil(folder / CA_FILE)
    with pytest.raises(StoplistError, match=message):
        source.open(NOW)


def test_an_ended_ca_is_refused_with_what_to_do(source: Source):
    source.open_or_make(NOW)
    with pytest.raises(StoplistError, match=r"the CA ended on 2036-11-18T12:00:00Z; make the next CA with"):
        source.open(NOW + 10 * YEAR)


# What a policy needs


def test_a_policy_that_shows_no_page_over_https_needs_no_ca(tmp_path: Path):
    path = tmp_path / "policy.yaml"
    assert Source.of(policy(https="refuse"), path, tmp_path) is None
    assert Source.of(policy(), path, tmp_path).is_own
    assert Source.of(policy(https="refuse", tls="intercept"), path, tmp_path).is_own


def test_the_operators_files_are_found_beside_the_policy_and_none_is_made(tmp_path: Path, folder: Path):
    source = Source.of(policy(ca={"cert": "pki/a.pem", "key": "pki/a.key"}), tmp_path / "policy.yaml", folder)
    assert (source.certificate, source.key) == (tmp_path / "pki/a.pem", tmp_path / "pki/a.key")
    with pytest.raises(StoplistError, match=r"a\.pem: no such file"):
        source.open_or_make(NOW)
    assert not folder.exists()


def test_an_operators_ca_whose_key_others_can_read_or_that_has_ended_is_refused(tmp_path: Path, folder: Path):
    source = Source.of(
        policy(ca={"cert": "intermediate.pem", "key": "intermediate.key"}), tmp_path / "policy.yaml", folder
    )
    root = pki.new(now=NOW)
    pki.new("Example Gate CA", root, now=NOW, lasts=timedelta(days=90)).write(tmp_path)
    assert source.open(NOW).ends == NOW + timedelta(days=90)
    with pytest.raises(StoplistError, match=r"intermediate\.pem: the CA ended on .*; have your CA issue a new"):
        source.open(NOW + timedelta(days=90))
    source.key.chmod(0o644)
    with pytest.raises(StoplistError, match=r"intermediate\.key: others can read the CA's key; chmod 600"):
        source.open(NOW)
    for act in (source.renew, source.switch):
        with pytest.raises(StoplistError, match="this CA is your own, not one that the gate made"):
            act(NOW)


# The next one


def test_the_next_ca_is_made_beside_the_one_in_force_and_takes_its_place_when_told(source: Source, folder: Path):
    first = source.open_or_make(NOW).certificate
    following = source.renew(NOW).certificate
    assert source.open(NOW).certificate == first
    assert source.following().certificate == following
    assert stat.S_IMODE((folder / NEXT_FILE).stat().st_mode) == 0o600
    assert (folder / NEXT_CERTIFICATE_FILE).read_bytes() == following.public_bytes(Encoding.PEM)

    assert source.switch(NOW).certificate == source.open(NOW).certificate == following
    assert (folder / CA_CERTIFICATE_FILE).read_bytes() == following.public_bytes(Encoding.PEM)
    assert {path.name for path in folder.iterdir()} == {CA_FILE, CA_CERTIFICATE_FILE}
    assert source.following() is None


def test_a_next_ca_that_is_being_rolled_out_is_not_replaced(source: Source):
    source.open_or_make(NOW)
    following = source.renew(NOW)
    with pytest.raises(StoplistError, match="there is a next CA already; roll it out"):
        source.renew(NOW)
    assert source.following().certificate == following.certificate


def test_without_a_next_ca_nothing_is_put_in_force(source: Source, folder: Path):
    with pytest.raises(StoplistError, match="there is no CA yet; make it: stoplist ca POLICY"):
        source.renew(NOW)
    first = source.open_or_make(NOW).certificate
    with pytest.raises(StoplistError, match="there is no next CA; make it, and roll it out"):
        source.switch(NOW)
    source.renew(NOW)
    (folder / NEXT_FILE).write_bytes(b"garbage")
    with pytest.raises(StoplistError, match="not a certificate in PEM"):
        source.switch(NOW)
    assert source.open(NOW).certificate == first


def test_a_ca_that_has_ended_can_be_renewed(source: Source):
    source.open_or_make(NOW)
    source.renew(NOW + 10 * YEAR)
    source.switch(NOW + 10 * YEAR)
    assert source.open(NOW + 10 * YEAR).ends > NOW + 19 * YEAR


def test_of_two_that_make_it_at_once_one_does(source: Source, monkeypatch: pytest.MonkeyPatch):
    """As workers may when `https: refuse` is taken back."""
    made = source.open_or_make(NOW)
    monkeypatch.setattr(Source, "exists", lambda _: False)
    assert source.open_or_make(NOW).certificate == made.certificate


@pytest.mark.parametrize(
    ("days", "has_next", "is_own", "expected"),
    [
        pytest.param(61, False, True, [], id="long before"),
        pytest.param(60, False, True, [], id="60 days before"),
        pytest.param(
            59,
            False,
            True,
            ["the CA ends on 2036-11-18T12:00:00Z, in 59 days: make the next one with 'stoplist ca POLICY --renew'"],
            id="less",
        ),
        pytest.param(
            1,
            True,
            True,
            [
                "the CA ends on 2036-11-18T12:00:00Z, in 1 day: roll the next one out, then 'stoplist ca POLICY "
                "--switch'"
            ],
            id="with the next one made",
        ),
        pytest.param(
            59,
            False,
            False,
            ["the CA ends on 2036-11-18T12:00:00Z, in 59 days: have a new certificate issued, and replace its files"],
            id="the operator's",
        ),
        pytest.param(
            0, False, True, ["the CA has ended: make the next one with 'stoplist ca POLICY --renew'"], id="ended"
        ),
        pytest.param(
            3700,
            False,
            True,
            ["the CA is not valid before 2026-11-19T12:00:00Z: check the clock; if the clock is right, make a new CA"],
            id="a clock set back",
        ),
    ],
)
def test_a_person_is_needed_60_days_before_the_end(
    source: Source, days: int, has_next: bool, is_own: bool, expected: list[str]
):
    authority = source.open_or_make(NOW)
    now = authority.ends - timedelta(days=days)
    assert needs(authority, authority if has_next else None, is_own=is_own, now=now) == expected
