"""A browser for tests: chromium behind chromedriver, driven by the W3C WebDriver protocol over plain HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004", "ArrowRight": "\ue014", "ArrowDown": "\ue015"}
CONTROL = "\ue009"


def missing() -> str | None:
    """Why there is no browser here, None where there is one."""
    for names in (("chromium", "google-chrome"), ("chromedriver",)):
        if not any(shutil.which(name) for name in names):
            return f"{names[0]} is not installed (Debian: apt-get install chromium chromium-driver)"
    return None


class Driver:
    """One chromedriver, which opens any number of browsers."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [str(shutil.which("chromedriver")), f"--port={self.port}", "--silent"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.ready)

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("GET", "/status")["ready"])
        return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The value of an answer; RuntimeError with the driver's words where it is an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value and "message" in value:
            raise RuntimeError(f"{value['error']}: {value['message'][:500]}")
        return value

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Browser:
    """One window with cookies and storage of its own."""

    def __init__(self, driver: Driver, profile: Path, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        self.driver = driver
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        arguments += [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--hide-scrollbars"]
        arguments += ["--force-dark-mode"] if dark else []
        options = {"args": arguments}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = driver.ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self.path = f"/session/{made['sessionId']}"
        self.size(width, height)

    def size(self, width: int, height: int) -> None:
        """Make the part of the window that shows the page so large."""
        outer = self.script("return [outerWidth - innerWidth, outerHeight - innerHeight]")
        self.ask("POST", "/window/rect", {"width": width + outer[0], "height": height + outer[1]})

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.driver.ask(method, self.path + path, {} if body is None and method == "POST" else body)

    def open(self, url: str) -> None:
        self.ask("POST", "/url", {"url": url})

    def reload(self) -> None:
        self.ask("POST", "/refresh")

    @property
    def url(self) -> str:
        return str(self.ask("GET", "/url"))

    def script(self, code: str, *arguments: Any) -> Any:
        return self.ask("POST", "/execute/sync", {"script": code, "args": list(arguments)})

    def source(self) -> str:
        return str(self.ask("GET", "/source"))

    def text(self, selector: str) -> str:
        """What is to be read in an element, "" where there is none."""
        found = self.script("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector)
        return str(found)

    def press(self, *keys: str, control: bool = False) -> None:
        """Press keys one after the other, by name or as characters."""
        actions = [{"type": "keyDown", "value": CONTROL}] if control else []
        for key in keys:
            value = KEYS.get(key, key)
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
        actions += [{"type": "keyUp", "value": CONTROL}] if control else []
        self.ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def console(self) -> list[str]:
        """Errors of the page since the last call, as of its content security policy."""
        lines = self.ask("POST", "/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.ask("DELETE", "")


def until(what: Callable[[], Any], seconds: float = 90) -> Any:
    """Wait for something to be true; AssertionError where it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError("it did not come to pass")


@contextlib.contextmanager
def driving() -> Iterator[Driver]:
    """A driver within the block, with a clean environment for the browser."""
    os.environ.setdefault("DBUS_SESSION_BUS_ADDRESS", "disabled:")
    driver = Driver()
    try:
        yield driver
    finally:
        driver.close()
