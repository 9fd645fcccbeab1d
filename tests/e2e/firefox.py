"""Debian's Firefox ESR on the gateway of a `Network`, driven by Marionette, the protocol that Firefox itself speaks.

Marionette (https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html) is lines of JSON over TCP, each
with its length before it. Its socket has to be opened in the gateway's network namespace, which no client library does.

    with firefox(net, home, gate) as browser:
        browser.open("http://listed.test/")
        assert browser.script("return document.title")
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.network import SECONDS, Gate, Network, Process, need, wait_until

PORT = 2828
"""Where Marionette listens, on loopback of the gateway."""
QUIET = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.proxy.allow_bypass": False,
    "network.proxy.failover_direct": False,
    "network.trr.mode": 5,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
}
"""Preferences: Firefox asks for little on its own account, and resolves nothing by itself."""


PAC = (
    "function FindProxyForURL(url, host) {"
    r"return /\.(test|example|invalid)$/.test(host) ? 'PROXY %s:%d' : 'PROXY 127.0.0.1:9'"
    "}"
)
"""What Firefox asks for on its own account goes where nothing listens: no gate sees it. It opens addresses of loopback
directly."""


class FirefoxError(Exception):
    """Marionette says that a command failed. `kind` is a WebDriver error, such as "insecure certificate"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass
class Firefox:
    """A browser with one window. `language` is what it sends as Accept-Language."""

    _socket: socket.socket
    _last: int = 0

    def command(self, name: str, **parameters: object) -> Any:
        """What a command of Marionette returns. Raises FirefoxError."""
        self._last += 1
        message = json.dumps([0, self._last, name, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, number, error, result = self.read()
        assert number == self._last
        if error is not None:
            raise FirefoxError(error["error"], error["message"])
        return result["value"] if isinstance(result, dict) and set(result) == {"value"} else result

    def read(self) -> Any:
        """One message of Marionette."""
        length = b""
        while not length.endswith(b":"):
            length += self._receive(1)
        return json.loads(self._receive(int(length[:-1])))

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded. Raises FirefoxError."""
        self.command("WebDriver:Navigate", url=url)

    def script(self, body: str, *arguments: object) -> Any:
        """What the body of a function returns, in the page."""
        return self.command("WebDriver:ExecuteScript", script=body, args=list(arguments), sandbox=None)

    def chrome(self, body: str, *arguments: object) -> Any:
        """What the body of a function returns that runs with the rights of the browser."""
        self.command("Marionette:SetContext", value="chrome")
        try:
            return self.command("WebDriver:ExecuteScript", script=body, args=list(arguments), sandbox="system")
        finally:
            self.command("Marionette:SetContext", value="content")

    def proceed(self) -> None:
        """On the warning of a certificate error: "Advanced", then "Proceed". Both buttons are in a shadow tree."""
        self._click_in_warning("#advanced-button")
        self._click_in_warning("#exception-button")

    def _click_in_warning(self, button: str) -> None:
        found = f"document.querySelector('net-error-card')?.shadowRoot?.querySelector({button!r})"
        self.wait_until(f"{found} && !{found}.disabled")
        self.script(f"{found}.click()")

    def set_language(self, language: str) -> None:
        self.chrome("Services.prefs.setCharPref('intl.accept_languages', arguments[0])", language)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.command("WebDriver:TakeScreenshot", full=True, hash=False))

    def wait_until(self, condition: str, *arguments: object) -> None:
        """Wait until a condition holds in the page."""

        def holds() -> bool:
            try:
                return bool(self.script(f"return {condition}", *arguments))
            except FirefoxError:  # between two pages
                return False

        wait_until(holds, condition)

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            assert part, "Firefox has ended"
            data += part
        return data


@contextmanager
def firefox(net: Network, home: Path, gate: Gate, *, trusted: tuple[Path, ...] = ()) -> Iterator[Firefox]:
    """A browser that uses `gate` for reserved names, and trusts these authorities beside its own. `home` is a new
    folder for all that it writes."""
    need("firefox-esr", "certutil")
    profile = home / "profile"
    profile.mkdir(parents=True)
    for authority in trusted:
        net.gateway.run(
            *("certutil", "-d", f"sql:{profile}", "-A", "-n", str(authority), "-t", "C,,", "-i", str(authority)),
        )
    proxy = {
        "network.proxy.type": 2,
        "network.proxy.autoconfig_url": f"data:text/javascript,{PAC % (gate.address, gate.port)}",
        "marionette.port": PORT,
    }
    lines = (f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in (QUIET | proxy).items())
    (profile / "user.js").write_text("".join(lines))
    process = net.start(
        *("env", f"HOME={home}", "MOZ_CRASHREPORTER_DISABLE=1", "MOZ_DISABLE_CONTENT_SANDBOX=1"),
        *("firefox-esr", "--headless", "--no-remote", "--marionette", "--remote-allow-system-access"),
        *("--profile", str(profile), "about:blank"),
    )
    try:
        with _connected(net, process) as connection:
            browser = Firefox(connection)
            browser.read()  # its greeting
            browser.command("WebDriver:NewSession", acceptInsecureCerts=False)
            browser.command("WebDriver:SetTimeouts", pageLoad=1000 * SECONDS, script=1000 * SECONDS)
            yield browser
    finally:
        process.end()


def _connected(net: Network, process: Process) -> socket.socket:
    wait_until(lambda: net.listens(PORT), "Marionette")
    connection = net.connect(PORT)
    connection.settimeout(2 * SECONDS)
    return connection
