"""Attention that stays inside each example of a packed row, and tokens that several examples begin with, computed once.

Registered with transformers under a name of its own. There is no mask: each example is a separate causal product, so
that tokens of another example cannot be seen, and the cost is the sum of squares of the lengths, not the square of the
sum. Examples of about the same length are one product; what fills up the shorter ones stands behind their own tokens,
which therefore do not see it.

Shapes in names: T tokens of a row, U those of them that are computed, E examples of about the same length, L the tokens
of the longest of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.lab.training.batches import Batch

NAME = "ashore_packed"
LEAST_SHARED: Final = 1 / 16
"""Share of a row that must be saved; below, collecting costs more."""
ALIKE: Final = 64
"""Lengths that are filled up to the same multiple of this are about the same."""
SHORT: Final = 512
"""Examples of fewer tokens are attended to in float32: in half precision torch's product takes as long forward, and
twice as long back (50 tokens: 13 ms a layer and row, 6 in float32)."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How attention sees a row. All tensors are indices."""

    firsts_U: Any
    """Where each computed token comes first in the row."""
    places_T: Any
    """Which computed token each token of the row is."""
    examples_EL: tuple[Any, ...]
    """For each length, which computed tokens its examples have."""
    found_U: Any
    """Where each computed token is among all of `examples_EL`, one behind the other."""

    @property
    def is_shared(self) -> bool:
        """Whether fewer tokens are computed than the row has."""
        return len(self.firsts_U) < len(self.places_T)


def row_layout(batch: Batch, *, shared: bool) -> RowLayout:
    """Return the layout of a row; with `shared`, tokens after equal prefixes are computed once.

    A token sees only those before it in its own example. So where examples begin alike (a template, a system message,
    the two answers of a pair to one question), everything about these tokens is the same in all of them, and their
    gradient is the sum over all.
    """
    import torch

    firsts_U, places_T = _computed_once(batch) if shared else (np.empty(0, np.int64), np.empty(0, np.int64))
    if len(places_T) - len(firsts_U) <= LEAST_SHARED * len(places_T):
        firsts_U = places_T = np.arange(batch.num_tokens)
    ends = np.cumsum(batch.lengths)
    by_length: dict[int, list[tuple[int, int]]] = {}
    for end, length in zip(ends.tolist(), batch.lengths, strict=True):
        by_length.setdefault(-(-length // ALIKE), []).append((end - length, length))
    examples: list[NDArray[np.int64]] = []
    found_U = np.empty(len(firsts_U), np.int64)
    begun = 0
    for spans in by_length.values():
        longest = max(length for _, length in spans)
        taken_EL = np.zeros((len(spans), longest), np.int64)
        for row, (start, length) in enumerate(spans):
            places = places_T[start : start + length]
            taken_EL[row, :length] = places
            found_U[places] = begun + row * longest + np.arange(length)
        examples.append(taken_EL)
        begun += taken_EL.size
    return RowLayout(
        torch.from_numpy(firsts_U), torch.from_numpy(places_T), tuple(map(torch.from_numpy, examples)),
        torch.from_numpy(found_U),
    )  # fmt: skip


def _computed_once(batch: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return `firsts_U` and `places_T` of tokens that are computed once per equal prefix."""
    known: dict[tuple[int, int], int] = {}
    places_T: list[int] = []
    firsts_U: list[int] = []
    begun = 0
    for length in batch.lengths:
        last = -1
        for token in batch.ids_T[begun : begun + length].tolist():
            here = known.setdefault((last, token), len(firsts_U))
            if here == len(firsts_U):
                firsts_U.append(len(places_T))
            places_T.append(here)
            last = here
        begun += length
    return np.array(firsts_U, np.int64), np.array(places_T, np.int64)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Pass `layout`, a `RowLayout`, to a `PreTrainedModel` inside the block."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    layout: RowLayout | None = None,
    **unused: Any,
) -> tuple[Any, None]:
    """Return the attention of one row. Shapes: query [1, heads, U, d], key and value [1, kv heads, U, d]."""
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    grouped, dtype = query.shape[1] != key.shape[1], query.dtype
    if layout is None or tuple(layout.examples_EL[0].shape) == (1, query.shape[2]):
        out = attend(query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped)
        return out.transpose(1, 2).contiguous(), None
    found = []
    for taken_EL in layout.examples_EL:
        exact = torch.float32 if taken_EL.shape[1] < SHORT else dtype
        # index_select, because its gradient is summed in a fixed order, independent of threads
        q, k, v = (
            one[0].to(exact).index_select(1, taken_EL.view(-1)).unflatten(1, tuple(taken_EL.shape)).transpose(0, 1)
            for one in (query, key, value)
        )
        with torch.autocast("cpu", enabled=False):
            out = attend(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        found.append(out.transpose(1, 2).flatten(0, 1).to(dtype))
    rows = found[0] if len(found) == 1 else torch.cat(found)
    return rows.index_select(0, layout.found_U)[None], None
