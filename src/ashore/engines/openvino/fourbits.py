"""The products of one model in four and in eight bits: rounded once, and put into as many mixtures as one likes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ashore.engines.openvino.gptq import EIGHT_HIGH, EIGHT_LOW, FourBits, round_gptq, round_nearest
from ashore.engines.openvino.grids import find_grid
from ashore.engines.openvino.moments import read_moments
from ashore.engines.openvino.products import HEAD, Product, find_products, leave_inputs, put_codes, put_rows
from ashore.engines.rounding import Layer, Samples, Told
from ashore.errors import InvalidRequest

_HALF_BYTES = 2
"""Bytes of a scale."""


class FourBitLayers:
    """What can have four bits in a model of half precision, every product but the output head, and what is made of the
    others then: with calibration text their eight bits are rounded by GPTQ too."""

    def __init__(self, model: Any, group_size: int, *, keep_grids: bool = False) -> None:
        """Find them.

        Args:
            model: In half precision; it must outlive this object, and is read only.
            group_size: Weights of a row that share a scale.
            keep_grids: Give back their own four bits to weights that lie on a grid of sixteen values already.

        Raises:
            InvalidRequest: rows do not fall into such groups.
        """
        self._model = model
        self._keep_grids = keep_grids
        self._group_size = group_size
        found = find_products(model)
        self.products = {p.name: p for p in found if p.name != HEAD}
        heads = tuple(p for p in found if p.name == HEAD)
        self._heads = heads if len(heads) == 1 else ()  # of several without a name, none can be told from another
        self._rounded: dict[str, FourBits] = {}
        self._moments: Mapping[str, NDArray[np.float32]] = {}
        self._eight: dict[str, FourBits] = {}
        self._tuned = False
        check_groups(self.products.values(), group_size)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.products)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Return them in the order of computation, once they are rounded."""
        return tuple(self._layer(p) for p in self.products.values())

    def round(self, samples: Samples, *, told: Told) -> None:
        """Round them: by GPTQ with what `samples` puts into them, or to the nearest without samples.

        What lies on a grid is kept as it is, where that was asked for.
        """
        self._tuned = bool(samples)
        if self._keep_grids:
            self._find_grids(told)
        left = [product for product in self.products.values() if product.name not in self._rounded]
        if samples:
            read = [*self.products.values(), *self._heads]
            self._moments = read_moments(
                self._model, read, samples, told=lambda stage, share: told(stage, 0.4 + 0.3 * share)
            )
        for number, product in enumerate(left):
            told("round", 0.7 + 0.2 * number / len(left))
            weights_NK = product.weights_NK()
            self._rounded[product.name] = (
                round_gptq(weights_NK, self._moments[product.name], self._group_size)
                if samples
                else round_nearest(weights_NK, self._group_size)
            )

    def is_exact(self, name: str) -> bool:
        """Tell whether a layer, once rounded, is what it was: its four bits are those that its source had."""
        return self._rounded[name].zeros_NG is not None

    def leave_inputs(self, model: Any, names: Collection[str]) -> None:
        """Make the plugin take the inputs of the layers `names` as they are, in a mixture that `put_into` has made.

        Raises:
            InvalidRequest: there is no such layer.
        """
        self._check_names(names)
        nodes = _products_of(model)
        for name in sorted(names):
            leave_inputs(nodes[self.products[name].node.get_friendly_name()])

    def described(self, small: Collection[str]) -> str:
        """Return in words what a mixture with these layers in four bits is."""
        how = "GPTQ" if self._tuned else "nearest"
        num_exact = sum(self.is_exact(name) for name in small)
        num_rounded = len(small) - num_exact
        parts = []
        if num_exact:
            parts.append(f"{num_exact} of {len(self.products)} products in the four bits of their source")
        if num_rounded or not num_exact:
            parts.append(
                f"{num_rounded} of {len(self.products)} products INT4_SYM in groups of {self._group_size} ({how})"
            )
        return f"{', '.join(parts)}, the others INT8_SYM per channel ({how})"

    def values(self, name: str) -> FourBits:
        """Return a layer as it was rounded."""
        return self._rounded[name]

    def put_into(self, model: Any, names: Collection[str]) -> None:
        """Give the layers `names` of a form of the same model in eight bits four, in place.

        The others keep eight, rounded by GPTQ where there were samples.

        Raises:
            InvalidRequest: there is no such layer.
        """
        self._check_names(names)
        nodes = _products_of(model)
        for name in sorted(names):
            put_codes(nodes[self.products[name].node.get_friendly_name()], self._rounded[name], bits=4)
        if self._tuned:
            for product in (*self._heads, *(p for name, p in self.products.items() if name not in names)):
                put_rows(nodes[product.node.get_friendly_name()], self._in_eight(product))

    def _check_names(self, names: Collection[str]) -> None:
        unknown = sorted(set(names) - set(self.products))
        if unknown:
            raise InvalidRequest(f"this model has no layer {unknown[0]!r}")

    def _in_eight(self, product: Product) -> FourBits:
        """Return a product in eight bits with a scale for each row, rounded when it is first wanted."""
        if product.name not in self._eight:
            weights_NK = product.weights_NK()
            self._eight[product.name] = round_gptq(
                weights_NK, self._moments[product.name], weights_NK.shape[1], low=EIGHT_LOW, high=EIGHT_HIGH
            )
        return self._eight[product.name]

    def _find_grids(self, told: Told) -> None:
        for number, product in enumerate(self.products.values()):
            told("look for grids", 0.4 * number / len(self.products))
            grid = find_grid(product.weights_NK())
            if grid is not None:
                self._rounded[product.name] = grid

    def _layer(self, product: Product) -> Layer:
        n, k = product.constant.get_output_shape(0)
        eight = n * k + n * _HALF_BYTES
        rounded = self._rounded[product.name]
        four = n * k // 2 + rounded.scales_NG.size * _HALF_BYTES * (1 if rounded.zeros_NG is None else 2)
        return Layer(name=product.name, num_weights=n * k, saved_bytes=eight - four)


def put_grouped_int8(model: Any, half: Any, group_size: int) -> int:
    """Give every product of `model` but the output head eight bits with a scale for each group of a row, in place, from
    the weights of `half`, the same model in half precision; return how many there are.

    Raises:
        InvalidRequest: rows do not fall into such groups.
    """
    products = [p for p in find_products(half) if p.name != HEAD]
    check_groups(products, group_size)
    nodes = _products_of(model)
    for product in products:
        rounded = round_nearest(product.weights_NK(), group_size, low=EIGHT_LOW, high=EIGHT_HIGH)
        put_codes(nodes[product.node.get_friendly_name()], rounded, bits=8)
    return len(products)


def _products_of(model: Any) -> dict[str, Any]:
    return {n.get_friendly_name(): n for n in model.get_ordered_ops() if n.get_type_name() == "MatMul"}


def check_groups(products: Iterable[Product], group_size: int) -> None:
    """Raise `InvalidRequest` unless all rows fall into groups of this size."""
    for product in products:
        row = product.constant.get_output_shape(0)[1]
        if row % group_size:
            raise InvalidRequest(
                f"rows of {product.name} have {row} weights, which do not fall into groups of {group_size}",
                hint="give a --group-size that divides it, such as 32",
                param="group_size",
            )
