"""The products of one model in four and in eight bits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest
from ashore.data.engines.openvino.gptq import EIGHT_HIGH, EIGHT_LOW, FourBits, round_gptq, round_nearest
from ashore.data.engines.openvino.moments import read_moments
from ashore.data.engines.openvino.products import HEAD, Product, find_products, put_codes, put_rows
from ashore.data.engines.openvino.ranking import keep_worst, measure_losses
from ashore.data.engines.rounding import Samples, Told


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
