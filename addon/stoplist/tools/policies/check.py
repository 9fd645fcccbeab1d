"""The check of a policy before it runs: whether it is sound, and the changes that it would bring."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stoplist import loading, state_directory
from stoplist.authority import Source, needs
from stoplist.core.times import format_time
from stoplist.errors import Problems, StoplistError
from stoplist.loading import Loaded
from stoplist.state import State
from stoplist.tools.policies import policy_diff, problem_output
from stoplist.tools.policies.policy_diff import Difference


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: `loaded`, or else `problems`; and the difference to a policy in force, if the admin
    asked for it."""

    policy: Path
    loaded: loading.Loaded | None
    problems: tuple[StoplistError, ...] = ()
    difference: Difference | None = None

    @property
    def warnings(self) -> tuple[StoplistError, ...]:
        return self.loaded.warnings if self.loaded else ()


def check(policy: Path, running: Path | None = None, state_dir: Path | None = None, *, now: datetime) -> Finding:
    """Load a policy with all that it names and run its tests; compare it with the policy `running`.

    Where there is the state of a gate, in `state_dir` or where the policy says, a list that this gate would refuse is
    a problem, and one that it would hold a warning.
    """
    try:
        loaded = _load(policy, state_dir, now)
        compared = policy_diff.between(running, policy, loaded.ruleset, now) if running else None
        source = Source.of(loaded.ruleset.policy, policy, state_directory.of_policy(policy, loaded.ruleset.policy))
        if source is not None and not source.is_own:  # the gate makes its own
            found = [StoplistError(need) for need in needs(source.open(now), None, is_own=False, now=now)]
            loaded = dataclasses.replace(loaded, warnings=(*loaded.warnings, *found))
    except Problems as error:
        return Finding(policy, None, error.problems)
    except StoplistError as error:
        return Finding(policy, None, (error,))
    return Finding(policy, loaded, difference=compared)


def _load(policy: Path, state_dir: Path | None, now: datetime) -> Loaded:
    """Load a policy as the gate would that has its state here. Raises StoplistError."""
    try:
        folder = state_dir or state_directory.of_policy(policy, loading.read_policy(policy).policy)
        state = State.open_read_only(folder)
    except (StoplistError, OSError):
        if state_dir is not None:
            raise
        return loading.load(policy, now=now)  # there is no state, or the policy has faults, which it tells
    try:
        loaded = loading.load(policy, now=now, state=state)
    finally:
        state.close()
    refused = [each.error for each in loaded.faults if not each.held]
    if refused:
        raise Problems(refused)
    held = tuple(each.error for each in loaded.faults)
    return dataclasses.replace(loaded, warnings=(*loaded.warnings, *held))


def as_lines(finding: Finding) -> list[str]:
    """The lines for people, if there is no problem."""
    if finding.loaded is None:
        return []
    ruleset = finding.loaded.ruleset
    lines = [
        f"list {signed.header.list}: serial {signed.header.serial}, {_number(signed.header.count, 'domain')}, "
        f"expires {format_time(signed.header.expires)}, signed by {_number(len(signed.signers), 'trusted key')}, "
        f"{'enforced' if verdict.action == 'stop' else 'observed'}"
        for signed, verdict in ruleset.entries
    ]
    lines += [
        f"{_number(len(ruleset.policy.exceptions), 'exception')}",
        f"{_number(len(ruleset.policy.tests), 'test')} passed",
        *(policy_diff.as_lines(finding.difference) if finding.difference is not None else ()),
        f"{finding.policy}: fine",
    ]
    return lines


def as_fields(finding: Finding) -> dict[str, Any]:
    """The fields for scripts."""
    ruleset = finding.loaded.ruleset if finding.loaded else None
    return {
        "policy": str(finding.policy),
        "fine": finding.loaded is not None,
        "problems": [problem_output.as_fields(each) for each in finding.problems],
        "warnings": [problem_output.as_fields(each) for each in finding.warnings],
        "lists": [
            {
                "list": signed.header.list,
                "serial": signed.header.serial,
                "domains": signed.header.count,
                "expires": format_time(signed.header.expires),
                "signers": len(signed.signers),
                "action": verdict.action,
            }
            for signed, verdict in (ruleset.entries if ruleset else ())
        ],
        "exceptions": len(ruleset.policy.exceptions) if ruleset else None,
        "tests": len(ruleset.policy.tests) if ruleset else None,
        "difference": policy_diff.as_fields(finding.difference) if finding.difference is not None else None,
    }


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
