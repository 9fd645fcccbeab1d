"""Times: one form, in UTC."""

from __future__ import annotations

from datetime import datetime

import pytest

from stoplist.core.times import format_time


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("2026-01-01T00:00:00Z", id="UTC"),
        pytest.param("2026-01-01T02:30:00+02:30", id="another zone"),
        pytest.param("2026-01-01T00:00:00.999999Z", id="a part of a second"),
    ],
)
def test_a_time_is_written_in_utc_to_the_second(text: str) -> None:
    assert format_time(datetime.fromisoformat(text)) == "2026-01-01T00:00:00Z"
