"""Models in a backup: what is attached to them, what is deleted or pulled meanwhile, and one alone brought back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from backup_rig import Rig, fill_home
from store_making import alter, blob_of, make_store, pull_tiny

from ashore.control.backup import HomeContents, Restore, find_own
from ashore.core.errors import Conflict, CorruptBlob, UnknownModel


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "home").begin()
    fill_home(rig.root, num_bytes=10_000)
    return rig


class Watched(HomeContents):
    """The contents of a rig, with something that happens before the blob of a number is read."""

    def __init__(self, rig: Rig, at: int, happens: Callable[[], object]) -> None:
        super().__init__(rig.root, rig.store, tuple, state=rig.root / "state.db", extra={})
        self._at, self._happens = at, happens

    def blob(self, digest: str) -> Path:
        self._at -= 1
        if self._at == 0:
            self._happens()
        return super().blob(digest)


def one_model(rig: Rig, ref: str) -> tuple[str, ...]:
    found = find_own(rig.home, opener=rig.nodes.__getitem__)
    restore = Restore(found, told=lambda stage, done, total: None)
    return restore.model(rig.root, ref, rig.store).models


def test_what_is_attached_to_a_model_comes_back_with_it(rig: Rig, tmp_path: Path) -> None:
    model = pull_tiny(rig.store, tmp_path)
    for number in range(3):
        rig.clock.advance(60)
        rig.store.attach(model, "evaluation", {"report.json": b"%d" % number, "report.md": b"# a report"})
    rig.store.attach(model, "verdict", {"verdict.json": b"{}"})
    before = rig.store.attachments(model)
    rig.service.run(rig.contents)
    store = rig.restore(tmp_path / "new")
    after = store.attachments(store.resolve("tiny"))
    assert after == before and len(after) == 4
    assert store.read_attachment(after[-1], "report.json") == b"0"
    assert store.verify().ok
    rig.store.remove("tiny")
    rig.store.gc()
    one_model(rig, "tiny")
    assert rig.store.attachments(rig.store.resolve("tiny")) == before


def test_a_model_that_is_deleted_while_it_is_backed_up_is_left_out_and_told(rig: Rig, tmp_path: Path) -> None:
    pull_tiny(rig.store, tmp_path, "stays", seed=1)
    pull_tiny(rig.store, tmp_path, "goes", seed=2)

    def delete() -> None:
        rig.store.remove("goes")
        assert rig.store.gc().freed_bytes

    blobs = len(rig.store.copies()[0].blobs)
    report = rig.service.run(Watched(rig, blobs + 2, delete))
    assert "goes was removed during the backup and is not in it" in report.notes
    store = rig.restore(tmp_path / "new")
    assert [model.name for model in store.list()] == ["stays"] and store.verify().ok


def test_a_blob_that_is_missing_from_a_model_that_is_there_ends_the_backup(rig: Rig, tmp_path: Path) -> None:
    model = pull_tiny(rig.store, tmp_path)
    rig.service.run(rig.contents)
    blob_of(rig.store, model, "tokenizer.json").unlink()
    again = rig.service.run(rig.contents)  # the nodes have it
    assert again.new_bytes < 100_000
    fresh = pull_tiny(rig.store, tmp_path, "fresh", seed=9)
    weights = max(fresh.files, key=lambda file: file.num_bytes).path
    blob_of(rig.store, fresh, weights).unlink()
    with pytest.raises(CorruptBlob, match="a blob of fresh is missing"):
        rig.service.run(rig.contents)
    assert rig.service.status().generation == 2


def test_an_attachment_that_newer_ones_push_out_meanwhile_is_told(rig: Rig, tmp_path: Path) -> None:
    model = pull_tiny(rig.store, tmp_path)
    rig.store.attach(model, "evaluation", {"report.json": b"the first"})

    def push_out() -> None:
        for number in range(10):
            rig.clock.advance(60)
            rig.store.attach(model, "evaluation", {"report.json": b"%d" % number})
        rig.store.gc()

    report = rig.service.run(Watched(rig, 2, push_out))
    assert "an attachment of tiny was replaced by a newer one during the backup" in report.notes
    store = rig.restore(tmp_path / "new")
    assert len(store.attachments(store.resolve("tiny"))) == 10  # what came meanwhile is in it


def test_a_model_that_comes_meanwhile_is_in_it_too(rig: Rig, tmp_path: Path) -> None:
    pull_tiny(rig.store, tmp_path, "first", seed=1)
    rig.service.run(Watched(rig, 2, lambda: pull_tiny(rig.store, tmp_path, "second", seed=2)))
    store = rig.restore(tmp_path / "new")
    assert sorted(model.name for model in store.list()) == ["first", "second"] and store.verify().ok


def test_a_name_that_moves_to_another_model_meanwhile_leads_to_one(rig: Rig, tmp_path: Path) -> None:
    pull_tiny(rig.store, tmp_path, "tiny", seed=1)

    def move() -> None:
        rig.store.remove("tiny")
        pull_tiny(rig.store, tmp_path / "other", "tiny", seed=2)

    rig.service.run(Watched(rig, 2, move))
    store = rig.restore(tmp_path / "new")
    assert store.resolve("tiny").digest == rig.store.resolve("tiny").digest


def test_one_model_comes_back_into_a_home_that_lives(rig: Rig, tmp_path: Path) -> None:
    tiny = pull_tiny(rig.store, tmp_path, "tiny", seed=1)
    other = pull_tiny(rig.store, tmp_path, "other", seed=2)
    rig.service.run(rig.contents)
    state = (rig.root / "state.db").read_bytes()
    (rig.root / "first-key").write_bytes(b"ash_another\n")
    weights = max(tiny.files, key=lambda file: file.num_bytes).path
    alter(blob_of(rig.store, tiny, weights), 5, keep_times=True)
    rig.store.remove("other")
    assert not rig.store.verify("tiny").ok
    assert one_model(rig, "tiny") == ("tiny",)
    assert rig.store.verify("tiny").ok
    assert [model.name for model in rig.store.list()] == ["tiny"]
    assert one_model(rig, "other") == ("other",) and rig.store.resolve("other").digest == other.digest
    assert (rig.root / "state.db").read_bytes() == state
    assert (rig.root / "first-key").read_bytes() == b"ash_another\n"
    assert not list((rig.root / "backup").glob("restoring-*"))


def test_one_model_is_named_or_refused(rig: Rig, tmp_path: Path) -> None:
    pull_tiny(rig.store, tmp_path, "tiny", seed=1)
    rig.service.run(rig.contents)
    with pytest.raises(UnknownModel, match="the backup has no model 'tny'") as caught:
        one_model(rig, "tny")
    assert "tiny" in caught.value.hint
    rig.store.remove("tiny")
    pull_tiny(rig.store, tmp_path / "other", "tiny", seed=2)
    with pytest.raises(Conflict, match="tiny is a different model in the store"):
        one_model(rig, "tiny")


def test_chosen_models_and_those_of_releases_are_backed_up_and_others_are_not(rig: Rig, tmp_path: Path) -> None:
    pull_tiny(rig.store, tmp_path, "chosen", seed=1)
    released = pull_tiny(rig.store, tmp_path, "released", seed=2)
    pull_tiny(rig.store, tmp_path, "left", seed=3)
    rig.store.remove("released")

    contents = HomeContents(rig.root, rig.store, lambda: (released.digest,), state=rig.root / "state.db", extra={})
    rig.service.run(contents, only=("chosen",))
    store = rig.restore(tmp_path / "new")
    assert [model.name for model in store.list()] == ["chosen"]
    assert {copy.digest for copy in store.copies({released.digest})} >= {released.digest}
    assert make_store(tmp_path / "new").verify().ok
