"""mitmdump -s faulty.py: the add-on with a fault in each step of its judgement."""

from __future__ import annotations

import os

from stoplist.core.decide import Verdict
from stoplist.proxy.addon import Stoplist


class Faulty(Stoplist):
    """Judges by raising, for the call named by FAULT_AT on (1 is the first of the process)."""

    _calls = 0

    def _judge(self, *names: str | bytes | None) -> Verdict:
        self._calls += 1
        if self._calls >= int(os.environ["FAULT_AT"]):
            raise ZeroDivisionError
        return super()._judge(*names)


addons = [Faulty()]
