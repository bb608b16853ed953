"""Models of any architecture come into the store; what is refused is what no engine could ever be given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, make_text
from safetensors.numpy import save_file

from ashore.core.clock import ManualClock
from ashore.core.errors import UnsupportedModel
from ashore.kit.store import ModelStore
from ashore.kit.store.sources.selection import RemoteFile, choose_files
from ashore.lab.sizing import network_of_config


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", tmp_path / "run", ManualClock())


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_the_text_of_any_family_is_pulled_and_its_size_can_be_planned(
    tmp_path: Path, store: ModelStore, kind: str
) -> None:
    folder = make_text(tmp_path / kind, kind)
    model = store.pull(str(folder), text_only=True)
    assert (model.shape.architecture, model.shape.num_active_parameters) == (kind, 0)
    assert {f.path for f in model.files} >= {"tokenizer.json", "chat_template.jinja", "generation.json"}
    network = network_of_config(folder / "config.json")
    assert network.shape.num_layers == model.shape.num_layers, "what is priced is what is pulled"


def test_weights_of_any_family_are_stored_as_they_are(tmp_path: Path, store: ModelStore) -> None:
    folder = make_text(tmp_path / "coder", "qwen3_moe")
    save_file({"model.embed_tokens.weight": np.zeros((320, 64), np.float16)}, folder / "model.safetensors")
    (folder / "preprocessor_config.json").write_text("{}")
    model = store.pull(str(folder))
    assert (model.shape.architecture, model.format, model.recipe["precision"]) == ("qwen3_moe", "safetensors", "fp16")
    assert (model.shape.num_parameters, model.shape.num_experts) == (320 * 64, 8)
    assert {f.path for f in model.files} >= {"model.safetensors", "preprocessor_config.json"}


def test_packed_weights_count_as_the_numbers_they_hold(tmp_path: Path, store: ModelStore) -> None:
    folder = make_text(tmp_path / "oss", "gpt_oss")
    packed = {"a_blocks": np.zeros((4, 32, 64), np.uint8), "a_scales": np.zeros((4, 32, 4), np.uint8)}
    save_file(packed | {"model.embed_tokens.weight": np.zeros((320, 8), np.float16)}, folder / "model.safetensors")
    model = store.pull(str(folder))
    assert (model.shape.num_parameters, model.recipe["precision"]) == (4 * 32 * 64 * 2 + 320 * 8, "mxfp4")


def test_what_published_files_of_gemma_3_leave_out_is_known(tmp_path: Path, store: ModelStore) -> None:
    shape = store.pull(str(make_text(tmp_path / "gemma", "gemma3")), text_only=True).shape
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.vocab_size) == (8, 4, 256, 262_208)
    assert (shape.window_tokens, shape.window_layers) == (128, 10), "each sixth layer sees everything"


CODE = {"auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}}


@pytest.mark.parametrize(
    ("changes", "tokenizer", "words"),
    [
        ({"model_type": None}, {}, "model_type None"),
        ({"model_type": "../x"}, {}, "model_type"),
        ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, {}, "encoder with a decoder"),
        ({"architectures": ["Qwen3MoeForSequenceClassification"]}, {}, "writes none"),
        ({"architectures": ["MPNetModel"]}, {"chat_template": None}, "writes none"),
        ({"num_attention_heads": None}, {}, "num_attention_heads is missing"),
        ({}, CODE, "is a script"),
    ],
)
def test_what_no_engine_could_serve_is_refused_in_plain_words(
    tmp_path: Path, store: ModelStore, changes: dict[str, Any], tokenizer: dict[str, Any], words: str
) -> None:
    folder = make_text(tmp_path / "odd", "qwen3_moe")
    for name, change in (("config.json", changes), ("tokenizer_config.json", tokenizer)):
        told = json.loads((folder / name).read_text()) | change
        (folder / name).write_text(json.dumps(told))
    with pytest.raises(UnsupportedModel, match=words):
        store.pull(str(folder), text_only=True)
    if not tokenizer:
        with pytest.raises(UnsupportedModel, match=words):
            network_of_config(folder / "config.json")


def offered(*names: str) -> list[RemoteFile]:
    return [RemoteFile(path=name, num_bytes=1) for name in names]


@pytest.mark.parametrize("text_only", [False, True])
def test_a_hub_model_without_a_tokenizer_is_refused_before_its_weights_are_fetched(text_only: bool) -> None:
    kimi = offered("config.json", "tokenization_kimi.py", "tiktoken.model", "model-00001-of-00061.safetensors")
    with pytest.raises(UnsupportedModel, match=r"hf:a/b is a script \(tokenization_kimi.py\)"):
        choose_files(kimi, "", "hf:a/b", text_only=text_only)
    with pytest.raises(UnsupportedModel, match=r"has no tokenizer\.json"):
        choose_files(offered("config.json", "model.safetensors"), "", "hf:a/b", text_only=text_only)


def test_the_second_copy_of_the_weights_of_mistral_is_left_on_the_hub() -> None:
    files = ("model-00001-of-00001.safetensors", "consolidated.safetensors", "model.safetensors.index.json")
    chosen = choose_files(offered(*files, "tokenizer.json"), "", "hf:a/b")
    assert {f.path for f in chosen} == {files[0], files[2], "tokenizer.json"}
