"""Chromium opens the stop page: people can read and use it, however they browse, and it asks for nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Frame, Page, expect
from playwright.sync_api import Error as PlaywrightError

from stoplist.core.counts import Outcome
from stoplist.page import languages
from tests.e2e import layout
from tests.e2e.browser import chromium
from tests.e2e.conftest import EVERY_LANGUAGE
from tests.e2e.desk import Desk
from tests.e2e.network import LATE_SECONDS, NO_ADDRESS, SECONDS, Gate, Network, need

LISTED = "https://listed.test/some/page?with=query"
CHECK = "https://check.stoplist.invalid/"
URLS = [
    pytest.param("http://listed.test/some/page?with=query", id="http"),
    pytest.param(LISTED, id="https"),
    pytest.param(CHECK, id="check"),
]
HEADINGS = {LISTED: "Access to this site was stopped", CHECK: "The filter works"}
DIRECTIONS = {"en": "ltr", "fr": "ltr", "es": "ltr", "ar": "rtl"}
NAMES = {"en": "English", "fr": "Français", "es": "Español", "ar": "العربية"}
COMPLAINTS = "https://pass.test/mirror/complain"
MORE = """\
    - {topic: worry, name: Kinderschutzberatungsstellenverzeichnisdienst, link: "tel:+000"}
  authority_contact: mailto:list@authority.example
"""
RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]},
    "resultTypes": ["violations"],
}
LAYOUTS = [
    *(pytest.param(LISTED, width, 1, id=f"{width}") for width in (320, 390, 768, 1280, 1920, 3840)),
    *(pytest.param(CHECK, width, 1, id=f"check page, {width}") for width in (320, 3840)),
    pytest.param(LISTED, 320, 4, id="1280 at 400 % zoom"),
]
EMBEDDING = """
<!doctype html><title>surroundings</title>
<script>
  const became = {};
  const note = (what, how) => { became[what] = how; };
</script>
<link rel=stylesheet href=//listed.test/a.css onload="note('style', 'loaded')" onerror="note('style', 'failed')">
<img src=//listed.test/a.png onload="note('image', this.naturalWidth)" onerror="note('image', 'failed')">
<script src=//listed.test/a.js onload="note('script', 'loaded')" onerror="note('script', 'failed')"></script>
<iframe src=//listed.test/frame.html></iframe>
<p>still here</p>
"""
EMBEDDED = {"a.css": "text/css", "a.png": "image/gif", "frame.html": "text/html"}
"""Types of answers; Chromium drops one of another type for a script before anybody sees it."""
FETCH = """async () => {
  const answer = await fetch("https://listed.test/api", {headers: {"X-Own": "1", "Content-Type": "application/json"}});
  return {status: answer.status, type: answer.headers.get("Content-Type"), problem: await answer.json()};
}"""


@pytest.fixture(scope="module")
def web(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate whose page has all that there can be on it, and sends complaints to the origin."""
    folder = tmp_path_factory.mktemp("web")
    desk = Desk(Path(shutil.copytree(first_desk.folder, folder / "desk")))
    text = desk.policy.read_text().replace("mailto:complaints@school.example", COMPLAINTS)
    desk.policy.write_text(text.replace("tests:", f"{MORE}tests:"))
    gate = net.gate(desk.policy, folder / "state")
    yield gate
    gate.process.end()
    assert "fault" not in gate.log()


