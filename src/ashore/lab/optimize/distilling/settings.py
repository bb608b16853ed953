"""Everything that a student's weights depend on besides models and data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from ashore.data.jobs.operations.asks import Distill
from ashore.lab.optimize.surgery import LossMix


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentShape:
    """The requested size; None keeps the teacher's."""

    layers: int | None = None
    hidden: int | None = None
    intermediate: int | None = None

    @property
    def changes(self) -> bool:
        return any(value is not None for value in (self.layers, self.hidden, self.intermediate))


_ASKED: Final = Distill(teacher="-")
"""What is not asked for; the defaults of the command."""


class DistilSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a student's weights depend on besides models and data; defaults are written into its recipe."""

    layers: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    method: Literal["full", "lora"] = _ASKED.method
    """Train the student's own weights, or adapters beside them, which are merged at the end."""
    rank: int = _ASKED.rank
    """Of the adapters."""
    most: int = _ASKED.most
    """Tokens that the teacher tells of at each position, at most."""
    tail: float = 1e-4
    """Probability that it may leave out before that."""
    divergence_share: float = 1.0
    text_share: float = _ASKED.text_share
    temperature: float = _ASKED.temperature
    input_share: float = _ASKED.input_share
    """Part of the loss that is for what stands before the answers, where there are answers."""
    epochs: float = _ASKED.epochs
    max_tokens: int = _ASKED.max_tokens
    """0: as many as `epochs` make."""
    learning_rate: float = _ASKED.learning_rate
    batch_tokens: int = _ASKED.batch_tokens
    """Of one step."""
    row_tokens: int = 1024
    """Most tokens of one forward pass, which memory bounds."""
    window_tokens: int = _ASKED.window_tokens
    """Pieces that plain text is cut into, and the longest example."""
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = _ASKED.seed

    @property
    def shape(self) -> StudentShape:
        return StudentShape(layers=self.layers, hidden=self.hidden, intermediate=self.intermediate)

    @property
    def mix(self) -> LossMix:
        return LossMix(divergence=self.divergence_share, text=self.text_share, temperature=self.temperature)

    def to_parameters(self) -> dict[str, str]:
        """Return the settings as texts for a recipe."""
        return {name: msgspec.json.encode(getattr(self, name)).decode() for name in self.__struct_fields__}
