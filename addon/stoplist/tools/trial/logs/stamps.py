"""Stamps: the day of a moment, in the forms in which logs write it.

A reader cuts out only as much as tells the day, so that few stamps are different: a Unix time without its last two
digits (days of all zones begin at a multiple of 900 seconds), a syslog date. The form of a stamp tells its kind.

Rules
  - A time with an offset, or in Unix seconds, falls on the day of the policy's time zone; one without is of that
    zone.
  - A syslog date has no year: it is the last such day that is not after tomorrow.
  - A stamp that is no time gives no day, never an error.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo

_MONTHS = {
    name: number
    for number, name in enumerate(
        (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"), 1
    )
}
_YEARS = range(1970, 2200)
_HUNDREDS = re.compile(rb"[0-9]{8}")
_SYSLOG = re.compile(rb"([A-Z][a-z]{2}) ([ 0-9][0-9])")
_DAY = re.compile(rb"([0-9]{2})-([A-Z][a-z]{2})-([0-9]{4})")
_ACCESS = re.compile(
    rb"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):[0-9]{2} ([+-])([0-9]{2})([0-9]{2})"
)
_ISO = re.compile(
    rb"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::[0-9]{2}(?:[.,][0-9]*)?)?"
    rb"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?"
)


def day_of(stamp: bytes, zone: tzinfo, now: datetime) -> date | None:
    """The day of a stamp in a time zone; None if it has none. `now` gives the year if the stamp has none.

    >>> day_of(b"2026-11-27T23:30:00Z", UTC, datetime(2026, 11, 28, tzinfo=UTC))
    datetime.date(2026, 11, 27)
    >>> day_of(b"yesterday", UTC, datetime(2026, 11, 28, tzinfo=UTC)) is not None
    False
    """
    try:
        day = _day_of(stamp, zone, now)
    except (ValueError, OverflowError, KeyError, OSError):
        return None
    return day if day and day.year in _YEARS else None


def _day_of(stamp: bytes, zone: tzinfo, now: datetime) -> date | None:
    if _HUNDREDS.fullmatch(stamp):
        return datetime.fromtimestamp(int(stamp) * 100, zone).date()
    if match := _ISO.fullmatch(stamp):
        return _iso(match, stamp, zone)
    if match := _ACCESS.fullmatch(stamp):
        day, month, year, hour, minute = match.group(1, 2, 3, 4, 5)
        moment = datetime(int(year), _MONTHS[month], int(day), int(hour), int(minute), tzinfo=UTC)
        return _local(moment, match.group(6, 7, 8), zone)
    if match := _SYSLOG.fullmatch(stamp):
        return _latest(_MONTHS[match[1]], int(match[2]), now.astimezone(zone).date())
    if match := _DAY.fullmatch(stamp):
        return date(int(match[3]), _MONTHS[match[2]], int(match[1]))
    return None


def unix(seconds: float) -> bytes:
    """The stamp of a Unix time; empty if it is out of range."""
    return b"%08d" % (seconds // 100) if 0 <= seconds < 10**10 else b""


def _iso(match: re.Match[bytes], stamp: bytes, zone: tzinfo) -> date:
    year, month, day, hour, minute = map(int, match.group(1, 2, 3, 4, 5))
    if match[6]:
        return _local(datetime(year, month, day, hour, minute, tzinfo=UTC), match.group(6, 7, 8), zone)
    if stamp.endswith(b"Z"):
        return datetime(year, month, day, hour, minute, tzinfo=UTC).astimezone(zone).date()
    return date(year, month, day)


def _local(moment: datetime, offset: tuple[bytes, ...], zone: tzinfo) -> date:
    sign, hours, minutes = offset
    ahead = timedelta(hours=int(hours), minutes=int(minutes))
    return (moment - ahead if sign == b"+" else moment + ahead).astimezone(zone).date()


def _latest(month: int, day: int, today: date) -> date | None:
    for year in range(today.year + 1, today.year - 8, -1):  # up to eight years lie between two 29ths of February
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found <= today + timedelta(days=1):
            return found
    return None
