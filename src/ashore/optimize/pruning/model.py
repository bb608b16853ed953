"""What is asked of pruning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ashore.optimize.pruning.planning import Kind
from ashore.store import pruned_name

Method = Literal["distill", "lora"]
"""How the rest learns: all of it but the vocabulary, or adapters that are merged at the end."""
HEAL_TOKENS: Final = 300_000
"""Tokens of healing, unless told otherwise."""
LEARNING_RATES: Final[dict[Method, float]] = {"distill": 5e-4, "lora": 2e-3}
"""The highest of healing, unless told otherwise."""


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
    method: Method = "distill"
    learning_rate: float | None = None
    name: str = ""
    """Of the model that is made; default: `MODEL-pruned30` for 30 %."""
    seed: int = 0

    @property
    def rate(self) -> float:
        """The highest learning rate of healing."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate

    @property
    def target(self) -> str:
        """Name of the model that is made."""
        return self.name or pruned_name(self.model, self.share)
