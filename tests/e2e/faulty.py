"""The command line, with a fault wherever a file says.

Run as ``python faulty.py PLACE FIRED run POLICY ...``: whenever the process comes to the place that the
file PLACE holds at that moment, `module:function` or, in a hook, `hooks:line` and zero bytes to its end, an
exception is raised there, and the file FIRED gets a line `fault at` the place. While PLACE holds `record`, FIRED
gets a line for each place.
"""

from __future__ import annotations

import mmap
import sys
from pathlib import Path
from types import CodeType

import stoplist
from stoplist.cli import main

PACKAGE = str(Path(stoplist.__file__).parent)
place, fired = Path(sys.argv.pop(1)).open("r+b"), Path(sys.argv.pop(1)).open("ab", buffering=0)  # noqa: SIM115
shared = mmap.mmap(place.fileno(), 0)


HOOKS = ("HookContext.", "ConnectionHooks.", "TlsHooks.", "RequestHooks.", "Stoplist.")


class InjectedError(Exception):
    pass


def start(code: CodeType, _: int) -> object:
    return at(code, code.co_qualname)


def line(code: CodeType, number: int) -> object:
    is_hook = code.co_qualname.startswith(HOOKS) and code.co_name not in ("count_fault", "client_disconnected")
    return at(code, str(number)) if is_hook else sys.monitoring.DISABLE


def at(code: CodeType, here: str) -> object:
    if not code.co_filename.startswith(PACKAGE):
        return sys.monitoring.DISABLE
    wanted = shared[:].rstrip(b"\0")
    if wanted:
        found = f"{Path(code.co_filename).stem}:{here}"
        if wanted == b"record":
            fired.write(f"{found}\n".encode())
        elif wanted == found.encode():
            fired.write(f"fault at {found}\n".encode())
            raise InjectedError
    return None


EVENTS = sys.monitoring.events
TOOL = 3
sys.monitoring.use_tool_id(TOOL, "faulty")
sys.monitoring.register_callback(TOOL, EVENTS.PY_START, start)
sys.monitoring.register_callback(TOOL, EVENTS.LINE, line)
sys.monitoring.set_events(TOOL, EVENTS.PY_START | EVENTS.LINE)
main()
