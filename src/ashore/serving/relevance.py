"""How well texts answer a question. What can tell is chosen by what the model behind the alias is.

So far that is one way: an embedder, whose vectors are compared. A cross-encoder, which reads both texts together and
judges better, is another `Judge`; it comes in where `Relevance` chooses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from ashore.access import Principal
from ashore.core import RequestId
from ashore.errors import AshoreError
from ashore.serving.embedding import Embeddings
from ashore.serving.model import NOWHERE, Arrival, Urgency
from ashore.serving.prompt import NUMBERS_PER_CHAR

_T = TypeVar("_T")
Method = Literal["embedding-cosine"]
"""embedding-cosine: the cosine between the vectors of both texts, -1 to 1."""
Pair = tuple[int, int]


class AtLength(Protocol):
    """Does work that may be long: `ServingService.at_length`."""

    async def __call__(self, num_chars: int, work: Callable[[], _T], principal: Principal, /) -> _T: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which texts are to be judged, for whom."""

    model: str
    texts: Sequence[str]
    names: Sequence[str]
    """What the request calls each of them, for errors."""
    pairs: Sequence[Pair]
    """Question and text, each as its place in `texts`."""
    request_id: RequestId
    priority: int = 0
    urgency: Urgency = "interactive"
    deadline_s: float | None = None
    arrival: Arrival = NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A score for each pair: the higher, the better the text answers."""

    model: str
    release: str
    precision: str
    method: Method
    scores: list[float]
    prompt_tokens: int


class Judge(Protocol):
    """One way to tell."""

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        """Return the scores.

        Raises:
            AshoreError: the model cannot, a text does not fit, there is no room, or the deadline passed.
        """
        ...


class Cosine:
    """Compares vectors. Each text is embedded once, however many pairs it is in."""

    def __init__(self, embeddings: Embeddings, at_length: AtLength) -> None:
        self._embeddings, self._at_length = embeddings, at_length

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        try:
            made = await self._embeddings.embed(
                asked.model,
                asked.texts,
                principal,
                request_id=asked.request_id,
                priority=asked.priority,
                urgency=asked.urgency,
                deadline_s=asked.deadline_s,
                arrival=asked.arrival,
            )
        except AshoreError as fault:
            fault.param = _named(fault.param, asked.names)
            raise
        vectors = made.vectors
        size = len(vectors[0]) if vectors else 0
        scores = await self._at_length(
            len(asked.pairs) * size // NUMBERS_PER_CHAR,
            lambda: [_cosine(vectors[one], vectors[other]) for one, other in asked.pairs],
            principal,
        )
        return Judged(
            model=made.model,
            release=made.release,
            precision=made.precision,
            method="embedding-cosine",
            scores=scores,
            prompt_tokens=made.prompt_tokens,
        )


class Relevance:
    """Tells how well texts answer questions, by whatever judge the model is fit for."""

    def __init__(self, embeddings: Embeddings, at_length: AtLength) -> None:
        self._by_vectors: Final = Cosine(embeddings, at_length)

    async def judge(self, asked: Asked, principal: Principal) -> Judged:
        """Return a score for each pair.

        Raises:
            AshoreError: as of `Judge`.
        """
        return await self._by_vectors.judge(asked, principal)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors of length one, without what rounding adds beyond its range."""
    return max(-1.0, min(1.0, math.fsum(a * b for a, b in zip(one, other, strict=True))))


def _named(param: str | None, names: Sequence[str]) -> str | None:
    """Return what the request calls the input that an error of the embedder names."""
    if param is not None and param.startswith("input[") and param[6:-1].isdigit():
        return names[int(param[6:-1])]
    return param
