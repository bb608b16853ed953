"""The console in Chromium, over `ashore up`: what people come to do, in the browser alone.

What asks another host, complains in the browser's console or breaks the content policy fails a test.
With `ASHORE_PICTURES=1` the pictures of the documentation are written anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import HOSTILE
from path_proxy import path_proxy
from real_browser import RealBrowser, Watched, code_of, real_browser
from served import Served, start_served
from tiny_models import make_tiny_model

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

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

[jobs]
folders = ["{folder}"]
"""
WRITES_PICTURES = bool(os.environ.get("ASHORE_PICTURES"))
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.fixture(scope="module")
def browser() -> Iterator[RealBrowser]:
    with real_browser() as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home, folder = tmp_path_factory.mktemp("console-home"), tmp_path_factory.mktemp("console-models")
    make_tiny_model(folder / "tiny", "llama")
    config = CONFIG.replace("{folder}", str(folder))
    started = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        yield started
    finally:
        started.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """What somebody came to who had never seen ashore."""

    answer: str
    request: str
    found: str
    """What the page of their request said."""
    seconds: float


@pytest.fixture(scope="module")
def newcomer(server: Served, browser: RealBrowser) -> Newcomer:
    """From the link that `ashore up` printed to the first answer, and to that request in the audit log."""
    with browser.page(server.root_url) as one:
        (link,) = re.findall(r"http://\S+/console/first/\S+", server.said())
        began = time.monotonic()
        one.page.goto(link)
        one.page.locator(".side").get_by_role("link", name="Chat").click()
        one.page.get_by_label("Message", exact=True).fill("Name the capital of France.")
        one.page.get_by_role("button", name="Send").click()
        one.page.get_by_text("first token").wait_for()
        seconds = time.monotonic() - began
        answer = one.page.locator(".said.model").inner_text()
        link = one.page.locator(".metrics a")
        request = one.page.locator(".metrics").inner_text().split()[-1]
        picture(one, "console-chat")
        link.click()
        one.page.get_by_role("heading", name="Show what the audit log has").wait_for()
        found = one.page.locator("main").inner_text()
        assert one.violations() == []
    return Newcomer(answer=answer, request=request, found=found, seconds=seconds)


@pytest.fixture(scope="module")
def office(server: Served, browser: RealBrowser, newcomer: Newcomer) -> dict[str, str]:
    """The three administrators, each with a password and a second factor; the secrets of these by name. Everything is
    done in the browser: a one-time link, an account and key for each, and from the key to a password."""
    keys: dict[str, str] = {}
    with browser.page(server.root_url, expected=REFUSED) as first:  # the first key ends with the third of them
        first.page.goto(new_link(server))
        first.page.get_by_role("heading", name="What runs, and what needs you").wait_for()
        for name, role in OFFICES.items():
            first.open("/call/access-user/create")
            first.page.locator("#f-id").fill(name)
            first.page.locator("#f-roles").fill(role)
            first.page.locator("#f-key").check()
            first.page.get_by_role("button", name="Create").click()
            keys[name] = key_on(first)
    return {name: come_in_by_key(browser, server, name, key) for name, key in keys.items()}


def new_link(server: Served) -> str:
    """Return a one-time link, as somebody at the machine has it printed."""
    words = [sys.executable, "-m", "ashore.cli.main", "session", "link"]
    env = {**os.environ, "ASHORE_HOME": str(server.home)}
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def picture(one: Watched, name: str) -> None:
    """Write a picture of the documentation, where that is asked for."""
    if WRITES_PICTURES:
        PICTURES.mkdir(exist_ok=True)
        one.page.mouse.move(0, 0)
        one.page.screenshot(path=str(PICTURES / f"{name}.png"))


def key_on(watched: Watched) -> str:
    watched.page.locator("[data-focus]").wait_for()
    found = re.findall(r"ash_[0-9a-f]{8}_[\w-]+", watched.page.locator("[data-focus]").inner_text())
    assert len(found) == 1
    return str(found[0])


