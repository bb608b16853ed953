"""Made-up models have the sizes of the real ones, and their tables say what was read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from benchmarks.made_up import SHAPES, make_gguf, read_bytes, tensors_of
from benchmarks.shapes import Results, report

from ashore.kit.store import Catalog, read_gguf_meta


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        ("qwen-1.5b", "deepseek-r1-distill-qwen-1.5b"),
        ("qwen-7b", "deepseek-r1-distill-qwen-7b"),
        ("deepseek-v2-lite", "deepseek-v2-lite"),
    ],
)
def test_a_made_up_model_has_as_many_parameters_as_the_real_one(shape: str, model: str) -> None:
    entry = Catalog.load().get(model)
    assert entry.shape is not None
    assert sum(math.prod(sides) for _, sides in tensors_of(SHAPES[shape])) == entry.shape.num_parameters


def test_a_token_reads_the_chosen_experts_alone() -> None:
    lite = SHAPES["deepseek-v2-lite"]
    active = 2_661_150_208 - lite["vocab"] * lite["hidden"]
    assert read_bytes(lite, 8) == pytest.approx(active, rel=0.001)


@pytest.mark.parametrize("shape", ["tiny", "lite"])
def test_a_made_up_file_is_whole(tmp_path: Path, shape: str) -> None:
    small = {"hidden": 64, "inner": 128, "layers": 3, "vocab": 512, "heads": 2, "experts": 4, "chosen": 2, "expert": 32}
    small |= {"rank": 32, "keys": 32, "values": 32, "rope": 32}
    sides = SHAPES["deepseek-v2-lite"] | small if shape == "lite" else SHAPES[shape]
    make_gguf(sides, "q4_0", tmp_path / "model.gguf")
    meta = read_gguf_meta(tmp_path / "model.gguf")
    assert {tensor.type_name for tensor in meta.tensors} == {"Q4_0", "F32"}
    assert len(meta.tensors) == len(tensors_of(sides))


def test_the_table_has_each_server_and_the_share_of_the_bandwidth(tmp_path: Path) -> None:
    results = Results(tmp_path / "shapes.json")
    for server, speed in (("ashore", 12.0), ("llama.cpp", 10.0)):
        results.add(f"qwen-1.5b 8 {server} decode 1", tok_per_s=speed, token_ms=1000 / speed, gb_per_s=24.0)
    assert not results.lacks("qwen-1.5b 8 ashore decode 1", 1) and results.lacks("qwen-1.5b 8 genai decode 1", 1)
    assert "| decode 1 | 12.0 tok/s, 83 ms a token, 0.77 of the bandwidth (1) |" in report(results)
    assert report(results).endswith("| 1.20 |\n")
