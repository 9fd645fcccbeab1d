"""HealthCheck: collects the health of this gate for metrics.py. Threads of the metrics endpoint call it.

Rules
  - It answers only while the event loop runs, so that a gate that hangs does not look healthy.
  - It reads nothing that changes when a request is stopped, except the counts of closed periods.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from stoplist import __version__, loading
from stoplist.metrics import Health, LaneHealth, ListHealth, WorkersHealth
from stoplist.proxy.counting.period_counts import PeriodCounts
from stoplist.proxy.counting.shared_counters import OPENED_WITHIN, Number
from stoplist.proxy.reload.ca_in_force import CurrentCa
from stoplist.proxy.reload.ruleset_store import RulesetStore

ANSWER_SECONDS = 2.0
"""How long the event loop may take to run a callback."""


class HealthCheck:
    """Reads the health of a gate of one process, or of a supervisor, which passes `workers`."""

    def __init__(
        self,
        store: RulesetStore,
        period_counts: PeriodCounts,
        current_ca: CurrentCa,
        is_ready: Callable[[], bool],
        workers: Callable[[], WorkersHealth] | None = None,
    ) -> None:
        self._store = store
        self._period_counts = period_counts
        self._current_ca = current_ca
        self._is_ready = is_ready
        self._workers = workers
        self._started = time.time()

    def answer(self, loop: asyncio.AbstractEventLoop) -> Health:
        """The health of the gate. Raises TimeoutError where the event loop hangs, RuntimeError where it has ended."""
        turned = threading.Event()
        loop.call_soon_threadsafe(turned.set)
        if not turned.wait(ANSWER_SECONDS):
            raise TimeoutError
        reload, authority = self._store.reload, self._current_ca.current
        return Health(
            version=__version__,
            started=self._started,
            is_ready=self._is_ready(),
            lists=self._lists(),
            is_change_refused=reload.is_refused,
            reloads=reload.results,
            reloaded=reload.time or self._started,
            reload_seconds=reload.seconds,
            workers=self._workers() if self._workers is not None else None,
            lane=_lane(self._period_counts.numbers()),
            faults=self._period_counts.numbers()[Number.FAULTS],
            ca_expires=authority.ends.timestamp() if authority is not None else None,
            has_unwritten_counts=self._period_counts.has_unwritten,
            closed=self._period_counts.closed,
        )

    def _lists(self) -> list[ListHealth]:
        ruleset, kept_out = self._store.current.ruleset, self._store.reload.kept_out
        enforced = {
            signed.header.list
            for wanted, signed in zip(ruleset.policy.lists, ruleset.lists, strict=True)
            if wanted.mode == "enforce"
        }
        found = []
        for wanted, signed in zip(ruleset.policy.lists, ruleset.lists, strict=True):
            header = signed.header
            file = loading.list_file(self._store.path, wanted)
            is_beside = wanted.mode == "observe" and header.list in enforced
            found.append(
                ListHealth(
                    list=f"{header.list} (observed)" if is_beside else header.list,
                    serial=header.serial,
                    domains=header.count,
                    signers=len(signed.signers),
                    issued=header.issued.timestamp(),
                    expires=header.expires.timestamp(),
                    is_enforced=ruleset.policy.enforces(wanted),
                    is_refused=file in kept_out and kept_out[file] is None,
                    held=kept_out.get(file),
                )
            )
        return found


def _lane(numbers: list[int]) -> LaneHealth:
    return LaneHealth(
        tunnels=numbers[Number.TUNNELS],
        bytes_from_clients=numbers[Number.FROM_CLIENTS],
        bytes_to_clients=numbers[Number.TO_CLIENTS],
        opened_within=OPENED_WITHIN,
        opened=numbers[Number.OPENED : Number.OPENED + len(OPENED_WITHIN) + 1],
        opened_seconds=numbers[Number.OPENED_MICROSECONDS] / 1_000_000,
    )
