"""OpenVINO in full precision against PyTorch: the same greedy tokens, up to near-ties."""

from __future__ import annotations

from pathlib import Path

import pytest
from demo_files import demo_files
from engine_bench import compare_with_golden, golden_cases

from ashore.data.engines import EngineOptions, ModelFiles, make_engine
from ashore.data.engines.openvino.prepare import prepare_openvino
from ashore.data.engines.rounding import RoundOrder

NEAR_TIE = 0.05
"""Weights in half precision, everything else in single: logits move by thousandths."""


@pytest.mark.model
@pytest.mark.parametrize("tokens", [12, pytest.param(40, marks=pytest.mark.full)])
def test_demo_model_in_full_precision_agrees_with_torch(demo_home: Path, tmp_path: Path, tokens: int) -> None:
    plain = demo_files(demo_home)
    prepare_openvino(Path(plain.directory), plain.weights, RoundOrder(precision="fp16"), tmp_path / "fp16")
    files = ModelFiles(
        name="smollm2@fp16",
        digest="",
        directory=str(tmp_path / "fp16"),
        format="openvino",
        weights="openvino_model.xml",
    )
    engine = make_engine("openvino")
    info = engine.load(files, EngineOptions(kind="openvino", kv_tokens=8192, extra={"full_precision": True}))
    try:
        assert info.deterministic_seed
        assert compare_with_golden(engine, golden_cases("greedy.json"), near_tie=NEAR_TIE, tokens=tokens) == []
    finally:
        engine.close()
