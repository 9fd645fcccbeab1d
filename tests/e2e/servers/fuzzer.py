"""Makes conversations: by a grammar, and by changing the seeds and what was interesting before.

The same seed and the same answers give the same conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tests.e2e.servers.conversations import HELLO, LISTED, PASS, SEEDS, Conversation, get, h2, hello

_OPENINGS = (
    *(b"", b"\r\n", b"\n", b"\r\n\r\n", b"\0", b" ", b"x\r\n", b"FOO\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\r"),
    *(b"GET / HTTP/9.9\r\n\r\n", b"GET / RTSP/1.0\r\n\r\n", b"GET /\r\n", b"220 mail.test\r\n", b"SSH-2.0-x\r\n"),
    *(b"\x16\x03\x01", b"\x80", b"\x05\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"ICY 200 OK\r\n\r\n"),
    *(b"HTTP/1.1 200 OK\r\n\r\n", get(PASS), get(PASS, line=b"POST / HTTP/1.1", more=b"Content-Length: 0\r\n")),
    *(get(PASS, line=b"HEAD / HTTP/1.1"), b"OPTIONS * HTTP/1.1\r\nHost: www.pass.test\r\n\r\n"),
    *(b"GET x\r\n", b"GET /\r\nConnection: keep-alive\r\n\r\n", b"GET x\xff\r\nConnection: keep-alive\r\n\r\n"),
    *(HELLO, HELLO[:20], hello(first=b"\r\n\r\nGET http://www.listed.test/ HTTP/1.0\r\n\r\n")),
    *(get(PASS, line=b"GET / HTTP/1.1", more=b"Connection: close\r\n"), b"GET x\r\nX: " + b"a" * 70_000 + b"\r\n"),
    get(b"www.pass.test:{port}", line=b"CONNECT www.pass.test:{port} HTTP/1.1"),
)
_METHODS = (
    *(b"GET", b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"get", b"Get", b"FOO", b"CONNECT", b"TRACE"),
    *(b"PRI", b"SOURCE", b"DESCRIBE", b"PLAY", b"M-SEARCH", b"G", b"!", b"GET\0", b"\xffGET", b"1", b"QUERY", b"*"),
    *(b"\xff", b"\x01A", b"A\x01", b"\x1b", b"(", b'"GET"', b"GET/", b"{GET", b"A\x7fB", b"A\x1cB", b"GET:"),
)
_SEPARATORS = (
    *(b" ", b" ", b" ", b" ", b" ", b" ", b"  ", b"\t", b"\x0b", b"\x0c", b"\r", b"\x1c", b"\x1d", b"\x1e", b"\x1f"),
    *(b"\x85", b"\xa0", b"\0", b"\x7f", b"", b" \t ", b"\xc2\xa0", b"\xe3\x80\x80"),
)
_TARGETS = (
    *(b"/", b"/", b"/", b"/", b"*", b"//", b"/?a", b"/#", b"", b"http://www.listed.test/", b"http://www.pass.test/"),
    *(b"http://www.listed.test:{port}/", b"HTTP://www.listed.test", b"http:///", b"//www.listed.test/", b"/\0", b"/ x"),
    *(b"www.listed.test:80", b"x://www.listed.test/", b"http://www.pass.test@www.listed.test/", b"/\xff", b"\\"),
    *(b"%2F", b"?", b"x", b".", b"http:%2f%2fwww.listed.test%2f", b"x\xff", b"?\x01", b"\x7f", b"\xff\0", b"*x\xff"),
    *(b"ht%74p://www.listed.test/", b"\xa0x", b"http://www.listed.test/ HTTP/0.9\r\n\r\nGET /"),
)
_VERSIONS = (
    *(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.10", b"HTTP/01.1"),
    *(b"HTTP/2.0", b"HTTP/0.9", b"HTTP/9.9", b"http/1.1", b"RTSP/1.0", b"RTSP/1.1", b"ICY", b"HTTPX/1.1", b"SIP/2.0"),
    *(b"", b"HTTP/1", b"HTTP/1.1 x", b"HTTP/1.1\0", b"HTTP /1.1", b"HTTP/\xb2.1", b"HTTP/1,1", b"ICE/1.0", b"HTTP/3"),
    *(b"\xff", b"\x01", b"FOO", b"FOO\x01"),
)
_HOSTS = (
    *(b"Host: www.listed.test", b"Host: www.listed.test", b"Host: www.listed.test", b"host:www.listed.test"),
    *(
        b"Host : www.listed.test",
        b"Host:\r\n www.listed.test",
        b"X: a\r\n Host: www.listed.test",
        b"Host: www.listed.test.",
    ),
    *(
        b"Host: www.listed.test:{port}",
        b"X: a\rHost: www.listed.test",
        b"X: a\nHost: www.listed.test",
        b"Host: www.pass.test",
    ),
    *(b"Host: www.listed.test\0", b"\tHost: www.listed.test", b" Host: www.listed.test", b"Host: www.listed.test "),
)
_FIELDS = (
    *(
        b"Accept: */*",
        b"X:",
        b"X",
        b":",
        b"X: \xff",
        b"X: \0",
        b" X: a",
        b"Connection: close",
        b"Connection: keep-alive",
    ),
    *(b"Host: www.pass.test", b"Host: www.pass.test", b"Expect: 100-continue", b"Upgrade: h2c", b"Upgrade: websocket"),
    *(
        b"Connection: Upgrade",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"TE: trailers",
    ),
    *(b"X-Forwarded-Host: www.listed.test", b"Proxy-Connection: keep-alive", b"X(: a", b"CSeq: 1", b"X\t: a"),
)
_ENDS = (b"\r\n",) * 20 + (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n")
_CODINGS = (
    *(
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:chunked",
        b"transfer-encoding: Chunked",
    ),
    *(
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:\x0bchunked",
    ),
    *(
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: gzip, chunked",
        b"X: a\rTransfer-Encoding: chunked",
    ),
    *(b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding: chunked\0", b'Transfer-Encoding: "chunked"'),
)
_SIZES = (
    *(
        b"0",
        b"0",
        b"00",
        b"0;a",
        b'0;a="',
        b"0 ",
        b" 0",
        b"+0",
        b"-0",
        b"0x0",
        b"1_0",
        b"",
        b"0\0",
        b"0\t",
        b"0;\n",
        b"0\r",
    ),
    b"10000000000000000",
)
_BYTES = b"\r\n\0\t \x0b\x0c\x1c\x7f\x80\x85\xa0\xff/:;,.*AaGH01"


class Fuzzer:
    """`next` gives a conversation; `keep` says that one was interesting."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._pool = list(SEEDS.values())
        self._signatures: set[frozenset[str]] = set()

    def next(self) -> Conversation:
        if self._random.random() < 0.4:
            return self._from_grammar()
        return self._changed(self._random.choice(self._pool))

    def keep(self, conversation: Conversation, signature: frozenset[str]) -> None:
        """Change this one again later, if no other was served by just these servers before."""
        if signature and signature not in self._signatures:
            self._signatures.add(signature)
            self._pool += [conversation] * 5

    def _from_grammar(self) -> Conversation:
        pick = self._random.choice
        if self._random.random() < 0.06:
            return self._h2()
        parts = [pick(_OPENINGS)] if self._random.random() < 0.4 else []
        parts += [self._framed()] if self._random.random() < 0.35 else []
        parts += [self._request(pick(_HOSTS))]
        parts += [get(LISTED)] if self._random.random() < 0.25 else []
        return Conversation(self._joined(parts))

    def _request(self, host: bytes, *fields: bytes, body: bytes = b"") -> bytes:
        pick = self._random.choice
        end = pick(_ENDS)
        line = self._mostly(b"GET", _METHODS) + self._mostly(b" ", _SEPARATORS)
        line += self._mostly(b"/", _TARGETS) + self._mostly(b" ", _SEPARATORS) + self._mostly(b"HTTP/1.1", _VERSIONS)
        line = self._mostly(b"", (b" ", b"\t", b"\x0c", b"\0", b"\x1c", b"\xa0", b"\xff")) + line
        lines = [*fields, host, *(pick(_FIELDS) for _ in range(pick((0, 0, 1, 2))))]
        if not fields:
            self._random.shuffle(lines)
        return end.join([line, *lines, b"", b""]) + body

    def _mostly(self, usual: bytes, others: Sequence[bytes]) -> bytes:
        return usual if self._random.random() < 0.85 else self._random.choice(others)

    def _framed(self) -> bytes:
        """A request for the unlisted host whose body has an end that may be seen in two places."""
        pick = self._random.choice
        body = pick((b"", get(LISTED), b"hello", pick(_SIZES) + pick(_ENDS) * 2, b"5\r\nhello\r\n0\r\n\r\n"))
        body += pick((b"", pick(_SIZES) + b"\r\n" + pick((b"", b"X: a\r\n", b" \r\n", b"X\r\n")) + b"\r\n"))
        length = b"Content-Length: %d" % (len(body) if self._random.random() < 0.6 else pick((0, 1, 5, 51)))
        fields = pick(
            ((length,), (pick(_CODINGS),), (length, pick(_CODINGS)), (pick(_CODINGS), length), (pick(_CODINGS),))
        )
        line = pick(
            (b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"POST / HTTP/1.0", b"PUT / HTTP/1.1", b"OPTIONS / HTTP/1.1")
        )
        return get(PASS, line=line, more=b"\r\n".join(fields) + b"\r\n", body=body)

    def _h2(self) -> Conversation:
        pick = self._random.choice
        request = h2(
            pick((PASS, PASS, LISTED, b"", PASS + b":{port}", b"a@" + LISTED)),
            pick(
                (
                    b"/",
                    b"http://www.listed.test/",
                    b"//www.listed.test/",
                    b"*",
                    b"/ HTTP/1.1\r\nHost: www.listed.test\r\nX: ",
                )
            ),
            method=pick((b"GET", b"GET", b"POST", b"OPTIONS", b"GET http://www.listed.test/", b"HEAD", b"PUT")),
            body=pick((None, None, b"", get(LISTED), b"0\r\n\r\n" + get(LISTED))),
            more=pick(
                (
                    (),
                    ((b"host", LISTED),),
                    ((b"content-length", b"0"),),
                    ((b"transfer-encoding", b"chunked"),),
                    ((b"x", b"a\r\nHost: www.listed.test"),),
                    ((b"x\r\nhost: www.listed.test\r\ny", b"a"),),
                    ((b"upgrade", b"x"), (b"connection", b"upgrade")),
                    ((b"expect", b"100-continue"),),
                )
            ),
        )
        after = pick((b"", b"", get(LISTED), h2(stream=3, preface=False)))
        return Conversation(self._joined([request, after] if after else [request]), always=True)

    def _joined(self, parts: Sequence[bytes]) -> tuple[bytes, ...]:
        """The parts as several sends, or as fewer."""
        sends = [parts[0]]
        for part in parts[1:]:
            if self._random.random() < 0.4:
                sends[-1] += part
            else:
                sends.append(part)
        return tuple(sends)

    def _changed(self, conversation: Conversation) -> Conversation:
        sends = list(conversation.sends)
        for _ in range(self._random.choice((1, 1, 1, 1, 2, 2, 3))):
            place = self._random.randrange(len(sends))
            sends[place] = self._changed_bytes(sends[place])
        if self._random.random() < 0.2:
            self._cut(sends)
        if self._random.random() < 0.1:
            sends.insert(self._random.randrange(len(sends) + 1), self._random.choice(_OPENINGS))
        if self._random.random() < 0.1:
            sends.append(get(LISTED))
        return Conversation(tuple(sends), conversation.always)

    def _changed_bytes(self, data: bytes) -> bytes:
        random = self._random
        # Where one line begins or a field ends is where readers differ, rather than inside a word.
        edges = [place for place, byte in enumerate(data) if byte in b"\r\n :/;,"] or [0]
        start = (
            random.choice(edges) + random.choice((0, 0, 1)) if random.random() < 0.6 else random.randint(0, len(data))
        )
        length = random.choice((1, 1, 1, 2, 4, 16))
        byte = bytes([random.choice(_BYTES)]) if random.random() < 0.8 else random.randbytes(1)
        match random.randrange(6):
            case 0:
                return data[:start] + byte + data[start + 1 :]
            case 1:
                return data[:start] + byte + data[start:]
            case 2:
                return data[:start] + data[start + length :]
            case 3:
                return data[:start] + data[start : start + length] * 2 + data[start + length :]
            case 4:
                return data[:start] + random.choice(_ENDS + _SEPARATORS + _VERSIONS + _FIELDS) + data[start:]
            case _:
                lines = data.splitlines(keepends=True)
                if len(lines) < 2:
                    return data
                one, other = random.randrange(len(lines)), random.randrange(len(lines))
                lines[one], lines[other] = lines[other], lines[one]
                return b"".join(lines)

    def _cut(self, sends: list[bytes]) -> None:
        place = self._random.randrange(len(sends))
        start = self._random.randint(0, len(sends[place]))
        sends[place : place + 1] = [sends[place][:start], sends[place][start:]]
