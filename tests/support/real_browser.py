"""Chromium in front of a console, by Playwright: what it asks of other hosts, complains of, or may not run, fails it.

Playwright comes from the package index into an environment of its own, axe-core from npm; Chromium is Debian's, that of
`CHROMIUM`, or Playwright's own. What cannot be had skips the tests.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from suite_venv import suite_python

AXE: Final = ("axe-core@4.14.1", "package/axe.min.js")
WIDE: Final = {"width": 1280, "height": 900}
NARROW: Final = {"width": 390, "height": 844}
WATCH: Final = """
window.__broken = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__broken.push(`${event.violatedDirective} ${event.blockedURI}`));
window.alert = window.confirm = window.prompt = () => window.__broken.push("a hostile text ran");
"""


@dataclass
class Watched:
    """A page, and what it did that it must not."""

    page: Any
    base: str
    wrong: list[str] = field(default_factory=list)

    def open(self, path: str = "") -> None:
        """Go to a page below `/console`."""
        self.page.goto(f"{self.base}/console{path}")

    def check(self) -> None:
        """Fail where anything was wrong so far."""
        self.wrong += self.page.evaluate("window.__broken ?? []")
        assert self.wrong == [], self.wrong

    def violations(self) -> list[str]:
        """Return what axe finds on the page as it stands."""
        self.page.evaluate(axe_source())
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]


class RealBrowser:
    """One Chromium."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    @contextmanager
    def page(self, base: str, *, expected: tuple[str, ...] = (), **more: Any) -> Iterator[Watched]:
        """Yield a page of a new profile; whatever it does wrong fails the test at the end.

        Args:
            base: Address of the server.
            expected: Beginnings of complaints that the test provokes.
            more: Options of Playwright's `new_context`.
        """
        context = self._chromium.new_context(**{"viewport": WIDE, "locale": "en-US", **more})
        context.set_default_timeout(60_000)
        context.add_init_script(WATCH)
        watched = Watched(context.new_page(), base)
        host = urlsplit(base).netloc

        def asked(route: Any) -> None:
            if urlsplit(route.request.url).netloc == host or route.request.url.startswith("data:"):
                route.continue_()
            else:
                watched.wrong.append(f"asked {route.request.url}")
                route.abort()

        def said(message: Any) -> None:
            text = message.text
            if message.type in ("error", "warning") and not text.startswith(expected or "\0"):
                watched.wrong.append(f"console {message.type}: {text}")

        context.route("**/*", asked)
        watched.page.on("console", said)
        watched.page.on("pageerror", lambda fault: watched.wrong.append(f"script error: {fault}"))
        try:
            yield watched
            watched.check()
        finally:
            context.close()


@contextmanager
def real_browser() -> Iterator[RealBrowser]:
    """Start Chromium."""
    python = suite_python("console")
    site = next((python.parent.parent / "lib").glob("python*")) / "site-packages"
    if str(site) not in sys.path:
        sys.path.append(str(site))
    from playwright.sync_api import sync_playwright  # type: ignore[import-not-found]

    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        if program is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium: install Debian's package `chromium`, or set CHROMIUM")
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield RealBrowser(chromium)
        finally:
            chromium.close()


_AXE: dict[str, str] = {}


def axe_source() -> str:
    """Return axe-core; fetched once, into the cache of the tests."""
    if not _AXE:
        folder = Path(os.environ.get("ASHORE_TEST_CACHE", ".cache/test")).absolute() / "console"
        file = folder / f"{AXE[0]}.min.js"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            npm = shutil.which("npm")
            if npm is None:
                pytest.skip("no npm, from where axe-core comes")
            words = [npm, "pack", "--silent", "--pack-destination", str(folder), AXE[0]]
            done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                pytest.skip(f"npm could not fetch {AXE[0]}: {done.stderr[-300:]}")
            with tarfile.open(folder / done.stdout.split()[-1]) as packed:
                content = packed.extractfile(AXE[1])
                assert content is not None
                file.write_bytes(content.read())
        _AXE["source"] = file.read_text(encoding="utf-8")
    return _AXE["source"]


def code_of(secret: str, step: int) -> str:
    """Return what an authenticator app shows for a secret in base32 in one step of 30 s (RFC 6238)."""
    key = base64.b32decode(secret.replace(" ", "") + "=" * (-len(secret.replace(" ", "")) % 8))
    digest = hmac.new(key, struct.pack(">Q", step), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at : at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"
