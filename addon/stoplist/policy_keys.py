"""Policy keys: the keys that a policy names, from their files or from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stoplist import files
from stoplist.core.lists.keys import MAX_KEY_SIZE, KeyFileError, ListKey, TrustedKey
from stoplist.core.policy.document import PolicyError
from stoplist.core.policy.models import ListKeySource
from stoplist.core.policy.text import PolicyText
from stoplist.errors import StoplistError

DEMO_KEY_ID = "b890421793d1c74f"
"""The key id of the demo's list key, which is public."""


@dataclass(frozen=True, slots=True)
class PolicyKeys:
    """Reads the keys of a policy in `folder`, and adds to `problems` and `warnings`."""

    text: PolicyText
    folder: Path
    reader: files.Reader
    problems: list[StoplistError]
    warnings: list[StoplistError]

    def trusted(self, number: int) -> list[TrustedKey] | None:
        """The trusted keys of one list, or None if one cannot be read, with the reason in `problems`."""
        wanted = self.text.policy.lists[number]
        keys: list[TrustedKey] = []
        for position, name in enumerate(wanted.trusted_keys):
            place = self.text.place("lists", number, "trusted_keys", position)
            try:
                key = TrustedKey.parse(self.reader.read(self.folder / name, MAX_KEY_SIZE))
            except StoplistError as error:
                self.problems.append(PolicyError(f"{name}: {error.message}", hint=error.hint, place=place))
                continue
            if key in keys:
                same = wanted.trusted_keys[keys.index(key)]
                self.problems.append(
                    PolicyError(
                        f"{name}: the same key as {same}",
                        hint="each trusted key must belong to a different person",
                        place=place,
                    )
                )
                continue
            keys.append(key)
        return keys if len(keys) == len(wanted.trusted_keys) else None

    def of_list(self, number: int) -> list[ListKey] | None:
        """The list keys of one list, or None if one cannot be read, with the reason in `problems`."""
        keys: list[ListKey] = []
        sources = self.text.policy.lists[number].key
        for position, source in enumerate(sources):
            try:
                keys.append(self._of_source(source))
            except KeyFileError as error:
                place = self.text.place("lists", number, "key", position)
                self.problems.append(PolicyError(error.message, hint=error.hint, place=place))
        return keys if len(keys) == len(sources) else None

    def _of_source(self, source: ListKeySource) -> ListKey:
        if source.env is not None:
            value = os.environ.get(source.env)
            if value is None:
                raise KeyFileError(f"{source.env}: no such environment variable", hint="set it before the gate starts")
            return ListKey.parse(os.fsencode(value))
        assert source.file is not None
        path = self.folder / source.file
        try:
            key = ListKey.parse(self.reader.read(path, MAX_KEY_SIZE))
        except StoplistError as error:
            raise KeyFileError(f"{source.file}: {error.message}", hint=error.hint) from None
        if files.is_readable_by_others(path) and key.key_id != DEMO_KEY_ID:
            self.warnings.append(
                StoplistError("others on this machine can read the list key", hint=f"chmod 600 {path}", place=str(path))
            )
        return key
