"""The event loop: uvloop's where it is installed, asyncio's elsewhere."""

from __future__ import annotations

import asyncio
from typing import Any

try:
    import uvloop
except ImportError:  # it does not exist for every platform
    new_event_loop = asyncio.new_event_loop
else:

    class _Loop(uvloop.Loop):
        def set_task_factory(self, factory: Any) -> None:
            """uvloop says `eager_start` to each factory; that of Python before 3.13.4 does not know the word."""
            if factory is None:
                super().set_task_factory(None)
                return

            def make(loop: Any, coroutine: Any, *, eager_start: bool | None = None, **options: Any) -> Any:  # noqa: ARG001
                return factory(loop, coroutine, **options)

            super().set_task_factory(make)

    def new_event_loop() -> asyncio.AbstractEventLoop:
        return _Loop()
