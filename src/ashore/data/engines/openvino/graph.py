"""The compiled model: one call computes a ragged batch of prompt pieces and single tokens over paged KV cache.

Shapes in names: T tokens of the step, B sequences, S sampled positions, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed, UnsupportedModel
from ashore.data.engines.openvino.lora import MASK, AdapterBank, Run, Slot, add_slots
from ashore.data.engines.openvino.runtime import import_openvino

BLOCK_TOKENS = 32
"""Fixed by OpenVINO's CPU plugin."""

Ints = NDArray[np.int32]
Row = tuple[list[int], int, int, Ints, int]
"""(ids, start, end, block table, number of blocks in it): compute `ids[start:end]` of one sequence."""


def unpack_weights(model: Any) -> int:
    """Replace, in place, rounded weights of products by the same numbers in single precision; return the count."""
    op = import_openvino("openvino.opset13")
    count = 0
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul":
            values = _evaluate(node.input_value(1).get_node())
            if values is not None:
                constant = op.constant(values)
                constant.set_friendly_name(_constant_of(node).get_friendly_name())
                node.input(1).replace_source_output(constant.output(0))
                count += 1
    return count


def _constant_of(product: Any) -> Any:
    """Return the constant behind the second input of a product whose weights are rounded."""
    source = product.input_value(1).get_node()
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()
    return source


