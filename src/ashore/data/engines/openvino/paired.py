"""Two compilations of one model over one KV cache: one for a few tokens, one for many.

The fastest form of the weights depends on how many tokens share one reading of them. On a processor with byte products,
rounding the activations too pays from the first token on, and one form suffices. On others, unpacking the bytes to
single precision once, instead of in every step, pays for long prompts. Both forms hold the same rounded weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.openvino.config import RunConfig
from ashore.data.engines.openvino.graph import Batch, GraphFacts, PagedModel, Row, read_facts
from ashore.data.engines.openvino.lora import AdapterBank, Slot
from ashore.data.engines.processor import cpu_flags
from ashore.kit.processes import free_memory_bytes

BYTE_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni"})
"""Instruction sets that multiply bytes, as Linux names them."""

GROUP_SIZE = 64
"""Activations are rounded in groups of this many where nothing else is asked for: the largest with which the demo model
in eight bits, as served, stays within 1 % of the perplexity of half precision. On two cores of Zen 4 and 8,192 tokens,
128 costs 1.48 %, 64 costs 0.82, no rounding 0.42, which is that of the weights. Against 128, sixteen sequences have
94 % of the speed, prompts 96 %, one sequence 99 %; 32 has 89, 87 and 100 %. What little a figure differs otherwise is
chance: on Zen 5, 128 cost 0.3 to 2.0 % and 64 0.2 to 1.4, by text."""

_SHARE_OF_FREE_MEMORY = 0.15
"""The second compilation may use this share of free memory; otherwise one form does everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondForm:
    """The compilation for many tokens."""

    from_tokens: int
    """Steps with at least as many tokens use it."""
    properties: dict[str, Any]
    """Beside those of the first."""
    unpack: bool
    """Hold the weights in single precision."""
    weight_growth: float
    """Its weights in bytes, as a multiple of the file's."""


def choose_second_form(
    *, cpu_flags: frozenset[str], precision: str, weight_bytes: int, free_bytes: int, given: Mapping[str, Any]
) -> SecondForm | None:
    """Return the second form that pays on this processor, or None.

    Measured with SmolLM2-135M INT8 on two cores. Zen 3 (no byte products): 488 prompt tokens 690 instead of 828 ms, no
    difference below 64. Zen 5 (byte products): activations rounded in groups of 128 against not rounded, one sequence
    168 and 148 tokens/s, sixteen 1,497 and 774; so there is nothing to win from a second form.
    """
    if precision != "int8" or "DYNAMIC_QUANTIZATION_GROUP_SIZE" in given:
        return None
    if cpu_flags & BYTE_PRODUCTS or "avx2" not in cpu_flags:
        return None
    form = SecondForm(from_tokens=96, properties={}, unpack=True, weight_growth=4)
    return form if weight_bytes * form.weight_growth <= free_bytes * _SHARE_OF_FREE_MEMORY else None


def activation_group(weight_group: int) -> int:
    """Return the default group size of activation rounding.

    The plugin does not round activations, and uses no byte products, if the weights have smaller groups. So weights in
    groups of 32 get activations in groups of 32, and so does the rest of the model.

    Args:
        weight_group: From `GraphFacts`.
    """
    return weight_group if weight_group and GROUP_SIZE % weight_group == 0 else GROUP_SIZE


def open_model(xml: Path, config: RunConfig, *, adapters: bool = False) -> PairedModel:
    """Compile the model in one or two forms, as this machine and the options require.

    Both forms have inputs for adapters if `adapters` is set. Raises as `PagedModel` does.
    """
    binary = xml.with_suffix(".bin")
    form = None
    facts = read_facts(xml)
    first_properties = dict(config.properties)
    if config.may_pair and binary.is_file():
        form = choose_second_form(
            cpu_flags=cpu_flags(),
            precision=facts.precision,
            weight_bytes=binary.stat().st_size,
            free_bytes=free_memory_bytes(),
            given=config.properties,
        )
    if form is None:
        first_properties.setdefault("DYNAMIC_QUANTIZATION_GROUP_SIZE", activation_group(facts.weight_group))
        return PairedModel(PagedModel(xml, first_properties, adapters=adapters))
    first_properties.setdefault("DYNAMIC_QUANTIZATION_GROUP_SIZE", 0)
    second = PagedModel(xml, {**first_properties, **form.properties}, unpack=form.unpack, adapters=adapters)
    return PairedModel(PagedModel(xml, first_properties, adapters=adapters), second, from_tokens=form.from_tokens)


class PairedModel:
    """A `PagedModel` that computes large steps with a second compilation."""

    def __init__(self, first: PagedModel, second: PagedModel | None = None, *, from_tokens: int = 0) -> None:
        self._first, self._second = first, second
        self._from_tokens = from_tokens
        self._at_work = first

    @property
    def facts(self) -> GraphFacts:
        return self._first.facts

    @property
    def kv_bytes_per_block(self) -> int:
        return self._first.kv_bytes_per_block

    def allocate(self, num_blocks: int) -> None:
        """Allocate `num_blocks` blocks, which both compilations read and write."""
        self._first.allocate(num_blocks)
        if self._second is not None:
            self._second.use_cache_of(self._first)

    def filler(self, num_tokens: int) -> Row:
        """Return a row of padding tokens."""
        return self._first.filler(num_tokens)

    def use_cache_of(self, other: PairedModel) -> None:
        """Use the blocks of another opening of the same model."""
        self._first.use_cache_of(other._first)
        if self._second is not None:
            self._second.use_cache_of(other._first)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The products that adapters can change; empty unless the model was opened for adapters."""
        return self._first.slots

    def use_adapters(self, bank: AdapterBank) -> None:
        """Use the adapters of `bank` in the next steps."""
        self._first.use_adapters(bank)
        if self._second is not None:
            self._second.use_adapters(bank)

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values in every layer."""
        self._first.copy_block(source, target)

    def read_block(self, block: int) -> NDArray[np.uint8]:
        """Return a copy of a block's bytes."""
        return self._first.read_block(block)

    def write_block(self, block: int, data: bytes) -> None:
        """Write the bytes that `read_block` returned."""
        self._first.write_block(block, data)

    def start(self, batch: Batch) -> None:
        """Start one step with the compilation that suits its size."""
        large = self._second is not None and batch.token_ids_T.size >= self._from_tokens
        self._at_work = self._second if large and self._second is not None else self._first
        self._at_work.start(batch)

    def wait(self) -> NDArray[np.float32]:
        """Return the logits [S, V]; a view that a later `start` overwrites."""
        return self._at_work.wait()