def come_in_by_key(browser: RealBrowser, server: Served, name: str, key: str, *, factor: bool = True) -> str:
    """Set a password with a key, and a second factor; return the secret of the factor."""
    secret = ""
    with browser.page(server.root_url) as one:
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
        one.page.get_by_role("heading", name="What runs, and what needs you").wait_for()
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


def test_a_newcomer_has_an_answer_in_three_clicks_and_finds_their_request(newcomer: Newcomer) -> None:
    assert "capital of France" in newcomer.answer
    assert newcomer.request.startswith("req_") and newcomer.request in newcomer.found
    assert "answered" in newcomer.found
    print(f"\nfrom the link to the answer: {newcomer.seconds:.1f} s, 3 clicks")
    assert newcomer.seconds < 30


def test_three_administrators_set_up_a_person_who_makes_a_key_and_sees_their_usage(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"], "/people")
        picture(sec, "console-people")
        sec.open("/call/access-user/create")
        sec.page.locator("#f-id").fill("dev")
        sec.page.locator("#f-roles").fill("developer")
        sec.page.locator("#f-key").check()
        sec.page.get_by_text("ashore access user create dev --role developer").wait_for()
        sec.page.get_by_role("button", name="Create").click()
        key = key_on(sec)
        sec.open("/connect")
        sec.page.locator("#f-owner").fill("dev")
        sec.page.locator("#f-title").fill("laptop")
        sec.page.get_by_role("button", name="Create a key").click()
        second = sec.page.locator("#new-key").inner_text()
        assert second in sec.page.locator("#s-curl").inner_text()
        assert sec.violations() == []
    come_in_by_key(browser, server, "dev", key, factor=False)
    with browser.page(server.root_url) as dev:
        log_in(dev, "dev", "", "/chat?left=chat")
        dev.page.locator("#right").select_option("other")
        dev.page.get_by_label("Message", exact=True).fill("Say hello twice.")
        dev.page.get_by_label("Message", exact=True).press("Enter")
        dev.page.locator(".metrics").nth(1).get_by_text("first token").wait_for()
        assert dev.page.locator(".pane:visible").count() == 2
        dev.page.get_by_text("As code").click()
        assert '"model":"chat"' in dev.page.locator("#code-curl").inner_text()
        dev.open("/me")
        assert "laptop" in dev.page.locator("main").inner_text()
        dev.open("/people")
        assert "laptop" in dev.page.locator("main").inner_text()
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/usage?by=user")
        sam.page.get_by_role("cell", name="dev", exact=True).first.wait_for()


def test_an_operator_pulls_makes_a_variant_deploys_it_and_rolls_back(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    (folder,) = re.findall(r'folders = \["(.+)"\]', (server.home / "ashore.toml").read_text())
    with browser.page(server.root_url, expected=REFUSED) as sam:
        log_in(sam, "sam", office["sam"], "/models?_tab=model")
        sam.page.get_by_role("link", name="Pull", exact=True).click()
        sam.page.locator("#f-source").fill("/etc")
        sam.page.get_by_role("button", name="Pull").click()
        sam.page.get_by_text("not in the folders that jobs may read").wait_for()
        sam.open("/call/model/pull")
        sam.page.locator("#f-source").fill(f"{folder}/tiny")
        sam.page.locator("#f-name").fill("tiny")
        sam.page.get_by_text(f"ashore model pull {folder}/tiny --name tiny --job").wait_for()
        act(sam, "Pull")
        sam.open("/jobs")
        sam.page.get_by_role("row", name=re.compile(r"model pull\s.*succeeded")).wait_for(timeout=120_000)
        sam.open("/call/optimize/quantize?model=tiny")
        sam.page.locator("#f-to").fill("int8")
        act(sam, "Quantize")
        sam.open("/jobs")
        sam.page.get_by_role("row", name=re.compile(r"optimize quantize\s.*succeeded")).wait_for(timeout=240_000)
        picture(sam, "console-jobs")
        assert sam.violations() == []
        sam.open("/models?_tab=server+models")
        assert "tiny@int8" in sam.page.locator("main").inner_text()
        sam.open("/call/release/create")
        sam.page.locator("#f-model").fill("tiny@int8")
        sam.page.locator("#f-alias").fill("other")
        sam.page.locator("#f-name").fill("tiny-1")
        act(sam, "Create")
        sam.open("/call/release/promote?release=tiny-1")
        sam.page.locator("#f-override").fill("a trial of the console")
        act(sam, "Promote")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"tiny-1\s.*\blive\b", text))
        sam.open("/call/release/rollback?alias=other")
        act(sam, "Rollback")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"other-1\s.*\blive\b", text))
        sam.open("/server/backups")
        assert "backup init" in sam.page.locator("main").inner_text(), "none yet, and how to begin"
        assert sam.violations() == []


