"""The demo model's files in the forms that engines take."""

from __future__ import annotations

from pathlib import Path

from ashore.data.engines import ModelFiles


def demo_files(home: Path, reference: str = "smollm2") -> ModelFiles:
    """Return a stored model of the demo home: `smollm2` is F16 in GGUF, `smollm2@int8` what OpenVINO serves."""
    from ashore.cli.bootstrap import build_store
    from ashore.kit.settings import Home

    files = build_store(Home(root=home)).open(reference)
    return ModelFiles(
        name=reference, digest=files.digest, directory=str(files.directory), format=files.format, weights=files.weights
    )
