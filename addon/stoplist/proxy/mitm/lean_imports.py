"""Lean imports: the gate imports only the mitmproxy add-ons that it uses.

The package `mitmproxy.addons` imports all of its add-ons, and with them a web server, LDAP and more. That takes
half the time of a start.
"""

from __future__ import annotations

import importlib.util
import sys


def import_add_ons_one_by_one() -> None:
    """Make `mitmproxy.addons` import nothing by itself in this process, unless it was imported before."""
    name = "mitmproxy.addons"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
