"""Drives a headless Chromium through its DevTools protocol."""

import base64
import contextlib
import itertools
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--use-fake-ui-for-media-stream")


@contextlib.contextmanager
def open_page(url, *flags):
    """Yields the `Page` at a URL, in a browser with more flags."""
    (read_commands, write_commands), (read_answers, write_answers) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [*_FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}", *flags]
        # The browser reads from file 3 and writes to file 4.
        command = f"exec {shlex.join([CHROMIUM, *flags])} 3<&{read_commands} 4>&{write_answers}"
        process = subprocess.Popen(
            ["bash", "-c", command],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        commands = open(write_commands, "wb", buffering=0)
        with commands, open(read_answers, "rb", buffering=0) as answers:
            try:
                page = Page(commands, answers)
                page.open(url)
                yield page
                page.send("Browser.close", browser=True)
                process.wait(timeout=30)
            finally:
                process.kill()
                process.wait()


class Page:
    """A page in a browser."""

    def __init__(self, commands, answers):
        self.commands = commands
        self.answers = answers
        self.numbers = itertools.count(1)
        self.session = None
        self.unread = b""

    def open(self, url):
        target = self.send("Target.createTarget", browser=True, url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", browser=True, targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.send("Page.enable")
        self.send("Page.navigate", url=url)

    def send(self, method, browser=False, **parameters):
        """Sends a command of the protocol, to the page or to the browser, and returns the result."""
        message = {"id": next(self.numbers), "method": method, "params": parameters}
        if not browser:
            message["sessionId"] = self.session
        self.commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self):
        while b"\0" not in self.unread:
            part = self.answers.read(1 << 20)
            assert part, "the browser has ended"
            self.unread += part
        message, _, self.unread = self.unread.partition(b"\0")
        return message

    def evaluate(self, expression):
        """Returns the value of an expression of JavaScript, after it is resolved if it is a promise."""
        result = self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression, seconds=60):
        """Waits until an expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, (expression, self.evaluate("document.body.innerText"))
            time.sleep(0.05)
        return value

    def choose_file(self, selector, path):
        """Gives a file to an `<input type=file>`."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def take_screenshot(self, path, width, height, mobile=False):
        """Writes a PNG of the page in a window of a size in pixels."""
        self.resize(width, height, mobile)
        image = self.send("Page.captureScreenshot", format="png")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(image))

    def resize(self, width, height, mobile=False):
        scale = 2 if mobile else 1
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )
