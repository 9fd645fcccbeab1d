"""The command line, with a log of every connection that the lane hands to mitmproxy.

Run as ``python handing.py LOG run POLICY ...``: one line for each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from stoplist.cli import main

log = Path(sys.argv.pop(1)).open("a", buffering=1)  # noqa: SIM115  open as long as the gate
make = ProxyConnectionHandler.__init__


def made(self: ProxyConnectionHandler, *arguments: object) -> None:
    log.write("handed\n")
    make(self, *arguments)


ProxyConnectionHandler.__init__ = made
main()
