"""Address caches: the gate turns off caches in which libraries keep addresses after a connection has ended.

Python and mitmproxy cache what they computed about the last 128 addresses. A gate looks up each address once or
twice, so it gains nothing from these caches. They would keep the addresses of clients and servers in memory.

Rules
  - Only functions of an address change here. They compute each result anew, with the same code.
"""

from __future__ import annotations

import inspect
from ipaddress import IPv4Address, IPv6Address

from mitmproxy.utils import human


def remember_no_address() -> None:
    """Turn off the caches of addresses in the whole process. It may be called more than once."""
    human.format_address = inspect.unwrap(human.format_address)
    for kind in (IPv4Address, IPv6Address):
        for name in ("is_private", "is_global"):
            remembering = inspect.getattr_static(kind, name)
            setattr(kind, name, property(inspect.unwrap(remembering.fget)))
