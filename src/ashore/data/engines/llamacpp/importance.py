"""Importance matrix: how strong the inputs of each matrix are when llama.cpp reads a text.

llama.cpp calls back after each node of its graph; for products the second operand is read. A tensor's struct is read by
its published layout, and checked against the library's own functions.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import closing
from ctypes import POINTER, c_bool, c_char, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed
from ashore.data.engines.llamacpp.context import LlamaContext, LlamaModel
from ashore.data.engines.llamacpp.library import LlamaLibrary, load_library
from ashore.data.engines.rounding import Samples, Told
from ashore.kit.processes import allowed_cores

_F32: Final = 0
"""`enum ggml_type`."""
_PRODUCTS: Final = (b"MUL_MAT", b"MUL_MAT_ID")


class _Tensor(ctypes.Structure):
    """`struct ggml_tensor`, as far as `name`."""


_Tensor._fields_ = (
    ("type", c_int32),
    ("buffer", c_void_p),
    ("ne", c_int64 * 4),
    ("nb", c_size_t * 4),
    ("op", c_int32),
    ("op_params", c_int32 * 16),
    ("flags", c_int32),
    ("src", POINTER(_Tensor) * 10),
    ("view_src", c_void_p),
    ("view_offs", c_size_t),
    ("data", c_void_p),
    ("name", c_char * 64),
)

_Callback = ctypes.CFUNCTYPE(c_bool, POINTER(_Tensor), c_bool, c_void_p)


def read_importance(path: Path, samples: Samples, *, told: Told) -> Mapping[str, NDArray[np.float32]]:
    """Return, by tensor, the mean square of each input [K] over all tokens of the samples.

    The experts of one layer share one: a text of this size does not reach each of them often enough.

    Raises:
        UnsupportedModel, EngineFailed: llama.cpp cannot load or run the model, or has another layout.
    """
    library = load_library()
    watch = _Watch(library)
    with closing(LlamaModel(library, path)) as model:
        longest = max(len(ids) for ids in samples)
        with closing(
            LlamaContext(
                model,
                kv_tokens=longest,
                num_sequences=1,
                max_batch=longest,
                threads=allowed_cores(),
                kv_cache="f16",
                watch=ctypes.cast(watch.callback, c_void_p),
            )
        ) as context:
            for index, ids in enumerate(samples):
                told("read", index / len(samples))
                context.cut(0, 0)
                for at in range(0, len(ids), context.max_outputs):
                    # Request logits after each token, otherwise the last block would compute one token alone.
                    part = list(ids[at : at + context.max_outputs])
                    context.decode([(0, at, part, len(part))])
                watch.check()
    return watch.means()


class _Watch:
    """The callback for llama.cpp. An error in a callback cannot be raised through C, so it is stored for `check`."""

    def __init__(self, library: LlamaLibrary) -> None:
        self._library = library
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._tokens: dict[str, int] = {}
        self._error: EngineFailed | None = None
        self._checked = False
        self.callback = _Callback(self._take)

    def check(self) -> None:
        """Raise any error since the last call."""
        if self._error is not None:
            raise self._error

    def means(self) -> dict[str, NDArray[np.float32]]:
        return {name: (total / self._tokens[name]).astype(np.float32) for name, total in self._sums.items()}

    def _take(self, tensor: Any, ask: bool, _: object) -> bool:
        node = tensor.contents
        if self._library.ggml_op_name(node.op) not in _PRODUCTS:
            return not ask  # other nodes are not needed; the computation continues
        weights = node.src[0].contents
        if b".weight" not in weights.name:
            return not ask
        if not ask:
            self._add(weights.name.decode(), node.src[1])
        return True

    def _add(self, name: str, inputs: Any) -> None:
        x = inputs.contents
        count = int(np.prod(list(x.ne)))
        if not self._checked and self._library.ggml_nbytes(inputs) != count * 4:
            self._error = EngineFailed(
                f"{self._library.version}: the inputs of {name} read as {list(x.ne)} numbers of four bytes, and have "
                f"{self._library.ggml_nbytes(inputs)} bytes; this version has another layout"
            )
            return
        self._checked = True
        if x.type != _F32 or not x.data:
            return
        flat = np.ctypeslib.as_array((ctypes.c_float * count).from_address(x.data))
        rows = flat.reshape(-1, int(x.ne[0]))
        squares = np.einsum("tk,tk->k", rows, rows, dtype=np.float64)
        self._sums[name] = self._sums.get(name, 0) + squares
        self._tokens[name] = self._tokens.get(name, 0) + len(rows)
