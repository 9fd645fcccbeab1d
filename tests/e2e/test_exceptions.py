"""A browser without the gate's CA: a person who proceeds sees the page, and is not asked again in the same week."""

from __future__ import annotations

import shutil
import ssl
from pathlib import Path

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Page, expect

from stoplist.core.counts import Outcome
from tests.e2e.browser import chromium
from tests.e2e.desk import Desk
from tests.e2e.firefox import Firefox, FirefoxError, firefox
from tests.e2e.network import SECONDS, Gate, Network
from tests.e2e.ways import read_head, secure

LISTED = "https://listed.test/"
BELOW = "https://www.listed.test/"
TITLE = "Access to this site was stopped"


def _shown_leaf(gate: Gate, host: str) -> bytes:
    """The certificate that a client without the CA is shown, as DER."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with gate.connect() as connection:
        connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in read_head(connection)
        shown = secure(connection, host, context).tls.getpeercert(binary_form=True)
    assert shown
    return shown


def _warns_chromium(page: Page, url: str) -> None:
    with pytest.raises(PlaywrightError, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(url)


def test_an_exception_for_the_certificate_holds_in_chromium(net: Network, own_gate: Gate, tmp_path: Path):
    with chromium(net, tmp_path / "home") as browser:
        page = browser.new_context(proxy={"server": own_gate.url}).new_page()
        page.set_default_timeout(1000 * SECONDS)
        _warns_chromium(page, LISTED)
        page.locator("#details-button").click()
        page.locator("#proceed-link").click()
        expect(page.locator("h1")).to_have_text(TITLE)
        for _ in range(3):  # each load is another connection with another handshake
            page.goto(LISTED)
            expect(page.locator("h1")).to_have_text(TITLE)
        _warns_chromium(page, BELOW)  # the exception was for one host
    own_gate.process.end()
    assert own_gate.counts()["test", Outcome.STOPPED] >= 4


def _warns_firefox(browser: Firefox, url: str) -> None:
    with pytest.raises(FirefoxError) as told:
        browser.open(url)
    assert told.value.kind == "insecure certificate"


def test_an_exception_for_the_certificate_holds_in_firefox(net: Network, own_gate: Gate, tmp_path: Path):
    with firefox(net, tmp_path / "home", own_gate) as browser:
        _warns_firefox(browser, LISTED)
        browser.proceed()
        browser.wait_until("document.title === arguments[0]", TITLE)
        for _ in range(3):
            browser.open(LISTED)
            assert browser.script("return document.title") == TITLE
        _warns_firefox(browser, BELOW)
    own_gate.process.end()
    assert own_gate.counts()["test", Outcome.STOPPED] >= 4


def test_workers_and_the_next_gate_show_the_same_certificate(net: Network, desk: Desk, tmp_path: Path):
    """Two workers answer in turn; then another gate serves from the same state directory."""
    shown = set()
    for options, times in ((("--workers", "2"), 12), ((), 2)):
        gate = net.gate(desk.policy, tmp_path / "state", *options)
        try:
            shown |= {_shown_leaf(gate, "listed.test") for _ in range(times)}
        finally:
            gate.process.end()
    assert len(shown) == 1


def test_two_gates_with_an_operators_ca_show_the_same_certificate(net: Network, desk: Desk, tmp_path: Path):
    first = net.gate(desk.policy, tmp_path / "first")
    try:
        (tmp_path / "second").mkdir(mode=0o700)
        shutil.copy(tmp_path / "first" / "ca.pem", tmp_path / "second" / "ca.pem")
        second = net.gate(desk.policy, tmp_path / "second")
        try:
            assert _shown_leaf(first, "www.listed.test") == _shown_leaf(second, "www.listed.test")
            assert _shown_leaf(first, "www.listed.test") != _shown_leaf(first, "listed.test")
        finally:
            second.process.end()
    finally:
        first.process.end()
