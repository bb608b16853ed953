"""llama.cpp against PyTorch: the same greedy tokens, up to near-ties, for latent attention and for the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_files import demo_files
from engine_bench import GOLDEN, compare_with_golden, golden_cases

from ashore.data.engines import Engine, EngineOptions, ModelFiles, make_engine

TINY_NEAR_TIE = 0.01
"""Logits of the tiny models in single precision agree to about 0.003."""
DEMO_NEAR_TIE = 0.05
"""Half-precision weights times half-precision activations: the texts part at margins below 0.01."""


@pytest.fixture(params=["v2", "v3"])
def tiny(request: pytest.FixtureRequest) -> Iterator[tuple[str, Engine]]:
    engine = make_engine("llamacpp")
    files = ModelFiles(
        name=f"tiny-{request.param}",
        digest="",
        directory=str(GOLDEN),
        format="gguf",
        weights=f"deepseek_{request.param}_tiny.gguf",
    )
    engine.load(files, EngineOptions(kind="llamacpp", threads=1, kv_tokens=2048, extra={"kv_cache": "f32"}))
    yield request.param, engine
    engine.close()


def test_latent_attention_and_experts_agree_with_torch(tiny: tuple[str, Engine]) -> None:
    kind, engine = tiny
    assert compare_with_golden(engine, golden_cases("tiny_deepseek.json", kind), near_tie=TINY_NEAR_TIE) == []


@pytest.mark.model
@pytest.mark.parametrize("tokens", [12, pytest.param(40, marks=pytest.mark.full)])
def test_demo_model_in_half_precision_agrees_with_torch(demo_home: Path, tokens: int) -> None:
    engine = make_engine("llamacpp")
    engine.load(demo_files(demo_home), EngineOptions(kind="llamacpp", threads=1))
    try:
        assert compare_with_golden(engine, golden_cases("greedy.json"), near_tie=DEMO_NEAR_TIE, tokens=tokens) == []
    finally:
        engine.close()
