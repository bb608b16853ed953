"""The precision that the engine tells is that of the variant's name, whatever the weights were in before."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest
from tiny_models import make_tiny_model

from ashore.data.engines.openvino.graph import read_facts
from ashore.data.engines.openvino.prepare import PRECISIONS, prepare_openvino
from ashore.data.engines.rounding import RoundOrder
from ashore.kit.store import convert_safetensors_to_gguf, read_gguf_meta


def in_four_bits(plain: Path, target: Path) -> Path:
    """Write a GGUF file with its matrices in Q4_1, and return it."""
    kind = gguf.GGMLQuantizationType.Q4_1
    reader = gguf.GGUFReader(plain)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub_type)
    for tensor in reader.tensors:
        wide = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if len(tensor.shape) > 1:
            writer.add_tensor(tensor.name, gguf.quants.quantize(wide, kind), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, wide)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("source", ["qwen3 folder", "Q4_1 file"])
def test_a_model_is_in_the_precision_that_it_is_called_by(source: str, precision: str, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "qwen3" if source.startswith("qwen3") else "llama", dtype="BF16")
    weights = "model.safetensors"
    if source == "Q4_1 file":
        convert_safetensors_to_gguf(folder, tmp_path / "plain.gguf")
        weights = in_four_bits(tmp_path / "plain.gguf", folder / "model.gguf").name
        assert "Q4_1" in {tensor.type_name for tensor in read_gguf_meta(folder / weights).tensors}
    order = RoundOrder(precision=precision, group_size=32 if precision == "int4" else 0)
    made = prepare_openvino(folder, weights, order, tmp_path / "out")
    assert (made.facts["precision"], read_facts(tmp_path / "out" / made.weights).precision) == (precision, precision)
