"""What optimising needs of others: a model whose mixtures can be measured, text scored as served, and makers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from ashore.engines import Layer, Rounded, Samples, Told
from ashore.store import StoredModel, VariantRecipe

Losses = tuple[tuple[float, ...], ...]
"""Negative log-likelihood of each token in nats, by window of the text; the first token of a window has none."""


class Mixture(Protocol):
    """A model whose layers may have four bits or eight."""

    @property
    def layers(self) -> tuple[Layer, ...]: ...

    def divergences(self, text: Samples, *, told: Told) -> Mapping[str, float]:
        """Return what each layer alone loses in four bits: the mean divergence from half precision, by layer."""
        ...

    def divergence(self, small: Collection[str], text: Samples) -> float:
        """Return what the layers `small` lose together."""
        ...

    def write(self, small: Collection[str], unrounded: Collection[str], out: Path, *, told: Told) -> Rounded:
        """Write the model with `small` in four bits to the folder `out`. Where its engine rounds activations, it leaves
        those into the layers `unrounded` as they are."""
        ...


class MixtureOpener(Protocol):
    """Gives the mixtures of one model."""

    def __call__(
        self,
        source: Path,
        weights: str,
        scratch: Path,
        *,
        group_size: int,
        samples: Samples,
        keep_grids: bool,
        told: Told,
    ) -> AbstractContextManager[Mixture]:
        """Open the model of `source / weights`; large files go to `scratch`. `samples` are calibration text.

        With `keep_grids`, a layer whose weights lie on a grid of four bits already keeps it, and loses nothing.
        """
        ...


class Judge(Protocol):
    """Says how well a model in a folder predicts a text, as its engine serves it."""

    def __call__(self, folder: Path, made: Rounded, text: Samples, *, exact: bool = False) -> Losses:
        """Return what each token costs, a window for each sample.

        Args:
            folder: Has the model.
            made: Tells its form.
            text: Samples of two tokens or more.
            exact: Compute in single precision instead of as served.
        """
        ...


class Maker(Protocol):
    """Makes what a recipe describes."""

    def __call__(
        self, parent: StoredModel, recipe: VariantRecipe, data: tuple[Path, ...], out: Path, *, told: Told
    ) -> None:
        """Write the files of the variant or derived model to `out`, which is empty.

        Args:
            parent: What it is made from.
            recipe: All that the maker was told.
            data: The files of `recipe.data`, in that order, their digests checked.
            out: A folder that is deleted afterwards.
            told: Hears each step.
        """
        ...
