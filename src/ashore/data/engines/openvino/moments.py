"""Records the second moments of each product's inputs while the model reads a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed
from ashore.data.engines.openvino.products import Product
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.engines.rounding import Samples, Told

FULL_PRECISION = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "PERFORMANCE_HINT": "LATENCY"}


def read_moments(
    model: Any, products: Sequence[Product], samples: Samples, *, told: Told
) -> Mapping[str, NDArray[np.float32]]:
    """Return, by product, the mean over all tokens of `x.T @ x` [K, K], of its inputs x in single precision.

    `model` is not changed. Products that read the same input share one matrix.

    Raises:
        EngineFailed: the plugin failed.
    """
    ov = import_openvino()
    op = import_openvino("openvino.opset13")
    inputs = {product.name: product.node.input_value(0) for product in products}
    places = {_key(value): value for value in inputs.values()}
    numbers = {key: number for number, key in enumerate(places)}
    watched = ov.Model([op.result(v) for v in places.values()], model.get_sinks(), model.get_parameters(), "watched")
    sums: list[NDArray[np.float32]] = []
    num_tokens = 0
    try:
        request = ov.Core().compile_model(watched, "CPU", FULL_PRECISION).create_infer_request()
        for index, ids in enumerate(samples):
            told("read", index / len(samples))
            run_text(request, ids)
            for number in range(len(places)):
                tensor = request.get_output_tensor(number).data
                x_TK = tensor.reshape(-1, tensor.shape[-1])
                if number == len(sums):
                    sums.append(np.zeros((x_TK.shape[1], x_TK.shape[1]), np.float32))
                sums[number] += x_TK.T @ x_TK
            num_tokens += len(ids)
    except RuntimeError as error:
        raise EngineFailed(f"OpenVINO failed while it read the calibration text: {error}") from error
    for total in sums:
        total /= num_tokens
    return {name: sums[numbers[_key(value)]] for name, value in inputs.items()}


def run_text(request: Any, ids: Sequence[int]) -> None:
    """Run a stateful model on one text from its beginning."""
    length = len(ids)
    request.reset_state()
    request.infer(
        {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, length), np.int64),
            "position_ids": np.arange(length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
    )


def _key(value: Any) -> tuple[str, int]:
    return value.get_node().get_friendly_name(), value.get_index()
