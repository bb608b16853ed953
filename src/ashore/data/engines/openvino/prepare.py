"""From GGUF or safetensors to a folder that the engine loads: joined projections, weights in 16, 8 or 4 bits."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ashore.core.errors import DiskFull, EngineFailed, UnsupportedModel
from ashore.data.engines.openvino.decodergraph import Bits, Built, build_decoder
from ashore.data.engines.openvino.fourbits import FourBitLayers
from ashore.data.engines.openvino.paired import GROUP_SIZE
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.engines.rounding import Rounded, RoundOrder, Told, quietly
from ashore.kit.folders import make_folder
from ashore.kit.store import TEXT_FILES

XML = "openvino_model.xml"
PRECISIONS = ("fp16", "int8", "int4")
PACKAGES = ("gguf", "numpy", "openvino")
"""Packages that determine the bytes of a prepared model."""
_HALF, _ROWS = Bits(16), Bits(8)
_HEAD = Bits(8, GROUP_SIZE)
"""The output head in eight bits: what eight bits lose is lost here. Against half precision, the demo model with 4,096
tokens loses 1.72 % on a text of law and 1.48 on tables with one scale a row, 0.97 and 0.72 with groups of 64, and is as
fast (1.02 times at one stream, 1.01 at sixteen)."""


def prepare_openvino(source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told = quietly) -> Rounded:
    """Write the model of `source / weights` to `out`, in one of `PRECISIONS`. A `Rounder`.

    `int8` rounds symmetrically to eight bits with one scale for each output channel, or, with a group size, for each
    group of its weights; activations are not changed. `int4` gives every product but the output head four bits with a
    scale for each group, by GPTQ with calibration text, to the nearest without. With `order.ranking` the layers that
    lose most keep eight bits; with `order.small` all others do. With text, eight bits are rounded by GPTQ too. `out` is
    created if missing; files of an earlier attempt in it are overwritten.

    Raises:
        UnsupportedModel: another architecture (DeepSeek V2 and V3 go to llama.cpp), or a rotation that is not known.
        EngineFailed: the library failed; the message has its own text.
        DiskFull: no room for the scratch copy, which is as large as the model in half precision.
    """
    facts = {"precision": order.precision, "fused": "qkv, gate+up"}
    small = order.small
    with _disk_errors(out):
        make_folder(out)
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=out) as folder:
            gguf = _as_gguf(source, weights, Path(folder), told)
            told("round", 0.2)
            if order.samples or small is not None:
                built, rounding, small = _by_layer(gguf, order, Path(folder), told)
            else:
                built, rounding = _at_once(gguf, order)
            if rounding:
                facts["rounding"] = rounding
            told("write", 0.95)
            _write_model(built, source, out)
    told("done", 1.0)
    return Rounded(format="openvino", weights=XML, facts=facts, packages=PACKAGES, small=small)


def _at_once(gguf: Path, order: RoundOrder) -> tuple[Built, str]:
    """Return the model with every matrix rounded as it is read, and how."""
    products = {
        "fp16": _HALF,
        "int8": Bits(8, order.group_size),
        "int4": Bits(4, order.group_size),
    }[order.precision]
    others = {"fp16": _HALF, "int8": _HEAD, "int4": _ROWS}[order.precision]
    built = build_decoder(gguf, products, others)
    if order.precision == "fp16":
        return built, ""
    groups = f"{built.num_products} products in groups of {order.group_size}"
    if order.precision == "int4":
        of = f"{built.num_products} of {built.num_products} products INT4_SYM in groups of {order.group_size}"
        return built, f"{of} (nearest), the others INT8_SYM per channel (nearest)"
    head = f"the head in groups of {GROUP_SIZE} where its rows divide"
    return built, f"INT8_SYM, {groups if order.group_size else 'per channel'}, {head}"


def _by_layer(gguf: Path, order: RoundOrder, scratch: Path, told: Told) -> tuple[Built, str, frozenset[str] | None]:
    """Return the model in four bits, rounded with calibration text or with chosen layers, how, and those layers."""
    half = scratch / "half.xml"
    _save(build_decoder(gguf, _HALF, _HALF).model, half)
    built = build_decoder(gguf, _ROWS, _ROWS)
    layers = FourBitLayers(import_openvino().Core().read_model(str(half)), order.group_size)
    layers.round(order.samples, told=told)
    small = order.small
    if small is None and order.ranking:
        small = layers.all_but_worst(order.ranking, order.eight_share, told=told)
    names = layers.names if small is None else small
    layers.put_into(built.model, names)
    return built, layers.described(names), small


def _write_model(built: Built, source: Path, out: Path) -> None:
    """Write a model, and the text files of its source, so that the folder is self-contained."""
    built.model.set_rt_info(built.context_tokens, ["ashore", "context_tokens"])
    _name_by_place(built.model)
    _save(built.model, out / XML)
    for name in TEXT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)


def _save(model: Any, xml: Path) -> None:
    import_openvino().save_model(model, str(xml), compress_to_fp16=False)


def _as_gguf(source: Path, weights: str, scratch: Path, told: Told) -> Path:
    """Return the model as a GGUF file, which is made in `scratch` if it is not one."""
    if weights.endswith(".gguf"):
        return (source / weights).absolute()  # not further: a sealed model's file has no other name
    if weights.endswith((".safetensors", ".safetensors.index.json")):
        from ashore.kit.store import convert_safetensors_to_gguf

        plain = scratch / "model.gguf"
        convert_safetensors_to_gguf(source, plain, progress=lambda _, done, total: told("convert", 0.2 * done / total))
        return plain
    raise UnsupportedModel(f"{weights} is neither GGUF nor safetensors", hint="pull the model in one of these formats")


def _name_by_place(model: Any) -> None:
    """Number the nodes that have no name of their own by their place in the model.

    The library numbers them by a process-wide counter, so that the same model would have different bytes each time.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        stem, _, number = node.get_friendly_name().rpartition("_")
        if number.isdigit() and stem == node.get_type_name():
            node.set_friendly_name(f"{stem}_{place}")


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no room to prepare the model in {out.parent}", hint="free some space and try again"
            ) from error
        raise EngineFailed(f"preparing the model in {out.parent}: {error}") from error
