"""How many examples hypothesis tries in a test that wants another number than the default.

A number in a test's own settings would hold under each profile; the profile "few examples" is to have few of them.
"""

from __future__ import annotations

from hypothesis import settings

FEW = 10


def examples(number: int) -> int:
    """At most this number: as many as are wanted, or FEW under the profile "few examples".

    >>> examples(5)
    5
    """
    assert settings.default is not None
    return min(number, FEW) if settings.default.max_examples == FEW else number
