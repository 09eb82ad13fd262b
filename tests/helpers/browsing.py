"""A service on a real socket, and a headless Chromium that looks at its page."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from birefnet_runtime.async_matting import AsyncMatting
from birefnet_runtime.batcher import Limits
from birefnet_runtime.serve.app import create_app
from birefnet_runtime.serve.server import Server
from birefnet_runtime.serve.settings import Settings

# No sandbox, because containers and root have none; the rest keeps it from calling home.
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Seconds for a thread to end: far longer than it takes.
_PATIENCE = 30


class Host:
    """A service of ``model`` in a thread; ``release`` lets the model load."""

    def __init__(self, model: Path, settings: Settings | None = None, port: int = 0) -> None:
        self.release = threading.Event()
        self.release.set()
        self._model = model
        self._server = Server(create_app(self._open, settings), port=port)
        self._thread = threading.Thread(target=self._server.run)
        self.url = self._server.url
        self.port = int(self.url.rpartition(":")[2])

    def _open(self) -> AsyncMatting:
        assert self.release.wait(_PATIENCE)
        return AsyncMatting.open(self._model, "cpu", limits=Limits(), threads=1)

    def start(self) -> Host:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.release.set()
        self._server.should_exit = True
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive()


@contextmanager
def hosted(model: Path, settings: Settings | None = None, port: int = 0) -> Iterator[Host]:
    host = Host(model, settings, port).start()
    try:
        yield host
    finally:
        host.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; skips where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(_NAMES)}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=_FLAGS)
        yield browser
        browser.close()


class Watch:
    """What a page does that it must not: errors in the console, requests to others."""

    def __init__(self, page: Page) -> None:
        self.faults: list[str] = []
        self.hosts: set[str] = set()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._hear)
        page.on("request", self._see)

    def _hear(self, message: ConsoleMessage) -> None:
        # The browser's own line for an answer with an error status, or none: tests provoke those.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def _see(self, request: Request) -> None:
        if request.url.startswith(("http:", "https:")):
            self.hosts.add("/".join(request.url.split("/")[:3]))


Opened = Callable[..., Page]


@contextmanager
def pages(browser: Browser) -> Iterator[Opened]:
    """A function that opens a page at a URL in a window of its own; at the end none may have
    complained, nor asked another host."""
    opened: list[tuple[Any, Watch, str]] = []

    def open_page(url: str, ready: bool = True, **window: Any) -> Page:
        context = browser.new_context(**window)
        page = context.new_page()
        opened.append((context, Watch(page), url))
        page.goto(url)
        if ready:
            page.locator("#server[data-state=ready]").wait_for()
        return page

    yield open_page
    for context, watch, url in opened:
        context.close()
        assert watch.faults == []
        assert watch.hosts == {url}


# Drops or pastes a picture, given in base64; whether the page took it and said so meanwhile.
DROP = """([data, kind]) => {
    const bytes = Uint8Array.from(atob(data), (sign) => sign.charCodeAt(0));
    const carried = new DataTransfer();
    carried.items.add(new File([bytes], `${kind}.png`, { type: "image/png" }));
    const how = { bubbles: true, cancelable: true };
    if (kind === "paste") {
        const event = new ClipboardEvent("paste", { clipboardData: carried, ...how });
        return document.body.dispatchEvent(event);
    }
    const over = document.getElementById("over");
    const send = (name) =>
        document.body.dispatchEvent(new DragEvent(name, { dataTransfer: carried, ...how }));
    send("dragenter");
    const shown = !over.hidden;
    return shown && !send("dragover") && !send("drop") && over.hidden;
}"""
# Keeps the blobs of all object URLs that live: the page's own rules forbid to fetch them.
KEEP_URLS = """() => {
    const make = URL.createObjectURL, drop = URL.revokeObjectURL;
    window.urls = new Map();
    URL.createObjectURL = (blob) => { const url = make(blob); urls.set(url, blob); return url; };
    URL.revokeObjectURL = (url) => { urls.delete(url); drop(url); };
}"""
# The markup of every control and picture without a name for a screen reader.
NAMELESS = """() => {
    const inside = (one) => one.tagName === "SELECT" ? "" : one.textContent;
    const named = (one) => [one.getAttribute("aria-label"), inside(one),
        ...[...(one.labels ?? [])].map((label) => label.textContent)].some((text) => text?.trim());
    const kinds = "button, input, select, [role=slider], [role=group], img:not([alt]), dialog";
    return [...document.querySelectorAll(kinds)]
        .filter((one) => one.checkVisibility() && !named(one)).map((one) => one.outerHTML);
}"""
# What has the focus, and whether an outline of two pixels or more says so.
FOCUSED = """() => {
    const one = document.activeElement;
    let ring = one;
    if (one.type === "radio") ring = one.closest(".chip");
    if (one.id === "divider") ring = one.firstChild;
    const { outlineStyle, outlineWidth } = getComputedStyle(ring);
    return [one.id || one.className || one.value || one.tagName,
        outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
}"""
