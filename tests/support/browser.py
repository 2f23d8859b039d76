"""Pages in a real browser: how they look, what they ask the network for, and what the console says."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """The browser's path, where one is installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@dataclass
class Page:
    """What a browser made of a page.

    Attributes:
        complaints: errors and warnings of the console, and uncaught exceptions.
        requests: addresses that were asked for, the page's own included.
        answer: what the expression gave.
        picture: a PNG of the whole page.
    """

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    answer: object = None
    picture: bytes = b""


def open_page(browser: str, path: Path, profile: Path, *, width: int, dark: bool, expression: str) -> Page:
    """Open a file in a window of some width and theme, and evaluate a JavaScript expression in it.

    Args:
        browser: path of the browser.
        path: the page.
        profile: a folder for the browser's own files.
        width: width of the window in pixels.
        dark: whether the user prefers a dark theme.
        expression: JavaScript that gives a JSON value.
    """
    profile.mkdir(parents=True, exist_ok=True)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--hide-scrollbars"]
    options += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [browser, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        return asyncio.run(_visit(profile / "DevToolsActivePort", path, width, dark, expression))
    finally:
        process.terminate()
        process.wait(timeout=20)


async def _visit(port_file: Path, path: Path, width: int, dark: bool, expression: str) -> Page:
    started = time.monotonic()
    while not port_file.is_file() or len(port_file.read_text().splitlines()) < 2:
        if time.monotonic() - started > 30:
            raise TimeoutError("the browser does not start")
        await asyncio.sleep(0.05)
    port = port_file.read_text().splitlines()[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(t for t in await answer.json() if t["type"] == "page")
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            return await _Visit(socket).look(path, width, dark, expression)


class _Visit:
    """One conversation with a tab by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse):
        self.socket, self.page, self.last, self.loaded = socket, Page(), 0, False

    async def look(self, path: Path, width: int, dark: bool, expression: str) -> Page:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[theme])
        await self.ask("Page.navigate", url=path.resolve().as_uri())
        while not self.loaded:
            self.note(await self.socket.receive_json(timeout=30))
        found = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        self.page.answer = found["result"].get("value")
        shot = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        self.page.picture = base64.b64decode(shot["data"])
        return self.page

    async def ask(self, method: str, **params: object) -> dict:
        self.last += 1
        await self.socket.send_json({"id": self.last, "method": method, "params": params})
        while True:
            message = await self.socket.receive_json(timeout=30)
            if message.get("id") == self.last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.note(message)

    def note(self, message: dict) -> None:
        method, params = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.page.complaints.append(params["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.page.complaints.append(params["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.page.complaints.append(str(params["args"]))
        elif method == "Network.requestWillBeSent":
            self.page.requests.append(params["request"]["url"])
