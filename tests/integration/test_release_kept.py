"""What a release is made of outlives its name in the store: `gc` keeps it and backups hold it, unless it failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tiny_model

from ashore.cli.bootstrap import backup_contents, build_store, manifests_in_use, open_state
from ashore.data.engines import EngineOptions, ModelPlan
from ashore.data.releases import Course, Release
from ashore.data.releases.sql import insert_release
from ashore.kit.settings import read_settings


@pytest.mark.parametrize(("state", "kept"), [("live", True), ("retired", True), ("failed", False)])
def test_gc_and_backup_know_what_releases_are_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, kept: bool
) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    settings = read_settings()
    store = build_store(settings.home, settings)
    model = store.pull(str(make_tiny_model(tmp_path / "tiny", "llama")), name="tiny")
    plan = ModelPlan(
        alias="chat", release="chat-1", name="tiny", variant="", options=EngineOptions(kind="openvino"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    release = Release(name="chat-1", alias="chat", plan=plan, parts={"weights": model.digest}, content="c")
    database = open_state(settings)
    with database.write() as connection:
        insert_release(connection, release, Course(release="chat-1", state=state))  # type: ignore[arg-type]
    database.close()
    store.remove("tiny")
    held = [copy.digest for copy in backup_contents(settings).models()]
    gone = store.gc(keep=manifests_in_use(settings)).models
    assert (model.digest in held, model.digest in gone) == (kept, not kept)


def test_without_a_state_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASHORE_HOME", str(tmp_path / "home"))
    assert manifests_in_use(read_settings()) == frozenset()
    assert not (tmp_path / "home" / "state.db").exists()
