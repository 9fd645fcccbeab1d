"""Lean: takes of mitmproxy only the add-ons that a gate has.

Their package imports all of them, and with them a web server, LDAP and more: half of what a start takes.
"""

from __future__ import annotations

import importlib.util
import sys


def import_add_ons_one_by_one() -> None:
    """Have `mitmproxy.addons` import nothing by itself in this process, unless it did so before."""
    name = "mitmproxy.addons"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
