"""Headless Chromium, and the actions of a visitor of the page."""

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

MAX_START_SECONDS = 180
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
REQUIREMENTS = [
    pytest.mark.slow,
    pytest.mark.program,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="the programs chromium and chromedriver are not installed"
    ),
]
"""Marks of tests that use the browser."""


def open_browser(downloads, *switches):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "disable-gpu",
        "window-size=1280,1000",
        *switches,
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def start_page(folder, *overrides):
    """Start the command in a folder; return the process, the address that it prints, and its further lines."""
    command = [sys.executable, "-m", "rvc_lightning.app", "port=0", "trainer.accelerator=cpu", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder / "tmp")}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stderr], daemon=True).start()
    while not (line := lines.get(timeout=MAX_START_SECONDS)).startswith("Open "):
        assert process.poll() is None, line
    return process, line.split()[1], lines


class Visitor:
    """Performs the actions of a visitor in a browser."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        driver.get(address)

    def wait(self, condition, seconds=30):
        return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda driver: condition())

    def wait_until_quiet(self, seconds=0.5):
        """Wait until no request of the page has ended for some time.

        Gradio closes its stream of answers when the last event ends, and loses an event that starts at that moment.
        """
        script = "return Math.max(...performance.getEntriesByType('resource').map(entry => entry.responseEnd))"
        self.wait(lambda: self.driver.execute_script("return performance.now()") - self.driver.execute_script(script)
                  > 1000 * seconds)  # fmt: skip

    def find_all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def first(self, selector):
        return self.wait(lambda: next(iter(self.find_all(selector)), None))

    def text(self, selector):
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText).join('\\n')", selector
        )

    def wait_for_text(self, selector, text, seconds=30):
        self.wait(lambda: text in self.text(selector), seconds)

    def click(self, selector):
        element = self.first(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def type(self, selector, text):
        field = self.first(selector)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text, Keys.TAB)

    def choose(self, selector, choice):
        self.click(f"{selector} input")
        self.wait(lambda: self._click_choice(choice))

    def _click_choice(self, choice):
        """Click a choice of the open list; return whether it is still there, since a new list may replace it."""
        try:
            found = [item for item in self.find_all("ul[role=listbox] li") if choice in item.text]
            found[0].click()
        except (IndexError, StaleElementReferenceException):
            return False
        return True

    def value(self, selector):
        return self.first(selector).get_attribute("value")

    def open_tab(self, name):
        """Open a tab; in narrow windows it may be in a menu, so it is clicked by a script."""
        self.driver.execute_script("arguments[0].click()", self.first(f"#{name}_tab-button"))
        self.wait(lambda: self.first(f"#{name}_tab").is_displayed())

    def drop(self, selector, *paths):
        """Drop files on an upload; return when they are shown."""
        self.first(f"{selector} input[type=file]").send_keys("\n".join(map(str, paths)))
        self.wait(lambda: len(self.find_all(f"{selector} .file, {selector} #waveform")) == len(paths))

    def resize(self, width):
        """Emulate a window of this width; Chromium itself has none below 500 pixels."""
        size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(0.3)

    def upload(self, *paths):
        """Drop recordings; return when the page has accepted or rejected them."""
        for button in self.find_all("#recording button[aria-label=Clear]"):
            button.click()
            self.wait(lambda: not self.find_all("#recording .file"))
        self.first("#recording input[type=file]").send_keys("\n".join(map(str, paths)))
        self.wait(lambda: len(self.find_all("#recording .file")) == len(paths) or self.text(".toast-body"))

    def convert(self):
        """Click Convert; return the final status."""
        self.wait_until_quiet()
        self.driver.execute_script("document.querySelectorAll('#status .status').forEach(e => e.innerText = '')")
        self.click("#convert")
        return self.wait(lambda: self.text("#status .status"))

    def download(self, downloads, seconds=20):
        self.click("#download")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done = [path for path in Path(downloads).iterdir() if path.suffix != ".crdownload"]
            if done and not list(Path(downloads).glob(".*")):
                return done[0]
            time.sleep(0.05)
        raise TimeoutError(list(Path(downloads).iterdir()))

    def requests(self):
        """Return the addresses that the page has requested."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }

    def screenshot(self, path, width=1280):
        self.driver.set_window_size(width, 1000)
        height = self.driver.execute_script("return document.documentElement.scrollHeight")
        self.driver.set_window_size(width, max(1000, height + 150))
        self.driver.save_screenshot(str(path))
