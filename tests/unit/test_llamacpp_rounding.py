"""GGUF to fewer bits by llama.cpp's arithmetic."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from ashore.core.errors import UnsupportedModel
from ashore.data.engines.llamacpp.rounding import prepare_gguf
from ashore.data.engines.rounding import RoundOrder


def write_model(path: Path, matrix: np.ndarray, vector: np.ndarray, odd: np.ndarray) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_rope_freq_base(1e4)
    writer.add_token_list(["a", "b", "é"])
    writer.add_token_types([1, 1, 3])
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_F16))
    writer.add_tensor("blk.0.attn_q.weight", matrix.astype(np.float16))
    writer.add_tensor("blk.0.attn_norm.weight", vector.astype(np.float32))
    writer.add_tensor("odd.weight", odd.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_matrices_are_rounded_and_the_rest_is_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    matrix, vector, odd = rng.normal(size=(8, 64)), rng.normal(size=64), rng.normal(size=(4, 33))
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    write_model(tmp_path / "in" / "w.gguf", matrix, vector, odd)
    (tmp_path / "in" / "tokenizer.json").write_text("{}")
    stages: list[float] = []
    made = prepare_gguf(
        tmp_path / "in",
        "w.gguf",
        RoundOrder(precision="q8_0"),
        tmp_path / "out",
        told=lambda stage, share: stages.append(share),
    )
    assert made.facts["precision"] == "q8_0" and made.facts["tensors"] == "1 F16, 1 F32, 1 Q8_0"
    assert stages == sorted(stages) and stages[-1] == 1.0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["model.gguf", "tokenizer.json"]
    before, after = (gguf.GGUFReader(p) for p in (tmp_path / "in" / "w.gguf", tmp_path / "out" / "model.gguf"))
    assert [t.tensor_type.name for t in after.tensors] == ["Q8_0", "F32", "F16"]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert old.name == new.name and list(old.shape) == list(new.shape)
        a, b = gguf.quants.dequantize(old.data, old.tensor_type), gguf.quants.dequantize(new.data, new.tensor_type)
        largest = np.abs(a).max()
        assert np.abs(a - b).max() <= (largest / 127 if new.tensor_type.name == "Q8_0" else 0)
    kept = {name: field.contents() for name, field in after.fields.items() if not name.startswith("GGUF.")}
    assert kept["tokenizer.ggml.tokens"] == ["a", "b", "é"]
    assert kept["llama.rope.freq_base"] == 1e4
    assert kept.pop("general.file_type") == int(gguf.LlamaFileType.MOSTLY_Q8_0)
    assert kept == {n: f.contents() for n, f in before.fields.items() if n in kept}
    assert {n for n in before.fields if not n.startswith("GGUF.")} == kept.keys() | {"general.file_type"}


def test_other_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="neither GGUF nor safetensors"):
        prepare_gguf(tmp_path, "openvino_model.xml", RoundOrder(precision="q8_0"), tmp_path)
