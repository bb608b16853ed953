"""The tensors of a GGUF file in half precision under the names that Hugging Face gives them: the inverse of
`safetensorsgguf`, for the same families.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ashore.kit.store.conversion.ggufmeta import gguf_reader
from ashore.kit.store.conversion.safetensorsgguf import LAYER, TOP

if TYPE_CHECKING:
    import numpy.typing as npt

FAMILIES: Final = ("llama", "qwen2", "qwen3")
_PLAIN: Final = ("F16", "F32")
_NAMES: Final = {gguf: name for name, gguf in TOP.items()}
_PARTS: Final = {gguf: name for name, gguf in LAYER.items()}
_ROTARY: Final = "rope_freqs.weight"
"""Computed from the configuration, not kept."""


def read_gguf_state(path: Path) -> Mapping[str, npt.NDArray[Any]] | None:
    """Return copies of all tensors by name, in the file's type; None if the model is unknown: another family, or
    weights that are not plain numbers.

    Raises:
        CorruptBlob: not a whole GGUF file.
    """
    import numpy as np

    with gguf_reader(path) as reader:
        family = str(reader.fields["general.architecture"].contents())
        if family not in FAMILIES or any(t.tensor_type.name not in _PLAIN for t in reader.tensors):
            return None
        state = {}
        for tensor in reader.tensors:
            name = _name_of(tensor.name)
            if name is None:
                if tensor.name == _ROTARY:
                    continue
                return None
            values = np.array(tensor.data).reshape([int(n) for n in reversed(tensor.shape)])
            heads = _heads_of(name, family, reader)
            state[name] = pairs_to_halves(values, heads) if heads else values
    return state


def pairs_to_halves(values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """Undo `halves_to_pairs`."""
    import numpy as np

    half = values.shape[0] // heads // 2
    return np.ascontiguousarray(values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape))


def _name_of(name: str) -> str | None:
    if name in _NAMES:
        return _NAMES[name]
    part, _, kind = name.rpartition(".")
    block, _, part = part.partition(".")[2].partition(".")
    return f"model.layers.{block}.{_PARTS[part]}.{kind}" if name.startswith("blk.") and part in _PARTS else None


def _heads_of(name: str, family: str, reader: Any) -> int:
    """Return the number of heads of a tensor with paired rows; 0 if they are not paired."""
    if family != "llama":
        return 0
    if ".q_proj." in name:
        return int(reader.fields["llama.attention.head_count"].contents())
    if ".k_proj." in name:
        field = reader.fields.get("llama.attention.head_count_kv", reader.fields["llama.attention.head_count"])
        return int(field.contents())
    return 0
