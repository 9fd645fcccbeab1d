"""Steps: the callbacks of a tunnel. Each fails closed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

from stoplist.core.decide import Verdict
from stoplist.core.wire.client_hello import HelloError
from stoplist.core.wire.conversations import RefusedError


class Steps(Protocol):
    """A class with steps: the three ways in which a step ends its tunnel."""

    def end(self) -> None:
        """End the tunnel: the client or the server is gone, or the ClientHello is malformed."""

    def refuse(self, verdict: Verdict) -> None:
        """End the tunnel, and count the verdict."""

    def fail(self, error: BaseException) -> None:
        """End the tunnel, and count a fault."""


def step[S: Steps](callback: Callable[[S], None]) -> Callable[[S], None]:
    """Make a callback of a tunnel fail closed: any exception ends the tunnel."""

    @functools.wraps(callback)
    def guarded(self: S) -> None:
        try:
            callback(self)
        except (OSError, HelloError):
            self.end()
        except RefusedError as error:
            self.refuse(error.verdict)
        except Exception as error:
            self.fail(error)

    return guarded
