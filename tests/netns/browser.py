"""Chromium without a window on a machine of the lab, driven by its DevTools protocol over pipes.

::

    with Browser(host.namespace, folder) as browser:
        tab = browser.open("http://127.0.0.1:8080/")
        tab.wait("document.title === 'punchtun server'")
        assert tab.evaluate("location.hash") == ""
        tab.take_picture(folder / "page.png")

Nothing of it reaches any other network than the machine's.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from .wait import wait_until

PATIENCE = 30.0
"""Seconds after which a test gives up."""
OPTIONS = (
    "--headless",
    "--no-sandbox",  # It is for users other than root.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-pipe",
)

Json = dict[str, Any]


class Browser:
    """Speaks JSON, each message ended by a zero byte."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._number = 0
        self._buffer = b""
        self.events: list[Json] = []
        """All so far, with the session of their tab."""
        heard, commands = _make_pipe()
        self._answers, told = _make_pipe()
        self._commands = commands
        program = ["chromium", *OPTIONS, f"--user-data-dir={folder / 'profile'}"]
        # Chromium listens on descriptor 3 and speaks on 4.
        shell = f'exec "$@" 3<&{heard} 4>&{told} {heard}<&- {told}>&-'
        argv = ["ip", "netns", "exec", namespace, "bash", "-c", shell, "bash", *program]
        with (folder / "chromium.err").open("wb") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(heard, told),
                start_new_session=True,
            )
        os.close(heard)
        os.close(told)

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        os.close(self._commands)
        os.close(self._answers)

    def open(self, url: str, *, width: int = 1000, height: int = 900, dark: bool = False) -> Tab:
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        tab = Tab(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.resize(width, height, dark=dark)
        tab.go(url)
        return tab

    def call(self, method: str, parameters: Json | None = None, session: str | None = None) -> Json:
        """The result. AssertionError with what the browser says is wrong."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters or {}}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: Json = answer["result"]
                return result
            self.events.append(answer)

    def _read(self, deadline: float) -> Json:
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            data = os.read(self._answers, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: Json = json.loads(line)
        return message


class Tab:
    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, parameters: Json | None = None) -> Json:
        return self._browser.call(method, parameters, self._session)

    def go(self, url: str) -> None:
        self.call("Page.navigate", {"url": url})

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """In CSS pixels; below 500 as on a phone."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.call("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", {"features": [scheme]})

    def evaluate(self, expression: str) -> Any:
        """Its value, or that of its promise."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, *, timeout: float = PATIENCE) -> None:
        """Until the expression is true; while the page is being loaded it may fail."""
        tried = f"(() => {{ try {{ return !!({condition}) }} catch {{ return false }} }})()"
        try:
            wait_until(lambda: bool(self.evaluate(tried)), timeout=timeout, interval=0.1)
        except TimeoutError:
            said = self.evaluate("document.body?.innerText")
            raise TimeoutError(f"in vain: {condition}\nthe page: {said}") from None

    def text(self, name: str) -> str:
        """Of the element with that id."""
        return str(self.evaluate(f"document.getElementById({name!r}).textContent"))

    def take_picture(self, file: Path) -> None:
        """PNG, of the whole page."""
        wanted = {"captureBeyondViewport": True}
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", wanted)["data"]))

    def events(self, method: str) -> list[Json]:
        """Parameters of those so far."""
        self.evaluate("0")  # Those on their way are here then.
        mine = [e for e in self._browser.events if e.get("sessionId") == self._session]
        return [event["params"] for event in mine if event["method"] == method]

    def complaints(self) -> list[str]:
        """What the browser's console has."""
        found = [entry["entry"]["text"] for entry in self.events("Log.entryAdded")]
        found += [str(each["exceptionDetails"]) for each in self.events("Runtime.exceptionThrown")]
        return found + [str(each["args"]) for each in self.events("Runtime.consoleAPICalled")]

    def requests(self) -> list[Json]:
        return [each["request"] for each in self.events("Network.requestWillBeSent")]


def _make_pipe() -> tuple[int, int]:
    """Descriptors from 10 on: neither is one that the shell is to make of it."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high[0], high[1]
