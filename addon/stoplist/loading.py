"""From a policy file to a Ruleset: reads the policy and all that it names, verifies, tests.

Rules
  - All or nothing: the result is either a whole new Ruleset, or Problems with every problem there is. If the policy
    itself has faults, the module still looks at everything that it names.
  - A list that does not verify, or that the guard holds, affects only itself. The module keeps the list that was in
    force for its file, from memory or from the state's last good copy, if that one would still be believed under the
    terms of today. It reports the fault beside the new Ruleset.
  - The policy's own tests must hold for the result.
  - The module writes nothing: the code that puts the Ruleset in force makes the state remember it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from stoplist import files
from stoplist.core.decide import Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.core.lists import guard
from stoplist.core.lists.envelope import MAX_FILE_SIZE
from stoplist.core.lists.keys import ListKey, SignatureJudge, TrustedKey, is_signature_of
from stoplist.core.lists.signed_list import NO_HISTORY, History, SignedList
from stoplist.core.policy.document import PolicyError
from stoplist.core.policy.models import ListPolicy
from stoplist.core.policy.placeholders import placeholders
from stoplist.core.policy.text import PolicyText, Unsound, in_order
from stoplist.core.times import format_time
from stoplist.errors import Problems, StoplistError
from stoplist.page.answers import StopPage
from stoplist.page.page_files import load_page
from stoplist.policy_keys import PolicyKeys
from stoplist.policyfile import read_policy as read_policy
from stoplist.state import State

MAX_INPUT_SIZE = MAX_FILE_SIZE + 1
"""Largest file that a policy may name, in bytes."""
FEW_ADDRESSES = 16
"""If fewer addresses are observed, the gate warns."""
_JUDGED_BY = frozenset({"lists", "mode", "exceptions", "time_zone", "upstream", "tests"})
"""Keys that the tests of a policy depend on: the tests cannot run without them."""


@dataclass(frozen=True, slots=True)
class FaultyList:
    """A list file with a list that is not in force. `held` is the list, if only the guard keeps it from coming into
    force."""

    file: Path
    error: StoplistError
    held: SignedList | None = None

    def __str__(self) -> str:
        return str(self.error)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A list that came from its file, and the bytes of that file. `is_observed` says that its entry in the policy
    only observes. `before` is the serial of the list that this one replaces, and `change` says how they differ."""

    file: Path
    signed: SignedList
    data: bytes = field(repr=False)
    is_observed: bool = False
    before: int | None = None
    change: guard.DomainChanges | None = None

    @property
    def changed(self) -> str:
        """How it differs from the list before it, in words; empty if there was none."""
        if self.change is None or self.before is None:
            return ""
        after, change = f"after serial {self.before}", self.change
        if change.same_key:
            return f"{after}: {change.added} added, {change.removed} removed"
        return f"{after}: {change.before} domains before, {change.after} now, under another list key"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Ruleset with its stop page, and the facts that a caller should know about it.

    `fresh` are the lists that came from their files and not from memory. `faults` are the list files for which an
    earlier list stays in force. `warnings` are things that work but want attention.
    """

    ruleset: Ruleset
    page: StopPage
    fresh: tuple[Fresh, ...] = ()
    faults: tuple[FaultyList, ...] = ()
    warnings: tuple[StoplistError, ...] = ()


class NotLoaded(Problems):
    """There is no Ruleset. `faults` are those of the problems that are about a list file."""

    def __init__(self, problems: list[StoplistError], faults: list[FaultyList]) -> None:
        super().__init__(problems)
        self.faults = tuple(faults)


def load(
    path: Path,
    *,
    now: datetime,
    previous: Ruleset | None = None,
    state: State | None = None,
    reader: files.Reader | None = None,
    judge: SignatureJudge = is_signature_of,
) -> Loaded:
    """Read the policy at `path` and everything that it names.

    `now` is an aware time. `previous` is the ruleset in force until now. `state` is the memory of earlier runs.
    `reader` remembers every file that was looked at. `judge` judges signatures. Raises NotLoaded.
    """
    loading = _Loading(path, now, previous, state, reader or files.Reader(), judge)
    try:
        return loading.run()
    except Problems as error:
        raise NotLoaded(in_order(list(error.problems), str(path)), loading.faults) from None


@dataclass(slots=True)
class _Terms:
    """The terms on which to believe the list of one entry of the policy."""

    wanted: ListPolicy
    trusted: list[TrustedKey]
    list_keys: list[ListKey]
    now: datetime
    judge: SignatureJudge

    def still_hold(self, signed: SignedList) -> bool:
        """Whether a list that verified before would verify now, judged by its signers and its list key."""
        signers = {key.key_id for key in self.trusted}.intersection(signed.signers)
        return len(signers) >= self.wanted.threshold and signed.header.key_id in self.key_ids

    @property
    def key_ids(self) -> set[str]:
        return {key.key_id for key in self.list_keys}

    def open(self, data: bytes, history: History = NO_HISTORY) -> SignedList:
        return SignedList.open(
            data,
            trusted=self.trusted,
            threshold=self.wanted.threshold,
            list_keys=self.list_keys,
            now=self.now,
            history=history,
            judge=self.judge,
        )


@dataclass(slots=True)
class _Loading:
    path: Path
    now: datetime
    previous: Ruleset | None
    state: State | None
    reader: files.Reader
    judge: SignatureJudge
    problems: list[StoplistError] = field(default_factory=list)
    fresh: list[Fresh] = field(default_factory=list)
    faults: list[FaultyList] = field(default_factory=list)
    warnings: list[StoplistError] = field(default_factory=list)

    def run(self) -> Loaded:
        text, left_out = self._policy()
        lists = [self._list(text, number) for number in range(len(text.policy.lists))]
        verified = [signed for signed in lists if signed is not None]
        self._distinct(text, lists)
        page = None if "stop_page" in left_out else self._page(text)
        if len(verified) < len(lists) or not left_out.isdisjoint(_JUDGED_BY):
            raise Problems(self.problems)
        ruleset = Ruleset.of(text.policy, verified)
        self._test(text, ruleset)
        self._observed(text)
        if not is_loopback(text.policy.listen.host):
            self.warnings += placeholder_warnings(text)
        if self.problems or page is None:
            raise Problems(self.problems)
        return Loaded(ruleset, page, tuple(self.fresh), tuple(self.faults), tuple(self.warnings))

    def _observed(self, text: PolicyText) -> None:
        """Warn if few addresses are observed: their requests are one number, which should not be that of one device."""
        networks = text.policy.observe_clients
        if networks and sum(network.num_addresses for network in networks) < FEW_ADDRESSES:
            self.warnings.append(
                StoplistError(
                    f"fewer than {FEW_ADDRESSES} addresses are observed, so their counts can tell about single devices",
                    hint="observe a whole network, such as 10.7.0.0/24",
                    place=text.place("observe_clients"),
                )
            )

    def _policy(self) -> tuple[PolicyText, frozenset[str]]:
        """The policy without its faults, and the keys that have faults. Adds the reasons to `problems`."""
        try:
            return read_policy(self.path, self.reader), frozenset()
        except Unsound as error:
            self.problems += error.problems
            return error.sound, error.left_out

    def _page(self, text: PolicyText) -> StopPage | None:
        """The stop page; None if there is none, with the reason in `problems`."""
        try:
            return load_page(text, self.path.parent, self.reader)
        except Problems as error:
            self.problems += error.problems
            return None

    def _list(self, text: PolicyText, number: int) -> SignedList | None:
        """One list of the policy; None if there is none to use, with the reason in `problems`."""
        wanted = text.policy.lists[number]
        keys = PolicyKeys(text, self.path.parent, self.reader, self.problems, self.warnings)
        trusted, list_keys = keys.trusted(number), keys.of_list(number)
        if trusted is None or list_keys is None:
            return None
        terms = _Terms(wanted, trusted, list_keys, self.now, self.judge)
        path = list_file(self.path, wanted)
        until_now = self._until_now(path, terms)
        try:
            signed = self._from_file(path, terms, text, until_now)
        except StoplistError as error:
            fault = FaultyList(path, error.at(str(path)), getattr(error, "signed", None))
            self.faults.append(fault)
            kept = until_now or self._last_good(path, terms)
            if kept is None:
                place = text.place("lists", number, "file")
                self.problems.append(PolicyError(f"{wanted.file}: {error.message}", hint=error.hint, place=place))
                return None
            signed = kept
        if signed.expired(self.now):
            self.warnings.append(
                StoplistError(
                    f"the list expired on {format_time(signed.header.expires)}, {wanted.once_expired}",
                    hint="fetch a fresh list from its publisher",
                    place=str(path),
                )
            )
        return signed

    def _from_file(self, path: Path, terms: _Terms, text: PolicyText, until_now: SignedList | None) -> SignedList:
        """The list in its file, after it verified and the guard let it pass. Raises StoplistError."""
        data = self.reader.read(path, MAX_FILE_SIZE)
        signed = terms.open(data, self._history(path, terms, until_now))
        if until_now is not None and until_now.payload_digest == signed.payload_digest:
            return until_now
        is_observed = terms.wanted.mode == "observe"
        remembered = self.state.in_force(path) if self.state else None
        if remembered is not None and remembered.payload_digest == signed.payload_digest:
            self.fresh.append(Fresh(path, signed, data, is_observed))
            return signed
        before = until_now or self._last_good(path, terms)
        change = self._guard(path, signed, before, terms, text)
        self.fresh.append(Fresh(path, signed, data, is_observed, before.header.serial if before else None, change))
        return signed

    def _guard(
        self, path: Path, signed: SignedList, before: SignedList | None, terms: _Terms, text: PolicyText
    ) -> guard.DomainChanges | None:
        """Let the guard look at a list that was not in force before, and return how it differs. Raises
        HeldListError.

        Without a state, nobody puts the list in force and nobody can know of a release. Then a held list gives only
        a warning.
        """
        if self.state is not None and self.state.is_released(signed.payload_digest):
            return guard.DomainChanges.between(before, signed) if before is not None else None
        try:
            return guard.check(signed, before, terms.wanted.guard, text.policy.never_block)
        except guard.HeldListError as held:
            if self.state is not None:
                raise
            self.warnings.append(held.at(str(path)))
            return None

    def _history(self, path: Path, terms: _Terms, until_now: SignedList | None) -> History:
        """The lists that a list in this file must not be behind: all that are in force, and those that the state
        remembers.

        A list that the policy only observes is no measure for another file. A new version that is observed beside
        the enforced one does not make the enforced one old. An observed list must not be behind the list that its
        own file held.
        """
        is_observed = terms.wanted.mode == "observe"
        history = self.state.history(path, terms.key_ids, own_file_only=is_observed) if self.state else NO_HISTORY
        if history.expected is None and (copied := self._last_good(path, terms)):
            history = history.expecting(copied)
        if self.previous is not None and not is_observed:
            for was, signed in zip(self.previous.policy.lists, self.previous.lists, strict=True):
                history = history if was.mode == "observe" else history.after(signed)
        return history.expecting(until_now) if until_now else history

    def _last_good(self, path: Path, terms: _Terms) -> SignedList | None:
        """The state's copy of this list file, if there is one that verifies under the terms of today."""
        if self.state is None:
            return None
        remembered = self.state.in_force(path)
        seen = {} if remembered is None else {remembered.header.list: remembered.seen}
        try:
            return terms.open(files.read(self.state.copy_of(path), MAX_FILE_SIZE), History(None, seen))
        except StoplistError:
            return None

    def _until_now(self, path: Path, terms: _Terms) -> SignedList | None:
        """The list of this file that was in force until now, if the terms of today would still believe it."""
        if self.previous is None:
            return None
        for was, signed in zip(self.previous.policy.lists, self.previous.lists, strict=True):
            if list_file(self.path, was) == path and terms.still_hold(signed):
                return signed
        return None

    def _distinct(self, text: PolicyText, lists: list[SignedList | None]) -> None:
        """Check that no two entries of a policy are one list: the gate would count its hits in one row. One may be
        observed beside the enforced one, in a file of its own."""
        seen: set[tuple[str, str]] = set()
        for number, (wanted, signed) in enumerate(zip(text.policy.lists, lists, strict=True)):
            if signed is None:
                continue
            name = signed.header.list
            if {(name, wanted.mode), (name, wanted.file)} & seen:
                self.problems.append(
                    PolicyError(
                        f"the list {name!r} is in the policy twice",
                        hint="remove one of the two, or observe one of them, with 'mode: observe' and a file of its "
                        "own",
                        place=text.place("lists", number, "file"),
                    )
                )
            seen |= {(name, wanted.mode), (name, wanted.file)}

    def _test(self, text: PolicyText, ruleset: Ruleset) -> None:
        for number, test in enumerate(text.policy.tests):
            verdict = decide(ruleset, test.host, self.now.timestamp())
            if verdict.action != test.expect:
                self.problems.append(
                    PolicyError(
                        f"test {number + 1} fails: {test.host.name} is '{verdict.action}' ({verdict.reason}), "
                        f"expected '{test.expect}'",
                        hint="correct the list, the exceptions or the test",
                        place=text.place("tests", number),
                    )
                )


def placeholder_warnings(text: PolicyText) -> list[StoplistError]:
    """A warning of each contact that is for examples, for a gate that listens for others than this machine."""
    return [
        StoplistError(
            f"stop_page: '{value}' is for examples, and reaches nobody",
            hint="write your own: the gate serves others than this machine",
            place=text.place("stop_page", *path),
        )
        for path, value in placeholders(text.policy.stop_page)
    ]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at this name or address."""
    return host == "localhost" or (Host.parse(host).is_address and ip_address(host).is_loopback)


def list_file(policy: Path, wanted: ListPolicy) -> Path:
    """The absolute path of a list file that a policy names. The state knows the file by this path."""
    return (policy.parent / wanted.file).absolute()


def demo_policy() -> Path:
    """The demo policy: beside the package in a wheel, in the folder `policies` of a checkout."""
    package = Path(__file__).parent
    for folder in (package / "policies", package.parent.parent / "policies"):
        if (folder / "demo.yaml").exists():
            return folder / "demo.yaml"
    raise StoplistError("the demo policy is not installed", hint="name a policy: stoplist run POLICY")
