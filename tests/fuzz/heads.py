"""A coverage-guided fuzzer for request heads: any bytes give a RequestHead, a HeadError or a HostError.

Run: .venv/bin/python -m tests.fuzz.heads [libFuzzer options] [CORPUS]
For ten minutes: mkdir -p /tmp/heads, then
     .venv/bin/python -m tests.fuzz.heads -max_total_time=600 -max_len=4096 /tmp/heads

The input is what a client sends first; or, where it begins with a zero byte, the fields of a request, with
a byte of 1 its target, with a byte of 2 the target of a CONNECT, so that what stands behind the request line
is reached. What is read must read back as the same when it is sent on, and nothing of that may depend on
how the bytes were cut.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["stoplist.core"]):
    from stoplist.core.hosts import HostError
    from stoplist.core.wire.heads import HeadError, RequestHead, find_end
    from stoplist.core.wire.openings import Opening, recognise


AROUND = {
    b"\0": (b"POST / HTTP/1.1\r\n", b"\r\n\r\n"),
    b"\1": (b"GET ", b" HTTP/1.1\r\nHost: h.test\r\n\r\n"),
    b"\2": (b"CONNECT ", b" HTTP/1.0\r\n\r\n"),
}


def test_one_input(data: bytes) -> None:
    before, after = AROUND.get(data[:1], (b"", b""))
    data = before + data[1:] + after if before else data
    end = find_end(data)
    if end is not None:
        check(find_end(data[:end]) == end, "a head ends elsewhere without what follows")
        check(find_end(data[: end - 1]) is None, "a head ends twice")
    opening = recognise(data)
    for cut in {len(data) // 2, len(data) - 1} - {-1}:
        check(recognise(data[:cut]) in (Opening.INCOMPLETE, opening), "an opening changes with more bytes")
    try:
        head = RequestHead.parse(data[:end])
    except (HeadError, HostError) as error:
        check(bool(error.message), "an error without a message")
        return
    check(opening is not Opening.OTHER, "what is read as HTTP would be relayed unread")
    check(RequestHead.parse(written(head)) == head, "a head reads back as another")
    check(find_end(written(head)) == len(written(head)), "a head that is sent on ends early")


def written(head: RequestHead) -> bytes:
    """A head as it would be sent on."""
    if head.method == b"CONNECT":
        target = head.authority
    else:
        target = (head.scheme + b"://" + head.authority if head.scheme else b"") + head.path
    fields = b"".join(name + b": " + value + b"\r\n" for name, value in head.fields)
    return head.method + b" " + target + b" HTTP/" + head.version + b"\r\n" + fields + b"\r\n"


def check(holds: bool, fault: str) -> None:
    if not holds:
        raise AssertionError(fault)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
