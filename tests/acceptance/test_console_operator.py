"""An operator at work in Chromium, over `ashore up`: what takes minutes is a job, followed on a page that is not
reloaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from console_people import CONFIG, REFUSED, act, log_in, until
from real_browser import RealBrowser
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


def test_an_operator_pulls_makes_a_variant_deploys_it_and_rolls_back(
    server: Served, browser: RealBrowser, office: dict[str, str]
) -> None:
    (folder,) = re.findall(r'folders = \["(.+)"\]', (server.home / "ashore.toml").read_text())
    with browser.page(server.root_url, expected=REFUSED) as sam:
        log_in(sam, "sam", office["sam"], "/models?_tab=model")
        sam.page.get_by_role("link", name="Download a model", exact=True).first.click()
        sam.page.locator("#f-source").fill("/etc")
        sam.page.get_by_role("button", name="Download").click()
        sam.page.get_by_text("not in the folders that jobs may read").wait_for()
        sam.open("/call/model/pull")
        sam.page.locator("#f-source").fill(f"{folder}/tiny")
        sam.page.locator("#f-name").fill("tiny")
        sam.page.get_by_text(f"ashore model pull {folder}/tiny --name tiny --job").wait_for()
        act(sam, "Download")
        sam.open("/jobs")
        sam.page.get_by_role("row", name=re.compile(r"Download a model\s.*succeeded")).wait_for(timeout=120_000)
        sam.open("/call/optimize/quantize?model=tiny")
        sam.page.locator("#f-to").fill("int8")
        act(sam, "Quantise")
        sam.open("/jobs")
        sam.page.get_by_role("row", name=re.compile(r"Quantise\s.*succeeded")).wait_for(timeout=240_000)
        assert sam.violations() == []
        sam.page.get_by_role("link", name="Quantise", exact=True).first.click()
        sam.page.get_by_text("tiny@int8").first.wait_for()
        assert sam.violations() == []
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
        act(sam, "Roll back")
        until(sam, "/releases?_tab=release", lambda text: re.search(r"other-1\s.*\blive\b", text))
        sam.open("/server/backups")
        assert "backup init" in sam.page.locator("main").inner_text(), "none yet, and how to begin"
        assert sam.violations() == []
