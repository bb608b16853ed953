"""A stored model as a torch module and back: the same numbers, tied weights once. Needs torch (`make test-train`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_making import make_store, pull_tiny

from ashore.errors import UnsupportedModel
from ashore.store import read_tensors
from ashore.training import load_checkpoint, save_checkpoint

pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_saved_and_loaded_again_it_is_the_same(tmp_path: Path, kind: str) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path, kind=kind)
    with store.reading("tiny") as files:
        model = load_checkpoint(files)
        folder = save_checkpoint(model, files, tmp_path / "out")
    tensors = read_tensors(folder / "model.safetensors")
    assert ("lm_head.weight" in tensors) is (kind == "llama")  # qwen2 here has tied embeddings
    made = store.add_derived(parent, "same", folder, recipe={})
    assert made.shape == parent.shape
    with store.reading("same") as files:
        again = load_checkpoint(files)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor.half().float(), again.state_dict()[name]), name


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    with store.reading("tiny") as files:
        model = load_checkpoint(files)
        model.model.norm.weight.data[3] = float("nan")
        with pytest.raises(UnsupportedModel, match="not numbers"):
            save_checkpoint(model, files, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_what_does_not_fit_half_precision_is_kept_in_bf16(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    with store.reading("tiny") as files:
        model = load_checkpoint(files)
        model.model.norm.weight.data[3] = 1e6
        save_checkpoint(model, files, tmp_path / "out")
    assert read_tensors(tmp_path / "out" / "model.safetensors")["model.norm.weight"][3] == pytest.approx(1e6, rel=0.01)
