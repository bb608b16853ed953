"""Rotary frequencies of queries and keys, from a GGUF file.

In half precision they would rotate a token at position 1,000 wrongly by up to 0.15 radians. Source: llama.cpp's
`rope_freqs` (divisors of the frequencies) and `rope.scaling.*`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import UnsupportedModel

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


def _head_size(reader: Any) -> int:
    """Return the size of one head if the file does not give the number of rotated dimensions."""
    fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items()}
    known = int(fields.get("attention.key_length", 0))
    return known or int(fields["embedding_length"]) // int(fields["attention.head_count"])
