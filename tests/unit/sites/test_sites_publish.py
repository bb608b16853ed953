"""A centre's model comes out of a site's store as the same model: by the tree, by a delta, and by a stick."""

from __future__ import annotations

from pathlib import Path

import pytest
from memory_keeper import MemoryKeeper
from site_centre import MemoryTree
from store_making import make_store, pull_tiny

from ashore.control.sites.fetch import Puller, have_in, model_copy
from ashore.control.sites.links import FolderLink
from ashore.control.sites.model import ModelParts
from ashore.control.sites.ports import CentreLink
from ashore.control.sites.publish import export, prune, publish_model
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.ids import Digest
from ashore.kit.store import ModelStore


def _take(link: CentreLink, parts: ModelParts, store: ModelStore, folder: Path) -> int:
    """Fetch a model into a site's store; return the bytes that came."""
    puller = Puller(link)
    into = puller.fetch(parts, have=have_in(store), into=store.root / "staging" / parts.digest[-8:])
    copy = model_copy(parts, name=f"tiny-{parts.digest[-8:]}", created_s=5)
    store.put_back([copy], lambda digest: into / digest.removeprefix("sha256:"))
    model = store.resolve(f"{copy.name}@{parts.digest}")
    assert store.verify(model.reference).bad == ()
    return puller.fetched


def _tuned(folder: Path) -> None:
    """Change a few numbers of the model in a folder."""
    weights = folder / "tiny/model.safetensors"
    data = bytearray(weights.read_bytes())
    for at in range(len(data) // 2, len(data) - 4, len(data) // 50):
        data[at] ^= 1
    weights.write_bytes(data)


def test_versions_come_to_a_site_by_tree_and_stick(tmp_path: Path) -> None:
    centre, site = make_store(tmp_path / "centre"), make_store(tmp_path / "site")
    tree = MemoryTree()
    pull_tiny(centre, tmp_path)
    first = publish_model(centre, tree, "tiny")
    assert [one.path for one in first.files[:2]] == ["/manifest", "/config"] and not first.deltas
    assert _take(tree, first, site, tmp_path) == first.stored

    _tuned(tmp_path)
    centre.pull(str(tmp_path / "tiny"), name="tiny")
    second = publish_model(centre, tree, "tiny", earlier=[first])
    assert second.digest != first.digest and [one.base for one in second.deltas] == [first.digest]
    before = dict(tree.files)
    assert publish_model(centre, tree, "tiny", earlier=[first]) == second and tree.files == before

    stick = FolderLink(tmp_path / "stick")
    tree.put("metadata/timestamp.json", b"{}")
    copied = export(
        tree, stick, papers=["metadata/timestamp.json"], wanted=[first, second], have=frozenset([first.digest])
    )
    assert copied == second.deltas[0].size < second.stored / 10
    damaged = next(path for path, _ in stick.names("segments"))
    stick.put(damaged, b"x")
    export(tree, stick, papers=(), wanted=[second], have=frozenset([first.digest]))
    assert dict(stick.names("segments")).keys() < tree.files.keys() and stick.has("metadata/timestamp.json")
    assert _take(stick, second, site, tmp_path) == copied
    with pytest.raises(NotFound):
        _take(stick, second, make_store(tmp_path / "another site"), tmp_path)


def test_pruning_leaves_what_kept_models_need_and_what_is_no_segment(tmp_path: Path) -> None:
    centre, tree = make_store(tmp_path / "centre"), MemoryTree()
    pull_tiny(centre, tmp_path)
    first = publish_model(centre, tree, "tiny")
    _tuned(tmp_path)
    centre.pull(str(tmp_path / "tiny"), name="tiny")
    second = publish_model(centre, tree, "tiny", earlier=[first])
    tree.put("metadata/timestamp.json", b"{}")
    before = dict(tree.files)
    assert prune(tree, [first, second]) == 0 and tree.files == before
    freed = prune(tree, [second])
    assert freed == sum(map(len, before.values())) - sum(map(len, tree.files.values())) > 0
    assert prune(tree, [second]) == 0 and tree.has("metadata/timestamp.json")
    assert _take(tree, second, make_store(tmp_path / "site"), tmp_path) == second.stored
    assert prune(tree, []) > 0 and list(tree.files) == ["metadata/timestamp.json"]


def test_a_delta_that_saves_too_little_is_not_published(tmp_path: Path) -> None:
    centre, tree = make_store(tmp_path / "centre"), MemoryTree()
    pull_tiny(centre, tmp_path, seed=1)
    first = publish_model(centre, tree, "tiny")
    pull_tiny(centre, tmp_path, "other", seed=2)
    other = publish_model(centre, tree, "other", earlier=[first])
    assert not other.deltas and prune(tree, [first, other]) == 0


def test_a_sealed_model_is_not_published(tmp_path: Path) -> None:
    keeper = MemoryKeeper()
    store = ModelStore(tmp_path / "store", tmp_path / "run", ManualClock(), keeper=lambda: keeper)
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    tree = MemoryTree()
    with pytest.raises(InvalidRequest, match="sealed"):
        publish_model(store, tree, "tiny")
    assert not tree.files and have_in(store).models == frozenset()


def test_what_the_store_has_is_told_by_digest(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    have = have_in(store)
    assert have.models == {model.digest}
    file = model.files[0]
    assert have.file(file.digest.removeprefix("sha256:")) == store.blob_path(Digest(file.digest))
    assert have.file("0" * 64) is None
