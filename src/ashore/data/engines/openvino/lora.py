"""LoRA adapters in the graph: every token's projections gain the low-rank term of that token's own adapter.

`((x @ a) * mask) @ b` is added to each product `x @ w`. `a` and `b` are inputs that hold the matrices of all adapters
that the step needs, one after the other along the rank, and `mask` is 1 at a token's own adapter. So tokens of
different adapters, and of none, share one step, which costs only for its own adapters.

Shapes in names: T tokens of the step, M ranks of the adapters, R those of all modules of one product, I inputs, O
outputs.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import UnsupportedModel
from ashore.core.nearest import did_you_mean
from ashore.data.engines.openvino.peft import LowRank
from ashore.data.engines.openvino.runtime import import_openvino

MASK = "lora_mask"
_WEIGHT = re.compile(r"model\.layers\[(\d+)\]\.(.+)\.weight")
"""Name of a projection's constant, as the GGUF reader gives it; joined projections have several, with a plus."""
_KEPT_SETS = 8
"""Sets of adapters whose joined matrices are kept; a set more is joined again."""

Run = tuple[str, int]
"""(adapter, tokens): consecutive tokens of one adapter; the empty name is no adapter."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One product of the graph that adapters can change."""

    number: int
    modules: tuple[str, ...]
    """`layers.0.self_attn.q_proj`; several where projections were joined."""
    outputs: tuple[int, ...]
    """Channels of each module."""
    inputs: int

    @property
    def down(self) -> str:
        return f"lora_a.{self.number}"

    @property
    def up(self) -> str:
        return f"lora_b.{self.number}"


def add_slots(model: Any) -> tuple[Any, tuple[Slot, ...]]:
    """Return the paged model with adapter inputs at every projection, and the list of them.

    Raises:
        UnsupportedModel: no product of this model has a name that tells which projection it is.
    """
    ov, op = import_openvino(), import_openvino("openvino.opset13")
    mask_T1M = _parameter(op, [-1, 1, -1], MASK)
    slots: list[Slot] = []
    added = [mask_T1M]
    for node in model.get_ordered_ops():
        slot = _slot(node, len(slots))
        if slot is None:
            continue
        down_RI = _parameter(op, [-1, slot.inputs], slot.down)
        up_OR = _parameter(op, [sum(slot.outputs), -1], slot.up)
        targets = node.output(0).get_target_inputs()
        low_T1R = op.matmul(node.input_value(0), down_RI, False, True)
        mask_T1R = op.concat([mask_T1M] * len(slot.modules), -1) if len(slot.modules) > 1 else mask_T1M
        term_T1O = op.matmul(op.multiply(low_T1R, mask_T1R), up_OR, False, True)
        whole = op.add(node.output(0), term_T1O)
        for target in targets:
            target.replace_source_output(whole.output(0))
        slots.append(slot)
        added += [down_RI, up_OR]
    if not slots:
        raise UnsupportedModel(
            "this model has no named projections, so adapters cannot be applied",
            hint="prepare it again from GGUF or safetensors with `ashore model pull`",
        )
    parameters = [*model.get_parameters(), *added]
    return ov.Model(model.get_results(), model.get_sinks(), parameters, "paged+lora"), tuple(slots)


def _parameter(op: Any, shape: list[int], name: str) -> Any:
    parameter = op.parameter(shape, np.float32, name=name)
    parameter.output(0).set_names({name})
    return parameter


def _slot(node: Any, number: int) -> Slot | None:
    if node.get_type_name() != "MatMul":
        return None
    source = node.input_value(1).get_node()
    while source.get_type_name() in ("Convert", "Subtract", "Multiply"):
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant":
        return None
    found = [_WEIGHT.fullmatch(name) for name in source.get_friendly_name().split("+")]
    modules = tuple(f"layers.{match[1]}.{match[2]}" for match in found if match is not None)
    if len(modules) != len(found):
        return None
    rows, inputs = source.get_output_shape(0)
    return Slot(number, modules, _split(node, len(modules), int(rows)), int(inputs))


