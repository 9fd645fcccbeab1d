"""Compares what a server does with a conversation when asked directly and through the gate."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.network import Network, Space
from tests.e2e.servers.conversations import SEEDS, Conversation
from tests.e2e.servers.fuzzer import Fuzzer
from tests.e2e.servers.server import SERVED_AS_LISTED, Server
from tests.e2e.servers.ways import ENDLESS, WAYS, Way, ask_directly, ask_through, one_of_each

DIRECTLY = 160
"""Connections to servers at once: nearly all of their time is waiting."""
THROUGH_THE_GATE = 64
"""Connections to the gate at once."""
BATCH = 50
"""Conversations that are tried at once; after each batch the fuzzer learns what was interesting."""
SHOWN = 100
"""Conversations that a summary shows."""
CANDIDATES = 400
"""How many smaller conversations are tried to make one finding small."""

type Choice = Callable[[Sequence[Way], Server, Conversation], Sequence[Way]]
"""Which of the ways a conversation with a server is tried on."""


def every_way(ways: Sequence[Way], server: Server, conversation: Conversation) -> Sequence[Way]:
    """All of them."""
    return ways


@dataclass(frozen=True)
class Finding:
    """A conversation that the gate carried to a listed host. `str` of it is to be read and pasted."""

    server: Server
    way: Way
    conversation: Conversation

    def __str__(self) -> str:
        return f"{self.server.name} | {self.way} | {self.conversation}"


@dataclass
class Report:
    """What was done; `served` are pairs of server and conversation, `tried` are conversations through the gate."""

    conversations: int = 0
    asked: int = 0
    served: int = 0
    tried: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Report) -> None:
        self.conversations += other.conversations
        self.asked += other.asked
        self.served += other.served
        self.tried += other.tried
        self.findings += other.findings

    def __str__(self) -> str:
        return (
            f"{self.conversations} conversations; {self.asked} times asked directly, {self.served} times served as "
            f"listed; {self.tried} times tried through the gate, {len(self.findings)} findings"
        )


@dataclass
class Comparison:
    """Made by `comparing`. Answers of servers are remembered."""

    servers: Sequence[Server]
    _near: ThreadPoolExecutor
    """Threads in the gateway's namespace."""
    _far: ThreadPoolExecutor
    """Threads in the client's namespace."""
    _served: dict[tuple[str, tuple[bytes, ...]], bool] = field(default_factory=dict)

    def served(self, pairs: Sequence[tuple[Server, Conversation]]) -> list[bool]:
        """Whether a server, asked directly, serves the listed host."""
        new = [pair for pair in dict.fromkeys(pairs) if _key(*pair) not in self._served]
        answers = self._near.map(lambda pair: SERVED_AS_LISTED in ask_directly(*pair), new)
        self._served.update(zip((_key(*pair) for pair in new), answers, strict=True))
        return [self._served[_key(*pair)] for pair in pairs]

    def compare(
        self, conversations: Sequence[Conversation], ways: Sequence[Way] = WAYS, choose: Choice = every_way
    ) -> Report:
        """Try on every server, and then through the gate what a server served."""
        pairs = [(server, conversation) for conversation in conversations for server in self.servers]
        served = self.served(pairs)
        tries = [
            Finding(server, way, conversation)
            for (server, conversation), listed in zip(pairs, served, strict=True)
            if listed or conversation.always
            for way in choose(ways, server, conversation)
        ]
        findings = [each for each, holds in zip(tries, self.let_through(tries), strict=True) if holds]
        return Report(len(conversations), len(pairs), sum(served), len(tries), findings)

    def let_through(self, tries: Sequence[Finding]) -> list[bool]:
        """Whether the gate brings the answer of the listed host back."""
        return list(
            self._far.map(lambda each: SERVED_AS_LISTED in ask_through(each.way, each.server, each.conversation), tries)
        )

    def answers(self, server: Server, ways: Sequence[Way], conversation: Conversation) -> list[bytes]:
        """What comes back on each way, for which a client waits."""
        return list(self._far.map(lambda way: ask_through(way, server, conversation, ENDLESS), ways))

    def learn(self, fuzzer: Fuzzer, conversations: Sequence[Conversation]) -> None:
        """Tell a fuzzer by which servers each of them is served as listed."""
        served = self.served([(server, each) for each in conversations for server in self.servers])
        answers = iter(served)
        for each in conversations:
            fuzzer.keep(each, frozenset(server.name for server in self.servers if next(answers)))

    def minimise(self, finding: Finding) -> Finding:
        """A smaller conversation that is still served as listed, and still let through."""
        left = CANDIDATES
        while left > 0:
            for candidates in _smaller(finding.conversation):
                left -= len(candidates)
                held = self._holding(finding, candidates)
                if held is not None:
                    finding = held
                    break
                if left <= 0:
                    return finding
            else:
                return finding
        return finding

    def _holding(self, finding: Finding, candidates: Sequence[Conversation]) -> Finding | None:
        served = self.served([(finding.server, candidate) for candidate in candidates])
        tries = [
            Finding(finding.server, finding.way, candidate)
            for candidate, listed in zip(candidates, served, strict=True)
            if listed or candidate.always
        ]
        held = [each for each, holds in zip(tries, self.let_through(tries), strict=True) if holds]
        return min(held, key=lambda each: len(b"".join(each.conversation.sends)), default=None)

    def distinct(self, findings: Sequence[Finding], limit: int) -> Iterator[Finding]:
        """Findings made small, as many as `limit`; one of each server first, and the same conversation once."""
        first = {each.server.name: each for each in reversed(findings)}
        by_conversation = {each.conversation: each for each in (*first.values(), *findings)}
        seen = set()
        for each in list(by_conversation.values())[:limit]:
            small = self.minimise(each)
            if small.conversation not in seen:
                seen.add(small.conversation)
                yield small


