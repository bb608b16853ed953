"""People in front of the console of a running `ashore up`: how they come in, and what they do on its pages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from real_browser import RealBrowser, Watched, code_of
from served import Served

PASSWORD = "correct horse battery staple"
OFFICES = {"sam": "system-administrator", "sec": "security-officer", "ann": "auditor"}
PAGES = (
    "",
    "/chat",
    "/connect",
    "/models",
    "/releases",
    "/jobs",
    "/usage",
    "/people",
    "/privacy",
    "/audit",
    "/server",
    "/me",
)
KEYS: dict[str, str] = {}
"""API keys of the administrators that were made last."""
USED: dict[str, int] = {}
"""Step of the last code that was used of each factor."""
REFUSED = ("Failed to load resource: the server responded with a status of 4",)
CONFIG = """
[[model]]
name = "fake:echo?tok_per_s=400"
alias = "chat"

[[model]]
name = "fake:random"
alias = "other"

[learning]
feedback = true
"""


def make_office(browser: RealBrowser, server: Served) -> dict[str, str]:
    """Make the three administrators, each with a password and a second factor; return the secrets of these by name: a
    one-time link, an account and key for each, and from the key to a password."""
    keys: dict[str, str] = {}
    with browser.page(server.root_url, expected=REFUSED) as first:  # the first key ends with the third of them
        first.page.goto(new_link(server))
        first.page.get_by_role("heading", name="Home").wait_for()
        for name, role in OFFICES.items():
            first.open("/call/access-user/create")
            first.page.locator("#f-id").fill(name)
            first.page.get_by_role("checkbox", name=role, exact=True).check()
            first.page.locator("#f-key").check()
            first.page.get_by_role("button", name="Create").click()
            keys[name] = key_on(first)
    KEYS.update(keys)
    return {name: come_in_by_key(browser, server.root_url, name, key) for name, key in keys.items()}


def new_link(server: Served) -> str:
    """Return a one-time link, as somebody at the machine has it printed."""
    words = [sys.executable, "-m", "ashore.cli.main", "session", "link"]
    env = {**os.environ, "ASHORE_HOME": str(server.home)}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def key_on(watched: Watched) -> str:
    watched.page.locator("[data-focus]").wait_for()
    found = re.findall(r"ash_[0-9a-f]{8}_[\w-]+", watched.page.locator("[data-focus]").inner_text())
    assert len(found) == 1
    return str(found[0])


def come_in_by_key(browser: RealBrowser, base: str, name: str, key: str, *, factor: bool = True, **more: Any) -> str:
    """Set a password with a key, and a second factor; return the secret of the factor."""
    secret = ""
    with browser.page(base, **more) as one:
        one.open("/log-in")
        one.page.get_by_role("link", name="First time here?").click()
        one.page.get_by_label("Key").fill(key)
        one.page.get_by_role("button", name="Choose a password").click()
        one.page.get_by_label("New password").fill(PASSWORD)
        one.page.get_by_label("The same once more").fill(PASSWORD)
        one.page.get_by_role("button", name="Set the password").click()
        if factor:
            secret = str(one.page.locator("#secret").inner_text()).replace(" ", "")
            USED[secret] = int(time.time()) // 30
            one.page.get_by_label("Code").fill(code_of(secret, USED[secret]))
            one.page.get_by_role("button", name="Confirm").click()
            assert len(str(one.page.locator("#codes").inner_text()).split()) == 10
            one.page.get_by_role("link", name="Go on").click()
        one.page.get_by_role("heading", name="Home").wait_for()
        one.page.get_by_role("button", name="Log out").click()
        one.page.get_by_role("heading", name="Log in").wait_for()
    return secret


def log_in(one: Watched, name: str, secret: str, path: str = "") -> None:
    """Log in with password and factor; a code works once, so the next one is waited for."""
    one.open(path)
    one.page.get_by_label("Account").fill(name)
    one.page.get_by_label("Password").fill(PASSWORD)
    one.page.get_by_role("button", name="Log in").click()
    if secret:
        give_code(one, secret)
    one.page.get_by_role("button", name="Log out").wait_for()


def give_code(one: Watched, secret: str) -> None:
    """Type a code of the app that was not used before. The server also takes those of the step before and after."""
    end = time.monotonic() + 90
    while (step := max(int(time.time()) // 30 - 1, USED.get(secret, 0) + 1)) > int(time.time()) // 30 + 1:
        assert time.monotonic() < end
        time.sleep(0.5)
    USED[secret] = step
    one.page.locator("input[name=code], input[name=proof]").fill(code_of(secret, step))
    one.page.get_by_role("button", name="Go on").click()


def act(one: Watched, name: str) -> None:
    """Press the button of a form, and wait for what it did."""
    for box in one.page.locator("input[name=_sure]").all():
        box.check()
    one.page.locator("form.call").get_by_role("button", name=name, exact=True).click()
    one.page.locator(".done, .fault").first.wait_for()
    assert one.page.locator(".fault").count() == 0, one.page.locator("main").inner_text()


def until(one: Watched, path: str, holds: Callable[[str], Any]) -> None:
    """Load a page until something holds of it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        one.open(path)
        if holds(one.page.locator("main").inner_text()):
            return
        one.page.wait_for_timeout(300)
    raise AssertionError(one.page.locator("main").inner_text())
