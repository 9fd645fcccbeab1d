"""Trusted keys: the files of the keys that a policy trusts, and which key id is of which file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from stoplist import files, loading
from stoplist.core.lists.keys import MAX_KEY_SIZE, TrustedKey
from stoplist.core.policy.models import ListPolicy
from stoplist.errors import StoplistError


def for_list(policy: Path, file: Path) -> tuple[tuple[Path, ...], int]:
    """The files of the trusted keys, and the threshold, with which a policy judges a list file. Raises StoplistError.

    The file is one that the policy names, or, in a policy with one list, a copy of it under any name.
    """
    wanted = loading.read_policy(policy).policy.lists
    found = [each for each in wanted if loading.list_file(policy, each) == file.absolute()]
    if not found and len(wanted) > 1:
        raise StoplistError(
            f"the policy has {len(wanted)} lists, and {file} is the file of none",
            hint=f"name one of its files: {', '.join(each.file for each in wanted)}",
            place=str(policy),
        )
    (judged, *_) = found or wanted
    return _key_files(policy, judged), judged.threshold


def names_in(policy: Path) -> dict[str, str]:
    """The file of each key that a policy trusts, as the policy names it, by key id; without keys that cannot be
    read."""
    found: dict[str, str] = {}
    for wanted in loading.read_policy(policy).policy.lists:
        for path, name in zip(_key_files(policy, wanted), wanted.trusted_keys, strict=True):
            with suppress(StoplistError):
                found[_key_id(path)] = name
    return found


def names_of(paths: Iterable[Path]) -> dict[str, str]:
    """The file of each key, by key id. Raises StoplistError if one cannot be read."""
    return {_key_id(path): str(path) for path in paths}


def named(key_id: str, names: Mapping[str, str]) -> str:
    """A key id after the file that it is of, if that is known."""
    return f"{names[key_id]} ({key_id})" if key_id in names else key_id


def _key_files(policy: Path, wanted: ListPolicy) -> tuple[Path, ...]:
    return tuple(policy.absolute().parent / name for name in wanted.trusted_keys)


def _key_id(path: Path) -> str:
    return TrustedKey.parse(files.read(path, MAX_KEY_SIZE)).key_id
