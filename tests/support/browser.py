"""Chromium without a network, driven over a pipe: what a page looks like to a reader, and axe-core's check of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.support import ROOT

CHROMIUM = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), "")
AXE = Path(os.environ.get("AXE", ROOT / "node_modules/axe-core/axe.min.js"))
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: npm install --no-save axe-core")


class Tab:
    """A tab of a browser. `elsewhere` are the addresses that its page has asked for, besides files and data."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.unread, self.count = b"", 0
        self.elsewhere: list[str] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a method of the DevTools protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        of = {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message | of).encode() + b"\0")
        while (answer := self._next()).get("id") != self.count:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.unread:
            part = os.read(self.answers, 1 << 20)
            assert part, "the browser has ended"
            self.unread += part
        text, _, self.unread = self.unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if message.get("method") == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            self.elsewhere += [address] * (not address.startswith(("file:", "data:", "about:")))
        return message

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        """Open a file in a window of this width, in light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=page.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """Return the value of a script in the page; a promise's, once it is kept."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, and wait until the page has been drawn again."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9, "Escape": 27}[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **(text if kind == "keyDown" else {}))  # fmt: skip
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")

    def violations(self) -> list[str]:
        """Return what axe-core finds wrong with the page: rule, and the first place."""
        self.run(AXE.read_text() + ";0")
        found = self.run("axe.run({resultTypes: ['violations']}).then(result => result.violations)")
        return [f"{rule['id']} ({len(rule['nodes'])}): {rule['nodes'][0]['html'][:200]}" for rule in found]

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wider: int = self.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wider


@contextmanager
def browser() -> Iterator[Tab]:
    """Start Chromium, yield a tab, and end it."""
    (reads, commands), (answers, writes) = os.pipe(), os.pipe()
    with TemporaryDirectory(ignore_cleanup_errors=True) as home:
        start = f'exec "$0" {OPTIONS} --user-data-dir={home} 3<&{reads} 4>&{writes}'
        nowhere, ends = subprocess.DEVNULL, (reads, writes)
        child = subprocess.Popen(["bash", "-c", start, CHROMIUM], pass_fds=ends, stdout=nowhere, stderr=nowhere)
        os.close(reads)
        os.close(writes)
        try:
            yield Tab(commands, answers)
        finally:
            os.close(commands)  # on which it ends
            child.wait(60)
            os.close(answers)
