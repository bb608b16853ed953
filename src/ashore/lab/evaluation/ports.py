"""What evaluation needs of a model: that it can be asked for likelihoods and for answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ashore.data.engines import EngineInfo, ScoredText, ScoreText
from ashore.data.text import TextModel

Told = Callable[[int, int], None]
"""Hears how many of how many are done."""


def untold(done: int, total: int) -> None:
    """A callback that ignores progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One greedy answer."""

    ids: tuple[int, ...]
    """Without the stop token."""
    reason: Literal["stop", "length", "cancelled"]
    token_s: tuple[float, ...]
    """Seconds from the order to each token, as they arrived."""


class Subject(Protocol):
    """A model under test, behind the engine that serves it. Not thread-safe."""

    @property
    def name(self) -> str:
        """What reports call it, `smollm2@int8`."""
        ...

    @property
    def info(self) -> EngineInfo: ...

    @property
    def text(self) -> TextModel: ...

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0, told: Told = untold) -> list[ScoredText]:
        """Return the log-probabilities of any number of texts. Raises as `CanScore.score` does, and `HostDied`."""
        ...

    def distributions(self, text: ScoreText) -> NDArray[np.float32]:
        """Return log-probabilities [N, V] along one text. Raises `UnsupportedByEngine` if the engine reports only the
        best ones.
        """
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, ignore_eos: bool = False, told: Told = untold
    ) -> list[Generated]:
        """Return greedy answers to any number of prompts, as many at once as the engine takes.

        Raises:
            AshoreError: an order failed, with the engine's reason.
        """
        ...

    def resident_bytes(self) -> int:
        """Return the memory that the engine's process holds now; 0 where that is not known."""
        ...

    def scored_tokens(self) -> int:
        """Return how many tokens the engine has computed to score texts."""
        ...
