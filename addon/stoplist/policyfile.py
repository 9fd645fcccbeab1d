"""A policy file with the files that it includes: the policy alone, without the other files that it names.

Rules
  - The including file has precedence; a base adds what is missing there: sections key by key, lists and plain values
    as a whole. Of several bases, a later one has precedence over an earlier one.
  - The path of a file starts from the folder of the file in which it stands.
  - No file may include itself. An error names the place of a fault, in a base as well.
"""

from __future__ import annotations

from pathlib import Path

from stoplist import files
from stoplist.core.policy.document import Document, PolicyError
from stoplist.core.policy.text import MAX_POLICY_SIZE, PolicyText, Unsound, names_file
from stoplist.errors import Problems, StoplistError

MAX_DEPTH = 4
"""How many files may form a chain in which each includes the next."""


def read_policy(path: Path, reader: files.Reader | None = None) -> PolicyText:
    """The policy with the files that it includes, and without all else that it names. `reader` remembers every file
    that was looked at. Raises Unsound, or else Problems."""
    reader = reader or files.Reader()
    try:
        data = reader.read(path, MAX_POLICY_SIZE)
    except StoplistError as error:
        raise Problems([error]) from None
    document = Document.read(data, str(path))
    problems = _complete(document, path, reader, (path.resolve(),))
    try:
        text = PolicyText.of(document)
    except Unsound as error:
        # If a base cannot be read, do not also report the keys that it would have had as missing.
        told = [each for each in error.problems if not (problems and getattr(each, "kind", "") == "missing-key")]
        raise Unsound([*problems, *told], error.sound, error.left_out) from None
    except Problems as error:
        raise Problems([*problems, *error.problems]) from None
    if problems:
        raise Problems(problems)
    return text


def _complete(document: Document, path: Path, reader: files.Reader, above: tuple[Path, ...]) -> list[StoplistError]:
    """Add the contents of its bases to the document of the file `path`; return their problems. `above` are the files
    that include it, and itself."""
    problems: list[StoplistError] = []
    for at, name in reversed([each for each in document.texts() if each[0][0] == "include"]):
        try:
            base = _base(path.parent / name, reader, above, problems)
        except Problems as error:
            problems += error.problems
        except StoplistError as error:
            place = document.place(at)
            problems.append(PolicyError(f"{name}: {error.message}", hint=error.hint, place=place))
        else:
            for below, text in base.texts():
                if names_file(below):
                    base.replace(below, str(Path(name).parent / text))
            document.over(base)
    return problems


def _base(path: Path, reader: files.Reader, above: tuple[Path, ...], problems: list[StoplistError]) -> Document:
    """A base with its own bases. Raises StoplistError if it may not or cannot be read, Problems if it is no YAML."""
    data = reader.read(path, MAX_POLICY_SIZE)
    if path.resolve() in above:
        raise StoplistError("includes itself", hint="remove one of the 'include' lines")
    if len(above) > MAX_DEPTH:
        raise StoplistError(
            f"it is included below {MAX_DEPTH} other files, the limit", hint="move its keys into one of them"
        )
    base = Document.read(data, str(path))
    problems += _complete(base, path, reader, (*above, path.resolve()))
    base.values.pop("include", None)
    return base