def test_an_operator_deploys_and_rolls_back(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/releases")
        sam.page.get_by_role("link", name="Create").click()
        sam.page.locator("#f-model").fill("fake:echo?tok_per_s=300")
        sam.page.locator("#f-alias").fill("chat")
        sam.page.locator("#f-name").fill("chat-2")
        act(sam, "Create")
        sam.open("/call/release/promote?release=chat-2")
        sam.page.locator("#f-override").fill("a trial of the console")
        act(sam, "Promote")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"chat-2\s.*\blive\b", text))
        picture(sam, "console-releases")
        sam.open("/call/release/rollback?alias=chat")
        act(sam, "Rollback")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"chat-1\s.*\blive\b", text))
        assert sam.violations() == []


def test_an_auditor_searches_verifies_and_takes_an_export_along(
    server: Served, browser: RealBrowser, office: dict[str, str], newcomer: Newcomer
) -> None:
    with browser.page(server.root_url, expected=REFUSED) as ann:
        log_in(ann, "ann", office["ann"], "/audit")
        picture(ann, "console-audit")
        ann.page.locator("summary", has_text="Filter").click()
        ann.page.locator("#n-f-request_id").fill(newcomer.request)
        ann.page.get_by_role("button", name="Filter").click()
        ann.page.get_by_role("cell", name="model:infer").wait_for()
        assert f"--request {newcomer.request}" in ann.page.locator("#command").inner_text()
        ann.open("/call/audit/verify")
        act(ann, "Verify")
        assert re.search(r"Ok\s+yes", ann.page.locator(".done").inner_text())
        ann.open("/call/audit/export")
        with ann.page.expect_download() as download:
            ann.page.get_by_role("button", name="Export").click()
        assert download.value.suggested_filename == "audit-export.tar"
        ann.open("/call/access-user/create")
        assert "security-officer" in ann.page.locator("main").inner_text()


