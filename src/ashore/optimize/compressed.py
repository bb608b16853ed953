"""Compressed-tensors for vLLM, made by llm-compressor in its own environment, because its libraries conflict with
ours.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Final

from ashore.core import open_given
from ashore.engines import Rounded, RoundOrder, Told, quietly
from ashore.errors import EngineFailed, MissingExtra, UnsupportedModel
from ashore.optimize.side import compress
from ashore.store import TEXT_FILES

SCRIPT: Final = Path(compress.__file__)
PACKAGES: Final = ("llmcompressor>=0.14", "datasets")
_LONGEST_S: Final = 24 * 3600


def install_command(environment: Path) -> str:
    """Return the shell command that creates the environment."""
    python = environment / "bin" / "python"
    return (
        f"python3 -m venv {shlex.quote(str(environment))} && {shlex.quote(str(python))} -m pip install "
        + shlex.join(PACKAGES)
    )


def compress_command(
    environment: Path, source: Path, out: Path, scheme: str, calibration: Path, seed: int
) -> list[str]:
    """Return the command that compresses the checkpoint in `source` into the folder `out`."""
    return [
        str(environment / "bin" / "python"),
        "-I",
        str(SCRIPT),
        str(source),
        str(out),
        *("--scheme", scheme, "--calibration", str(calibration.absolute()), "--seed", str(seed)),
    ]


class SideCompressor:
    """A `Rounder` that passes the calibration file to another program."""

    def __init__(self, environment: Path) -> None:
        """Create the object. Raises `MissingExtra` if the environment has no llm-compressor."""
        self._environment = environment
        python = environment / "bin" / "python"
        probe = [str(python), "-I", "-c", "import llmcompressor, datasets"]
        if not python.is_file() or subprocess.run(probe, capture_output=True, check=False).returncode:
            raise MissingExtra(
                f"{environment} is not a Python environment with llm-compressor", hint=install_command(environment)
            )

    def __call__(self, source: Path, weights: str, order: RoundOrder, out: Path, *, told: Told = quietly) -> Rounded:
        """See `Rounder`, for a checkpoint in Hugging Face form.

        Raises:
            UnsupportedModel: it is in another form.
            EngineFailed: the other program failed; its last words are in the message.
        """
        check_source(source, weights)
        told("compress", 0.1)
        assert order.text is not None  # a plan for these forms has one
        command = compress_command(self._environment, source, out, order.precision, Path("/dev/stdin"), order.seed)
        with open_given(order.text) as text:
            ended = subprocess.run(command, stdin=text, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
        if ended.returncode or not list(out.glob("*.safetensors")):
            words = " ".join((ended.stderr or ended.stdout).split())[-400:]
            raise EngineFailed(f"llm-compressor failed: {words or f'exit code {ended.returncode}'}")
        for name in TEXT_FILES:
            (out / name).unlink(missing_ok=True)  # copied from the parent
        index = out / "model.safetensors.index.json"
        return Rounded(
            format="safetensors",
            weights=index.name if index.is_file() else "model.safetensors",
            facts={"precision": order.precision, "rounding": "llm-compressor, compressed-tensors"},
        )


def check_source(source: Path, weights: str) -> None:
    """Raise `UnsupportedModel` unless the checkpoint is one that llm-compressor reads."""
    if not weights.endswith((".safetensors", ".safetensors.index.json")) or not (source / "config.json").is_file():
        raise UnsupportedModel(
            f"llm-compressor reads safetensors with a config.json, not {weights}",
            hint="pull the model from a source that has these files",
        )
