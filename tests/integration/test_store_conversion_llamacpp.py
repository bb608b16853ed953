"""Converted models compute what torch computes: golden log-probabilities of `tests/golden/make_store_golden.py`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import CONFIGS, make_tiny_model

from ashore.data.engines import CanScore, EngineOptions, ModelFiles, ScoreText, make_engine, scored
from ashore.kit.store import convert_safetensors_to_gguf

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "store_tiny_models.json").read_text())
TOLERANCE = 0.01
"""Nats. The reference is float32; llama.cpp keeps its KV cache in F16. A wrong row order is off by 2."""


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_converted_model_scores_as_torch_does(tmp_path: Path, kind: str, dtype: str) -> None:
    golden = GOLDEN[f"{kind}-{dtype}"]
    folder = make_tiny_model(tmp_path / "hf", kind, dtype=dtype)
    convert_safetensors_to_gguf(folder, tmp_path / "model.gguf")
    engine = make_engine("llamacpp")
    files = ModelFiles(name=kind, digest="", directory=str(tmp_path), format="gguf", weights="model.gguf")
    engine.load(files, EngineOptions(kind="llamacpp", context_tokens=256, threads=1))
    try:
        assert isinstance(engine, CanScore)
        scores = [entry[0].logprob for entry in scored(engine, [ScoreText(golden["ids"])])[0]]
    finally:
        engine.close()
    assert len(scores) == len(golden["logprobs"])
    assert max(abs(a - b) for a, b in zip(scores, golden["logprobs"], strict=True)) < TOLERANCE
