"""Which models stand behind a name: an alias that was made by command leads to releases of other aliases."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Behind: TypeAlias = Callable[[str], tuple[str, ...]]
"""Given the name that a client asks for, returns the models whose releases answer under it, where that is not their own
name. What is bound to those (the right to ask, masking, budgets, what may be kept) holds for the name too. Callable
from any thread."""


def nothing_behind(name: str) -> tuple[str, ...]:
    """Return nothing: no name is an alias of other models."""
    return ()
