# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium, driven through chromedriver; it can reach loopback addresses only."""
import os
import shutil

import pytest

from env import wait_for

try:
    from selenium import webdriver
    from selenium.webdriver.chromium.remote_connection import ChromiumRemoteConnection
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
except ImportError:
    webdriver = None

# What each piece of an answer looked like when it was painted into the page: milliseconds and length.
WATCH = """
window.growth = [];
new MutationObserver(() => {
  const shown = document.querySelector("#log article:last-child p");
  if (shown) growth.push([performance.now(), shown.textContent.length]);
}).observe(document.getElementById("log"), { childList: true, subtree: true, characterData: true });
"""
# The part of an element's box that the window shows, 0 to 1.
VISIBLE = """
const box = arguments[0].getBoundingClientRect();
const tall = Math.min(box.bottom, innerHeight) - Math.max(box.top, 0);
const wide = Math.min(box.right, innerWidth) - Math.max(box.left, 0);
return Math.max(tall, 0) * Math.max(wide, 0) / (box.width * box.height);
"""


class Browser:
    """One Chromium; open() gives the chat page of an address."""

    def __init__(self, env):
        for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
            if not shutil.which(program):
                pytest.skip(f"{package} is not installed")
        if webdriver is None:
            pytest.skip("python3-selenium is not installed")
        home, port = env.folder("browser"), env.port()
        self.driver_process = env.start(["chromedriver", f"--port={port}"], home / "chromedriver.log", cwd=home,
                                        environment={"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"})
        self.driver_process.wait_port(port)
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        options.accept_insecure_certs = True  # a private authority's
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.set_capability("pageLoadStrategy", "normal")
        # --no-sandbox: as root Chromium has none.
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run",
                         "disable-background-networking", "disable-component-update", "disable-sync",
                         "disable-extensions", "no-proxy-server", f"user-data-dir={home}/profile",
                         "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "window-size=1000,800"):
            options.add_argument(f"--{argument}")
        connection = ChromiumRemoteConnection(f"http://127.0.0.1:{port}", "goog", "chrome", ignore_proxy=True)
        self.driver = webdriver.Remote(connection, options=options)
        self.driver.set_script_timeout(30)
        self.driver.set_page_load_timeout(60)

    def open(self, url: str) -> "Page":
        """A visitor who was never here before, on a desktop's screen."""
        self.driver.get("about:blank")
        self.command("Network.clearBrowserCookies")
        self.command("Emulation.clearDeviceMetricsOverride")
        self.command("Emulation.setEmulatedMedia", features=[])
        self.network(True)
        self.driver.get_log("browser")
        self.driver.get(url)
        return Page(self)

    def network(self, there: bool) -> None:
        self.command("Network.enable")
        self.command("Network.emulateNetworkConditions", offline=not there, latency=0, downloadThroughput=-1,
                     uploadThroughput=-1)

    def command(self, name: str, **arguments):
        """One of the DevTools protocol."""
        return self.driver.execute("executeCdpCommand", {"cmd": name, "params": arguments})["value"]

    def complaints(self) -> list:
        """What the console says that is more than a refusal's status: scripts that failed, policies that were broken."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if "Failed to load resource" not in entry["message"]]

    def stop(self) -> None:
        if hasattr(self, "driver"):
            self.driver.quit()
        self.driver_process.stop()


class Page:
    """The chat page as a person sees it."""

    def __init__(self, browser: Browser):
        self.browser, self.driver = browser, browser.driver
        self.watch()

    def watch(self) -> None:
        self.run(WATCH)

    def reload(self) -> None:
        self.driver.refresh()
        self.watch()

    def run(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.find(selector).get_property("textContent")

    def messages(self) -> list:
        """[(class, text)] of the conversation."""
        return [tuple(pair) for pair in self.run(
            'return [...document.querySelectorAll("#log article")]'
            '.map((a) => [a.classList[0], a.querySelector("p").textContent])')]

    def answer(self) -> str:
        """What the last answer holds so far."""
        found = self.messages()
        return found[-1][1] if found and found[-1][0] == "assistant" else ""

    def growth(self) -> list:
        return self.run("return growth")

    def write(self, text: str) -> None:
        self.find("#prompt").send_keys(text)

    def paste(self, text: str) -> None:
        self.run("arguments[0].value = arguments[1]", self.find("#prompt"), text)

    def prompt(self) -> str:
        return self.find("#prompt").get_property("value")

    def press(self, key: str) -> None:
        """A key, to whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(getattr(Keys, key))

    def send(self, text: str) -> None:
        self.write(text)
        self.find("#send").click()

    def busy(self) -> bool:
        return self.find("#stop").is_enabled()

    def wait_answer(self, *parts: str) -> None:
        """Until the answer, still arriving or whole, holds these parts."""
        wait_for(lambda: all(part in self.answer() for part in parts), 10, f"{parts} in the answer")

    def wait_end(self) -> str:
        """The status line once the answer has ended."""
        wait_for(lambda: not self.busy(), 15, "end of the answer")
        return self.text("#status")

    def is_error(self) -> bool:
        return "error" in self.find("#status").get_attribute("class").split()

    def visible(self, selector: str) -> float:
        return self.run(VISIBLE, self.find(selector))

    def focused(self) -> str:
        return self.driver.switch_to.active_element.get_property("id")

    def protocol(self) -> str:
        """By which protocol the stylesheet, or the last answer that ended, came."""
        return self.run('return performance.getEntriesByType("resource").at(-1).nextHopProtocol')
