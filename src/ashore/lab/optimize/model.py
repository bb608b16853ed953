"""Request, plan and result of quantising."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ashore.data.engines import Precision
from ashore.kit.store import StoredModel, VariantRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Estimated resources."""

    memory_bytes: int
    disk_bytes: int
    variant_bytes: int
    """What the variant will have, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizePlan:
    """A request with every choice made."""

    parent: StoredModel
    precision: Precision
    variant: str
    group_size: int
    calibration: Path | None
    seed: int
    needs: Needs
    notes: tuple[str, ...] = ()
    """What the user should know before it runs."""

    @property
    def reference(self) -> str:
        return f"{self.parent.name}@{self.variant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeReport:
    """The result."""

    variant: StoredModel
    parent_bytes: int
    recipe: VariantRecipe
