"""From a policy file to a Ruleset: reads the policy and all that it names, verifies, tests.

Rules
  - All or nothing: either a whole new Ruleset comes out, or Problems.
  - A list that does not verify costs only itself: where the ruleset until now has that list under
    the very same terms, it is kept, and the fault is reported beside the new Ruleset.
  - The policy's own tests must hold for what comes out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from stoplist import files
from stoplist.core.decide import Ruleset, decide
from stoplist.core.policy import MAX_POLICY_SIZE, ListPolicy, PolicyError, PolicyText
from stoplist.core.signedlist import (
    MAX_FILE_SIZE,
    KeyFileError,
    ListKey,
    SignedList,
    TrustedKey,
    format_time,
)
from stoplist.errors import Problems, StoplistError

MAX_KEY_SIZE = 64 * 1024
MAX_INPUT_SIZE = MAX_FILE_SIZE + 1
"""No file that a policy names may be larger, in bytes."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A Ruleset, and what the operator should know about it.

    `faults` are lists that did not verify, where the one enforced until now is kept.
    `warnings` are things that work but want attention.
    """

    ruleset: Ruleset
    faults: tuple[StoplistError, ...] = ()
    warnings: tuple[StoplistError, ...] = ()


def load(path: Path, *, now: datetime, previous: Ruleset | None = None, reader: files.Reader | None = None) -> Loaded:
    """Read the policy at `path` and everything that it names.

    `now` is an aware time; `previous` is the ruleset enforced until now. `reader` remembers every
    file that was looked at. Raises Problems, one for each fault.
    """
    loading = _Loading(path, now, previous, reader or files.Reader())
    return loading.run()


@dataclass(slots=True)
class _Loading:
    path: Path
    now: datetime
    previous: Ruleset | None
    reader: files.Reader
    problems: list[StoplistError] = field(default_factory=list)
    faults: list[StoplistError] = field(default_factory=list)
    warnings: list[StoplistError] = field(default_factory=list)

    def run(self) -> Loaded:
        try:
            data = self.reader.read(self.path, MAX_POLICY_SIZE)
        except StoplistError as error:
            raise Problems([error]) from None
        text = PolicyText.parse(data, str(self.path))
        lists = [self._list(text, number) for number in range(len(text.policy.lists))]
        verified = [signed for signed in lists if signed is not None]
        self._distinct(text, verified)
        if self.problems:
            raise Problems(self.problems)
        ruleset = Ruleset.of(text.policy, verified)
        self._test(text, ruleset)
        if self.problems:
            raise Problems(self.problems)
        return Loaded(ruleset, tuple(self.faults), tuple(self.warnings))

    def _list(self, text: PolicyText, number: int) -> SignedList | None:
        """One list of the policy; None where it cannot be had, with the reason in `problems`."""
        wanted = text.policy.lists[number]
        trusted = self._trusted_keys(text, number)
        list_key = self._list_key(text, number)
        if trusted is None or list_key is None:
            return None
        until_now = self._until_now(wanted)
        path = self.path.parent / wanted.file
        try:
            signed = SignedList.open(
                self.reader.read(path, MAX_FILE_SIZE),
                trusted=trusted,
                threshold=wanted.threshold,
                list_key=list_key,
                now=self.now,
                previous=until_now,
            )
        except StoplistError as error:
            error.at(str(path))
            if until_now is not None:
                self.faults.append(error)
                return until_now
            place = text.place("lists", number, "file")
            self.problems.append(PolicyError(f"{wanted.file}: {error.message}", hint=error.hint, place=place))
            return None
        if signed.expired(self.now):
            self.warnings.append(
                StoplistError(
                    f"the list expired on {format_time(signed.header.expires)} and stays enforced",
                    hint="fetch a fresh list from its publisher",
                    place=str(path),
                )
            )
        return signed

    def _until_now(self, wanted: ListPolicy) -> SignedList | None:
        """The list enforced until now under the same terms, whatever is done with its hits."""
        if self.previous is None:
            return None
        for was, signed in zip(self.previous.policy.lists, self.previous.lists, strict=True):
            if was.model_copy(update={"mode": wanted.mode}) == wanted:
                return signed
        return None

    def _trusted_keys(self, text: PolicyText, number: int) -> list[TrustedKey] | None:
        wanted = text.policy.lists[number]
        keys: list[TrustedKey] = []
        for position, name in enumerate(wanted.trusted_keys):
            place = text.place("lists", number, "trusted_keys", position)
            try:
                key = TrustedKey.parse(self.reader.read(self.path.parent / name, MAX_KEY_SIZE))
            except StoplistError as error:
                self.problems.append(PolicyError(f"{name}: {error.message}", hint=error.hint, place=place))
                continue
            if key in keys:
                same = wanted.trusted_keys[keys.index(key)]
                self.problems.append(
                    PolicyError(
                        f"{name}: the same key as {same}",
                        hint="each trusted key must be another person's",
                        place=place,
                    )
                )
                continue
            keys.append(key)
        return keys if len(keys) == len(wanted.trusted_keys) else None

    def _list_key(self, text: PolicyText, number: int) -> ListKey | None:
        source = text.policy.lists[number].key
        try:
            if source.env is not None:
                place = text.place("lists", number, "key", "env")
                value = os.environ.get(source.env)
                if value is None:
                    raise KeyFileError(
                        f"{source.env}: no such environment variable", hint="set it before the gate starts"
                    )
                return ListKey.parse(os.fsencode(value))
            assert source.file is not None
            place = text.place("lists", number, "key", "file")
            path = self.path.parent / source.file
            try:
                key = ListKey.parse(self.reader.read(path, MAX_KEY_SIZE))
            except StoplistError as error:
                raise KeyFileError(f"{source.file}: {error.message}", hint=error.hint) from None
        except KeyFileError as error:
            self.problems.append(PolicyError(error.message, hint=error.hint, place=place))
            return None
        if files.is_readable_by_others(path):
            self.warnings.append(
                StoplistError("others on this machine can read the list key", hint=f"chmod 600 {path}", place=str(path))
            )
        return key

    def _distinct(self, text: PolicyText, lists: list[SignedList]) -> None:
        """Two entries of a policy must not be one list: its hits would be counted in one row."""
        names = [signed.header.list for signed in lists]
        for number, name in enumerate(names):
            if name in names[:number]:
                self.problems.append(
                    PolicyError(
                        f"the list {name!r} stands in the policy twice",
                        hint="remove one of the two",
                        place=text.place("lists", number, "file"),
                    )
                )

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


def read_policy(path: Path) -> PolicyText:
    """The policy alone, without what it names. Raises Problems."""
    try:
        data = files.read(path, MAX_POLICY_SIZE)
    except StoplistError as error:
        raise Problems([error]) from None
    return PolicyText.parse(data, str(path))


def demo_policy() -> Path:
    """The demo policy: beside the package in a wheel, in the folder `policies` of a checkout."""
    package = Path(__file__).parent
    for folder in (package / "policies", package.parent.parent / "policies"):
        if (folder / "demo.yaml").exists():
            return folder / "demo.yaml"
    raise StoplistError("the demo policy is not installed", hint="name a policy: stoplist run POLICY")


def now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


def default_state_dir() -> Path:
    """Where a gate keeps its CA unless told: systemd's STATE_DIRECTORY, or below XDG_STATE_HOME."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0])
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "stoplist"
