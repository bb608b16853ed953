"""Checkpoints with other weights than their parent: models of their own, whose parent is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_making import make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.core.errors import Conflict, InvalidRequest, UnsupportedModel
from ashore.machine.planning.workshop import origins_of


def _checkpoint(folder: Path, *, seed: int, layers: int = 2) -> Path:
    """Return a folder as training leaves it: without vocabulary and template."""
    made = make_tiny_model(folder, "llama", seed=seed)
    for name in ("tokenizer.json", "tokenizer_config.json", "README.md"):
        (made / name).unlink()
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    return made


def test_a_derived_model_has_its_parent_and_its_text_files(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    made = store.add_derived(parent, "tiny-pruned", _checkpoint(tmp_path / "out", seed=1), recipe={"maker": "prune"})
    assert (made.reference, made.parent, made.recipe) == ("tiny-pruned", parent.digest, {"maker": "prune"})
    assert made.source == "derived:tiny"
    shared = {f.path: f.digest for f in parent.files}
    assert all(f.digest == shared[f.path] for f in made.files if f.path in ("tokenizer.json", "chat_template.jinja"))
    assert store.resolve("tiny-pruned") == made
    assert store.verify("tiny-pruned").bad == ()


def test_its_origins_are_every_name_of_what_it_was_made_from(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    tiny = pull_tiny(store, tmp_path)
    tuned = store.add_derived(tiny, "tuned", _checkpoint(tmp_path / "a", seed=1), recipe={})
    small = store.add_derived(tuned, "small", _checkpoint(tmp_path / "b", seed=2, layers=1), recipe={})
    assert origins_of(store, small) == ("small", "tiny", "tuned")
    assert (origins_of(store, tiny), origins_of(store, tuned)) == (("tiny",), ("tiny", "tuned"))
    store.remove("tuned")
    assert origins_of(store, small) == ("small", "tuned"), "its name is known when it is gone"


def test_its_shape_is_its_own(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    made = store.add_derived(parent, "small", _checkpoint(tmp_path / "out", seed=1, layers=1), recipe={})
    assert (parent.shape.num_layers, made.shape.num_layers) == (2, 1)


def test_made_again_it_replaces_the_old_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    first = store.add_derived(parent, "small", _checkpoint(tmp_path / "a", seed=1), recipe={})
    second = store.add_derived(parent, "small", _checkpoint(tmp_path / "b", seed=2), recipe={})
    assert store.resolve("small") == second != first
    store.gc()
    assert store.verify().bad == ()


def test_a_pulled_model_is_never_replaced(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    with pytest.raises(Conflict, match="taken by a model from"):
        store.add_derived(parent, "tiny", _checkpoint(tmp_path / "out", seed=1), recipe={})
    assert store.resolve("tiny") == parent


@pytest.mark.parametrize("name", ["tiny@pruned", "Tiny", ""])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    with pytest.raises(InvalidRequest):
        store.add_derived(parent, name, _checkpoint(tmp_path / "out", seed=1), recipe={})


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    folder = _checkpoint(tmp_path / "out", seed=1)
    (folder / "config.json").unlink()
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        store.add_derived(parent, "small", folder, recipe={})
