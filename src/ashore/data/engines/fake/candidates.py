"""Tuning candidates of a fake: one way to run it, so that tuning can be tried without a model."""

from __future__ import annotations

from collections.abc import Iterator

from ashore.data.engines.fake.card import CARD
from ashore.data.engines.tuning.candidates import Here, ModelSource, Offer, candidate


def candidates(source: ModelSource, here: Here) -> Iterator[Offer]:
    """Return the only candidate."""
    yield 0, candidate(source, CARD.kind, "", CARD.kind, here, {})
