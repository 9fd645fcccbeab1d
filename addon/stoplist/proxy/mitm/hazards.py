"""Hazards: options and add-ons of mitmproxy that could break a promise of Stoplist.

A gate in mitmdump logs them at its start.
"""

from __future__ import annotations

import os
from types import ModuleType

from mitmproxy.master import Master

from stoplist.proxy.log import records

KEY_LOGS = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")
"""Environment variables that name a file to which mitmproxy writes the keys of its TLS towards servers."""
_RECORDERS = {"view", "eventstore"}
"""Add-ons of mitmproxy's other programs, which keep every request or every record in memory."""


def hazards(master: Master) -> list[records.Hazard]:
    """The options and variables that break a promise as they are set, and the add-ons that could break one."""
    options = master.options
    found = {
        "flow_detail": (bool(getattr(options, "flow_detail", 0)), "prints every request; set it to 0"),
        "save_stream_file": (
            bool(getattr(options, "save_stream_file", None)),
            "saves every request to a file; unset it",
        ),
        "hardump": (bool(getattr(options, "hardump", "")), "saves every request to a file; unset it"),
        "stickyauth": (bool(getattr(options, "stickyauth", None)), "keeps passwords for later requests; unset it"),
        "stickycookie": (bool(getattr(options, "stickycookie", None)), "keeps cookies for later requests; unset it"),
        "ignore_hosts": (bool(options.ignore_hosts), "lets some hosts pass without a look at the lists; unset it"),
        "allow_hosts": (bool(options.allow_hosts), "lets some hosts pass without a look at the lists; unset it"),
        "show_ignored_hosts": (options.show_ignored_hosts, "records the bytes of tunnels; unset it"),
        "store_streamed_bodies": (options.store_streamed_bodies, "keeps bodies in memory; unset it"),
        "proxy_debug": (options.proxy_debug, "logs connections in detail; unset it"),
    }
    return [
        *(records.Hazard(f"option {option}", hazard) for option, (is_set, hazard) in found.items() if is_set),
        *(
            records.Hazard(f"variable {name}", "writes TLS keys to a file; unset it")
            for name in KEY_LOGS
            if os.environ.get(name)
        ),
        *(records.Hazard(f"add-on {name}", "can see and record every request; remove it") for name in _others(master)),
    ]


def _others(master: Master) -> list[str]:
    """The add-ons that belong neither to Stoplist nor to mitmdump."""

    def is_ours(addon: object) -> bool:
        if isinstance(addon, ModuleType):  # a script
            return all(is_ours(each) for each in getattr(addon, "addons", (None,)))
        return type(addon).__module__.startswith("stoplist.")

    return sorted(
        name
        for name, addon in master.addons.lookup.items()
        if not is_ours(addon) and (not type(addon).__module__.startswith("mitmproxy.addons.") or name in _RECORDERS)
    )
