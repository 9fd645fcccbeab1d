"""Loading: from a policy file to a whole new Ruleset, or to Problems that say where and what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from stoplist import files, loading
from stoplist.core.decide import Action, Reason, Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.keys import MAX_KEY_SIZE, ListKey
from stoplist.errors import Problems
from stoplist.state import State
from tests.fixed_time import EXPIRES, ISSUED, NOW
from tests.keys import LIST_KEY, make_list, new_ed25519, public_pem

AUTHORITY = new_ed25519()
OPERATOR = new_ed25519()
STRANGER = new_ed25519()

LISTS = """\
  - file: worst-of.stoplist
    key: {file: listkey}
    trusted_keys: [authority.pub, operator.pub]
    threshold: 2
"""
OWN = """\
  - file: own.stoplist
    key: {file: listkey}
    trusted_keys: [operator.pub]
    threshold: 1
"""
REST = """\
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


@dataclass
class Desk:
    """An operator's folder: keys, a list key, and whatever policy and lists a test puts there."""

    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "school.yaml"

    def write_policy(self, lists: str = LISTS, more: str = "") -> None:
        self.policy.write_text(f"version: 1\nlists:\n{lists}{REST}{more}")

    def write_list(
        self,
        *domains: str,
        name: str = "worst-of",
        signers: Iterable[CryptoSigner] = (AUTHORITY, OPERATOR),
        file: str | None = None,
        serial: int = 1,
        expires: datetime = EXPIRES,
        list_key: ListKey = LIST_KEY,
    ) -> None:
        data = make_list(domains, *signers, list_id=name, serial=serial, expires=expires, list_key=list_key)
        (self.folder / f"{file or name}.stoplist").write_bytes(data)

    def trust(self, name: str, signer: CryptoSigner) -> None:
        (self.folder / f"{name}.pub").write_bytes(public_pem(signer))

    def load(self, previous: Ruleset | None = None, now: datetime = NOW) -> loading.Loaded:
        return loading.load(self.policy, now=now, previous=previous)

    def problems(self, previous: Ruleset | None = None) -> list[str]:
        """What is told of a policy that is refused, without the path of the folder and the column."""
        with pytest.raises(Problems) as caught:
            self.load(previous)
        assert all(problem.hint for problem in caught.value.problems)
        told = [str(problem).replace(f"{self.folder}/", "") for problem in caught.value.problems]
        return [re.sub(r"^(school\.yaml:\d+):\d+: ", r"\1: ", each) for each in told]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A good policy of one list, of listed.example."""
    desk = Desk(tmp_path)
    desk.trust("authority", AUTHORITY)
    desk.trust("operator", OPERATOR)
    files.write(tmp_path / "listkey", LIST_KEY.to_text(), mode=files.PRIVATE, replace=False)
    desk.write_policy()
    desk.write_list("listed.example")
    return desk


def outcome(ruleset: Ruleset, host: str) -> tuple[Action, Reason, str | None, int | None]:
    verdict = decide(ruleset, Host.parse(host), NOW.timestamp())
    return verdict.action, verdict.reason, verdict.list, verdict.serial


STOPPED = (Action.STOP, Reason.LISTED, "worst-of", 1)
NOT_LISTED = (Action.PASS, Reason.NOT_LISTED, None, None)


# A good policy


def test_a_good_policy_becomes_a_ruleset_without_a_word(desk: Desk) -> None:
    loaded = desk.load()
    assert (loaded.faults, loaded.warnings) == ((), ())
    assert outcome(loaded.ruleset, "www.listed.example") == STOPPED
    assert outcome(loaded.ruleset, "other.example") == NOT_LISTED


def test_paths_are_taken_from_the_folder_of_the_policy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder.parent)
    loaded = loading.load(Path(desk.folder.name) / "school.yaml", now=NOW)
    assert outcome(loaded.ruleset, "listed.example") == STOPPED


def test_an_absolute_path_is_taken_as_it_is(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "worst-of.stoplist"
    (desk.folder / "worst-of.stoplist").rename(elsewhere)
    desk.write_policy(LISTS.replace("worst-of.stoplist", str(elsewhere)))
    assert outcome(desk.load().ruleset, "listed.example") == STOPPED


def test_the_reader_has_seen_every_file_that_was_looked_at(desk: Desk) -> None:
    reader = files.Reader()
    loading.load(desk.policy, now=NOW, reader=reader)
    names = ["authority.pub", "listkey", "operator.pub", "school.yaml", "worst-of.stoplist"]
    assert sorted(path.name for path in reader.seen) == names
    assert None not in reader.seen.values()


def test_the_reader_has_seen_files_that_are_missing_so_that_their_coming_is_noticed(desk: Desk) -> None:
    (desk.folder / "worst-of.stoplist").unlink()
    reader = files.Reader()
    with pytest.raises(Problems):
        loading.load(desk.policy, now=NOW, reader=reader)
    assert reader.seen[desk.folder / "worst-of.stoplist"] is None
    assert reader.is_current(loading.MAX_INPUT_SIZE)
    desk.write_list("listed.example")
    assert not reader.is_current(loading.MAX_INPUT_SIZE)


def test_two_lists_of_a_policy_are_both_enforced(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN)
    desk.write_list("own.example", name="own", serial=3)
    ruleset = desk.load().ruleset
    assert outcome(ruleset, "listed.example") == STOPPED
    assert outcome(ruleset, "own.example") == (Action.STOP, Reason.LISTED, "own", 3)


# The list key from the environment

ENV = LISTS.replace("{file: listkey}", "{env: STOPLIST_TEST_KEY}")


def test_a_list_key_is_taken_from_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write_policy(ENV)
    (desk.folder / "listkey").unlink()
    monkeypatch.setenv("STOPLIST_TEST_KEY", LIST_KEY.secret.hex())
    loaded = desk.load()
    assert loaded.warnings == ()
    assert outcome(loaded.ruleset, "listed.example") == STOPPED


def test_a_list_key_that_the_environment_does_not_have_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write_policy(ENV)
    monkeypatch.delenv("STOPLIST_TEST_KEY", raising=False)
    assert desk.problems() == [
        "school.yaml:4: STOPLIST_TEST_KEY: no such environment variable; set it before the gate starts"
    ]


def test_a_faulty_list_key_in_the_environment_is_told_and_never_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write_policy(ENV)
    monkeypatch.setenv("STOPLIST_TEST_KEY", "deadbeef" * 7)
    (problem,) = desk.problems()
    assert problem.startswith("school.yaml:4: ")
    assert "64 hexadecimal digits" in problem
    assert "deadbeef" not in problem


# Problems


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param(
            "worst-of.stoplist",
            "school.yaml:3: worst-of.stoplist: no such file; put it there, or correct the path",
            id="list",
        ),
        pytest.param(
            "listkey", "school.yaml:4: listkey: no such file; put it there, or correct the path", id="list key"
        ),
        pytest.param(
            "operator.pub",
            "school.yaml:5: operator.pub: no such file; put it there, or correct the path",
            id="trusted key",
        ),
    ],
)
def test_a_file_that_is_missing_is_told_with_the_line_that_names_it(desk: Desk, name: str, problem: str) -> None:
    (desk.folder / name).unlink()
    assert desk.problems() == [problem]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        pytest.param("worst-of.stoplist", 3, id="list"),
        pytest.param("listkey", 4, id="list key"),
        pytest.param("authority.pub", 5, id="trusted key"),
    ],
)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<!DOCTYPE html>", id="an error page"),
        pytest.param(b"\xff\0", id="no text"),
        pytest.param(bytes(MAX_KEY_SIZE + 1), id="zeros"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told_with_its_line(
    desk: Desk, name: str, line: int, data: bytes
) -> None:
    (desk.folder / name).write_bytes(data)
    (problem,) = desk.problems()
    assert problem.startswith(f"school.yaml:{line}: {name}: ")


def test_a_private_key_among_the_trusted_ones_is_told_as_such(desk: Desk) -> None:
    (desk.folder / "authority.pub").write_bytes(AUTHORITY.private_bytes)
    assert desk.problems() == [
        "school.yaml:5: authority.pub: not a PEM public key (Ed25519, ECDSA or RSA); "
        "this is a private key: take it off this machine and name its .pub file here"
    ]


def test_one_person_under_two_names_is_no_two_trusted_keys(desk: Desk) -> None:
    desk.trust("operator", AUTHORITY)
    assert desk.problems() == [
        "school.yaml:5: operator.pub: the same key as authority.pub; each trusted key must belong to a different person"
    ]


def test_too_few_signatures_are_told_with_the_line_of_the_list(desk: Desk) -> None:
    desk.write_list("listed.example", signers=[AUTHORITY, STRANGER])
    assert desk.problems() == [
        "school.yaml:3: worst-of.stoplist: signed by 1 of the trusted keys, 2 needed; "
        "get it signed by another trusted person ('stoplist list sign'), or fetch it again"
    ]


def test_a_list_for_another_list_key_is_told_with_both_key_ids(desk: Desk) -> None:
    other = ListKey(b"\1" * 32)
    desk.write_list("listed.example", list_key=other)
    assert desk.problems() == [
        f"school.yaml:3: worst-of.stoplist: made with list key {other.key_id}, not with "
        f"{LIST_KEY.key_id}; use the list key that belongs to this copy of the list"
    ]


def test_every_problem_is_told_in_one_run(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN + OWN.replace("own.", "third.").replace("listkey", "third.listkey"))
    (desk.folder / "authority.pub").write_bytes(b"")
    (desk.folder / "listkey").write_bytes(b"")
    desk.write_list("own.example", name="own", signers=[STRANGER])
    assert [problem.partition(": ")[0] for problem in desk.problems()] == [
        "school.yaml:4",
        "school.yaml:5",
        "school.yaml:8",
        "school.yaml:12",
    ]


def test_a_policy_that_is_missing_is_told(desk: Desk) -> None:
    desk.policy.unlink()
    assert desk.problems() == ["school.yaml: no such file; put it there, or correct the path"]


def told_at(problems: list[str]) -> list[str]:
    return [problem.partition(": ")[0] for problem in problems]


def test_the_faults_of_a_policy_and_of_its_files_are_told_together(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN.replace("threshold: 1", "threshold: 7") + OWN.replace("own.", "third."), "blok: 1\n")
    (desk.folder / "authority.pub").unlink()
    problems = desk.problems()
    assert told_at(problems) == [f"school.yaml:{line}" for line in (5, 10, 11, 24)]
    assert "third.stoplist: no such file" in problems[2]


@pytest.mark.parametrize(
    ("more", "places"),
    [
        pytest.param("listen: 5\n", [16, 18], id="a key that judges nothing"),
        pytest.param("stop_page: 5\nlisten: 5\n", [16, 17, 19], id="two of them"),
        pytest.param("mode: x\n", [16], id="a key that judges"),
        pytest.param("exceptions: [x]\n", [16], id="an exception"),
    ],
)
def test_the_tests_of_a_policy_are_run_where_its_faults_do_not_touch_them(
    desk: Desk, more: str, places: list[int]
) -> None:
    desk.write_policy(more=f"{more}tests:\n  - {{host: listed.example, expect: pass}}\n")
    assert told_at(desk.problems()) == [f"school.yaml:{line}" for line in places]


def test_a_stop_page_with_a_fault_hides_no_fault_of_a_list(desk: Desk) -> None:
    desk.write_policy()
    desk.policy.write_text(desk.policy.read_text().replace("operator: ", "operatr: "))
    (desk.folder / "worst-of.stoplist").unlink()
    assert told_at(desk.problems()) == ["school.yaml:3", "school.yaml:7", "school.yaml:8"]


def test_a_policy_larger_than_the_cap_is_refused(desk: Desk) -> None:
    desk.policy.write_bytes(b"#" * (1024 * 1024 + 1))
    assert desk.problems() == [
        "school.yaml: larger than 1048576 bytes, the limit for such a file; check that this is the right file"
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        pytest.param("file: worst-of.stoplist", 'file: "a\\0b"', 3, id="list"),
        pytest.param("{file: listkey}", '{file: "a\\0b"}', 4, id="list key"),
        pytest.param("authority.pub", '"a\\0b"', 5, id="trusted key"),
    ],
)
def test_a_path_that_no_file_can_have_is_told_with_its_line(desk: Desk, old: str, new: str, line: int) -> None:
    desk.write_policy(LISTS.replace(old, new))
    (problem,) = desk.problems()
    assert problem.startswith(f"school.yaml:{line}: ")


def test_an_exception_for_good_is_loaded(desk: Desk) -> None:
    desk.write_policy(more="exceptions: [{domain: listed.example, reason: appeal, until: 9999-12-31}]\n")
    assert outcome(desk.load().ruleset, "listed.example") == (Action.PASS, Reason.EXCEPTION, None, None)


# The same list twice


def test_the_same_list_twice_is_told_with_the_line_of_the_second(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN)
    desk.write_list("other.example", name="worst-of", file="own", serial=2)
    assert desk.problems() == [
        "school.yaml:7: the list 'worst-of' is in the policy twice; "
        "remove one of the two, or observe one of them, with 'mode: observe' and a file of its own"
    ]


def test_the_same_list_twice_is_told_with_its_line_behind_a_list_that_is_faulty(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN + OWN.replace("own.", "third."))
    desk.write_list("own.example", name="own")
    desk.write_list("own.example", name="own", file="third")
    (desk.folder / "worst-of.stoplist").unlink()
    assert [problem.partition(": ")[0] for problem in desk.problems()] == ["school.yaml:3", "school.yaml:11"]


# A new version observed beside the enforced one


NEXT = OWN.replace("own.", "next.") + "    mode: observe\n"


def new_state(folder: Path) -> State:
    (folder / "state").mkdir(exist_ok=True)
    return State.open(folder / "state", NOW)


def put_in_force(state: State, loaded: loading.Loaded) -> Ruleset:
    for each in loaded.fresh:
        state.activate(*(each.file, each.signed, each.data, NOW), changed=each.changed, is_observed=each.is_observed)
    pairs = zip(loaded.ruleset.policy.lists, loaded.ruleset.lists, strict=True)
    state.enforce(signed for wanted, signed in pairs if wanted.mode == "enforce")
    return loaded.ruleset


def serials(loaded: loading.Loaded) -> list[int]:
    assert loaded.faults == ()
    return [signed.header.serial for signed in loaded.ruleset.lists]


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
def test_a_newer_version_is_observed_and_the_enforced_one_is_not_old(desk: Desk, restarts: bool) -> None:
    desk.write_policy(LISTS + NEXT)
    desk.write_list("listed.example", "new.example", file="next", serial=2)
    state = new_state(desk.folder)
    first = put_in_force(state, loading.load(desk.policy, now=NOW, state=state))
    assert outcome(first, "listed.example") == STOPPED
    assert outcome(first, "new.example") == (Action.OBSERVE, Reason.LISTED, "worst-of", 2)
    previous = None if restarts else first
    desk.write_list("listed.example", "new.example", "third.example", file="next", serial=3)
    loaded = loading.load(desk.policy, now=NOW, state=state, previous=previous)
    assert serials(loaded) == [1, 3]
    assert [each.changed for each in loaded.fresh if each.is_observed] == ["after serial 2: 1 added, 0 removed"]
    state.close()


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("way", ["the file is renamed over", "the policy names the other file"])
def test_an_observed_version_is_enforced_later_and_the_one_before_is_old_from_then_on(
    desk: Desk, restarts: bool, way: str
) -> None:
    desk.write_policy(LISTS + NEXT)
    desk.write_list("listed.example", "new.example", file="next", serial=2)
    state = new_state(desk.folder)
    previous = put_in_force(state, loading.load(desk.policy, now=NOW, state=state))
    before = (desk.folder / "worst-of.stoplist").read_bytes()
    if way == "the file is renamed over":
        (desk.folder / "next.stoplist").rename(desk.folder / "worst-of.stoplist")
        desk.write_policy()
    else:
        desk.write_policy(LISTS.replace("worst-of.stoplist", "next.stoplist"))
    loaded = loading.load(desk.policy, now=NOW, state=state, previous=None if restarts else previous)
    assert serials(loaded) == [2]
    enforced = put_in_force(state, loaded)
    assert outcome(enforced, "new.example") == (Action.STOP, Reason.LISTED, "worst-of", 2)

    desk.write_policy()
    (desk.folder / "worst-of.stoplist").write_bytes(before)
    with contextlib.suppress(Problems):
        again = loading.load(desk.policy, now=NOW, state=state, previous=None if restarts else enforced)
        assert "serial 1 is older than 2" in str(again.faults[0])
    state.close()


def test_an_observed_file_does_not_go_back_either(desk: Desk) -> None:
    desk.write_policy(LISTS + NEXT)
    desk.write_list("new.example", file="next", serial=5)
    state = new_state(desk.folder)
    put_in_force(state, loading.load(desk.policy, now=NOW, state=state))
    desk.write_list("new.example", file="next", serial=4)
    loaded = loading.load(desk.policy, now=NOW, state=state)
    assert "serial 4 is older than 5" in str(loaded.faults[0])
    assert [signed.header.serial for signed in loaded.ruleset.lists] == [1, 5]
    state.close()


@pytest.mark.parametrize(
    "lists",
    [
        pytest.param(LISTS + NEXT + NEXT.replace("next.", "other."), id="observed twice"),
        pytest.param(LISTS + LISTS + "    mode: observe\n", id="one file"),
    ],
)
def test_a_list_is_enforced_once_and_observed_once(desk: Desk, lists: str) -> None:
    desk.write_policy(lists)
    desk.write_list("new.example", file="next", serial=2)
    desk.write_list("new.example", file="other", serial=3)
    assert "the list 'worst-of' is in the policy twice" in desk.problems()[0]


# The tests of the policy


def test_tests_that_hold_let_a_policy_through(desk: Desk) -> None:
    desk.write_policy(
        more="tests:\n"
        "  - {host: check.stoplist.invalid, expect: stop}\n"
        "  - {host: listed.example, expect: stop}\n"
        "  - {host: other.example, expect: pass}\n"
    )
    assert len(desk.load().ruleset.policy.tests) == 3


def test_each_test_that_fails_blocks_the_policy_and_is_told(desk: Desk) -> None:
    desk.write_policy(
        more="tests:\n"
        "  - {host: other.example, expect: stop}\n"
        "  - {host: listed.example, expect: stop}\n"
        "  - {host: listed.example, expect: observe}\n"
    )
    assert desk.problems() == [
        "school.yaml:17: test 1 fails: other.example is 'pass' (not listed), expected 'stop'; "
        "correct the list, the exceptions or the test",
        "school.yaml:19: test 3 fails: listed.example is 'stop' (listed), expected 'observe'; "
        "correct the list, the exceptions or the test",
    ]


def test_a_new_list_that_fails_a_test_of_the_policy_is_not_activated(desk: Desk) -> None:
    desk.write_policy(more="tests: [{host: school.example, expect: pass}]\n")
    previous = desk.load().ruleset
    desk.write_list("school.example", serial=2)
    (problem,) = desk.problems(previous)
    assert problem.startswith("school.yaml:16: test 1 fails: school.example is 'stop' (listed), expected 'pass'")


def test_a_kept_list_is_tested_too(desk: Desk) -> None:
    previous = desk.load().ruleset
    (desk.folder / "worst-of.stoplist").write_bytes(b"torn")
    desk.write_policy(more="tests: [{host: listed.example, expect: pass}]\n")
    (problem,) = desk.problems(previous)
    assert "listed.example is 'stop' (listed), expected 'pass'" in problem


# A new list beside the one enforced until now


def test_a_newer_list_takes_the_place_of_the_one_before(desk: Desk) -> None:
    previous = desk.load().ruleset
    desk.write_list("other.example", serial=2)
    loaded = desk.load(previous)
    assert loaded.faults == ()
    assert outcome(loaded.ruleset, "listed.example") == NOT_LISTED
    assert outcome(loaded.ruleset, "other.example") == (Action.STOP, Reason.LISTED, "worst-of", 2)


def write_torn(desk: Desk) -> None:
    path = desk.folder / "worst-of.stoplist"
    path.write_bytes(path.read_bytes()[:-50])


def write_missing(desk: Desk) -> None:
    (desk.folder / "worst-of.stoplist").unlink()


def write_unsigned(desk: Desk) -> None:
    desk.write_list("other.example", serial=2, signers=[])


def write_other_list(desk: Desk) -> None:
    desk.write_list("other.example", name="other", file="worst-of", serial=2)


def write_same_serial(desk: Desk) -> None:
    desk.write_list("other.example", serial=1)


def write_other_key(desk: Desk) -> None:
    desk.write_list("other.example", serial=2, list_key=ListKey(b"\1" * 32))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(write_torn, "not a complete list file (strict JSON)", id="torn"),
        pytest.param(write_missing, "no such file", id="missing"),
        pytest.param(write_unsigned, "signed by 0 of the trusted keys, 2 needed", id="unsigned"),
        pytest.param(write_other_list, "this is the list 'other'", id="another list"),
        pytest.param(write_same_serial, "another list with the same serial 1", id="same serial"),
        pytest.param(write_other_key, "made with list key", id="other list key"),
    ],
)
def test_a_faulty_list_keeps_the_one_before_and_is_told(desk: Desk, harm: Callable[[Desk], None], message: str) -> None:
    previous = desk.load().ruleset
    harm(desk)
    loaded = desk.load(previous)
    fault = loaded.faults[0].error
    assert len(loaded.faults) == 1
    assert message in fault.message
    assert fault.hint
    assert fault.place == str(desk.folder / "worst-of.stoplist")
    assert loaded.ruleset.lists == previous.lists
    assert outcome(loaded.ruleset, "listed.example") == STOPPED
    assert outcome(loaded.ruleset, "other.example") == NOT_LISTED


@pytest.mark.parametrize("harm", [write_torn, write_missing, write_unsigned, write_other_key])
def test_a_faulty_list_at_the_start_is_a_problem(desk: Desk, harm: Callable[[Desk], None]) -> None:
    harm(desk)
    (problem,) = desk.problems()
    assert problem.startswith("school.yaml:3: worst-of.stoplist: ")


def test_an_older_list_keeps_the_one_before_and_is_told(desk: Desk) -> None:
    desk.write_list("listed.example", serial=5)
    previous = desk.load().ruleset
    desk.write_list("other.example", serial=4)
    loaded = desk.load(previous)
    assert [fault.error.message for fault in loaded.faults] == ["serial 4 is older than 5, which was in force"]
    assert outcome(loaded.ruleset, "listed.example") == (Action.STOP, Reason.LISTED, "worst-of", 5)


def test_the_fault_of_one_list_does_not_hold_up_another(desk: Desk) -> None:
    desk.write_policy(LISTS + OWN)
    desk.write_list("own.example", name="own")
    previous = desk.load().ruleset
    write_torn(desk)
    desk.write_list("new.example", name="own", serial=2)
    loaded = desk.load(previous)
    assert len(loaded.faults) == 1
    assert outcome(loaded.ruleset, "listed.example") == STOPPED
    assert outcome(loaded.ruleset, "own.example") == NOT_LISTED
    assert outcome(loaded.ruleset, "new.example") == (Action.STOP, Reason.LISTED, "own", 2)


def test_a_list_is_kept_when_another_is_put_before_it(desk: Desk) -> None:
    previous = desk.load().ruleset
    write_torn(desk)
    desk.write_policy(OWN + LISTS)
    desk.write_list("own.example", name="own")
    loaded = desk.load(previous)
    assert len(loaded.faults) == 1
    assert outcome(loaded.ruleset, "listed.example") == STOPPED


@pytest.mark.parametrize(
    ("lists", "more"),
    [
        pytest.param(LISTS + "    mode: observe\n", "", id="mode of the list"),
        pytest.param(LISTS, "mode: observe\n", id="mode of the policy"),
    ],
)
def test_a_list_is_kept_whatever_is_done_with_its_hits(desk: Desk, lists: str, more: str) -> None:
    previous = desk.load().ruleset
    write_torn(desk)
    desk.write_policy(lists, more)
    loaded = desk.load(previous)
    assert len(loaded.faults) == 1
    assert outcome(loaded.ruleset, "listed.example") == (Action.OBSERVE, Reason.LISTED, "worst-of", 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("[authority.pub, operator.pub]", "[stranger.pub, operator.pub]", id="another trusted key"),
        pytest.param("{file: listkey}", "{file: other.listkey}", id="another list key"),
    ],
)
def test_a_faulty_list_is_a_problem_where_the_one_before_would_not_be_believed_now(
    desk: Desk, old: str, new: str
) -> None:
    desk.trust("stranger", STRANGER)
    files.write(desk.folder / "other.listkey", b"11" * 32, mode=files.PRIVATE, replace=False)
    previous = desk.load().ruleset
    write_torn(desk)
    desk.write_policy(LISTS.replace(old, new))
    (problem,) = desk.problems(previous)
    assert problem.startswith("school.yaml:3: worst-of.stoplist: not a complete list file (strict JSON)")


def test_a_list_is_not_kept_when_the_key_that_signed_it_was_replaced_under_its_name(desk: Desk) -> None:
    """A key file that holds another key is another term, as after a key was stolen."""
    previous = desk.load().ruleset
    desk.trust("authority", STRANGER)
    (problem,) = desk.problems(previous)
    assert problem.startswith("school.yaml:3: worst-of.stoplist: signed by 1 of the trusted keys, 2 needed")


@pytest.mark.parametrize(
    "lists",
    [
        pytest.param(LISTS.replace("threshold: 2", "threshold: 1"), id="another threshold"),
        pytest.param(LISTS.replace("operator.pub]", "operator.pub, stranger.pub]"), id="one trusted key more"),
        pytest.param(LISTS.replace("file: worst-of", "file: ./worst-of"), id="another spelling of its path"),
    ],
)
def test_an_older_serial_is_refused_even_where_the_terms_have_changed(desk: Desk, lists: str) -> None:
    """Otherwise an edit of the policy lets an old list in that lies in wait."""
    desk.trust("stranger", STRANGER)
    desk.write_list("listed.example", serial=5)
    previous = desk.load().ruleset
    desk.write_list("other.example", serial=4)
    desk.write_policy(lists)
    loaded = desk.load(previous)
    assert ["serial 4 is older than 5" in str(fault) for fault in loaded.faults] == [True]
    assert outcome(loaded.ruleset, "listed.example") == (Action.STOP, Reason.LISTED, "worst-of", 5)


@pytest.mark.parametrize(
    "lists",
    [
        pytest.param(LISTS.replace("operator.pub]", "operator.pub, stranger.pub]"), id="one trusted key more"),
        pytest.param(LISTS.replace("threshold: 2", "threshold: 1"), id="a lower threshold"),
    ],
)
def test_a_faulty_list_keeps_the_one_before_if_it_would_still_be_believed(desk: Desk, lists: str) -> None:
    desk.trust("stranger", STRANGER)
    previous = desk.load().ruleset
    write_torn(desk)
    desk.write_policy(lists)
    loaded = desk.load(previous)
    assert len(loaded.faults) == 1
    assert outcome(loaded.ruleset, "listed.example") == (Action.STOP, Reason.LISTED, "worst-of", 1)


# Warnings


def test_an_expired_list_stays_enforced_with_a_warning(desk: Desk) -> None:
    desk.write_list("listed.example", expires=ISSUED + timedelta(days=1))
    loaded = desk.load()
    (warning,) = loaded.warnings
    assert str(warning) == (
        f"{desk.folder}/worst-of.stoplist: the list expired on 2026-01-02T00:00:00Z, it stays in force; "
        "fetch a fresh list from its publisher"
    )
    assert outcome(loaded.ruleset, "listed.example") == STOPPED


def test_a_list_key_that_others_can_read_is_warned_of(desk: Desk) -> None:
    (desk.folder / "listkey").chmod(0o644)
    loaded = desk.load()
    (warning,) = loaded.warnings
    assert str(warning) == (
        f"{desk.folder}/listkey: others on this machine can read the list key; chmod 600 {desk.folder}/listkey"
    )
    assert outcome(loaded.ruleset, "listed.example") == STOPPED


@pytest.mark.parametrize(
    ("networks", "are_few"),
    [
        pytest.param("10.7.0.1", True, id="one device"),
        pytest.param("10.7.0.0/29, 10.7.1.0/30", True, id="some"),
        pytest.param("10.7.0.0/29, 10.7.1.0/29", False, id="enough together"),
        pytest.param("2001:db8:7::/64", False, id="a network of IPv6"),
    ],
)
def test_who_observes_single_devices_is_warned(desk: Desk, networks: str, are_few: bool) -> None:
    desk.write_policy(more=f"observe_clients: [{networks}]\n")
    said = [str(warning) for warning in desk.load().warnings]
    line = len(desk.policy.read_text().splitlines())
    assert (
        said
        == [
            f"{desk.policy}:{line}:18: fewer than 16 addresses are observed, so their counts can tell about single "
            "devices; observe a whole network, such as 10.7.0.0/24"
        ][: int(are_few)]
    )


# The policy alone


def test_a_policy_is_read_without_what_it_names(desk: Desk) -> None:
    for name in ("listkey", "worst-of.stoplist", "authority.pub"):
        (desk.folder / name).unlink()
    text = loading.read_policy(desk.policy)
    assert text.policy.lists[0].file == "worst-of.stoplist"


def test_a_policy_that_cannot_be_read_alone_is_told(tmp_path: Path) -> None:
    with pytest.raises(Problems, match="no such file"):
        loading.read_policy(tmp_path / "nothing.yaml")
