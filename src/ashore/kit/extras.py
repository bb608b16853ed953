"""How to install an extra. ashore is on no package index, so the command depends on where it was installed from."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal

from ashore.core.errors import MissingExtra
from ashore.kit.carried import carried

Extra = Literal["cpu", "edge", "examples", "fleet", "otel", "postgres", "presidio", "redis", "site", "train"]

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
    if carried() is not None:
        return (
            f"this ashore was carried here as a whole, without the extra {extra}; install ashore[{extra}] from wheels, "
            "in an environment of its own, on a machine that reaches an index"
        )
    if not ((source / "Makefile").is_file() and (source / "pyproject.toml").is_file()):
        return f"pip install 'ashore[{extra}]', from the wheel that ashore was installed from"
    if extra == "train":
        return f"make -C {source} train"
    return f"{source}/.venv/bin/pip install -e '{source}[{extra}]'"


def absent(modules: Iterable[str]) -> list[str]:
    """Return those of these modules that are not installed."""
    return [module for module in modules if find_spec(module) is None]


def require(modules: Iterable[str], extra: Extra, what: str) -> None:
    """Check that modules of an extra are installed.

    Args:
        modules: The modules.
        extra: The extra that brings them.
        what: What needs them.

    Raises:
        MissingExtra: one is not.
    """
    if lacking := absent(modules):
        raise MissingExtra(f"{what} needs {', '.join(lacking)}, not installed here", hint=how_to_install(extra))


def require_gguf(what: str) -> None:
    """Check, before a download, that GGUF files can be read.

    Raises:
        MissingExtra: the reader is not installed.
    """
    require(("gguf",), "cpu", what)
