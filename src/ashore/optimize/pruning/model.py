"""What is asked of pruning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ashore.optimize.pruning.planning import Kind

HEAL_TOKENS: Final = 300_000
"""Tokens of healing, unless told otherwise."""
LEARNING_RATE: Final = 5e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneWish:
    """What the user asks for."""

    model: str
    """Name in the store."""
    share: float
    """Of the whole model's parameters, the vocabulary's among them."""
    kind: Kind = "mixed"
    calibration: Path | None = None
    """Text on which it is measured what goes; default: that of `heal`."""
    heal: Path | None = None
    """Text that the rest is taught on; None: it is left as it is cut and refitted."""
    heal_tokens: int = HEAL_TOKENS
    learning_rate: float = LEARNING_RATE
    name: str = ""
    """Of the model that is made; default: `MODEL-pruned30` for 30 %."""
    seed: int = 0

    @property
    def target(self) -> str:
        """Name of the model that is made."""
        return self.name or f"{self.model.partition('@')[0]}-pruned{round(self.share * 100)}"
