"""From GGUF or safetensors to a folder that the engine loads: joined projections, weights in 16, 8 or 4 bits."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ashore.core.errors import DiskFull, EngineFailed, UnsupportedModel
from ashore.data.engines.openvino.fourbits import FourBitLayers, put_grouped_int8
from ashore.data.engines.openvino.fusion import fuse_projections
from ashore.data.engines.openvino.rotation import frequencies_of, set_frequencies
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.engines.rounding import Rounded, RoundOrder, Told, quietly
from ashore.kit.folders import make_folder
from ashore.kit.processes import python_command
from ashore.kit.store import TEXT_FILES

XML = "openvino_model.xml"
PRECISIONS = ("fp16", "int8", "int4")
PACKAGES = ("openvino", "openvino-genai", "nncf", "numpy")
"""Packages that determine the bytes of a prepared model."""

_READ_TIMEOUT_S = 3600


def prepare_openvino(source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told = quietly) -> Rounded:
    """Write the model of `source / weights` to `out`, in one of `PRECISIONS`. A `Rounder`.

    `int8` rounds symmetrically to eight bits with one scale for each output channel, or, with a group size, for each
    group of its weights; activations are not changed. `int4` gives every product but the output head four bits with a
    scale for each group, by GPTQ with calibration text, to the nearest without. With `order.ranking` the layers that
    lose most keep eight bits; with `order.small` all others do. With text, eight bits are rounded by GPTQ too. `out` is
    created if missing; files of an earlier attempt in it are overwritten.

    Raises:
        UnsupportedModel: the reader does not support this architecture (DeepSeek V2 and V3 go to llama.cpp).
        EngineFailed: the library failed; the message has its own text.
        DiskFull: no room for the scratch copy, which is as large as the model in half precision.
    """
    with fused_model(source, weights, out, told=told) as fused:
        facts = {"precision": order.precision, "fused": "qkv, gate+up", "fused_groups": str(fused.num_groups)}
        model = fused.read()
        if order.precision != "fp16":
            told("round", 0.4)
            model = to_int8(model)
            facts["rounding"] = "INT8_SYM per channel"
            if order.precision == "int8" and order.group_size:
                count = put_grouped_int8(model, fused.read(), order.group_size)
                facts["rounding"] = f"INT8_SYM, {count} products in groups of {order.group_size}, the head per channel"
        small = order.small
        if order.precision == "int4":
            layers = FourBitLayers(fused.read(), order.group_size)
            layers.round(order.samples, told=told)
            if small is None:
                small = layers.all_but_worst(order.ranking, order.eight_share, told=told) if order.ranking else None
            layers.put_into(model, layers.names if small is None else small)
            facts["rounding"] = layers.described(layers.names if small is None else small)
        told("write", 0.95)
        write_model(model, fused, out)
    told("done", 1.0)
    return Rounded(format="openvino", weights=XML, facts=facts, packages=PACKAGES, small=small)


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedModel:
    """A half-precision model in a scratch folder, its projections joined; deleted when the block ends."""

    xml: Path
    num_groups: int
    context_tokens: int
    source: Path
    """Folder with the text files."""

    def read(self) -> Any:
        """Return it, its weights mapped; may be changed."""
        return import_openvino().Core().read_model(str(self.xml))


@contextlib.contextmanager
def fused_model(source: Path, weights: str, out: Path, *, told: Told = quietly) -> Iterator[FusedModel]:
    """Yield the model of `source / weights` as OpenVINO reads it, projections joined; raises as `prepare_openvino`."""
    with _disk_errors(out):
        make_folder(out)
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=out) as folder:
            scratch = Path(folder)
            gguf = _as_gguf(source, weights, scratch, told)
            told("read", 0.05)
            read_gguf(gguf)
            told("fuse", 0.2)
            model = import_openvino().Core().read_model(str(gguf.with_name(XML)))
            set_frequencies(model, frequencies_of(gguf))
            num_groups = fuse_projections(model)
            fused = scratch / "fused.xml"
            import_openvino().save_model(model, str(fused), compress_to_fp16=False)
            del model
            yield FusedModel(xml=fused, num_groups=num_groups, context_tokens=context_tokens(gguf), source=source)


def write_model(model: Any, fused: FusedModel, out: Path) -> None:
    """Write a model made from `fused`, and its text files, so that the folder is self-contained."""
    with _disk_errors(out):
        model.set_rt_info(fused.context_tokens, ["ashore", "context_tokens"])
        _name_by_place(model)
        import_openvino().save_model(model, str(out / XML), compress_to_fp16=False)
        for name in TEXT_FILES:
            if (fused.source / name).is_file():
                shutil.copyfile(fused.source / name, out / name)


def read_gguf(gguf: Path) -> None:
    """Write `openvino_model.xml` and `.bin` beside `gguf`.

    Raises:
        UnsupportedModel: the reader rejected the file; the message has its last output.
    """
    command = python_command("ashore.data.engines.openvino.gguf_reader", str(gguf))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_READ_TIMEOUT_S, check=False)
    if ended.returncode != 0 or not gguf.with_name(XML).is_file():
        words = " ".join((ended.stderr or ended.stdout).split())[-400:]
        raise UnsupportedModel(
            f"OpenVINO cannot read {gguf.name}: {words or 'it wrote no model'}",
            hint="serve this model with the llamacpp engine",
        )


def context_tokens(gguf: Path) -> int:
    """Return the context length that the file names, 0 if it names none."""
    from ashore.kit.store import gguf_reader

    with gguf_reader(gguf) as reader:
        for name, field in reader.fields.items():
            if name.endswith(".context_length"):
                return int(field.contents())
    return 0


def _as_gguf(source: Path, weights: str, scratch: Path, told: Told) -> Path:
    """Return a path in `scratch` next to which the reader can write."""
    link = scratch / "model.gguf"
    if weights.endswith(".gguf"):
        from ashore.kit.store import dequantise, is_quantised

        file = (source / weights).absolute()  # not further: a sealed model's file has no other name
        if is_quantised(file):  # OpenVINO would leave its weights unchanged at any requested precision
            told("dequantise", 0.0)
            dequantise(file, link)
        else:
            link.symlink_to(file)
    elif weights.endswith((".safetensors", ".safetensors.index.json")):
        from ashore.kit.store import convert_safetensors_to_gguf

        told("convert", 0.0)
        convert_safetensors_to_gguf(source, link)
    else:
        raise UnsupportedModel(
            f"{weights} is neither GGUF nor safetensors", hint="pull the model in one of these formats"
        )
    return link


def _name_by_place(model: Any) -> None:
    """Number the nodes that have no name of their own by their place in the model.

    The library numbers them by a process-wide counter, so that the same model would have different bytes each time.
    """
    for place, node in enumerate(model.get_ordered_ops()):
        stem, _, number = node.get_friendly_name().rpartition("_")
        if number.isdigit() and stem.startswith(("fused/", node.get_type_name())):
            node.set_friendly_name(f"{stem}_{place}")


def to_int8(model: Any) -> Any:
    """Return the model with all weights of products and embeddings in eight bits, a scale for each output channel."""
    nncf = import_openvino("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own function also sets other handlers
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bar; standard output is for results
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise EngineFailed(f"nncf could not quantize the weights: {error}") from error


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