def _evaluate(node: Any) -> Any | None:
    """Return the result of `Convert` and `Multiply` on a constant of bytes, or None for another form."""
    scales: list[Any] = []
    while node.get_type_name() in ("Convert", "Multiply"):
        if node.get_type_name() == "Multiply":
            scale = node.input_value(1).get_node()
            if scale.get_type_name() != "Constant":
                return None
            scales.append(scale.data.astype(np.float32))
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "i8":
        return None
    values = node.data.astype(np.float32)
    for scale in reversed(scales):
        values *= scale
    return values


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of one step, in the plugin's terms."""

    token_ids_T: NDArray[np.int64]
    positions_T: NDArray[np.int64]
    past_lens_B: Ints
    subsequence_begins: Ints
    block_indices: Ints
    block_indices_begins: Ints
    max_context_len: int
    sampled_S: NDArray[np.int64]
    """Rows of T whose next-token logits are wanted."""
    runs: tuple[Run, ...] = ()
    """Adapter of each token of T; empty: none has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFacts:
    """Facts read from the model file."""

    vocab_size: int
    context_tokens: int
    """0 if the file does not have it."""
    precision: str
    """`fp16`, `int8`, `int4` where most weights have four bits, `mixed` where some have."""
    weight_group: int = 0
    """Weights of a row that share a scale, at the fewest; 0 where all rows have one scale."""


class PagedModel:
    """A decoder on the CPU plugin, rewritten for paged attention, with logits for chosen positions only."""

    def __init__(
        self, xml: Path, properties: Mapping[str, Any], *, unpack: bool = False, adapters: bool = False
    ) -> None:
        """Read and compile, with weights in single precision if `unpack`; the KV cache comes with `allocate`.

        With `adapters` the graph has an input for their matrices beside every projection: see `use_adapters`.

        Raises:
            UnsupportedModel: not a decoder that the paged-attention rewrite supports, or its projections have no names.
            EngineFailed: the plugin rejected the model or a property; the message has its own text.
        """
        ov = import_openvino()
        core = ov.Core()
        try:
            model = core.read_model(str(xml))
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot read {xml.name}: {error}") from error
        self.facts = _facts(model)
        if unpack:
            unpack_weights(model)
        model = _rewrite(model, xml)
        self.slots: tuple[Slot, ...] = ()
        if adapters:
            model, self.slots = add_slots(model)
        try:
            self._compiled = core.compile_model(model, "CPU", dict(properties))
            self._request = self._compiled.create_infer_request()
        except RuntimeError as error:
            hint = "check the engine options of this model"
            raise EngineFailed(f"OpenVINO cannot compile {xml.name}: {error}", hint=hint) from error
        self._ov = ov
        self._cache_ports = [p for p in self._compiled.inputs if "_cache." in p.any_name]
        self._ports = {p.any_name: p for p in self._compiled.inputs if "_cache." not in p.any_name}
        self._tensors: list[Any] = []
        self._inputs: dict[str, NDArray[Any]] = {}
        self._caches: list[NDArray[Any]] = []
        self._bank = AdapterBank(())
        self._matrices: dict[str, NDArray[np.float32]] = {}

    @property
    def kv_bytes_per_block(self) -> int:
        """Bytes of one block over all layers, keys and values."""
        sizes = [int(np.prod(_block_shape(p))) * p.element_type.size for p in self._cache_ports]
        return sum(sizes)

    def allocate(self, num_blocks: int) -> None:
        """Allocate `num_blocks` blocks, and one more for fillers. Memory is touched only when a block is first
        written."""
        tensors = [
            self._ov.Tensor(p.element_type, self._ov.Shape([num_blocks + 1, *_block_shape(p)]))
            for p in self._cache_ports
        ]
        self._use(tensors)

    def filler(self, num_tokens: int) -> Row:
        """Return a row of padding tokens, to give a step the size of an earlier one.

        Args:
            num_tokens: At most `BLOCK_TOKENS`.
        """
        last = self._tensors[0].shape[0] - 1
        return [0] * num_tokens, 0, num_tokens, np.array([last], np.int32), 1

    def use_cache_of(self, other: PagedModel) -> None:
        """Use the blocks of another compilation of the same model."""
        self._use(other._tensors)

    def use_adapters(self, bank: AdapterBank) -> None:
        """Use the matrices of `bank`, made for the slots of this model, in the next steps."""
        self._bank = bank

    def _put_adapters(self, batch: Batch) -> None:
        keys, mask_T1M = self._bank.mask(batch.runs or (("", batch.token_ids_T.size),))
        self._put(MASK, mask_T1M)
        matrices = self._bank.matrices(keys)
        if matrices is not self._matrices:
            for name, values in matrices.items():
                self._request.set_tensor(self._ports[name], self._ov.Tensor(values, shared_memory=True))
            self._matrices = matrices

    def _put(self, name: str, values: NDArray[Any]) -> None:
        """Write into the memory that the request already uses, or allocate new memory if the shape has changed."""
        bound = self._inputs.get(name)
        if bound is not None and bound.shape == values.shape:
            bound[...] = values
            return
        self._inputs[name] = values
        self._request.set_tensor(self._ports[name], self._ov.Tensor(values, shared_memory=True))

    def _use(self, tensors: list[Any]) -> None:
        for port, tensor in zip(self._cache_ports, tensors, strict=True):
            self._request.set_tensor(port, tensor)
        self._tensors = tensors
        self._caches = [_bytes_view(t) for t in tensors]

    def copy_block(self, source: int, target: int) -> None:
        """Copy a block's keys and values in every layer."""
        for cache in self._caches:
            cache[target] = cache[source]

    def read_block(self, block: int) -> NDArray[np.uint8]:
        """Return a copy of a block's bytes in every layer. Callable from any thread."""
        return np.concatenate([cache[block] for cache in self._caches])

    def write_block(self, block: int, data: bytes) -> None:
        """Write the bytes that `read_block` returned. Callable from any thread, for a block that nothing else uses."""
        at, bytes_N = 0, np.frombuffer(data, np.uint8)
        for cache in self._caches:
            cache[block] = bytes_N[at : at + cache.shape[1]]
            at += cache.shape[1]

    def start(self, batch: Batch) -> None:
        """Start one step; other work may run until `wait`."""
        self._put("input_ids", batch.token_ids_T)
        self._put("position_ids", batch.positions_T)
        self._put("past_lens", batch.past_lens_B)
        self._put("subsequence_begins", batch.subsequence_begins)
        self._put("block_indices", batch.block_indices)
        self._put("block_indices_begins", batch.block_indices_begins)
        self._put("max_context_len", np.array(batch.max_context_len, np.int32))
        self._put("sampled", batch.sampled_S)
        if self.slots:
            self._put_adapters(batch)
        self._request.start_async()

    def wait(self) -> NDArray[np.float32]:
        """Return the logits [S, V]; a view that the next `start` overwrites.

        Raises:
            EngineFailed: the plugin failed in the middle of the step.
        """
        try:
            self._request.wait()
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO failed in a step: {error}") from error
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits


def _block_shape(port: Any) -> list[int]:
    return [d.get_length() for d in list(port.partial_shape)[1:]]


def _bytes_view(tensor: Any) -> NDArray[Any]:
    """Return the tensor's memory as one row of bytes for each block, whatever its element type."""
    flat = np.ctypeslib.as_array((ctypes.c_uint8 * tensor.byte_size).from_address(_address(tensor)))
    return flat.reshape(tensor.shape[0], -1)


def _address(tensor: Any) -> int:
    data = tensor.data
    return int(data.ctypes.data)


