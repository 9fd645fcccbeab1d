"""Debian's Chromium on the gateway of a `Network`, driven by Playwright.

Each context names its gate as its proxy. Chromium itself has one where nothing listens, so that no gate sees
what it asks for on its own account.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.network import SECONDS, Network, need

NOTHING_THERE = "http://127.0.0.1:9"
FLAGS = (
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    *("--disable-quic", "--disable-gpu"),
)


@contextmanager
def chromium(net: Network, home: Path, *trusted: Path) -> Iterator[Browser]:
    """A browser that trusts these authorities beside its own; `home` is a new folder, for all that it writes."""
    need("chromium", "certutil", "nsenter")
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    _certutil(database, "-N", "--empty-password")
    for authority in trusted:
        _certutil(database, "-A", "-n", str(authority), "-t", "C,,", "-i", str(authority))
    program = home / "chromium"
    program.write_text('#!/bin/sh\nexec {} "$@"\n'.format(" ".join(f"'{word}'" for word in net.enter("chromium"))))
    program.chmod(0o700)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program,
            args=FLAGS,
            proxy={"server": NOTHING_THERE},
            env={"HOME": str(home)},
            timeout=1000 * SECONDS,
        )
        yield browser
        browser.close()


def _certutil(database: Path, *arguments: str) -> None:
    subprocess.run(["certutil", "-d", f"sql:{database}", *arguments], check=True, capture_output=True)
