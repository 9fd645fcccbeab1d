"""The form of times in lists, in the log, and in reports."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(time: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
