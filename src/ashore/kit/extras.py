"""How to install an extra. ashore is on no package index, so the command depends on where it was installed from."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

Extra = Literal["cpu", "edge", "fleet", "otel", "postgres", "presidio", "redis", "train"]

BESIDE_ENGINES: Final = ("gguf", "scipy")
"""What the extra `cpu` brings beside the packages of its engines, for readers of models and for statistics."""
SOURCE: Final = Path(__file__).resolve().parents[3]
"""The checkout, where ashore was installed from one."""


def how_to_install(extra: Extra, *, source: Path = SOURCE) -> str:
    """Return the command that installs an extra, for a hint.

    Args:
        extra: As pyproject.toml calls it.
        source: Where the sources would be, if this is a checkout.
    """
    if not ((source / "Makefile").is_file() and (source / "pyproject.toml").is_file()):
        return f"pip install 'ashore[{extra}]', from the wheel that ashore was installed from"
    if extra == "train":
        return f"make -C {source} train"
    return f"{source}/.venv/bin/pip install -e '{source}[{extra}]'"