def _split(node: Any, count: int, rows: int) -> tuple[int, ...]:
    """Return the channels of each module of a joined product: those of the split after it."""
    if count == 1:
        return (rows,)
    for target in node.output(0).get_target_inputs():
        behind = target.get_node()
        if behind.get_type_name() == "VariadicSplit":
            return tuple(int(n) for n in behind.input_value(2).get_node().data)
    raise UnsupportedModel(f"{node.get_friendly_name()} joins {count} projections and does not split them again")


class AdapterBank:
    """Loaded adapters, and their matrices in the form of a step's inputs. Independent of graph and library."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = tuple(slots)
        self._adapters: dict[str, Mapping[str, LowRank]] = {}
        self._ranks: dict[str, int] = {}
        self._sets: OrderedDict[tuple[str, ...], dict[str, NDArray[np.float32]]] = OrderedDict()

    def add(self, key: str, adapter: Mapping[str, LowRank]) -> None:
        """Add an adapter under a new key.

        Raises:
            UnsupportedModel: it changes a projection that this model does not have, or of another size.
        """
        sizes = {m: (o, s.inputs) for s in self._slots for m, o in zip(s.modules, s.outputs, strict=True)}
        for module, low in adapter.items():
            if module not in sizes:
                raise UnsupportedModel(
                    f"the adapter changes {module}, which this model does not have", hint=did_you_mean(module, sizes)
                )
            seen = (low.up_OR.shape[0], low.down_RI.shape[1])
            if seen != sizes[module]:
                raise UnsupportedModel(
                    f"the adapter's {module} is for {seen[0]} x {seen[1]}; this model has "
                    f"{sizes[module][0]} x {sizes[module][1]}",
                    hint="it was trained on another model",
                )
        self._adapters[key] = adapter
        self._ranks[key] = max((low.rank for low in adapter.values()), default=1)

    def drop(self, key: str) -> None:
        """Drop an adapter that no order uses any more."""
        del self._adapters[key], self._ranks[key]
        for keys in [k for k in self._sets if key in k]:
            del self._sets[keys]

    def mask(self, runs: Sequence[Run]) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Return the adapters that a step needs, and which ranks apply to which token, as [T, 1, M]."""
        keys = tuple(sorted({key for key, _ in runs if key}))
        starts, width = {}, 0
        for key in keys:
            starts[key] = width
            width += self._ranks[key]
        mask_T1M = np.zeros((sum(n for _, n in runs), 1, max(1, width)), np.float32)
        token = 0
        for key, num_tokens in runs:
            if key:
                mask_T1M[token : token + num_tokens, :, starts[key] : starts[key] + self._ranks[key]] = 1
            token += num_tokens
        return keys, mask_T1M

    def matrices(self, keys: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
        """Return the values of every adapter input for a step with these adapters; the same object for the same set."""
        known = self._sets.get(keys)
        if known is None:
            known = {}
            for slot in self._slots:
                known[slot.down], known[slot.up] = self._joined(slot, keys)
            self._sets[keys] = known
            while len(self._sets) > _KEPT_SETS:
                self._sets.popitem(last=False)
        self._sets.move_to_end(keys)
        return known

    def _joined(self, slot: Slot, keys: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `a` [R, I] and `b` [O, R] of one slot: adapter after adapter, for each of its modules."""
        width = max(1, sum(self._ranks[key] for key in keys))
        down_RI = np.zeros((width * len(slot.modules), slot.inputs), np.float32)
        up_OR = np.zeros((sum(slot.outputs), width * len(slot.modules)), np.float32)
        first_output = 0
        for place, (module, outputs) in enumerate(zip(slot.modules, slot.outputs, strict=True)):
            rank = place * width
            for key in keys:
                low = self._adapters[key].get(module)
                if low is not None:
                    down_RI[rank : rank + low.rank] = low.down_RI
                    up_OR[first_output : first_output + outputs, rank : rank + low.rank] = low.up_OR
                rank += self._ranks[key]
            first_output += outputs
        return down_RI, up_OR
