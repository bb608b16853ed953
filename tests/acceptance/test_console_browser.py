"""The console in Chromium, over `ashore up`: what people come to do, in the browser alone.

What asks another host, complains in the browser's console or breaks the content policy fails a test.
With `ASHORE_PICTURES=1` the pictures of the documentation are written anew.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from console_people import (
    CONFIG,
    PAGES,
    PASSWORD,
    REFUSED,
    act,
    come_in_by_key,
    give_code,
    key_on,
    log_in,
    make_office,
    until,
)  # fmt: skip
from path_proxy import path_proxy
from real_browser import RealBrowser, Watched
from served import Served, start_served

from ashore.core.clock import SystemClock
from ashore.kit.state import Event, keep_event, open_database

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

WRITES_PICTURES = bool(os.environ.get("ASHORE_PICTURES"))
ABLE = "[...document.querySelectorAll('a[href],button,input:not([type=hidden]),select,textarea,summary')]"
TABS = "[...document.querySelectorAll('.tabs a')].map((one) => one.href)"
FORMS = ("/call/access/can", "/call/audit/verify", "/call/audit/export", "/call/session/end-all?account=ann")
HIDE = """
Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
document.dispatchEvent(new Event("visibilitychange"));
"""
READY_S: list[float] = []
"""How long `ashore up` took."""
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("console-home")
    began = time.monotonic()
    started = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=CONFIG)
    READY_S.append(time.monotonic() - began)
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
        one.page.get_by_role("heading", name=request).wait_for()
        found = one.page.locator("main").inner_text()
        assert one.violations() == []
    return Newcomer(answer=answer, request=request, found=found, seconds=seconds)


@pytest.fixture(scope="module")
def office(server: Served, browser: RealBrowser, newcomer: Newcomer) -> dict[str, str]:
    """The three administrators; everything is done in the browser. What there was before is `newcomer`'s."""
    return make_office(browser, server)


def picture(one: Watched, name: str) -> None:
    """Write a picture of the documentation, where that is asked for."""
    if WRITES_PICTURES:
        PICTURES.mkdir(exist_ok=True)
        one.page.mouse.move(0, 0)
        one.page.screenshot(path=str(PICTURES / f"{name}.png"))


def test_a_newcomer_has_an_answer_in_three_clicks_and_finds_their_request(newcomer: Newcomer) -> None:
    assert "capital of France" in newcomer.answer
    assert newcomer.request.startswith("req_") and newcomer.request in newcomer.found
    assert "answered" in newcomer.found
    print(f"\n`ashore up` ready in {READY_S[0]:.1f} s; from the link to the answer: {newcomer.seconds:.1f} s, 3 clicks")
    assert READY_S[0] + newcomer.seconds <= 30


