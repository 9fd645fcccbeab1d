"""A program in Python, with an ear that tells what its objects hold.

Run as ``python holding.py SOCKET PROGRAM ...``. Who connects to the Unix socket SOCKET, and sends a line with a
regular expression, gets a line of JSON: all that it finds in any text, bytes or address that an object of the
program holds, in lower case, each with the types of what holds it. What was freed is held by nothing.
"""

from __future__ import annotations

import gc
import json
import re
import runpy
import socket
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

NEAREST = 8
"""How many of those that hold something are told."""

Holders = dict[int, object]
"""For the identity of each object one that holds it."""


def texts(holders: Holders) -> Iterator[tuple[object, bytes]]:
    """All that is held and can be read; `holders` is filled meanwhile."""
    gc.unfreeze()
    waiting = gc.get_objects()
    holders |= dict.fromkeys((id(holders), id(waiting)))
    while waiting:
        further = []
        for holder in waiting:
            if holder is holders or holder is further:
                continue
            for each in gc.get_referents(holder):
                if id(each) in holders:
                    continue
                holders[id(each)] = holder
                if isinstance(each, bytes | bytearray | memoryview):
                    yield each, bytes(each)
                elif isinstance(each, str | IPv4Address | IPv6Address):
                    yield each, str(each).encode(errors="replace")
                else:
                    further.append(each)
        waiting = further


def held_by(each: object, holders: Holders) -> list[str]:
    names = []
    while (each := holders.get(id(each))) is not None and len(names) < NEAREST:
        names.append(f"{type(each).__module__}.{type(each).__qualname__}")
    return names


def found(wanted: re.Pattern[bytes]) -> dict[str, list[str]]:
    """What is held now. Nothing is held by this afterwards."""
    told, holders = dict[str, list[str]](), Holders()
    for each, data in texts(holders):
        for match in wanted.findall(data):
            told[match.decode(errors="replace").lower()] = held_by(each, holders)
    return told


def tell(ear: socket.socket) -> None:
    while True:
        asker, _ = ear.accept()
        with asker, asker.makefile("rw") as words:
            wanted = re.compile(words.readline().rstrip("\n").encode(), re.IGNORECASE)
            words.write(json.dumps(found(wanted)) + "\n")


ear = socket.socket(socket.AF_UNIX)
ear.bind(sys.argv[1])
ear.listen()
threading.Thread(target=tell, args=(ear,), daemon=True).start()
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
