"""HAR: the requests that a browser or a proxy saved (HTTP Archive 1.2), one entry at a time.

Rules
  - Memory holds one entry, of about `MAX_ENTRY` characters at most: people have to save large files without their
    content.
  - Data that cannot be read ends the reading, and is the input's fault.
"""

from __future__ import annotations

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from stoplist.tools.trial.logs.formats import Hit
from stoplist.tools.trial.logs.inputs import Input
from stoplist.tools.trial.logs.targets import authority_of

MAX_ENTRY = 8 * 1024 * 1024

_ENTRIES = re.compile(r'"entries"[ \t\r\n]*:[ \t\r\n]*\[')
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_OVERLAP = 4096


def read(source: Input, blocks: Iterator[bytes]) -> Iterator[Hit | None]:
    """A hit for each entry, None for one that holds no request with a host."""
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    decoder = json.JSONDecoder()
    text, is_inside, wanted = "", False, 0
    for block in itertools.chain(blocks, (b"",)):
        text += decode(block, not block)
        if not is_inside:
            match = _ENTRIES.search(text)
            text = text[match.end() :] if match else text[-_OVERLAP:]
            is_inside = match is not None
        if not is_inside or (block and len(text) < wanted):
            continue
        at = _end_of(_BETWEEN, text, 0)
        while text.startswith("{", at):
            try:
                entry, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            yield _hit(entry)
            at = _end_of(_BETWEEN, text, at)
        if text.startswith("]", at):
            return
        text = text[at:]
        if not text.startswith("{") and text:
            source.fail("broken HAR", "everything before it is counted; save it again", back=len(text))
            return
        # If an entry is not whole, try again with twice as much of it.
        wanted = min(2 * len(text), MAX_ENTRY)
        if len(text) > MAX_ENTRY:
            message = f"an entry of the HAR is larger than {MAX_ENTRY // 1024**2} MiB, or broken"
            source.fail(message, "save it without the content of responses", back=len(text))
            return
    if source.fault is None:
        source.fail("the HAR ends in the middle" if is_inside else "no HAR: it has no entries", "save it again")


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _hit(entry: Any) -> Hit | None:
    try:
        authority = authority_of(entry["request"]["url"])
        stamp = str(entry.get("startedDateTime", "")).encode(errors="replace")
    except (TypeError, KeyError, AttributeError):
        return None
    return (stamp, authority) if authority else None
