"""The event loop: that of uvloop where it is installed, that of asyncio elsewhere."""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
from typing import Any

try:
    import uvloop
except ImportError:  # uvloop does not exist for every platform
    new_event_loop = asyncio.new_event_loop
else:

    class _Loop(uvloop.Loop):
        def set_task_factory(self, factory: Any) -> None:
            """uvloop passes `eager_start` to each factory; the factory of Python before 3.13.4 does not accept it."""
            if factory is None:
                super().set_task_factory(None)
                return

            def make(loop: Any, coroutine: Any, *, eager_start: bool | None = None, **options: Any) -> Any:  # noqa: ARG001
                return factory(loop, coroutine, **options)

            super().set_task_factory(make)

        async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
            """uvloop has four threads for all slow work; the default executor may have more."""
            return await self.run_in_executor(None, functools.partial(socket.getaddrinfo, host, port, **options))

        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            """Connect to a numeric `address`. uvloop would look it up all the same."""
            error = sock.connect_ex(address)
            if error == errno.EINPROGRESS:
                connected = self.create_future()
                self.add_writer(sock, _wake, connected)
                try:
                    await connected
                finally:
                    self.remove_writer(sock)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))

    def _wake(waiting: asyncio.Future[None]) -> None:
        if not waiting.done():
            waiting.set_result(None)

    def new_event_loop() -> asyncio.AbstractEventLoop:
        return _Loop()
