"""Builder for the graphs of all encoders: inputs, constants, and layers by tensor name.

Dimensions in names: B texts, T tokens of the longest text.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ashore.core.errors import UnsupportedModel
from ashore.data.engines.openvino.runtime import import_openvino

FAR_BELOW: Final = -1e9
"""Score of a key that is not seen, before the softmax."""


class Drawing:
    """A graph under construction."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        """Start it with its inputs: `ids`, `mask` and `types` [B, T]."""
        self.op = op = import_openvino("openvino.opset13")
        self.tensors = tensors
        self.ids_BT = op.parameter([-1, -1], np.int64, name="ids")
        self.mask_BT = op.parameter([-1, -1], np.float32, name="mask")
        self.types_BT = op.parameter([-1, -1], np.int64, name="types")
        for parameter, name in ((self.ids_BT, "ids"), (self.mask_BT, "mask"), (self.types_BT, "types")):
            parameter.output(0).set_names({name})
        self.length = op.gather(op.shape_of(self.ids_BT), self.whole(1), self.whole(0))

    def whole(self, value: int) -> Any:
        """Return an integer constant."""
        return self.op.constant(np.int64(value))

    def ints(self, *values: int) -> Any:
        """Return a row of integers."""
        return self.op.constant(np.array(values, np.int64))

    def real(self, value: float) -> Any:
        """Return a real constant."""
        return self.op.constant(np.float32(value))

    def weight(self, name: str) -> Any:
        """Return a tensor of the model.

        Raises:
            UnsupportedModel: it has none of that name.
        """
        if name not in self.tensors:
            raise UnsupportedModel(f"the weights have no tensor {name!r}: not such an encoder")
        return self.op.constant(self.tensors[name].astype(np.float32))

    def linear(self, x: Any, name: str) -> Any:
        """Return x through a layer, with its bias if it has one."""
        product = self.op.matmul(x, self.weight(name + ".weight"), False, True)
        return self.op.add(product, self.weight(name + ".bias")) if name + ".bias" in self.tensors else product

    def places(self) -> Any:
        """Return the place of each token in its text, [T]."""
        return self.op.convert(self.op.range(self.whole(0), self.length, self.whole(1), "i64"), np.float32)

    def angles(self, theta: float, size: int) -> tuple[Any, Any]:
        """Return cosines and sines, [T, size]: both halves of a head rotate by the same angles."""
        op = self.op
        turns = np.float32(theta) ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        row = op.constant(np.tile(turns, 2)[None, :])
        angles_TD = op.matmul(op.unsqueeze(self.places(), self.ints(1)), row, False, False)
        return op.cos(angles_TD), op.sin(angles_TD)

    def turned(self, x: Any, cosines: Any, sines: Any) -> Any:
        """Return queries or keys rotated by their places."""
        op = self.op
        low, high = op.split(x, self.whole(-1), 2).outputs()
        other = op.concat([op.negative(high), low], -1)
        return op.add(op.multiply(x, cosines), op.multiply(other, sines))

    def normed(self, x: Any, epsilon: float) -> Any:
        """Return x with a mean of 0 and a variance of 1 in its last dimension."""
        return self.op.mvn(x, self.ints(-1), True, epsilon, "inside_sqrt")

    def attended(self, query: Any, key: Any, value: Any, bias: Any, *, heads: int, size: int) -> Any:
        """Return the output of attention, [B, T, H], for queries, keys and values, [B, heads, T, size]."""
        seen = self.op.scaled_dot_product_attention(query, key, value, bias, self.real(size**-0.5))
        return self.op.reshape(self.op.transpose(seen, self.ints(0, 2, 1, 3)), self.ints(0, 0, heads * size), True)

    def embedded(self, ids: Any, name: str) -> Any:
        """Return the rows of a table."""
        return self.op.gather(self.weight(name), ids, self.whole(0))

    def unseen(self) -> Any:
        """Return the additive attention mask, [B, 1, 1, T]: a large negative number for padding."""
        hidden_keys = self.op.subtract(self.real(1), self.op.unsqueeze(self.mask_BT, self.ints(1, 2)))
        return self.op.multiply(hidden_keys, self.real(FAR_BELOW))

    def first_state(self, x: Any) -> Any:
        """Return the state of the first token of each text, [B, H], of states [B, T, H]."""
        ints = self.ints
        return self.op.squeeze(self.op.slice(x, ints(0), ints(1), ints(1), ints(1)), ints(1))

    def mean_state(self, x: Any) -> Any:
        """Return the mean of the states of a text, [B, H], of states [B, T, H]; padding does not count."""
        weights_BT1 = self.op.unsqueeze(self.mask_BT, self.ints(2))
        total = self.op.reduce_sum(self.op.multiply(x, weights_BT1), self.ints(1))
        return self.op.divide(total, self.op.reduce_sum(weights_BT1, self.ints(1)))

    def last_state(self, x: Any) -> Any:
        """Return the state of the last token of each text, [B, H], of states [B, T, H]."""
        ends_B1 = self.op.reduce_sum(self.mask_BT, self.ints(1), True)
        places_1T = self.op.add(self.op.unsqueeze(self.places(), self.ints(0)), self.real(1))
        is_last = self.op.convert(self.op.equal(places_1T, ends_B1), np.float32)
        return self.op.reduce_sum(self.op.multiply(x, self.op.unsqueeze(is_last, self.ints(2))), self.ints(1))

    def largest_state(self, x: Any) -> Any:
        """Return the largest number of each place in the states of a text, [B, H]; padding does not count."""
        hidden_BT1 = self.op.unsqueeze(self.op.subtract(self.real(1), self.mask_BT), self.ints(2))
        return self.op.reduce_max(self.op.add(x, self.op.multiply(hidden_BT1, self.real(FAR_BELOW))), self.ints(1))

    def weighted_state(self, x: Any) -> Any:
        """Return the mean of the states of a text in which the first token counts once, the second twice…, [B, H]."""
        places_1T = self.op.add(self.op.unsqueeze(self.places(), self.ints(0)), self.real(1))
        weights_BT1 = self.op.unsqueeze(self.op.multiply(self.mask_BT, places_1T), self.ints(2))
        total = self.op.reduce_sum(self.op.multiply(x, weights_BT1), self.ints(1))
        return self.op.divide(total, self.op.reduce_sum(weights_BT1, self.ints(1)))

    def model(self, out: Any) -> Any:
        """Return the finished graph."""
        inputs = [self.ids_BT, self.mask_BT, self.types_BT]
        return import_openvino().Model([self.op.result(out)], inputs, "encoder")
