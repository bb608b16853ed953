"""Mixtures of four and eight bits over the layers of one model: what each loses is measured, not guessed.

The weights of the layers in question are inputs of the compiled model here, so that another mixture is another set of
pointers and no other compilation. It computes in single precision: the noise of rounded activations would drown what
one layer loses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.engines.openvino.fourbits import FourBitLayers
from ashore.engines.openvino.moments import FULL_PRECISION, run_text
from ashore.engines.openvino.prepare import PACKAGES, XML, FusedModel, fused_model, to_int8, write_model
from ashore.engines.openvino.runtime import import_openvino
from ashore.engines.rounding import Layer, Rounded, Samples, Told
from ashore.errors import EngineFailed


class OpenVinoMixture:
    """One model whose layers may have four bits each. Made by `open_mixture`."""

    def __init__(self, fused: FusedModel, group_size: int, samples: Samples, *, keep_grids: bool, told: Told) -> None:
        """Round every layer, and compile the model once; `told` hears of it."""
        self._fused = fused
        self._half = fused.read()
        self._four = FourBitLayers(self._half, group_size, keep_grids=keep_grids)
        self._four.round(samples, told=told)
        self.layers: tuple[Layer, ...] = self._four.layers
        self._eight: Any = None
        """Eight bits everywhere, made with the first mixture."""
        self._bench: _Bench | None = None

    def divergences(self, text: Samples, *, told: Told) -> dict[str, float]:
        """Return, by layer, the mean over all tokens of KL(half precision || this layer in four bits), in nats.

        A layer that keeps the four bits of its source loses nothing, and is not measured.
        """
        totals = {layer.name: 0.0 for layer in self.layers}
        measured = [layer for layer in self.layers if not self._four.is_exact(layer.name)]
        if not measured:
            return totals
        bench = self._opened()
        done, num_tokens = 0, sum(len(ids) for ids in text)
        for ids in text:
            bench.expect(ids)
            for layer in measured:
                told("measure", done / (len(text) * len(measured)))
                totals[layer.name] += bench.divergence(ids, {layer.name}) * len(ids)
                done += 1
        return {name: total / num_tokens for name, total in totals.items()}

    def divergence(self, small: Collection[str], text: Samples) -> float:
        """Return the same of a mixture: the layers `small` in four bits."""
        bench = self._opened()
        total = 0.0
        for ids in text:
            bench.expect(ids)
            total += bench.divergence(ids, small) * len(ids)
        return total / sum(len(ids) for ids in text)

    def write(self, small: Collection[str], unrounded: Collection[str], out: Path, *, told: Told) -> Rounded:
        """Write the mixture to `out`: what `prepare_openvino` makes of `precision="mixed"` and these layers."""
        told("write", 0.0)
        if self._eight is None:
            self._eight = to_int8(self._fused.read())
        model = self._eight.clone()
        self._four.put_into(model, small)
        self._four.leave_inputs(model, unrounded)
        write_model(model, self._fused, out)
        return Rounded(
            format="openvino",
            weights=XML,
            packages=PACKAGES,
            facts={"precision": "mixed", "rounding": self._four.described(small)},
        )

    def close(self) -> None:
        """Free the models. May be called twice."""
        self._bench = self._eight = None

    def _opened(self) -> _Bench:
        if self._bench is None:
            self._bench = _Bench(self._half, self._four)
        return self._bench


@contextmanager
def open_mixture(
    source: Path, weights: str, scratch: Path, *, group_size: int, samples: Samples, keep_grids: bool, told: Told
) -> Iterator[OpenVinoMixture]:
    """Give the mixtures of `source / weights`; raises as `prepare_openvino`, and needs twice its single precision."""
    with fused_model(source, weights, scratch, told=told) as fused:
        mixture = OpenVinoMixture(fused, group_size, samples, keep_grids=keep_grids, told=told)
        try:
            yield mixture
        finally:
            mixture.close()


class _Bench:
    """The model with the weights of its layers as inputs, compared with what it says in half precision.

    Shapes: T tokens of a text, V entries of the vocabulary.
    """

    def __init__(self, half: Any, four: FourBitLayers) -> None:
        ov = import_openvino()
        op = import_openvino("openvino.opset13")
        self._ov, self._four = ov, four
        self._plain: dict[str, NDArray[np.float32]] = {}
        model = half.clone()
        nodes = {n.get_friendly_name(): n for n in model.get_ordered_ops() if n.get_type_name() == "MatMul"}
        inputs = []
        for name, product in four.products.items():
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
        """Let half precision read a text; what it says is what `divergence` compares with."""
        self._set("expected", np.zeros((len(ids), self._vocab_size), np.float32))
        self._run(ids)
        self._set("expected", self._request.get_output_tensor(0).data.copy())

    def divergence(self, ids: Sequence[int], small: Collection[str]) -> float:
        """Return the mean divergence over the tokens of the text that was expected, with `small` in four bits."""
        try:
            for name in small:
                self._set(name, self._four.values(name).values())
            self._run(ids)
        finally:
            for name in small:
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