def search(
    comparison: Comparison, fuzzer: Fuzzer, ways: Sequence[Way], *, seconds: float = 0, number: int = 0
) -> Report:
    """Try `number` conversations, or as many as `seconds` last for; each on one way of each mode."""
    report = Report()
    comparison.learn(fuzzer, list(SEEDS.values()))
    deadline = time.monotonic() + seconds
    while report.conversations < number or time.monotonic() < deadline:
        batch = list(dict.fromkeys(fuzzer.next() for _ in range(BATCH)))
        report.add(comparison.compare(batch, ways, one_of_each))
        comparison.learn(fuzzer, batch)
    return report


def summary(findings: Sequence[Finding], names: dict[Conversation, str] | None = None) -> str:
    """Conversations with the servers and the ways on which they came through."""
    grouped: dict[Conversation, dict[str, list[str]]] = {}
    for each in findings:
        grouped.setdefault(each.conversation, {}).setdefault(each.server.name, []).append(str(each.way))
    lines = []
    for conversation, places in list(grouped.items())[:SHOWN]:
        lines += [f"{(names or {}).get(conversation, 'a new one')}:", f"    {conversation}"]
        lines += [f"    {server}: {'; '.join(ways)}" for server, ways in places.items()]
    if len(grouped) > SHOWN:
        lines.append(f"and {len(grouped) - SHOWN} conversations more")
    return "\n".join(lines)


def _key(server: Server, conversation: Conversation) -> tuple[str, tuple[bytes, ...]]:
    return server.name, conversation.sends


def _smaller(conversation: Conversation) -> Iterator[list[Conversation]]:
    """Groups of smaller conversations, the largest steps first."""
    sends = conversation.sends

    def variant(*changed: bytes) -> Conversation:
        return Conversation(changed, conversation.always)

    if len(sends) > 1:
        yield [variant(*sends[:place], *sends[place + 1 :]) for place in range(len(sends))]
        yield [
            variant(*sends[:place], sends[place] + sends[place + 1], *sends[place + 2 :])
            for place in range(len(sends) - 1)
        ]
    lines = [
        variant(*sends[:place], send.replace(line, b"", 1), *sends[place + 1 :])
        for place, send in enumerate(sends)
        for line in send.splitlines(keepends=True)
        if line.strip() and line != send
    ]
    if lines:
        yield lines
    size = max(map(len, sends), default=0) // 2
    while size:
        yield [
            variant(*sends[:place], send[:start] + send[start + size :], *sends[place + 1 :])
            for place, send in enumerate(sends)
            for start in range(0, len(send), size)
        ]
        size //= 2


@contextmanager
def comparing(net: Network, servers: Sequence[Server]) -> Iterator[Comparison]:
    """A comparison with its threads."""
    with _threads(net.gateway, DIRECTLY) as near, _threads(net.client, THROUGH_THE_GATE) as far:
        yield Comparison(servers, near, far)


def _threads(space: Space, number: int) -> ThreadPoolExecutor:
    """Threads in a network namespace."""

    def enter() -> None:
        with Path(f"/proc/{space.pid}/ns/net").open() as file:
            os.setns(file.fileno(), os.CLONE_NEWNET)

    return ThreadPoolExecutor(number, initializer=enter)
