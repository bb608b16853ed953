"""Ports of optimising."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ashore.engines import Told
from ashore.store import StoredModel, VariantRecipe


class Maker(Protocol):
    """Makes what a recipe describes."""

    def __call__(
        self, parent: StoredModel, recipe: VariantRecipe, data: tuple[Path, ...], out: Path, *, told: Told
    ) -> None:
        """Write the files of the variant or derived model to `out`, which is empty.

        Args:
            parent: The parent model.
            recipe: All inputs of the maker.
            data: The files of `recipe.data`, in that order, their digests checked.
            out: A folder that is deleted afterwards.
            told: Called with each step.
        """
        ...
