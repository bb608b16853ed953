"""The products of one model in four and in eight bits.

Chooses the layers that keep eight bits among others in four, by measuring the loss of each alone.

The weights of the layers in question are inputs of the compiled model here, so that another mixture needs other
pointers, not another compilation. It computes in single precision: the noise of rounded activations would hide the loss
of one layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed, InvalidRequest
from ashore.data.engines.openvino.gptq import EIGHT_HIGH, EIGHT_LOW, FourBits, round_gptq, round_nearest
from ashore.data.engines.openvino.products import HEAD, Product, find_products, put_codes, put_rows
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


class FourBitLayers:
    """The layers of a half-precision model that can have four bits: every product but the output head. The others
    get eight bits; with calibration text these are rounded by GPTQ too."""

    def __init__(self, model: Any, group_size: int) -> None:
        """Find them.

        Args:
            model: In half precision; it must outlive this object, and is read only.
            group_size: Weights of a row that share a scale.

        Raises:
            InvalidRequest: rows do not fall into such groups.
        """
        self._model = model
        self._group_size = group_size
        found = find_products(model)
        self.products = {p.name: p for p in found if p.name != HEAD}
        heads = tuple(p for p in found if p.name == HEAD)
        self._heads = heads if len(heads) == 1 else ()  # several without a name cannot be told apart
        self._rounded: dict[str, FourBits] = {}
        self._moments: Mapping[str, NDArray[np.float32]] = {}
        self._tuned = False
        check_groups(self.products.values(), group_size)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.products)

    def round(self, samples: Samples, *, told: Told) -> None:
        """Round them: by GPTQ with the inputs of `samples`, or to the nearest without samples."""
        self._tuned = bool(samples)
        if samples:
            read = [*self.products.values(), *self._heads]
            self._moments = read_moments(
                self._model, read, samples, told=lambda stage, share: told(stage, 0.4 + 0.3 * share)
            )
        for number, product in enumerate(self.products.values()):
            told("round", 0.7 + 0.2 * number / len(self.products))
            weights_NK = product.weights_NK()
            self._rounded[product.name] = (
                round_gptq(weights_NK, self._moments[product.name], self._group_size)
                if samples
                else round_nearest(weights_NK, self._group_size)
            )

    def all_but_worst(self, text: Samples, share: float, *, told: Told) -> frozenset[str]:
        """Return the layers without those that lose most on `text` in four bits alone, `share` of the weights."""
        losses = measure_losses(self._model, self.products, self._rounded, text, told=told)
        num_weights = {name: int(np.prod(p.constant.get_output_shape(0))) for name, p in self.products.items()}
        return keep_worst(losses, num_weights, share)

    def described(self, small: Collection[str]) -> str:
        """Return a description of a mixture with these layers in four bits."""
        how = "GPTQ" if self._tuned else "nearest"
        four = f"{len(small)} of {len(self.products)} products INT4_SYM in groups of {self._group_size} ({how})"
        return f"{four}, the others INT8_SYM per channel ({how})"

    def put_into(self, model: Any, names: Collection[str]) -> None:
        """Set the layers `names` of an eight-bit form of the same model to four bits, in place.

        The others keep eight, rounded by GPTQ if there were samples.

        Raises:
            InvalidRequest: there is no such layer.
        """
        unknown = sorted(set(names) - set(self.products))
        if unknown:
            raise InvalidRequest(f"this model has no layer {unknown[0]!r}")
        nodes = _products_of(model)
        for name in sorted(names):
            put_codes(nodes[self.products[name].node.get_friendly_name()], self._rounded[name], bits=4)
        if self._tuned:
            for product in (*self._heads, *(p for name, p in self.products.items() if name not in names)):
                put_rows(nodes[product.node.get_friendly_name()], self._in_eight(product))

    def _in_eight(self, product: Product) -> FourBits:
        """Return a product in eight bits with a scale for each row."""
        weights_NK, moments_KK = product.weights_NK(), self._moments[product.name]
        return round_gptq(weights_NK, moments_KK, weights_NK.shape[1], low=EIGHT_LOW, high=EIGHT_HIGH)


def _products_of(model: Any) -> dict[str, Any]:
    return {n.get_friendly_name(): n for n in model.get_ordered_ops() if n.get_type_name() == "MatMul"}


def check_groups(products: Iterable[Product], group_size: int) -> None:
    """Raise `InvalidRequest` unless all rows divide into groups of this size."""
    for product in products:
        check_row(product.name, product.constant.get_output_shape(0)[1], group_size)


def check_row(name: str, row: int, group_size: int) -> None:
    """Raise `InvalidRequest` unless rows of `row` weights divide into groups of this size."""
    if row % group_size:
        raise InvalidRequest(
            f"rows of {name} have {row} weights, which is not a multiple of the group size {group_size}",
            hint="choose a --group-size that divides it, such as 32",
            param="group_size",
        )
