"""A stored model as a torch module and back: the same numbers, tied weights once. Needs torch (`make test-train`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_making import make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.core.errors import UnsupportedModel
from ashore.data.engines import RoundOrder, load_torch_model
from ashore.data.engines.llamacpp.rounding import prepare_gguf
from ashore.kit.store import convert_safetensors_to_gguf, read_gguf_state, read_tensors
from ashore.lab.training import load_checkpoint, save_checkpoint

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


@pytest.mark.parametrize("kind", ["llama", "qwen2"])  # transformers takes 128 for the head size of every Qwen 3
def test_a_gguf_file_is_read_as_transformers_reads_it(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    convert_safetensors_to_gguf(make_tiny_model(tmp_path / "tiny", kind), tmp_path / "model.gguf")
    for dtype in ("float32", "bfloat16"):
        ours = load_torch_model(tmp_path, "gguf", "model.gguf", name="tiny", dtype=dtype)  # type: ignore[arg-type]
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="model.gguf", dtype=getattr(torch, dtype)
        ).eval()
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
        state = theirs.state_dict()
        assert list(ours.state_dict()) == list(state)
        for name, tensor in ours.state_dict().items():
            assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name]), name
        assert dict(ours.named_buffers()).keys() == dict(theirs.named_buffers()).keys()
        for name, buffer in ours.named_buffers():
            assert torch.equal(buffer, theirs.get_buffer(name)), name
        kept = {k: v for k, v in theirs.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
        assert {k: v for k, v in ours.config.to_dict().items() if k != "_name_or_path"} == kept
        assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()
        ids = torch.arange(1, 40)[None]
        assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_a_gguf_file_that_is_still_rounded_is_left_to_transformers(tmp_path: Path) -> None:
    convert_safetensors_to_gguf(make_tiny_model(tmp_path / "tiny", "llama"), tmp_path / "model.gguf")
    assert read_gguf_state(tmp_path / "model.gguf") is not None
    (tmp_path / "out").mkdir()
    made = prepare_gguf(tmp_path, "model.gguf", RoundOrder(precision="q8_0"), tmp_path / "out")
    assert read_gguf_state(tmp_path / "out" / made.weights) is None
    model = load_torch_model(tmp_path / "out", "gguf", made.weights, name="tiny")
    assert model.config.model_type == "llama"


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    with store.reading("tiny") as files:
        model = load_checkpoint(files)
        model.model.norm.weight.data[3] = float("nan")
        with pytest.raises(UnsupportedModel, match="not finite numbers"):
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