def test_three_administrators_set_up_a_person_who_makes_a_key_and_sees_their_usage(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"], "/people")
        picture(sec, "console-people")
        sec.open("/call/access-user/create")
        sec.page.locator("#f-id").fill("dev")
        sec.page.get_by_role("checkbox", name="developer", exact=True).check()
        sec.page.locator("#f-key").check()
        sec.page.get_by_text("ashore access user create dev --role developer").wait_for()
        sec.page.get_by_role("button", name="Create").click()
        key = key_on(sec)
        assert sec.violations() == []
    come_in_by_key(browser, server.root_url, "dev", key, factor=False)
    with browser.page(server.root_url) as dev:
        log_in(dev, "dev", "", "/chat?left=chat")
        dev.page.locator("#right").select_option("other")
        dev.page.get_by_label("Message", exact=True).fill("Say hello twice.")
        dev.page.get_by_label("Message", exact=True).press("Enter")
        dev.page.locator(".metrics").nth(1).get_by_text("first token").wait_for()
        assert dev.page.locator(".said.model").count() == 2
        dev.page.get_by_text("As code").click()
        dev.page.locator("#code-curl", has_text='"model":"chat"').wait_for()
        dev.open("/me")
        dev.page.get_by_role("link", name="Create a key").click()
        dev.page.locator("#f-title").fill("laptop")
        dev.page.get_by_text("ashore access key create --title laptop").wait_for()
        dev.page.get_by_role("button", name="Create a key").click()
        second = dev.page.locator("#new-key").inner_text()
        assert second in dev.page.locator("#s-curl").inner_text()
        assert dev.violations() == []
        dev.open("/me")
        assert "laptop" in dev.page.locator("main").inner_text()
        dev.open("/people")
        assert "laptop" in dev.page.locator("main").inner_text()
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/usage?by=user")
        sam.page.get_by_role("cell", name="dev", exact=True).first.wait_for()


def test_a_reader_votes_corrects_and_takes_it_back_and_reads_what_was_kept(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as one:
        log_in(one, "dev", "", "/chat?left=chat")
        assert "personal data masked" in one.page.locator("main").inner_text()
        one.page.get_by_label("Message", exact=True).fill("What is the capital of Peru?")
        one.page.get_by_role("button", name="Send", exact=True).click()
        up = one.page.get_by_role("button", name="Good answer")
        up.click()
        one.page.get_by_text("A model can learn from it").wait_for()
        assert up.get_attribute("aria-pressed") == "true" and one.violations() == []
        up.click()
        one.page.get_by_text("Nothing is kept").wait_for()
        assert up.get_attribute("aria-pressed") == "false"
        one.page.get_by_role("button", name="Correct it").click()
        one.page.get_by_label("What the answer should have been").fill("Lima")
        one.page.get_by_role("button", name="Send the correction").click()
        one.page.get_by_text("A model can learn from it").wait_for()
        assert one.page.get_by_role("button", name="Bad answer").get_attribute("aria-pressed") == "true"
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/releases?_tab=learn")
        row = sam.page.get_by_role("row").filter(has_text="chat-1").inner_text()
        assert re.search(r"chat\s+chat-1\s+1\s+0\s+1\s+1", row), row


def test_an_operator_deploys_and_rolls_back(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"], "/releases")
        sam.page.get_by_role("link", name="Create a release").click()
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
        act(sam, "Roll back")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"chat-1\s.*\blive\b", text))
        assert sam.violations() == []


def test_an_auditor_searches_verifies_and_takes_an_export_along(
    server: Served, browser: RealBrowser, office: dict[str, str], newcomer: Newcomer
) -> None:
    with browser.page(server.root_url, expected=REFUSED) as ann:
        log_in(ann, "ann", office["ann"], "/audit")
        picture(ann, "console-audit")
        ann.open("/audit?_tab=audit")
        ann.page.locator("summary", has_text="More filters").click()
        ann.page.locator("#n-f-request_id").fill(newcomer.request)
        ann.page.get_by_role("button", name="Apply").click()
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


def test_a_tab_asks_for_nothing_until_something_happens(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    """Of two tabs one follows the events, both look when something happened, and one that nobody sees does neither.
    `benchmarks.front.tabs` asks as these do."""
    (state,) = server.home.glob("**/state.db")
    events: list[str] = []
    looks: list[str] = []

    def asked(request: Any) -> None:
        if urlsplit(request.url).path == "/console/events":
            events.append(request.headers["accept"])
        if "x-console-poll" in request.headers:
            looks.append(request.headers["x-console-part"])

    def happens() -> None:
        about: dict[str, str | int | float | None] = {"job": "job_seen"}
        database = open_database(state, snapshots=server.home / "snapshots", clock=SystemClock())
        try:
            with database.write() as connection:
                event = Event(
                    kind="job.running", resource="tenant/default/job/job_seen", reads="job:read", about=about, at_ms=7
                )
                keep_event(connection, event)
        finally:
            database.close()

    def come_to(page: Any, number: int) -> None:
        end = time.monotonic() + 60
        while len(looks) < number and time.monotonic() < end:
            page.wait_for_timeout(100)
        page.wait_for_timeout(4_000)
        assert looks == ["main"] * number

    def settled(page: Any) -> int:
        """Wait until both pages are loaded and hear of what happens; return how often they looked until then."""
        number, end = -1, time.monotonic() + 60
        while number < len(looks) or not events:
            assert time.monotonic() < end, "without anything that happens, nothing is asked for"
            number = len(looks)
            page.wait_for_timeout(5_000)
        return number

    with browser.page(server.root_url) as sam:
        sam.page.context.on("request", asked)
        log_in(sam, "sam", office["sam"])
        other = sam.page.context.new_page()
        other.goto(f"{server.root_url}/console")
        first = settled(other)
        assert set(events) == {"text/event-stream"}
        before = len(events)
        happens()
        come_to(other, first + 2)
        other.evaluate(HIDE)
        happens()
        come_to(other, first + 3)
        other.evaluate(HIDE.replace("true", "false"))
        come_to(other, first + 4)
        sam.page.evaluate(HIDE)
        happens()
        end = time.monotonic() + 60
        while (len(events) == before or len(looks) < first + 5) and time.monotonic() < end:
            other.wait_for_timeout(100)
        assert len(events) == before + 1 and len(looks) >= first + 5, "the other one follows now"


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
    """axe finds nothing, nothing is wider than the screen, everything is reached by keyboard, and nothing is asked of
    another host, complained of in the console, or against the content policy."""
    looks = [(one, two, wide) for one in ("en", "zh") for two in ("light", "dark") for wide in (1280, 390)]
    checked = reached = 0
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        ann.open("/people")
        tabs = [one.partition("/console")[2] for one in ann.page.evaluate(TABS)]
        for language, theme, width in looks:
            ann.page.set_viewport_size({"width": width, "height": 900})
            for path in (*PAGES, *tabs, *FORMS):
                mark = "&" if "?" in path else "?"
                ann.open(f"{path}{mark}_lang={language}&_theme={theme}")
                assert ann.violations() == [], (path, language, theme, width)
                over = ann.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert over <= 0, (path, language, theme, width)
                reached += by_keyboard(ann, path)
                checked += 1
        ann.open("?_lang=en&_theme=auto")
        ann.check()
    print(
        f"\n{checked} pages (2 languages, 2 colours, 2 widths): 0 axe violations, {reached} elements reached by "
        "keyboard, 0 foreign requests, 0 console errors, 0 reports of the content policy"
    )


def by_keyboard(one: Watched, path: str) -> int:
    """Go through a page by Tab; return how many elements were reached, which are all that can be."""
    shown = int(one.page.evaluate(f"{ABLE}.filter((one) => one.checkVisibility()).length"))
    one.page.evaluate("document.activeElement?.blur(); getSelection().removeAllRanges(); window.scrollTo(0, 0)")
    found: set[int] = set()
    for _ in range(shown + 25):
        one.page.keyboard.press("Tab")
        found.add(int(one.page.evaluate(f"{ABLE}.indexOf(document.activeElement)")))
        if len(found - {-1}) >= shown:
            break
    assert len(found - {-1}) >= shown, f"{path}: {len(found - {-1})} of {shown} elements are reached by keyboard"
    return shown


def test_a_model_is_asked_by_keyboard_alone(server: Served, browser: RealBrowser, office: dict[str, str]) -> None:
    with browser.page(server.root_url) as dev:
        log_in(dev, "dev", "", "/chat?left=chat")
        dev.page.keyboard.press("Tab")
        assert dev.page.evaluate("document.activeElement.className") == "skip"
        dev.page.keyboard.press("Enter")
        for _ in range(12):
            dev.page.keyboard.press("Tab")
            if dev.page.evaluate("document.activeElement.id") == "prompt":
                break
        dev.page.keyboard.type("By keyboard alone.")
        dev.page.keyboard.press("Enter")
        dev.page.get_by_text("first token").wait_for()
        assert "By keyboard alone" in dev.page.locator(".said.model").inner_text()


def test_of_a_stopped_answer_nothing_is_said_that_is_not_so(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    with browser.page(server.root_url) as dev:
        log_in(dev, "dev", "", "/chat?left=chat")
        dev.page.route("**/console/ask", lambda route: None)  # it begins, and never answers
        dev.page.get_by_label("Message", exact=True).fill("Stop me.")
        dev.page.get_by_role("button", name="Send").click()
        dev.page.get_by_role("button", name="Stop").click()
        dev.page.get_by_role("alert").get_by_text("Stopped.").wait_for()
        assert dev.page.locator("#status").inner_text() == "Stopped."
        assert dev.page.locator(".metrics").inner_text() == "", "no figure is made up"


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
