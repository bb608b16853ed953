"""Chooses the layers that keep eight bits among others in four, by measuring the loss of each alone.

The weights of the layers in question are inputs of the compiled model here, so that another mixture needs other
pointers, not another compilation. It computes in single precision: the noise of rounded activations would hide the loss
of one layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed
from ashore.data.engines.openvino.gptq import FourBits
from ashore.data.engines.openvino.moments import FULL_PRECISION, run_text
from ashore.data.engines.openvino.products import Product
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.engines.rounding import Samples, Told


def measure_losses(
    half: Any, products: Mapping[str, Product], rounded: Mapping[str, FourBits], text: Samples, *, told: Told
) -> dict[str, float]:
    """Return, by layer, the mean over all tokens of KL(half precision || this layer in four bits), in nats."""
    bench = _Bench(half, products)
    totals = dict.fromkeys(products, 0.0)
    done, num_tokens = 0, sum(len(ids) for ids in text)
    for ids in text:
        bench.expect(ids)
        for name in products:
            told("measure", done / (len(text) * len(products)))
            totals[name] += bench.divergence(ids, name, rounded[name].values()) * len(ids)
            done += 1
    return {name: total / num_tokens for name, total in totals.items()}


def keep_worst(losses: Mapping[str, float], num_weights: Mapping[str, int], share: float) -> frozenset[str]:
    """Return all layers except those with the highest loss per weight, up to `share` of the weights.

    A layer that seems to gain from four bits gains by chance.
    """
    left = share * sum(num_weights.values())
    small = []
    for name in sorted(losses, key=lambda one: (-max(losses[one], 0.0) / num_weights[one], num_weights[one])):
        if num_weights[name] <= left:
            left -= num_weights[name]
        else:
            small.append(name)
    return frozenset(small)


class _Bench:
    """The model with the weights of its layers as inputs, compared with its half-precision output.

    Shapes: T tokens of a text, V entries of the vocabulary.
    """

    def __init__(self, half: Any, products: Mapping[str, Product]) -> None:
        ov = import_openvino()
        op = import_openvino("openvino.opset13")
        self._ov = ov
        self._plain: dict[str, NDArray[np.float32]] = {}
        model = half.clone()
        nodes = {n.get_friendly_name(): n for n in model.get_ordered_ops() if n.get_type_name() == "MatMul"}
        inputs = []
        for name, product in products.items():
            self._plain[name] = product.weights_NK()
            inputs.append(_input(op, name, list(self._plain[name].shape)))
            nodes[product.node.get_friendly_name()].input(1).replace_source_output(inputs[-1].output(0))
        logits = model.output("logits").get_node().input_value(0)
        self._vocab_size = logits.get_partial_shape()[2].get_length()
        rows = np.array([-1, self._vocab_size], np.int64)
        told_TV = op.log_softmax(op.reshape(op.convert(logits, "f32"), rows, special_zero=False), 1)
        expected_TV = _input(op, "expected", [-1, self._vocab_size])
        terms_TV = op.multiply(op.exp(expected_TV), op.subtract(expected_TV, told_TV))
        results = [op.result(told_TV), op.result(op.reduce_sum(terms_TV, np.array([1], np.int64)))]
        parameters = [*model.get_parameters(), *inputs, expected_TV]
        whole = ov.Model(results, model.get_sinks(), parameters, "mixture")
        try:
            self._request = ov.Core().compile_model(whole, "CPU", FULL_PRECISION).create_infer_request()
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO cannot compile the model to measure it: {error}") from error
        for name, values in self._plain.items():
            self._set(name, values)

    def expect(self, ids: Sequence[int]) -> None:
        """Run a text in half precision; `divergence` compares with the result."""
        self._set("expected", np.zeros((len(ids), self._vocab_size), np.float32))
        self._run(ids)
        self._set("expected", self._request.get_output_tensor(0).data.copy())

    def divergence(self, ids: Sequence[int], name: str, values: NDArray[np.float32]) -> float:
        """Return the mean divergence over the tokens of that text, with other values for one layer."""
        try:
            self._set(name, values)
            self._run(ids)
        finally:
            self._set(name, self._plain[name])
        return float(self._request.get_output_tensor(1).data.mean())

    def _run(self, ids: Sequence[int]) -> None:
        try:
            run_text(self._request, ids)
        except RuntimeError as error:
            raise EngineFailed(f"OpenVINO failed while it measured: {error}") from error

    def _set(self, name: str, values: NDArray[np.float32]) -> None:
        self._request.set_tensor(name, self._ov.Tensor(np.ascontiguousarray(values), shared_memory=False))


def _input(op: Any, name: str, shape: list[int]) -> Any:
    parameter = op.parameter(shape, np.float32, name=name)
    parameter.output(0).set_names({name})
    return parameter
