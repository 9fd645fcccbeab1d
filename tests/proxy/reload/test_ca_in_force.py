"""The CA in force follows its files, and only what can be used is taken up."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from stoplist.authority import CA_FILE, Source
from stoplist.core.hosts import Host
from stoplist.core.policy.models import Policy
from stoplist.errors import StoplistError
from stoplist.proxy.reload.ca_in_force import CurrentCa
from tests import pki
from tests.fixed_time import NOW
from tests.pki import policy

DAY = timedelta(days=1)
PAGE = policy()


def current_ca(folder: Path, wanted: Policy = PAGE, *, speaks: bool = True) -> CurrentCa:
    return CurrentCa(wanted, folder / "policy.yaml", folder, NOW, speaks=speaks)


def source(folder: Path) -> Source:
    found = Source.of(PAGE, folder / "policy.yaml", folder)
    assert found is not None
    return found


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is written to the log, as it comes."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("stoplist")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


def test_the_next_ca_is_taken_up_when_it_is_put_in_force(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path)
    first = kept.current
    following = source(tmp_path).renew(NOW)
    kept.look(PAGE, NOW)
    assert kept.current is first
    source(tmp_path).switch(NOW)
    kept.look(PAGE, NOW)
    assert kept.current.certificate == following.certificate
    assert len(said) == 1
    assert said[0].startswith("the CA CN=Stoplist gate ")
    assert said[0].endswith(" G2,O=Stoplist is in force until 2036-11-18T12:00:00Z")
    kept.look(PAGE, NOW)
    assert len(said) == 1


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda path: path.write_bytes(b"garbage"), id="garbage"),
        pytest.param(lambda path: path.unlink(), id="gone"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:300]), id="half"),
    ],
)
def test_what_does_not_load_leaves_the_last_good_one_and_is_said_once(tmp_path: Path, said: list[str], harm):
    kept = current_ca(tmp_path)
    first, data = kept.current, (tmp_path / CA_FILE).read_bytes()
    harm(tmp_path / CA_FILE)
    for _ in range(3):
        kept.look(PAGE, NOW)
    assert kept.current is first
    assert len(said) == 1
    assert said[0].startswith("the CA on disk is refused; the last good one stays in force\n")
    assert kept.current.leaf(Host("listed.test"), NOW)
    (tmp_path / CA_FILE).write_bytes(data)
    (tmp_path / CA_FILE).chmod(0o600)
    kept.look(PAGE, NOW)
    assert kept.current.certificate == first.certificate
    assert len(said) == 1


def test_a_worker_is_silent(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path, speaks=False)
    (tmp_path / CA_FILE).unlink()
    kept.look(PAGE, kept.current.ends)
    assert not said


def test_it_warns_at_the_start_and_once_a_day_from_60_days_before_the_end(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path)
    near = kept.current.ends - 60 * DAY
    kept.look(PAGE, near)
    assert not said
    for hours in range(1, 73):
        kept.look(PAGE, near + timedelta(hours=hours))
    assert [line.partition(":00Z, ")[2] for line in said] == [
        f"in {days} days: make the next one with 'stoplist ca POLICY --renew'" for days in (59, 58, 57)
    ]


def test_where_the_next_one_waits_it_says_to_switch(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path)
    source(tmp_path).renew(NOW)
    kept.look(PAGE, kept.current.ends - 10 * DAY)
    assert said[0].endswith("in 10 days: roll the next one out, then 'stoplist ca POLICY --switch'")


def test_it_follows_the_policy(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path, policy(https="refuse"))
    assert kept.current is None
    assert not list(tmp_path.iterdir())
    kept.look(PAGE, NOW)
    own = kept.current.certificate
    operators = pki.new("Example Gate CA", pki.new(now=NOW), now=NOW)
    operators.write(tmp_path)
    theirs = policy(ca={"cert": "intermediate.pem", "key": "intermediate.key"})
    kept.look(theirs, NOW)
    assert kept.current.certificate == operators.certificate
    kept.look(PAGE, NOW)
    assert kept.current.certificate == own
    kept.look(policy(https="refuse"), NOW)
    assert kept.current is None
    assert len(said) == 3


def test_an_operators_ca_follows_its_files(tmp_path: Path, said: list[str]):
    theirs = policy(ca={"cert": "intermediate.pem", "key": "intermediate.key"})
    root = pki.new(now=NOW)
    pki.new("Example Gate CA", root, now=NOW).write(tmp_path)
    kept = current_ca(tmp_path, theirs)
    successor = pki.new("Example Gate CA 2", root, kind="RSA-2048", now=NOW)
    (tmp_path / "intermediate.key").write_bytes(successor.key_pem())
    kept.look(theirs, NOW)
    assert "not the key of the first certificate" in said[0]
    (tmp_path / "intermediate.pem").write_bytes(successor.pem)
    kept.look(theirs, NOW)
    assert kept.current.certificate == successor.certificate


def test_without_a_ca_that_can_be_used_it_does_not_start(tmp_path: Path):
    (tmp_path / CA_FILE).write_bytes(b"garbage")
    (tmp_path / CA_FILE).chmod(0o600)
    with pytest.raises(StoplistError, match="not a certificate in PEM"):
        current_ca(tmp_path)


def test_one_that_could_not_be_made_is_tried_again_and_that_is_said_once(tmp_path: Path, said: list[str]):
    kept = current_ca(tmp_path, policy(https="refuse"))
    (tmp_path / CA_FILE).symlink_to(tmp_path / "none" / CA_FILE)
    for _ in range(3):
        kept.look(PAGE, NOW)
    assert kept.current is None
    assert len(said) == 1
    (tmp_path / CA_FILE).unlink()
    kept.look(PAGE, NOW)
    assert kept.current is not None
