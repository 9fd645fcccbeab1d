"""Firefox ESR opens the pages of the gate: what Chromium shows, another engine shows as well."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoplist.page import languages
from tests.e2e.conftest import EVERY_LANGUAGE
from tests.e2e.desk import Desk
from tests.e2e.firefox import Firefox, FirefoxError, firefox
from tests.e2e.network import NO_ADDRESS, Gate, Network

LISTED = "https://listed.test/some/page"
IN_VIEW = """
const box = [...document.querySelectorAll(arguments[0])].pop().getBoundingClientRect();
return box.top >= 0 && box.bottom <= window.innerHeight && box.left >= 0 && box.right <= window.innerWidth;
"""


@pytest.fixture(scope="module")
def web(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate whose pages are in all languages of the package."""
    folder = tmp_path_factory.mktemp("web")
    desk = Desk(Path(shutil.copytree(first_desk.folder, folder / "desk")))
    spoken = f"  languages: [{', '.join(languages.included())}]\n"
    desk.policy.write_text(desk.policy.read_text().replace("tests:", f"{spoken}tests:"))
    gate = net.gate(desk.policy, folder / "state")
    yield gate
    gate.process.end()
    assert "fault" not in gate.log()


@pytest.fixture(scope="module")
def browser(net: Network, web: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A browser that trusts the gate's CA, with a window as narrow as it can be."""
    home = tmp_path_factory.mktemp("firefox") / "home"
    with firefox(net, home, web, trusted=(web.ca, net.origin_ca)) as browser:
        browser.command("WebDriver:SetWindowRect", width=360, height=740)
        yield browser


OWN = {
    f"http://www.{NO_ADDRESS}/": "This site cannot be found",
    "http://down.test:4444/": "This site does not answer",
}


@pytest.mark.parametrize("language", ["en", "ru", "ar"])
@pytest.mark.parametrize("url", OWN)
def test_a_page_of_the_gate_itself_speaks_the_language_of_the_browser(browser: Firefox, url: str, language: str):
    browser.set_language(language)
    browser.open(url)
    assert browser.script("return [document.documentElement.lang, document.title]") == [
        language,
        _said(OWN[url], language),
    ]
    assert browser.script(IN_VIEW, ".lead")
    assert browser.script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_gate_itself_says_what_it_is_and_links_nothing(browser: Firefox, web: Gate):
    browser.set_language("it")
    browser.open(web.url)
    assert browser.script("return [document.title, document.links.length]") == ["Questo è un filtro web", 0]


def test_a_tunnel_that_leads_nowhere_shows_the_browsers_own_page(browser: Firefox):
    """A page over HTTPS would need a certificate for a host that is not listed."""
    with pytest.raises(FirefoxError, match="neterror"):
        browser.open(f"https://www.{NO_ADDRESS}/")


def _said(message: str, language: str) -> str:
    return languages.of_package(language).gettext(message)


@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_page_says_first_what_a_frightened_child_needs(net: Network, browser: Firefox, language: str):
    browser.set_language(language)
    with net.nothing_reaches_the_origin():
        browser.open(LISTED)
    assert browser.script("return [document.documentElement.lang, document.title]") == [
        language,
        _said("Access to this site was stopped", language),
    ]
    assert browser.script("return [...document.querySelectorAll('.lead')].map(each => each.textContent)") == [
        _said(message, language)
        for message in (
            "You are not in trouble.",
            "This page tells nobody that you saw it.",
            "You can close this page now.",
        )
    ]
    assert browser.script(IN_VIEW, ".lead")
    assert browser.script(IN_VIEW, "section:first-of-type ul:first-of-type li")
    assert browser.script("return document.querySelector('main details').open") is False
    assert browser.script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")
