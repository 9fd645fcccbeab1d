"""What judging a host and loading a list cost. Run: .venv/bin/python tests/bench/judgement.py [--json] [--large]

With --large, a list of 10 M domains beside those of 10 k and 1 M; it takes some minutes and 3 GB.

Each figure is the best of several rounds: the machine's noise only ever adds. The bounds are those of
the design; status 1 if one is missed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from stoplist.core.decide import Ruleset, decide
from stoplist.core.hosts import Host
from stoplist.core.lists.envelope import build
from stoplist.core.lists.keys import ListKey, TrustedKey
from stoplist.core.lists.signed_list import SignedList
from stoplist.core.policy.text import PolicyText
from stoplist.tools.publishing.publish import public_pem

POLICY = Path(__file__).parent.parent.parent / "policies" / "demo.yaml"
NOW = datetime.now(UTC)
ROUNDS = 7


def seconds(step: Callable[[], object]) -> float:
    """The shortest of several runs."""

    def once() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return min(once() for _ in range(ROUNDS))


class Bench:
    def __init__(self, domains: int) -> None:
        signers = [CryptoSigner.generate_ed25519() for _ in range(2)]
        self._list_key = ListKey(os.urandom(32))
        self._trusted = [TrustedKey.parse(public_pem(signer)) for signer in signers]
        envelope = build(
            (f"d{number}.listed{number % 97}.example" for number in range(domains)),
            list_id="bench",
            serial=1,
            issued=NOW,
            expires=NOW + timedelta(days=1),
            list_key=self._list_key,
        )
        for signer in signers:
            envelope = envelope.signed_by(signer)
        self._data = envelope.to_bytes()
        self._domains = domains

    def open(self) -> SignedList:
        return SignedList.open(self._data, trusted=self._trusted, threshold=2, list_keys=[self._list_key], now=NOW)

    def load_seconds(self) -> float:
        return seconds(self.open)

    def bytes_per_domain(self) -> tuple[float, float]:
        """Steady, and at the peak of loading with the bytes of the file itself."""
        tracemalloc.start()
        kept = self.open()
        steady, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept.digests.count == self._domains
        return steady / self._domains, (peak + len(self._data)) / self._domains

    def decide_microseconds(self) -> float:
        ruleset = Ruleset.of(PolicyText.parse(POLICY.read_bytes(), "demo").policy, [self.open()])
        hosts = [Host.parse(f"www.shop{number}.site{number}.test") for number in range(2000)]
        now = NOW.timestamp()

        def judge() -> None:
            for host in hosts:
                decide(ruleset, host, now)

        return seconds(judge) / len(hosts) * 1e6


def parse_microseconds(form: str) -> float:
    hosts = [form.format(number) for number in range(2000)]
    return seconds(lambda: [Host.parse(host) for host in hosts]) / len(hosts) * 1e6


def main() -> int:
    small, large = Bench(10_000), Bench(1_000_000)
    steady, peak = large.bytes_per_domain()
    rows: list[tuple[str, float, str, float | None]] = [
        ("decide(), 4 labels, 10 k domains", small.decide_microseconds(), "us", 6),
        ("decide(), 4 labels, 1 M domains", large.decide_microseconds(), "us", None),
        ("Host.parse, canonical", parse_microseconds("www.shop{}.site.test"), "us", None),
        ("Host.parse, to be canonicalised", parse_microseconds("WWW.b\u00fccher{}.test."), "us", None),
        ("verify and load 1 M domains", large.load_seconds(), "s", 0.2),
        ("memory per domain, steady", steady, "bytes", 20),
        ("memory per domain, peak with the file", peak, "bytes", 60),
    ]
    if "--large" in sys.argv:
        del small, large
        huge = Bench(10_000_000)
        rows += [
            ("decide(), 4 labels, 10 M domains", huge.decide_microseconds(), "us", 12),
            ("verify and load 10 M domains", huge.load_seconds(), "s", 2),
        ]
    if "--json" in sys.argv:
        print(json.dumps([dict(zip(("what", "value", "unit", "bound"), row, strict=True)) for row in rows]))
    else:
        for what, value, unit, bound in rows:
            print(f"{what:42} {value:9.3f} {unit:6} {f'bound {bound:g}' if bound else ''}".rstrip())
    return int(any(bound is not None and value > bound for _, value, _, bound in rows))


if __name__ == "__main__":
    sys.exit(main())
