"""A real browser, Chromium's headless shell, signs in to Outlook on the web: form, redirects, cookies, and the page's script.

  browser.py PROGRAM URL NAME ADDRESS AUTHORITY USER PASSWORD  ->  {"title": "...", "who": "...", "cookies": [...]}

NAME is looked up as ADDRESS. AUTHORITY is the SPKI hash (base64 of SHA-256) of the one certificate that is taken without
a chain to a known authority; the headless shell has no store to add ours to. The browser is spoken to over its pipe
(Chrome DevTools Protocol: JSON texts that end with a zero byte on descriptors 3 and 4).
"""

import json
import os
import subprocess
import sys
import tempfile
import time

PATIENCE = 60


class Browser:
    """A browser with one page."""

    def __init__(self, program: str, options: list[str]) -> None:
        (self._answers, out), (inward, self._questions) = os.pipe(), os.pipe()
        # The browser has its ends as 3 and 4; above those nothing of ours is in the way.
        ends = [os.dup2(inward, 103), os.dup2(out, 104)]
        shell = 'exec "$@" 3<&103 4>&104'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "browser", program, "--remote-debugging-pipe", "--no-sandbox", *options],
            pass_fds=ends,
            stderr=subprocess.DEVNULL,
        )
        self._number, self._buffer = 0, b""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = None
        self._session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]

    _session = None

    def call(self, method: str, parameters: dict) -> dict:
        """Asks, and reads on until the answer."""
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            question["sessionId"] = self._session
        os.write(self._questions, json.dumps(question).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                data = os.read(self._answers, 65536)
                if not data:
                    raise SystemExit("the browser has ended")
                self._buffer += data
            message, _, self._buffer = self._buffer.partition(b"\0")
            message = json.loads(message)
            if message.get("id") == self._number:
                if "error" in message:
                    raise SystemExit(f"{method}: {message['error']}")
                return message["result"]

    def run(self, script: str):  # noqa: ANN201: whatever the script returns
        """The value of a script in the page."""
        result = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True})
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Waits until a script returns something true; a page that is being left has none."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > end:
                text = self.run("document.documentElement.outerHTML")
                raise SystemExit(f"never true: {script} at {self.run('location.href')}: {text}")
            time.sleep(0.1)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main(program: str, url: str, name: str, address: str, authority: str, user: str, password: str) -> None:
    with tempfile.TemporaryDirectory(prefix="lb-tests-browser-") as profile:
        browser = Browser(
            program,
            [
                f"--user-data-dir={profile}",
                f"--host-resolver-rules=MAP {name} {address}",
                f"--ignore-certificate-errors-spki-list={authority}",
                "--no-first-run",
                "--disable-gpu",
            ],
        )
        try:
            browser.call("Page.navigate", {"url": url})
            browser.until("document.readyState === 'complete' && document.getElementById('signin') !== null")
            for field, value in (("username", f"LAB\\{user}"), ("password", password)):
                browser.run(f"document.getElementById('{field}').value = {json.dumps(value)}")
            browser.run("document.getElementById('signin').click()")
            browser.until("(document.getElementById('who') || {}).textContent?.startsWith('signed in')")
            result = {
                "title": browser.run("document.title"),
                "who": browser.run("document.getElementById('who').textContent"),
                "cookies": sorted(c["name"] for c in browser.call("Network.getCookies", {"urls": [url]})["cookies"]),
            }
        finally:
            browser.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
