"""Rotary frequencies of queries and keys: read from the GGUF file, and put into the graph exactly.

OpenVINO's GGUF reader computes them from the base alone and stores them in half precision. It does not read
`rope_freqs.weight`, by which Llama 3.1 and later (so DeepSeek-R1-Distill-Llama too) stretch their context, nor a linear
scale; and half precision rotates a token at position 1,000 wrongly by up to 0.15 radians. Source: llama.cpp's
`rope_freqs` (divisors of the frequencies) and `rope.scaling.*`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import UnsupportedModel
from ashore.data.engines.openvino.runtime import import_openvino

_DEFAULT_BASE: Final = 10_000.0
_HINT: Final = "serve this model with the llamacpp engine"


def frequencies_of(gguf: Path) -> NDArray[np.float32]:
    """Return the rotation of each pair of a head's numbers per position, in radians.

    Raises:
        UnsupportedModel: their scaling is not supported (YaRN, LongRoPE).
    """
    from ashore.kit.store import gguf_reader

    with gguf_reader(gguf) as reader:
        fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items() if ".rope." in name}
        scaling, factor = str(fields.get("rope.scaling.type", "none")), float(fields.get("rope.scaling.factor", 1.0))
        if scaling not in ("none", "linear"):
            raise UnsupportedModel(f"{gguf.name} scales its rotation by {scaling!r}", hint=_HINT)
        size = int(fields.get("rope.dimension_count", 0)) or _head_size(reader)
        base = float(fields.get("rope.freq_base", _DEFAULT_BASE))
        frequencies = base ** (-np.arange(0, size, 2, dtype=np.float64) / size)
        if scaling == "linear":
            frequencies /= factor
        for tensor in reader.tensors:
            if tensor.name == "rope_freqs.weight":
                frequencies /= tensor.data.astype(np.float64).ravel()
        return frequencies.astype(np.float32)


def set_frequencies(model: Any, frequencies: NDArray[np.float32]) -> None:
    """Put `frequencies` into a model from the GGUF reader, in single precision.

    Raises:
        UnsupportedModel: it does not have exactly one place for them.
    """
    places = {}
    for node in model.get_ops():
        if node.get_type_name() in ("Sin", "Cos"):
            for found in _constants_above(node, frequencies.size):
                places[found.get_friendly_name()] = found
    if len(places) != 1:
        raise UnsupportedModel(f"{len(places)} places for {frequencies.size} frequencies in the graph", hint=_HINT)
    [old] = places.values()
    op = import_openvino("openvino.opset13")
    fresh = op.constant(frequencies.reshape(list(old.get_output_shape(0))))
    above = old.output(0)
    for target in above.get_target_inputs():
        reader = target.get_node()
        if reader.get_type_name() == "Convert":
            for behind in reader.output(0).get_target_inputs():
                behind.replace_source_output(fresh.output(0))
        else:
            target.replace_source_output(fresh.output(0))


def _constants_above(node: Any, size: int) -> list[Any]:
    """Return the constants of `size` numbers that a node is computed from, positions excluded."""
    found, seen, above = [], set(), [node]
    while above:
        one = above.pop()
        if one.get_friendly_name() in seen:
            continue
        seen.add(one.get_friendly_name())
        if one.get_type_name() == "Constant":
            if tuple(one.get_output_shape(0)) == (1, size, 1):
                found.append(one)
            continue
        above += [one.input_value(at).get_node() for at in range(one.get_input_size())]
    return found


def _head_size(reader: Any) -> int:
    """Return the size of one head if the file does not give the number of rotated dimensions."""
    fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items()}
    known = int(fields.get("attention.key_length", 0))
    return known or int(fields["embedding_length"]) // int(fields["attention.head_count"])
