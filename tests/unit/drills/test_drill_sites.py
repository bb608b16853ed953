"""Drills of a branch office: what they wait for, and when they say that the trouble was felt."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ashore.control.drills.centre import ALIAS
from ashore.control.drills.faults import MAKERS
from ashore.control.drills.madeup import make_model
from ashore.core.clock import ManualClock
from ashore.kit.settings import Home
from ashore.kit.store import ModelStore


def scene(root: Path, **status: Any) -> Any:
    """Return an office whose process has written its status."""
    home = Home(root=root)
    home.sites.mkdir(exist_ok=True)
    (home.sites / "status.json").write_text(json.dumps({"serving": {}, "phase": "idle", "note": "", **status}))
    return SimpleNamespace(home=home, replicas=2, ready=lambda: 2)


def test_an_office_is_well_once_it_serves_what_its_centre_assigned(tmp_path: Path) -> None:
    for name in ("cut-centre", "lost-power"):
        for told in ({}, {"serving": {ALIAS: "sha256:00"}, "phase": "judging"}):
            assert "does not serve" in MAKERS[name](scene(tmp_path, **told)).why_unwell()
        assert not MAKERS[name](scene(tmp_path, serving={ALIAS: "sha256:00"})).why_unwell()


def test_a_cut_is_felt_by_missing_news(tmp_path: Path) -> None:
    assert not MAKERS["cut-centre"](scene(tmp_path, news_s=time.time() + 60)).felt()
    assert MAKERS["cut-centre"](scene(tmp_path, news_s=time.time() - 60)).felt() == "no news for 60 s"


def test_the_made_up_model_is_one_that_the_store_takes(tmp_path: Path) -> None:
    make_model(tmp_path / "model")
    store = ModelStore(tmp_path / "store", tmp_path / "run", ManualClock())
    assert store.pull(str(tmp_path / "model"), name="version-1").digest
