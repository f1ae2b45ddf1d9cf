"""Chromium without a screen, and what a reader does with a page in it."""

import json
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",  # containers have little of it
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

# Where a press lands is looked up before it happens: pictures that come in, or a page that scrolls, would move it.
_COME_TO_REST = """
const done = arguments[0];
const frame = () => new Promise(requestAnimationFrame);
(async () => {
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  for (let last = null; last !== scrollY; await frame()) { last = scrollY; await frame(); }
  done();
})();
"""


class Browser:
    """A page in Chromium, in the words of these tests."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, file: Path | str, width: int = 1440, **features: str) -> None:
        """Load a file or an address afresh, as wide as asked, with media features such as `prefers_color_scheme`."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        asked = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": asked})
        self.leave()
        self.driver.get(file if isinstance(file, str) else file.as_uri())

    def leave(self) -> None:
        """Show nothing; what was still loading is given up."""
        self.driver.get("about:blank")

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        """The text of every match, also of what scrolled out of sight."""
        script = "return [...document.querySelectorAll(arguments[0])].map((node) => node.textContent)"
        found: list[str] = self.driver.execute_script(script, selector)
        return found

    def await_texts(self, selector: str, texts: list[str]) -> None:
        """Wait until the matches have these texts: the page hears of a new address only after the click."""
        WebDriverWait(self.driver, 10).until(lambda _: self.texts(selector) == texts, f"{selector}: {texts}")

    def attribute(self, selector: str, name: str) -> str | None:
        value: str | None = self.find(selector).get_attribute(name)
        return value

    def click(self, selector: str) -> None:
        """Press where a user would, and fail if something lies on top."""
        node = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", node)
        node.click()

    def choose(self, selector: str, value: str) -> None:
        Select(self.find(selector)).select_by_value(value)

    def drag(self, selector: str, start: tuple[int, int], by: tuple[int, int]) -> None:
        """Press at an offset from the middle of an element and pull."""
        node = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })", node)
        self.driver.execute_async_script(_COME_TO_REST)
        chain = ActionChains(self.driver, duration=20).move_to_element_with_offset(node, *start)
        chain.click_and_hold().move_by_offset(*by).release().perform()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str, holding: str = "") -> None:
        """Keys for whatever has the keyboard, perhaps while one is held down."""
        chain = ActionChains(self.driver)
        chain = chain.key_down(holding).send_keys(*keys).key_up(holding) if holding else chain.send_keys(*keys)
        chain.perform()

    def await_true(self, script: str) -> None:
        """Wait until something holds: what a server answers comes when it comes."""
        WebDriverWait(self.driver, 10).until(lambda _: self.run(script), script)

    def complaints(self, own: str = "file:") -> list[str]:
        """What the console says, and every address asked for that is not the page itself.

        Args:
            own: how the addresses of the page's own server begin.
        """
        console = [entry["message"] for entry in self.driver.get_log("browser")]
        return console + [
            url for url in self.requests() if not url.startswith((own, "file:", "data:", "about:", "chrome:"))
        ]

    def requests(self) -> list[str]:
        """Every address that was asked for since the last look."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


def start_browser(chromium: str, driver: str, profile: Path) -> Browser:
    """A Chromium that keeps what it logs and what it asks the network for; `driver.quit()` ends it."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in [*_OPTIONS, f"--user-data-dir={profile}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Browser(webdriver.Chrome(options=options, service=webdriver.ChromeService(driver)))