def test_a_form_outlives_a_session_that_ended(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    with browser.page(server.root_url, expected=REFUSED) as sec:
        log_in(sec, "sec", office["sec"], "/call/access-group/create")
        sec.page.locator("#f-name").fill("night-shift")
        sec.page.locator("#f-title").fill("who works at night")
        sec.page.context.clear_cookies()
        sec.page.get_by_role("button", name="Create").click()
        sec.page.get_by_role("heading", name="Log in").wait_for()
        sec.page.get_by_label("Account").fill("sec")
        sec.page.get_by_label("Password").fill(PASSWORD)
        sec.page.get_by_role("button", name="Log in").click()
        give_code(sec, office["sec"])
        assert sec.page.locator("#f-name").input_value() == "night-shift"
        assert sec.page.locator("#f-title").input_value() == "who works at night"
        act(sec, "Create")


def test_pages_read_and_forms_send_without_scripts(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url, java_script_enabled=False) as sec:
        log_in(sec, "sec", office["sec"], "/call/access-tenant/create")
        sec.page.locator("#f-name").fill("plain")
        sec.page.get_by_role("button", name="Create").click()
        assert "plain" in sec.page.locator(".done").inner_text()


def test_every_page_holds_for_everybody_in_both_languages_colours_and_widths(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """axe finds nothing, nothing is wider than the screen, and no text is missing."""
    checked = 0
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        for language, theme, width in (
            ("en", "light", 1280),
            ("zh", "dark", 390),
            ("en", "dark", 390),
            ("zh", "light", 1280),
        ):
            ann.page.set_viewport_size({"width": width, "height": 900})
            for path in PAGES:
                ann.open(f"{path}?_lang={language}&_theme={theme}")
                assert ann.violations() == [], (path, language, theme, width)
                over = ann.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over <= 0, (path, language, theme, width)
                checked += 1
        ann.open("?_lang=en&_theme=auto")
    print(f"\n{checked} pages without a violation")


def test_the_keyboard_reaches_everything_and_asks_a_model(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/models")
        sam.page.keyboard.press("Tab")
        assert sam.page.evaluate("document.activeElement.className") == "skip"
        able = "[...document.querySelectorAll('a[href],button,input:not([type=hidden]),select,textarea,summary')]"
        shown = sam.page.evaluate(f"{able}.filter((one) => one.checkVisibility()).length")
        reached = set()
        for _ in range(shown + 20):
            reached.add(sam.page.evaluate(f"{able}.indexOf(document.activeElement)"))
            sam.page.keyboard.press("Tab")
        assert len(reached - {-1}) == shown


def test_hostile_texts_of_people_and_models_run_nowhere(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url, expected=REFUSED) as sec:
        log_in(sec, "sec", office["sec"])
        for at in range(0, len(HOSTILE), 40):
            title = " ".join(HOSTILE[at : at + 40])[:200].replace("\x00", "").replace("\r", "").replace("\n", "")
            sec.open("/call/access-group/create")
            sec.page.locator("#f-name").fill(f"h{at}")
            sec.page.locator("#f-title").fill(title)
            sec.page.get_by_role("button", name="Create").click()
            sec.page.locator(".done, .fault").first.wait_for()
        sec.open("/people?_tab=access+group")
        sec.check()
    with browser.page(server.root_url) as dev:
        dev.page.goto(f"{server.root_url}/console")
        log_in(dev, "dev", "", "/chat?left=chat")
        for at in range(0, len(HOSTILE), 60):
            text = "\n".join(HOSTILE[at : at + 60]).replace("\x00", "")
            dev.page.get_by_label("Message", exact=True).fill(text)
            dev.page.get_by_role("button", name="Send").click()
            dev.page.locator("#send:enabled").wait_for()
            dev.page.get_by_role("button", name="New conversation").click()
        dev.check()


def test_the_console_holds_under_a_path_of_a_portal(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with path_proxy(server.port) as base, browser.page(base) as ann:
        log_in(ann, "ann", office["ann"], "/audit?actor=sec")
        assert ann.page.url.startswith(f"{base}/console/audit?actor=sec")
        for path in PAGES:
            ann.open(path)
            ann.page.locator("h1").wait_for()
        ann.page.get_by_role("button", name="Log out").click()
        ann.page.get_by_role("heading", name="Log in").wait_for()


def test_pages_are_rendered_within_five_milliseconds(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        sizes, waits = [], []
        ann.page.on("response", lambda answer: sizes.append(answer.request.sizes()["responseBodySize"]))
        ann.page.goto(f"{server.root_url}/console/me")
        ann.page.wait_for_load_state("networkidle")
        print(f"\nfirst page on the wire: {sum(sizes):,} bytes in {len(sizes)} answers")
        for _ in range(20):
            for path in PAGES:
                waits.append(
                    ann.page.evaluate(
                        "async (path) => { const began = performance.now(); const got = await fetch(path);"
                        "await got.text(); return performance.now() - began; }",
                        f"/console{path}",
                    )
                )
        waits.sort()
        print(
            f"a page by the browser's clock: p50 {waits[len(waits) // 2]:.1f} ms, p95 {waits[-len(waits) // 20]:.1f} ms"
        )


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
