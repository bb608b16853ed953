"""From GGUF or safetensors to a folder that the engine loads: fused projections, INT8 weights or full precision."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from ashore.engines.openvino.fusion import fuse_projections
from ashore.engines.openvino.runtime import import_openvino, openvino_version
from ashore.errors import DiskFull, EngineFailed, UnsupportedModel
from ashore.store import TEXT_FILES

Progress = Callable[[str, float], None]
"""Called with what is being done and the share that is done, 0 to 1."""

XML = "openvino_model.xml"

_READ_TIMEOUT_S = 3600


def prepare_int8(store_dir: Path, weights: str, out: Path, *, progress: Progress | None = None) -> dict[str, str]:
    """Make the INT8 model of `store_dir / weights` in `out`; return the recipe for the store.

    Weights are rounded symmetrically to eight bits with one scale for each output channel; activations are not touched.
    `out` is made if it does not exist; files of an earlier attempt in it are written over.

    Raises:
        UnsupportedModel: the reader does not take this architecture (DeepSeek V2 and V3 go to llama.cpp).
        EngineFailed: the library failed; its own words are in the message.
        DiskFull: no room for the scratch copy, which is as large as the model in half precision.
    """
    return _prepare(store_dir, weights, out, "int8", progress or _no_progress)


def prepare_fp16(store_dir: Path, weights: str, out: Path, *, progress: Progress | None = None) -> dict[str, str]:
    """Make the half-precision model of `store_dir / weights` in `out`: the reference that INT8 is compared with.

    Raises as `prepare_int8` does.
    """
    return _prepare(store_dir, weights, out, "fp16", progress or _no_progress)


def _prepare(
    store_dir: Path, weights: str, out: Path, precision: Literal["int8", "fp16"], progress: Progress
) -> dict[str, str]:
    recipe = {"tool": openvino_version(), "precision": precision, "fused": "qkv, gate+up"}
    with _disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=out) as scratch:
            gguf = _as_gguf(store_dir, weights, Path(scratch), progress)
            progress("read", 0.1)
            read_gguf(gguf)
            progress("fuse", 0.4)
            model = import_openvino().Core().read_model(str(gguf.with_name(XML)))
            recipe["fused_groups"] = str(fuse_projections(model))
            if precision == "int8":
                progress("round", 0.5)
                model = _to_int8(model, recipe)
            model.set_rt_info(context_tokens(gguf), ["ashore", "context_tokens"])
            progress("write", 0.9)
            import_openvino().save_model(model, str(out / XML), compress_to_fp16=False)
            del model
        for name in TEXT_FILES:  # so that the folder stands alone
            if (store_dir / name).is_file():
                shutil.copyfile(store_dir / name, out / name)
    progress("done", 1.0)
    return recipe


def read_gguf(gguf: Path) -> None:
    """Write `openvino_model.xml` and `.bin` beside `gguf`.

    Raises:
        UnsupportedModel: the reader refused the file; its last words are in the message.
    """
    command = [sys.executable, "-m", "ashore.engines.openvino.gguf_reader", str(gguf)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_READ_TIMEOUT_S, check=False)
    if ended.returncode != 0 or not gguf.with_name(XML).is_file():
        words = " ".join((ended.stderr or ended.stdout).split())[-400:]
        raise UnsupportedModel(
            f"OpenVINO cannot read {gguf.name}: {words or 'it wrote no model'}",
            hint="serve this model with the llamacpp engine",
        )


def context_tokens(gguf: Path) -> int:
    """Return the context length that the file names, 0 if it names none."""
    from gguf import GGUFReader

    for name, field in GGUFReader(gguf).fields.items():
        if name.endswith(".context_length"):
            return int(field.contents())
    return 0


def _as_gguf(store_dir: Path, weights: str, scratch: Path, progress: Progress) -> Path:
    """Return a path in `scratch` that the reader can write beside."""
    link = scratch / "model.gguf"
    if weights.endswith(".gguf"):
        link.symlink_to((store_dir / weights).absolute())  # not further: a sealed model's file has no other name
    elif weights.endswith((".safetensors", ".safetensors.index.json")):
        from ashore.store import convert_safetensors_to_gguf

        progress("convert", 0.0)
        convert_safetensors_to_gguf(store_dir, link)
    else:
        raise UnsupportedModel(
            f"{weights} is neither GGUF nor safetensors", hint="pull the model in one of these forms"
        )
    return link


def _to_int8(model: Any, recipe: dict[str, str]) -> Any:
    nncf = import_openvino("nncf")
    nncf.set_log_level(logging.ERROR)
    recipe["rounding"] = f"nncf {nncf.__version__} INT8_SYM per channel"
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its progress bar; standard output is for results
            return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise EngineFailed(f"nncf could not round the weights: {error}") from error


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no room to prepare the model in {out.parent}", hint="free some and try again") from error
        raise EngineFailed(f"preparing the model in {out.parent}: {error}") from error


def _no_progress(stage: str, share: float) -> None:
    """For callers that do not show any."""
