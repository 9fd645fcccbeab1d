"""What an admin asks before a policy runs: is it sound?"""

from __future__ import annotations

from pathlib import Path

from stoplist import loading


def check(policy: Path) -> loading.Loaded:
    """Load a policy with all that it names and run its tests. Raises Problems."""
    return loading.load(policy, now=loading.now())
