"""The one base error of Stoplist: what is wrong, where, and what to do about it.

Rules
  - A message never holds a requested host, a URL or a client address. It may hold what an
    operator wrote: a path, a line number, a value of a policy or of a list under construction.
  - A subclass exists only where a caller reacts differently to it.
"""

from __future__ import annotations


class StoplistError(Exception):
    """Something an operator can mend.

    `place` says where (``school.yaml:12``), `message` what is wrong with which value, and
    `hint` what to do. ``str(error)`` joins them: ``place: message; hint``.
    """

    def __init__(self, message: str, *, hint: str = "", place: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"

    def at(self, place: str) -> StoplistError:
        """The same error, with a place where it had none. Changes the error and returns it."""
        self.place = self.place or place
        return self


class Problems(StoplistError):  # noqa: N818  it is several errors
    """Several errors found in one run, each with its own place and remedy."""

    def __init__(self, problems: list[StoplistError]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