_BITS = {"i4": "four", "u4": "four", "i8": "eight", "u8": "eight"}


def _facts(model: Any) -> GraphFacts:
    try:
        shape = model.output("logits").partial_shape
    except RuntimeError as error:
        raise UnsupportedModel("the model has no output called logits: not a decoder") from error
    context = 0
    if model.has_rt_info(["ashore", "context_tokens"]):
        context = int(model.get_rt_info(["ashore", "context_tokens"]).astype(int))
    return GraphFacts(
        vocab_size=shape[len(shape) - 1].get_length(),
        context_tokens=context,
        precision=_precision_of(model),
        weight_group=_weight_group_of(model),
    )


def _precision_of(model: Any) -> str:
    """Return `fp16`, `int8`, `int4` if most weights have four bits, or `mixed` if some have. Matrices of every size
    count, by their numbers: a small model has no large ones."""
    counts = {"four": 0, "eight": 0, "wide": 0}
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) >= 2:
            kind = node.get_element_type().get_type_name()
            counts[_BITS.get(kind, "wide")] += int(np.prod(node.get_output_shape(0)))
    if not counts["four"]:
        return "int8" if counts["eight"] > counts["wide"] else "fp16"
    return "int4" if counts["four"] > counts["eight"] else "mixed"


def _weight_group_of(model: Any) -> int:
    """Return the smallest group of weights with a scale; those with their own zero points (`u4`) do not count: the
    plugin uses their activations unrounded."""
    groups = [
        int(node.get_output_shape(0)[2])
        for node in model.get_ops()
        if _is_large_constant(node)
        and node.get_element_type().get_type_name() in ("i4", "i8")
        and len(node.get_output_shape(0)) == 3
    ]
    return min(groups, default=0)


def read_facts(xml: Path) -> GraphFacts:
    """Return the facts of a model file, without compiling it.

    Raises:
        EngineFailed: OpenVINO cannot read it.
    """
    try:
        model = import_openvino().Core().read_model(str(xml))
    except RuntimeError as error:
        raise EngineFailed(f"OpenVINO cannot read {xml.name}: {error}") from error
    return _facts(model)


def _is_large_constant(node: Any) -> bool:
    return node.get_type_name() == "Constant" and len(node.get_output_shape(0)) >= 2 and node.get_byte_size() > 65536


def _rewrite(model: Any, xml: Path) -> Any:
    """Return the model with paged attention and with an input `sampled` that picks the rows for the output head."""
    ov = import_openvino()
    op = import_openvino("openvino.opset13")
    try:
        import_openvino("openvino._offline_transformations").paged_attention_transformation(model)
    except RuntimeError as error:
        raise UnsupportedModel(f"{xml.name} has no attention that can be paged: {error}") from error
    head = model.output("logits").get_node()
    while head.get_type_name() != "MatMul":
        head = head.input_value(0).get_node()
    sampled = op.parameter([-1], np.int64, name="sampled")
    sampled.output(0).set_names({"sampled"})
    head.input(0).replace_source_output(op.gather(head.input_value(0), sampled, np.int64(0)).output(0))
    logits_SV = op.reshape(head.output(0), np.array([0, -1], np.int64), special_zero=True)
    result = op.result(op.convert(logits_SV, "f32"))
    return ov.Model([result], model.get_sinks(), [*model.get_parameters(), sampled], "paged")


def make_batch(rows: Sequence[Row], sampled: list[int], runs: Sequence[Run] = ()) -> Batch:
    """Return the inputs for some rows."""
    count = len(rows)
    past = np.empty(count, np.int32)
    begins = np.zeros(count + 1, np.int32)
    table_begins = np.zeros(count + 1, np.int32)
    ids: list[int] = []
    positions: list[int] = []
    longest = 0
    for index, (row_ids, start, end, _, num_blocks) in enumerate(rows):
        past[index] = start
        begins[index + 1] = begins[index] + end - start
        table_begins[index + 1] = table_begins[index] + num_blocks
        if end - start == 1:
            ids.append(row_ids[start])
            positions.append(start)
        else:
            ids += row_ids[start:end]
            positions += range(start, end)
        longest = max(longest, end)
    return Batch(
        token_ids_T=np.array(ids, np.int64),
        positions_T=np.array(positions, np.int64),
        past_lens_B=past,
        subsequence_begins=begins,
        block_indices=np.concatenate([table[:n] for _, _, _, table, n in rows]),
        block_indices_begins=table_begins,
        max_context_len=longest,
        sampled_S=np.array(sampled, np.int64),
        runs=tuple(runs),
    )
