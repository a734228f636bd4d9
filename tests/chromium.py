"""Headless Chromium with Debian's own driver: no update, no sync, no request but those of the page."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.support.ui import WebDriverWait


SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Runs before anything of a page: what the page's policy refused, and whether foreign code ran.
_WATCH = """
window.refused = [];
document.addEventListener("securitypolicyviolation", (event) => {
  refused.push(`${event.effectiveDirective} ${event.blockedURI}`);
});
window.ran = [];
window.alert = window.confirm = window.prompt = (text) => { ran.push(String(text)); };
window.failures = [];
addEventListener("error", (event) => failures.push(event.message));
"""


class Browser:
    """
    Args:
        driver (`Chrome`): Drives it.
    """

    def __init__(self, driver: Chrome):
        self.driver = driver
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})

    def size(self, width: int, height: int = 900, scale: float = 1) -> None:
        """The window's inner size in CSS pixels."""
        figures = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", figures)

    def prefer(self, scheme: str) -> None:
        """`"light"` or `"dark"`, as the system would say it."""
        features = {
            "prefers-color-scheme": scheme,
            "prefers-reduced-motion": "reduce",
        }  # nothing moves under the mouse
        pairs = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": pairs})

    def open(self, page: Path, timeout: float = 60) -> None:
        """Opens a report and waits until it has drawn itself."""
        self.driver.get(page.resolve().as_uri())
        WebDriverWait(self.driver, timeout, poll_frequency=0.02).until(
            lambda driver: driver.execute_script("return document.documentElement.dataset.ready || failures.length")
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        """The value of a piece of JavaScript, with `return`."""
        return self.driver.execute_script(script, *arguments)

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.ask("return document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last call, the pages themselves included."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def console(self) -> list[str]:
        """Warnings and errors on the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile. Fails where Debian's `chromium` and `chromium-driver` are not installed."""
    binary, driver_path = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver_path is None:
        raise RuntimeError("This needs a browser: apt-get install chromium chromium-driver.")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = binary
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        driver = Chrome(options=options, service=ChromeService(executable_path=driver_path))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
