"""Which number format each tensor of a GGUF gets, so that a file called Q4_K_M is what people expect of that name.

The rules are those of llama.cpp's quantiser: more bits for the values of attention, for the second matrix of the MLP in
the blocks where it matters, and for the output head; formats in blocks of 256 give way where rows do not divide.

Source: llama.cpp, `src/llama-quant.cpp`, `llama_tensor_get_type` and its fall-backs.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Kind = Literal["Q4_0", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]

MIXES: Final[dict[str, tuple[Kind, bool]]] = {
    "q8_0": ("Q8_0", False),
    "q6_k": ("Q6_K", False),
    "q5_k_m": ("Q5_K", True),
    "q4_k_m": ("Q4_K", True),
    "q4_0": ("Q4_0", False),
}
"""By name: format of most tensors, and whether some get more bits."""

BLOCK: Final[dict[Kind, int]] = {
    "Q4_0": 32, "Q5_0": 32, "Q5_1": 32, "Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256,
}  # fmt: skip
"""Weights of a row that are packed together."""

_INSTEAD: Final[dict[Kind, Kind]] = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_NUMBER: Final = re.compile(r"blk\.(\d+)\.")


def kind_of(mix: str, tensor: str, *, row_length: int, num_blocks: int, tied: bool) -> Kind | None:
    """Return the format of a matrix; None where it stays as it is.

    Args:
        mix: One of `MIXES`.
        tensor: Its name in the file.
        row_length: Numbers in a row.
        num_blocks: Transformer blocks of the model.
        tied: True where the embeddings serve as output head too.
    """
    if not tensor.endswith(".weight") or "ffn_gate_inp" in tensor:
        return None  # a router is tiny, and decides everything
    most, mixed = MIXES[mix]
    kind: Kind = most
    if tensor == "output.weight" or (tied and tensor == "token_embd.weight"):
        kind = "Q8_0" if most == "Q8_0" else "Q6_K"
    elif mixed and any(part in tensor for part in ("attn_v.", "ffn_down")) and _matters(tensor, num_blocks):
        kind = "Q6_K"
    if row_length % BLOCK[kind]:
        kind = _INSTEAD.get(kind, kind)
    return kind if row_length % BLOCK[kind] == 0 else None


def _matters(tensor: str, num_blocks: int) -> bool:
    """Tell whether a block is among those that get more bits: the first eighth, the last, every third between."""
    found = _NUMBER.search(tensor)
    if found is None:
        return False
    number, eighth = int(found[1]), num_blocks // 8
    return number < eighth or number >= 7 * num_blocks // 8 or (number - eighth) % 3 == 2
