"""Embeddings and scores, computed in slices between the steps of running sequences."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ashore.engines.failures import failure_of
from ashore.engines.frames import CallFailed, Scores, ToWorker, Vectors
from ashore.engines.host.link import Link
from ashore.engines.ports import CanEmbed, CanScore, Engine
from ashore.errors import AshoreError, UnsupportedByEngine

SLICE_SEQUENCES: Final = 32
SLICE_TOKENS: Final = 2048
"""Most that one slice computes, so that streams are not held up for long by a large batch of embeddings."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _EmbedCall:
    link: Link
    call_id: int
    batch: list[list[int]]
    vectors: list[list[float]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _ScoreCall:
    link: Link
    call_id: int
    ids: list[int]
    top_logprobs: int


_Slice = list[tuple[_EmbedCall, list[list[int]]]]


class Calls:
    """The waiting calls of all links. Small embedding calls of several workers are computed together."""

    def __init__(self, engine: Engine, kind: str, deliver: Callable[[Link, ToWorker], None]) -> None:
        self._engine = engine
        self._kind = kind
        self._deliver = deliver
        self._embeds: deque[_EmbedCall] = deque()
        self._scores: deque[_ScoreCall] = deque()

    def __bool__(self) -> bool:
        return bool(self._embeds or self._scores)

    def add_embed(self, link: Link, call_id: int, batch: list[list[int]]) -> None:
        """Queue a call; its answer goes to `link`."""
        self._embeds.append(_EmbedCall(link, call_id, batch))

    def add_score(self, link: Link, call_id: int, ids: list[int], top_logprobs: int) -> None:
        """Queue a call; its answer goes to `link`."""
        self._scores.append(_ScoreCall(link, call_id, ids, top_logprobs))

    def forget(self, link: Link) -> None:
        """Drop the calls of a link that is gone."""
        self._embeds = deque(call for call in self._embeds if call.link is not link)
        self._scores = deque(call for call in self._scores if call.link is not link)

    def run_slice(self) -> None:
        """Compute one slice of embeddings and one score, and hand over the answers that are whole by then."""
        if self._embeds:
            self._run_embeds(self._next_slice())
        if self._scores:
            call = self._scores.popleft()
            error = _attempt(lambda: self._score(call))
            if error is not None:
                self._deliver(call.link, CallFailed(call.call_id, failure_of(error)))

    def _next_slice(self) -> _Slice:
        """Take sequences from the front of the queue up to the bounds of a slice, at least one."""
        taken: _Slice = []
        sequences = tokens = 0
        for call in self._embeds:
            part: list[list[int]] = []
            for sequence in call.batch[len(call.vectors) :]:
                full = sequences >= SLICE_SEQUENCES or tokens + len(sequence) > SLICE_TOKENS
                if full and sequences:
                    break
                part.append(sequence)
                sequences += 1
                tokens += len(sequence)
            if part or not call.batch:
                taken.append((call, part))
            if len(part) + len(call.vectors) < len(call.batch):
                break
        return taken

    def _run_embeds(self, taken: _Slice) -> None:
        error = _attempt(lambda: self._embed(taken))
        if error is None:
            self._answer_whole(call for call, _ in taken)
            return
        if len(taken) > 1:  # one bad text must not fail its neighbours
            for one in taken:
                self._run_embeds([one])
            return
        call = taken[0][0]
        self._embeds.remove(call)
        self._deliver(call.link, CallFailed(call.call_id, failure_of(error)))

    def _embed(self, taken: _Slice) -> None:
        if not isinstance(self._engine, CanEmbed):
            raise UnsupportedByEngine(
                f"the engine {self._kind!r} makes no embeddings with this model",
                hint="use a model whose features include 'embed'",
            )
        batch: Sequence[Sequence[int]] = [sequence for _, part in taken for sequence in part]
        vectors = self._engine.embed(batch) if batch else []
        at = 0
        for call, part in taken:
            call.vectors.extend(vectors[at : at + len(part)])
            at += len(part)

    def _answer_whole(self, calls: Iterable[_EmbedCall]) -> None:
        for call in calls:
            if len(call.vectors) == len(call.batch):
                self._embeds.remove(call)
                self._deliver(call.link, Vectors(call.call_id, call.vectors))

    def _score(self, call: _ScoreCall) -> None:
        if not isinstance(self._engine, CanScore):
            raise UnsupportedByEngine(
                f"the engine {self._kind!r} does not score texts", hint="use one whose features include 'score'"
            )
        rows = self._engine.score(call.ids, top_logprobs=call.top_logprobs)
        self._deliver(call.link, Scores(call.call_id, rows))


def _attempt(work: Callable[[], None]) -> Exception | None:
    """Do `work` and return what it raised: one call fails, the host goes on."""
    try:
        work()
    except AshoreError as error:
        return error
    except Exception as error:  # noqa: BLE001 - as in the loop: the outermost place that knows whose call it is
        _log.exception("a call to the engine failed")
        return error
    return None
