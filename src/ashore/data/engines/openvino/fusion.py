"""Fewer, larger matrix products: projections that read the same input become one product and a split.

Small products read memory at about half the machine's bandwidth, large ones at nearly all of it, so that joining
q, k, v and gate, up makes a single stream faster. The numbers stay the same: each output channel keeps its weights
and scale.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ashore.data.engines.openvino.runtime import import_openvino

_LARGEST_FUSED_CHANNELS = 65536
"""An output head beyond this is left alone; joining it would gain nothing."""


def fuse_projections(model: Any) -> int:
    """Join, in place, the plain-weight products of `model` that read one input; return how many groups were joined."""
    op = import_openvino("openvino.opset13")
    groups: dict[tuple[str, int], list[Any]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and _weight(node) is not None:
            source = node.input_value(0)
            groups.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append(node)
    joined = 0
    for nodes in groups.values():
        weights = [w for w in map(_weight, nodes) if w is not None]
        if len(nodes) < 2 or sum(w.data.shape[0] for w in weights) > _LARGEST_FUSED_CHANNELS:
            continue
        _join(op, nodes, weights)
        joined += 1
    return joined


def _weight(node: Any) -> Any | None:
    """Return the half or single precision constant behind a product `x @ w.T`, or None if it has another form."""
    attributes = node.get_attributes()
    if attributes.get("transpose_a") or not attributes.get("transpose_b"):
        return None
    source = node.input_value(1).get_node()
    while source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Constant" or len(source.get_output_shape(0)) != 2:
        return None
    return source if source.get_element_type().get_type_name() in ("f16", "f32") else None


def _join(op: Any, nodes: list[Any], weights: list[Any]) -> None:
    first = nodes[0]
    joined = op.constant(np.concatenate([w.data for w in weights], axis=0))
    joined.set_friendly_name("+".join(w.get_friendly_name() for w in weights))
    wide = first.input_value(1).get_element_type()
    product = op.matmul(first.input_value(0), op.convert(joined, wide.get_type_name()), False, True)
    product.set_friendly_name("fused/" + first.get_friendly_name())
    sizes = np.array([w.data.shape[0] for w in weights], np.int64)
    split = op.variadic_split(product, np.int64(-1), sizes)
    for index, node in enumerate(nodes):
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(split.output(index))


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