@pytest.fixture(scope="module")
def all_languages(net: Network, first_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate whose page is in every language of the package, and says all that a page can say."""
    folder = tmp_path_factory.mktemp("all")
    desk = Desk(Path(shutil.copytree(first_desk.folder, folder / "desk")))
    more = f"  checked_by_police: true\n  languages: [{', '.join(languages.included())}]\n"
    text = desk.policy.read_text().replace("https://helpline.example/", "tel:0000")
    text = text.replace("  operator:", "  authority: Example Authority\n  operator:")
    desk.policy.write_text(text.replace("tests:", f"{MORE}{more}tests:"))
    gate = net.gate(desk.policy, folder / "state")
    yield gate
    gate.process.end()
    assert "fault" not in gate.log()


@pytest.fixture(scope="module")
def browser(net: Network, web: Gate, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(net, tmp_path_factory.mktemp("browser") / "home", web.ca, net.origin_ca) as browser:
        yield browser


@pytest.fixture
def tab(web: Gate, browser: Browser) -> Iterator[Callable[..., Page]]:
    """A new tab of somebody new, with options such as `locale`."""
    contexts = []

    def open_tab(**options: object) -> Page:
        contexts.append(browser.new_context(**{"proxy": {"server": web.url}, **options}))
        contexts[-1].set_default_timeout(1000 * SECONDS)
        return contexts[-1].new_page()

    yield open_tab
    for context in contexts:
        context.close()


def _said(message: str, language: str) -> str:
    return languages.of_package(language).gettext(message)


def _heading(url: str, language: str) -> str:
    return _said(HEADINGS[CHECK if url == CHECK else LISTED], language)


def _violations(part: Page | Frame) -> str:
    results = Axe().run(part, options=RULES)
    return results.generate_report() if results.violations_count else ""


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("language", NAMES)
def test_page_speaks_the_language_of_the_browser(tab: Callable[..., Page], language: str, url: str):
    page = tab(locale=language)
    answer = page.goto(url)
    assert answer.status == 403
    assert page.locator("h1").inner_text() == page.title() == _heading(url, language)
    assert page.locator("html").get_attribute("lang") == language
    assert page.locator("html").get_attribute("dir") == DIRECTIONS[language]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("language", NAMES)
def test_page_asks_for_nothing_and_leaves_nothing(net: Network, tab: Callable[..., Page], language: str, url: str):
    page = tab(locale=language)
    asked, messages = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    with net.nothing_reaches_the_origin():
        page.goto(url)
    assert page.evaluate("[document.scripts.length, localStorage.length, sessionStorage.length]") == [0, 0, 0]
    assert page.context.cookies() == []
    assert asked == [url]
    assert messages == ["Failed to load resource: the server responded with a status of 403 (Forbidden)"]


@pytest.mark.parametrize("can_script", [pytest.param(True, id="script"), pytest.param(False, id="no script")])
@pytest.mark.parametrize("url", URLS[:2])
def test_language_is_switched_by_click_and_by_keyboard(
    net: Network, tab: Callable[..., Page], url: str, can_script: bool
):
    page = tab(java_script_enabled=can_script)
    page.goto(url)
    with net.nothing_reaches_the_origin():
        for language in ("fr", "ar", "en"):
            page.get_by_role("link", name=NAMES[language]).click()
            expect(page.locator("h1")).to_have_text(_heading(url, language))
        for tabs, language in enumerate(NAMES, 1):
            for _ in range(tabs):
                page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            expect(page.locator("h1")).to_have_text(_heading(url, language))
            expect(page.locator("[aria-current]")).to_have_text(NAMES[language])


def test_visit_is_one_request_without_an_icon_and_a_switch_is_not_counted(own_gate: Gate, tab: Callable[..., Page]):
    page = tab(proxy={"server": own_gate.url})
    page.goto("http://listed.test/")
    page.get_by_role("link", name=NAMES["fr"]).click()
    expect(page.locator("h1")).to_have_text(_heading(LISTED, "fr"))
    page.wait_for_timeout(LATE_SECONDS * 1000)
    own_gate.process.end()
    assert +own_gate.counts() == Counter({("test", Outcome.STOPPED): 1})


def test_browser_without_the_ca_shows_its_own_error(net: Network, own_gate: Gate, tab: Callable[..., Page]):
    page = tab(proxy={"server": own_gate.url})
    before = len(net.journal()), len(net.queries())
    with pytest.raises(PlaywrightError, match="ERR_CERT_AUTHORITY_INVALID"):
        page.goto(LISTED)
    own_gate.process.end()
    assert own_gate.counts()["test", Outcome.NOT_SHOWN]
    assert not own_gate.counts()["test", Outcome.STOPPED]
    assert net.journal()[before[0] :] == []
    assert not any("listed.test" in query for query in net.queries()[before[1] :])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("url", [pytest.param(LISTED, id="stopped"), pytest.param(CHECK, id="check")])
@pytest.mark.parametrize("language", NAMES)
def test_axe_finds_no_violation(tab: Callable[..., Page], language: str, url: str, scheme: str):
    page = tab(locale=language, color_scheme=scheme)
    page.goto(url)
    assert not _violations(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_a_frame(tab: Callable[..., Page], scheme: str):
    page = tab(color_scheme=scheme)
    page.goto(f"https://pass.test/page?html={quote('<iframe src=https://listed.test/></iframe>')}")
    frame = page.frames[1]
    assert frame.locator("p").inner_text() == "This part of the page was stopped by Example School."
    assert not _violations(frame)


@pytest.mark.parametrize("language", NAMES)
def test_screen_readers_find_landmarks_and_headings(tab: Callable[..., Page], language: str):
    page = tab(locale=language)
    page.goto(LISTED)
    assert page.get_by_role("navigation", name=_said("Languages", language), exact=True).count() == 1
    assert page.get_by_role("main").count() == 1
    sections = page.get_by_role("heading", level=2).all_inner_texts()
    assert sections == [
        _said(section, language)
        for section in (
            "Help",
            "Why",
            "What this means for you",
            "If you think this is a mistake",
            "The list and the law",
        )
    ]
    for section in sections:
        assert page.get_by_role("region", name=section, exact=True).count() == 1
    for tag, name in NAMES.items():
        link = page.get_by_role("link", name=name, exact=True)
        assert link.get_attribute("lang") == tag


@pytest.mark.parametrize(("url", "width", "scale"), LAYOUTS)
@pytest.mark.parametrize("language", NAMES)
def test_layout_holds(tab: Callable[..., Page], language: str, url: str, width: int, scale: int):
    viewport = {"width": width, "height": 256 if scale > 1 else width}
    page = tab(locale=language, viewport=viewport, device_scale_factor=scale)
    page.goto(url)
    assert layout.faults(page) == []
    assert layout.indent(page)[DIRECTIONS[language]] < 1
    layout.space_out(page)
    assert layout.faults(page) == []


PHONE = {"width": 360, "height": 640}
LISTED_WITHOUT_TLS = "http://listed.test/"  # the browser trusts the CA of one gate


@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_first_screen_of_a_phone_says_what_a_frightened_child_needs(
    tab: Callable[..., Page], all_languages: Gate, language: str
):
    """You are not in trouble, nobody is told, you can close this page, here is help: without scrolling."""
    page = tab(proxy={"server": all_languages.url}, locale=language, viewport=PHONE)
    page.goto(LISTED_WITHOUT_TLS)
    for message in (
        "You are not in trouble.",
        "This page tells nobody that you saw it.",
        "You can close this page now.",
        "You need help, or you are worried about a child",
    ):
        expect(page.get_by_text(_said(message, language), exact=True)).to_be_in_viewport(ratio=1)
    helpline = page.locator("section").first.get_by_role("link").first
    assert helpline.get_attribute("href") == "tel:0000"
    expect(helpline).to_be_in_viewport(ratio=1)
    assert "0000" in helpline.inner_text()
    order = page.locator("section").evaluate_all(
        "sections => sections.map(each => each.getAttribute('aria-labelledby'))"
    )
    assert order == ["help", "why", "you", "mistake", "law"]
    expect(page.locator("details p")).to_be_hidden()  # how the numbers are rounded
    page.locator("main summary").click()
    expect(page.locator("details p")).to_be_visible()


@pytest.mark.parametrize("width", [320, 768, 1280])
@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_every_language_fits_and_is_accessible(
    tab: Callable[..., Page], all_languages: Gate, language: str, width: int
):
    page = tab(proxy={"server": all_languages.url}, locale=language, viewport={"width": width, "height": 640})
    page.goto(LISTED_WITHOUT_TLS)
    assert page.locator("html").get_attribute("lang") == language
    for each in page.locator("summary").all():
        each.click()
    assert page.get_by_role("navigation").get_by_role("link").count() == len(languages.included())
    assert layout.faults(page) == []
    assert not _violations(page)
    layout.space_out(page)
    assert layout.faults(page) == []


def test_of_many_languages_the_names_show_when_somebody_opens_them(tab: Callable[..., Page], all_languages: Gate):
    page = tab(proxy={"server": all_languages.url}, java_script_enabled=False, viewport=PHONE)
    page.goto(LISTED_WITHOUT_TLS)
    choice = page.get_by_role("navigation").locator("summary")
    assert choice.inner_text().strip() == "English"
    choice.focus()
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Українська").click()
    expect(page.locator("h1")).to_have_text(_said("Access to this site was stopped", "uk"))
    assert choice.inner_text().strip() == "Українська"


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_a_bullet_stands_beside_the_first_line(
    tab: Callable[..., Page], all_languages: Gate, browser: Browser, language: str
):
    """The name of a help line takes several lines on a narrow screen."""
    page = tab(proxy={"server": all_languages.url}, locale=language, viewport={"width": 320, "height": 3000})
    page.goto(LISTED_WITHOUT_TLS)
    entry = page.locator("main li", has_text="Kinderschutzberatungsstellenverzeichnisdienst")
    link = entry.get_by_role("link")
    first_line, box = layout.first_line(link), entry.bounding_box()
    assert link.bounding_box()["height"] > 1.8 * first_line["height"]
    before = box["x"] - 24 if DIRECTIONS.get(language, "ltr") == "ltr" else box["x"] + box["width"]
    beside = {"x": before, "y": box["y"], "width": 24, "height": box["height"]}
    middle = box["y"] + layout.middle_of_ink(tab(), page.screenshot(clip=beside))
    assert first_line["y"] < middle < first_line["y"] + first_line["height"]


def test_a_number_and_an_address_can_be_read(tab: Callable[..., Page]):
    page = tab()
    page.goto(LISTED)
    for href, shown in (("tel:+000", "(+000)"), ("mailto:list@authority.example", "(list@authority.example)")):
        assert shown in page.locator(f'a[href="{href}"]').inner_text()
    assert page.locator('a[href="mailto:it@school.example"]').inner_text() == "it@school.example"


@pytest.mark.parametrize("colors", ["none", "active"])
def test_focus_is_seen_on_every_link(tab: Callable[..., Page], colors: str):
    page = tab(forced_colors=colors, viewport={"width": 640, "height": 320})
    page.goto(LISTED)
    for link in page.get_by_role("link").all():
        link.scroll_into_view_if_needed()
        before = page.screenshot()
        page.keyboard.press("Tab")
        assert link.evaluate("link => link === document.activeElement")
        assert page.screenshot() != before
        link.evaluate("link => link.blur()")


@pytest.mark.parametrize("language", NAMES)
def test_page_prints_on_two_sheets_with_addresses(tab: Callable[..., Page], tmp_path: Path, language: str):
    need("pdftotext")
    page = tab(locale=language)
    page.goto(LISTED)
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    printed = subprocess.run(
        ["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
    ).stdout
    assert printed.count("\f") <= 2
    for address in (COMPLAINTS, "https://law.example/act", "https://hotline.example/", "it@school.example", "+000"):
        assert address in printed
    assert "stoplist-language" not in printed
    assert "English" not in printed


@pytest.mark.parametrize(
    ("scheme", "expected", "is_page_in_frame"),
    [
        pytest.param("https", {**EMBEDDED, "a.js": "text/javascript"}, False, id="https"),
        pytest.param("http", EMBEDDED, True, id="http, where browsers do not say what an answer is for"),
    ],
)
def test_what_a_page_embeds_gets_an_answer_of_its_kind(
    tab: Callable[..., Page], scheme: str, expected: dict[str, str], is_page_in_frame: bool
):
    page = tab()
    types: dict[str, str] = {}
    page.on("response", lambda answer: types.update({answer.url: answer.headers["content-type"].partition(";")[0]}))
    page.goto(f"{scheme}://pass.test/page?html={quote(EMBEDDING)}")
    page.wait_for_load_state("networkidle")
    types.pop(page.url)
    assert types == {f"{scheme}://listed.test/{name}": of for name, of in expected.items()}
    assert page.evaluate("became") == {"style": "failed", "image": 1, "script": "failed"}
    assert page.frames[1].get_by_role("main").count() == is_page_in_frame
    assert page.get_by_text("still here").is_visible()


def test_script_of_another_site_can_read_why(tab: Callable[..., Page]):
    page = tab()
    page.goto("https://pass.test/")
    got = page.evaluate(FETCH)
    assert (got["status"], got["type"]) == (403, "application/problem+json")
    assert got["problem"]["title"] == "Access to this site was stopped"
    assert got["problem"]["complaints"] == COMPLAINTS
    assert "listed.test" not in json.dumps(got)


OWN = {
    f"http://www.{NO_ADDRESS}/": "This site cannot be found",
    "http://down.test:4444/": "This site does not answer",
    "http://169.254.7.7/": "This address is closed",
}
"""Pages of the gate itself."""


@pytest.mark.parametrize("language", ["en", "uk", "ar"])
@pytest.mark.parametrize("url", OWN)
def test_a_page_of_the_gate_itself_speaks_the_language_of_the_browser(
    tab: Callable[..., Page], all_languages: Gate, url: str, language: str
):
    for width in (320, 768, 1280):
        page = tab(proxy={"server": all_languages.url}, locale=language, viewport={"width": width, "height": 640})
        page.goto(url)
        assert page.locator("h1").inner_text() == page.title() == _said(OWN[url], language)
        assert page.locator("html").get_attribute("dir") == DIRECTIONS.get(language, "ltr")
        assert layout.faults(page) == []
    assert not _violations(page)


def test_the_gate_itself_says_what_it_is_and_links_nothing(tab: Callable[..., Page], all_languages: Gate):
    page = tab(proxy={"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}, locale="de")
    assert page.goto(all_languages.url).status == 200
    assert page.locator("h1").inner_text() == "Das ist ein Webfilter"
    assert page.get_by_role("link").count() == 0
    assert not _violations(page)


@pytest.mark.parametrize("url", URLS[:2])
def test_complaint_does_not_tell_which_site_was_stopped(tab: Callable[..., Page], url: str):
    page = tab()
    page.goto(url)
    page.get_by_role("link", name="send a complaint").click()
    page.wait_for_url(COMPLAINTS)
    received = page.locator("body").inner_text()
    assert received.startswith("GET /mirror/complain HTTP/1.1")
    assert "referer:" not in received.lower()
    assert "listed" not in received
    assert page.evaluate("[document.referrer, window.opener, window.name]") == ["", None, ""]
