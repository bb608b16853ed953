"""Finds the products of weights and activations in a model by name, and replaces their numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines.openvino.gptq import FourBits
from ashore.data.engines.openvino.runtime import import_openvino

HEAD: Final = "head"
"""Name of the product with the vocabulary; where embeddings are tied, its weights are theirs too."""

_BLOCK: Final = re.compile(r"layers?[.\[](\d+)")
_PROJECTION: Final = re.compile(r"([a-z]+)_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product `x @ w.T`."""

    name: str
    """`0.q+k+v`, `7.down`, `head`."""
    node: Any
    """Its MatMul."""
    constant: Any
    """Its weights [N, K] in half or single precision."""

    def weights_NK(self) -> NDArray[np.float32]:
        """Return the weights in single precision."""
        values: NDArray[np.float32] = self.constant.data.astype(np.float32)
        return values


def find_products(model: Any) -> tuple[Product, ...]:
    """Return the products with weights in half or single precision, in the order of computation."""
    found = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        attributes = node.get_attributes()
        constant = node.input_value(1).get_node()
        while constant.get_type_name() == "Convert":
            constant = constant.input_value(0).get_node()
        if (
            constant.get_type_name() == "Constant"
            and len(constant.get_output_shape(0)) == 2
            and constant.get_element_type().get_type_name() in ("f16", "f32")
            and attributes.get("transpose_b")
            and not attributes.get("transpose_a")
        ):
            found.append(Product(name=_name_of(constant.get_friendly_name()), node=node, constant=constant))
    return tuple(found)


def decompressed(rounded: FourBits, name: str, *, bits: int) -> Any:
    """Return codes of four or eight bits as a node in single precision [N, K]: whole rows, or groups of them."""
    ov = import_openvino()
    op = import_openvino("openvino.opset13")
    n, k = rounded.codes_NK.shape
    groups = rounded.scales_NG.shape[1]
    whole = bits == 8 and groups == 1
    packed = ov.Tensor(ov.Type.i4 if bits == 4 else ov.Type.i8, ov.Shape([n, k] if whole else [n, groups, k // groups]))
    values = pack_four_bits(rounded.codes_NK) if bits == 4 else rounded.codes_NK
    packed.data[...] = values.reshape(packed.data.shape)
    codes = op.constant(packed, shared_memory=True)
    codes.set_friendly_name(name)
    wide = op.multiply(
        op.convert(codes, "f16"), op.constant(rounded.scales_NG if whole else rounded.scales_NG[:, :, None])
    )
    if not whole:
        wide = op.reshape(wide, np.array([n, k], np.int64), special_zero=False)
    return op.convert(wide, "f32")


def put_codes(node: Any, rounded: FourBits, *, bits: int) -> None:
    """Replace, in place, the weights of the MatMul `node` by codes of four or eight bits and the scales of groups."""
    codes = decompressed(rounded, f"{node.get_friendly_name()}/codes", bits=bits)
    node.input(1).replace_source_output(codes.output(0))


def put_rows(node: Any, rounded: FourBits) -> None:
    """Replace, in place, the eight-bit codes and per-row scales of the MatMul `node`.

    Every reader of these weights gets the new ones, tied embeddings included.
    """
    op = import_openvino("openvino.opset13")
    scaled = node.input_value(1).get_node()
    while scaled.get_type_name() != "Multiply":
        scaled = scaled.input_value(0).get_node()
    codes = scaled.input_value(0).get_node()
    while codes.get_type_name() != "Constant":
        codes = codes.input_value(0).get_node()
    for old, values in ((codes, rounded.codes_NK), (scaled.input_value(1).get_node(), rounded.scales_NG)):
        new = op.constant(values)
        new.set_friendly_name(old.get_friendly_name())
        for target in old.output(0).get_target_inputs():
            target.replace_source_output(new.output(0))


def pack_four_bits(codes_NK: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return two codes in each byte, the first in the lower half: OpenVINO's storage of `i4` and `u4`."""
    nibbles = codes_NK.reshape(-1, 2).view(np.uint8) & 0x0F
    return np.asarray(nibbles[:, 0] | (nibbles[:, 1] << 4), np.uint8)


def _name_of(constant: str) -> str:
    block = _BLOCK.search(constant)
    projections = _PROJECTION.findall(constant)
    return f"{block[1]}.{'+'.join(projections)}" if block and projections else HEAD
