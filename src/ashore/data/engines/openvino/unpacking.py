"""Weights of products in single precision, in place of their codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ashore.data.engines.openvino.runtime import import_openvino


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
