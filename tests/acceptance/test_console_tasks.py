"""Five tasks of people in Chromium, over `ashore up`, from log-in, with a bound on the clicks that each takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from console_people import CONFIG, PASSWORD, log_in
from real_browser import RealBrowser, Watched
from served import Served, start_served
from tiny_models import make_tiny_model

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home, folder = tmp_path_factory.mktemp("console-home"), tmp_path_factory.mktemp("console-models")
    make_tiny_model(folder / "tiny", "llama")
    config = f'{CONFIG}\n[jobs]\nfolders = ["{folder}"]\n'
    started = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        yield started
    finally:
        started.stop()


@dataclass
class Clicks:
    """A page whose clicks are counted. What is typed, Enter included, is none."""

    one: Watched
    count: int = 0

    def on(self, role: str, name: str, within: Any = None) -> None:
        """Click what has this role and name; in the side bar, a page."""
        place = self.one.page if within is None else within
        place.get_by_role(role, name=name, exact=True).first.click()
        self.count += 1

    def to(self, page: str) -> None:
        """Open a page by the navigation."""
        self.on("link", page, self.one.page.locator(".side"))

    def ask(self, question: str) -> str:
        """Ask the model that Chat offers; return its answer."""
        self.one.page.get_by_label("Message", exact=True).fill(question)
        self.one.page.get_by_label("Message", exact=True).press("Enter")
        self.one.page.get_by_text("first token").wait_for()
        return str(self.one.page.locator(".said.model").last.inner_text())


@pytest.fixture(scope="module")
def colleague(server: Served, browser: RealBrowser, office: dict[str, str]) -> int:
    """A colleague is invited by the security officer, chooses a password and asks something; return the clicks."""
    with browser.page(server.root_url) as sec:
        log_in(sec, "sec", office["sec"])
        by = Clicks(sec)
        by.to("People and keys")
        by.on("link", "Invite a person")
        sec.page.locator("#f-id").fill("zoe")
        sec.page.get_by_text("ashore access user create zoe --role developer --no-key && ").wait_for()
        by.on("button", "Create the link")
        link = sec.page.locator("#secret-text").inner_text()
        by.on("button", "Copy the link")
        assert sec.violations() == []
    assert re.fullmatch(rf"{server.root_url}/console/invitation\?account=zoe#\S{{20,}}", link)
    with browser.page(server.root_url) as zoe:
        zoe.page.goto(link)
        assert "#" not in zoe.page.url, "the code stays in no history"
        zoe.page.get_by_label("New password").fill(PASSWORD)
        zoe.page.get_by_label("The same once more").fill(PASSWORD)
        her = Clicks(zoe)
        her.on("button", "Set the password")
        her.to("Chat")
        assert "harbour" in her.ask("Where is the nearest harbour?")
    return by.count + her.count


def test_a_first_answer_takes_three_clicks(server: Served, browser: RealBrowser, colleague: int) -> None:
    with browser.page(server.root_url) as zoe:
        log_in(zoe, "zoe", "")
        her = Clicks(zoe)
        her.to("Chat")
        assert "capital" in her.ask("What is the capital of Peru?")
    assert her.count <= 3


def test_a_colleague_who_is_invited_asks_something_within_six_clicks(colleague: int) -> None:
    assert colleague <= 6


def test_a_model_is_found_quantised_released_and_rolled_back_within_fourteen_clicks(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    (folder,) = re.findall(r'folders = \["(.+)"\]', (server.home / "ashore.toml").read_text())
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"])
        his = Clicks(sam)
        his.to("Models")
        his.on("link", "Add a model")
        sam.page.get_by_role("searchbox").fill(f"{folder}/tiny")
        sam.page.get_by_role("searchbox").press("Enter")
        his.on("link", f"Add {folder}/tiny")
        sam.page.locator("#f-name").fill("tiny")
        his.on("button", "Download")
        sam.page.get_by_role("heading", name="tiny on disk").wait_for(timeout=120_000)
        his.on("link", "Quantise", sam.page.locator(".head"))
        sam.page.locator("#f-to").fill("int8")
        his.on("button", "Quantise")
        row = sam.page.get_by_role("row", name="int8")
        row.wait_for(timeout=120_000)
        his.on("button", "Acts", row)
        his.on("link", "Create a release", row)
        sam.page.locator("#f-alias").fill("other")
        sam.page.locator("#f-name").fill("tiny-8")
        his.on("button", "Create")
        his.on("link", "Promote a release", sam.page.locator(".head"))
        sam.page.locator("#f-override").fill("a trial of the console")
        his.on("button", "Promote")
        sam.page.get_by_role("heading", name="tiny-8 live", level=3).wait_for(timeout=120_000)
        his.on("link", "Roll back", sam.page.locator(".head"))
        his.on("button", "Roll back")
        sam.page.get_by_role("heading", name="other-1 live", level=3).wait_for(timeout=120_000)
    print(f"\na model found, quantised, released and rolled back: {his.count} clicks")
    assert his.count <= 14


def test_who_spent_most_this_month_takes_three_clicks(
    server: Served, browser: RealBrowser, office: dict[str, str], colleague: int
) -> None:
    with browser.page(server.root_url) as sam:
        log_in(sam, "sam", office["sam"])
        his = Clicks(sam)
        his.to("Usage and budgets")
        sam.page.get_by_role("row", name="zoe").wait_for()
        first = sam.page.get_by_role("table").first.get_by_role("row").nth(1).inner_text()
        assert first.startswith("zoe") and "%" in first
        assert sam.violations() == []
    assert his.count <= 3


def test_an_inspector_sees_within_four_clicks_that_a_record_was_not_changed(
    server: Served, browser: RealBrowser, office: dict[str, str], colleague: int
) -> None:
    with browser.page(server.root_url) as ann:
        log_in(ann, "ann", office["ann"])
        hers = Clicks(ann)
        hers.to("Audit")
        ann.page.get_by_role("row").nth(1).get_by_role("link").first.click()
        hers.count += 1
        ann.page.get_by_role("heading", name="Where it stands").wait_for()
        hers.on("link", "Verify the audit log")
        hers.on("button", "Verify")
        ann.page.locator(".done").wait_for()
        assert re.search(r"Ok\s+yes", ann.page.locator(".done").inner_text())
    assert hers.count <= 4
