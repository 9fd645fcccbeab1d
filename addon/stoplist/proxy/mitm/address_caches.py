"""Forgetting: what libraries would remember of clients and hosts after a connection has ended.

Python and mitmproxy keep what they found out about the last 128 addresses, to find it again sooner. A gate looks up
each once or twice: what it would gain is nothing, and who asked, and for what, would stay in memory.

Rules
  - What is remembered there has to do with an address. It is found out anew each time, by the same functions.
"""

from __future__ import annotations

import inspect
from ipaddress import IPv4Address, IPv6Address

from mitmproxy.utils import human


def remember_no_address() -> None:
    """Have each address looked at anew, in the whole process; once or more often."""
    human.format_address = inspect.unwrap(human.format_address)
    for kind in (IPv4Address, IPv6Address):
        for name in ("is_private", "is_global"):
            remembering = inspect.getattr_static(kind, name)
            setattr(kind, name, property(inspect.unwrap(remembering.fget)))
