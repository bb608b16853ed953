"""The pages Models and Releases over a whole worker, with a model in the store: what stands there, and for whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from console_site import Page, Site, console_site
from memory_workshop import MemoryWorkshop
from release_house import House
from store_making import make_store, pull_tiny

from ashore.core.clock import ManualClock, SystemClock
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_state
from ashore.kit.store import Verdict, VerdictLine, keep_verdict

OPERATOR, OWNER, AUDITOR = "system-administrator", "model-owner", "auditor"
SAYS = VerdictLine(metric="perplexity", about="wiki", limit=9.0, seen=7.5, passed=True, why="")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("models")
    with console_site(folder) as made:
        adopt_a_release(folder)
        store = make_store(folder)
        model = pull_tiny(store, folder / "sources")
        verdict = Verdict(passed=True, model="tiny", digest="", against="", created="", gate="", lines=(SAYS,))
        keep_verdict(store, model, verdict)
        yield made


def adopt_a_release(folder: Path) -> None:
    """Let the alias `chat` point to `chat-1`, as a supervisor does when it starts."""
    database = open_state("", default=folder / "state.db", snapshots=folder / "snapshots", clock=SystemClock())
    try:
        house = House(database, ManualClock(), MemoryRecorder(), MemoryWorkshop())
        house.adopt("chat=fake:echo")
    finally:
        database.close()


def said(page: Page) -> str:
    main = page.text.partition("<main")[2].partition("</main>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", main).split())


def test_each_role_sees_the_models_it_may_see_and_the_acts_it_may_do(site: Site) -> None:
    served, stored = site.get("/models", OPERATOR), site.get("/models/stored", OPERATOR)
    assert "chat-next" in said(served) and "ready" in said(served)
    assert re.search(r"tiny .*on disk .*KiB passed", said(stored)), said(stored)
    assert "call/optimize/quantize?model=tiny" in stored.text and "call/model/remove?ref=tiny" in stored.text
    assert "Add a model" in said(stored)
    of_owner = site.get("/models/stored", OWNER)
    assert "call/release/create?model=tiny" in of_owner.text
    assert "Add a model" not in said(of_owner) and "call/model/remove" not in of_owner.text
    assert "tiny" in said(site.get("/models/stored", AUDITOR)) and "popovertarget" not in said(of_owner)
    assert site.get("/models", "developer").status == site.get("/models/stored", "developer").status == 403


def test_a_model_has_a_page_with_variants_evaluation_and_where_it_is_served(site: Site) -> None:
    page = site.get("/models?model=tiny", OPERATOR)
    assert re.search(r"perplexity wiki tiny 7.5 9 passed", said(page)), said(page)
    assert "No release uses it" in said(page) and "as downloaded" in said(page)
    assert site.get("/models?model=nothing", OPERATOR).status == 404
    assert site.get("/models?job=op_nothing", OPERATOR).status == 404


def test_the_catalogue_is_searched_and_narrowed_and_any_source_can_be_added(site: Site) -> None:
    every = site.get("/models/catalogue", OPERATOR)
    assert "smollm2" in said(every) and "qwen3-4b" in said(every)
    found = said(site.get("/models/catalogue?q=qwen3+reasoning", OPERATOR))
    assert "qwen3-4b" in found and "smollm2" not in found
    assert "hf:acme/one" in said(site.get("/models/catalogue?q=hf:acme/one", OPERATOR))
    assert "Nothing matches" in said(site.get("/models/catalogue?q=zzzz", OPERATOR))
    assert "models?add=smollm2" not in site.get("/models/catalogue", AUDITOR).text
    accepts = site.get("/models?add=llama-3.1-8b", OPERATOR)
    assert 'name="accept_licence"' in accepts.text
    assert 'name="accept_licence"' not in site.get("/models?add=smollm2", OPERATOR).text
    assert site.get("/models?add=smollm2", AUDITOR).status == 403


def test_a_download_leads_to_the_page_that_shows_its_progress(site: Site) -> None:
    sent = site.post("/call/model/pull", OPERATOR, {"source": "qwen3-4b"})
    assert sent.status == 303
    where = urlsplit(sent.headers["location"])
    assert where.path.endswith("/models") and "recorded=" in where.query
    page = site.get(f"/models?{where.query}", OPERATOR)
    assert "Download" in said(page) and "queued" in said(page) and "In the audit log under" in said(page)
    assert 'data-live="2000"' in page.text and "call/job/cancel?job=" in page.text
    by_script = site.post("/call/model/pull", OPERATOR, {"source": "qwen3-4b"}, x_console_part="main")
    assert by_script.status == 200 and "models?job=" in by_script.headers["location"]


def test_a_release_has_its_traffic_its_evidence_and_its_acts_on_one_page(site: Site) -> None:
    made = site.post("/call/release/create", OPERATOR, {"model": "fake:echo", "alias": "chat", "name": "chat-new"})
    assert made.status == 303 and "releases?release=chat-new" in made.headers["location"]
    every = site.get("/releases", OPERATOR)
    assert "chat-new" in said(every) and "created" in said(every)
    page = site.get("/releases?release=chat-new", OWNER)
    assert "call/release/canary?release=chat-new" in page.text and "Not compared yet" in said(page)
    assert "call/release/promote?release=chat-new" in page.text
    assert "call/release/" not in site.get("/releases?release=chat-new", AUDITOR).text.partition("<main")[2]
    assert site.get("/releases?release=nothing", OPERATOR).status == 404
    assert site.get("/releases", "developer").status == 403
