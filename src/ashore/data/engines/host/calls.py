"""Embeddings and scores, computed in slices between the steps of running sequences."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ashore.core.errors import AshoreError, UnsupportedByEngine
from ashore.data.engines.failures import failure_of
from ashore.data.engines.frames import CallFailed, Distribute, Rows, Score, Scores, ToWorker, Vectors
from ashore.data.engines.host.link import Link
from ashore.data.engines.model import ScoreText
from ashore.data.engines.ports import CanEmbed, CanScore, CanTellDistributions, Engine

SLICE_SEQUENCES: Final = 32
SLICE_TOKENS: Final = 2048
"""Most that one slice computes, so that streams are not held up for long by a large batch of embeddings."""
TURN_PIECES: Final = 8
"""Pieces of scores after which another tenant's call has its turn, once a text is whole."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _EmbedCall:
    link: Link
    call_id: int
    batch: list[list[int]]
    tenant: str
    vectors: list[list[float]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Telling:
    """Scores or distributions on their way: a piece is computed between two steps, when what was sent before it has
    been read."""

    link: Link
    call: Score | Distribute
    rows: list[int]
    """How many each text of a `Score` has been told."""
    pieces: Iterator[ToWorker | None] = field(default_factory=lambda: iter(()))
    """Messages; None where a piece makes none."""
    num_pieces: int = 0
    """Told in this turn."""
    whole_before: int = 0
    """Texts that were whole before this turn."""

    def whole(self) -> int:
        """Return how many texts of a `Score` are whole."""
        texts = self.call.texts if isinstance(self.call, Score) else []
        return sum(rows >= len(text.ids) - text.start for text, rows in zip(texts, self.rows, strict=True))


_Slice = list[tuple[_EmbedCall, list[list[int]]]]


class Calls:
    """The waiting calls of all links. Small embedding calls of several workers are computed together.

    Tenants take turns, and the calls of one tenant among themselves: however much one sends, another waits for one
    slice of embeddings, or for a few pieces of scores. A call that gave way goes on where it was: what it had been
    told is the given beginning of what is left.
    """

    def __init__(self, engine: Engine, kind: str, deliver: Callable[[Link, ToWorker], None]) -> None:
        self._engine = engine
        self._kind = kind
        self._deliver = deliver
        self._embeds: deque[_EmbedCall] = deque()
        self._embedded: _EmbedCall | None = None
        """Where the last slice began."""
        self._scores: deque[_Telling] = deque()
        self._scored = ""
        """Tenant of the last call."""
        self._telling: _Telling | None = None

    def __bool__(self) -> bool:
        return bool(self._embeds or self._scores or self._telling)

    @property
    def can_go_on(self) -> bool:
        """False where nothing is to be computed before a worker has read what it has been sent."""
        tells = not self._telling.link.has_backlog if self._telling is not None else bool(self._scores)
        return tells or any(not call.link.has_backlog for call in self._embeds)

    def add_embed(self, link: Link, call_id: int, batch: list[list[int]], tenant: str = "") -> None:
        """Queue a call; its answer goes to `link`."""
        self._embeds.append(_EmbedCall(link, call_id, batch, tenant))

    def add_score(self, link: Link, call: Score | Distribute) -> None:
        """Queue a call; its answer goes to `link`."""
        self._scores.append(_Telling(link, call, [0] * len(call.texts) if isinstance(call, Score) else []))

    def forget(self, link: Link) -> None:
        """Drop the calls of a link that is gone."""
        self._embeds = deque(call for call in self._embeds if call.link is not link)
        self._scores = deque(one for one in self._scores if one.link is not link)
        if self._telling is not None and self._telling.link is link:
            self._telling = None

    def cancel(self, link: Link, call_id: int) -> None:
        """Drop one call: nobody waits for it any more. Unknown numbers are ignored."""
        self._embeds = deque(one for one in self._embeds if not (one.link is link and one.call_id == call_id))
        self._scores = deque(one for one in self._scores if not (one.link is link and one.call.call_id == call_id))
        if self._telling is not None and self._telling.link is link and self._telling.call.call_id == call_id:
            self._telling = None

    def run_slice(self) -> None:
        """Compute one slice of embeddings, and one piece of scores or distributions; hand over what is whole by
        then."""
        if taken := self._next_slice():
            self._run_embeds(taken)
            self._embedded = taken[0][0] if self._embeds else None
        if self._scores and (self._telling is None or self._has_had_its_turn(self._telling)):
            if self._telling is not None:
                self._telling.pieces = iter(())  # what it holds in the engine is free before the next one begins
                self._scores.append(self._telling)
            self._scores = deque(sorted(self._scores, key=lambda one: _tenant_of(one.call) == self._scored))
            self._telling = begun = self._scores.popleft()
            self._scored = _tenant_of(begun.call)
            begun.num_pieces, begun.whole_before, begun.pieces = 0, begun.whole(), self._told(begun)
        telling = self._telling
        if telling is not None and not telling.link.has_backlog:
            error = _attempt(lambda: self._tell_piece(telling))
            if error is not None:
                self._telling = None
                self._deliver(telling.link, CallFailed(telling.call.call_id, failure_of(error)))

    def _has_had_its_turn(self, telling: _Telling) -> bool:
        """Return whether another tenant waits, and this call is well on and has more to tell."""
        if telling.num_pieces < TURN_PIECES or not isinstance(telling.call, Score):
            return False
        if all(_tenant_of(one.call) == telling.call.tenant for one in self._scores):
            return False
        return telling.whole_before < telling.whole() < len(telling.call.texts)

    def _next_slice(self) -> _Slice:
        """Take sequences from the front of the queue up to the bounds of a slice, at least one."""
        taken: _Slice = []
        sequences = tokens = 0
        if (last := self._embedded) is not None:  # its tenant's turn is over, and its own among those of its tenant
            self._embeds = deque(sorted(self._embeds, key=lambda one: (one.tenant == last.tenant, one is last)))
        for call in self._embeds:
            if call.link.has_backlog:
                continue
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
        self._end(call, CallFailed(call.call_id, failure_of(error)))

    def _embed(self, taken: _Slice) -> None:
        if not isinstance(self._engine, CanEmbed):
            raise UnsupportedByEngine(
                f"the engine {self._kind!r} does not produce embeddings with this model",
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
                self._end(call, Vectors(call.call_id, call.vectors))

    def _end(self, call: _EmbedCall, answer: ToWorker) -> None:
        if call in self._embeds:  # otherwise its link was dropped by the answer to another call of this slice
            self._embeds.remove(call)
            self._deliver(call.link, answer)

    def _told(self, telling: _Telling) -> Iterator[ToWorker | None]:
        call, told = telling.call, telling.rows
        if isinstance(call, Distribute):
            if not isinstance(self._engine, CanTellDistributions):
                raise UnsupportedByEngine(
                    f"the engine {self._kind!r} returns only the most likely tokens, not the whole vocabulary",
                    hint="use an engine whose features include 'distributions'",
                )
            for rows_NV in self._engine.distributions(call.text):
                yield Rows(call.call_id, rows_NV.astype("<f4", copy=False).tobytes(), last=False)
            yield Rows(call.call_id, b"", last=True)
            return
        if not isinstance(self._engine, CanScore):
            raise UnsupportedByEngine(
                f"the engine {self._kind!r} does not score texts", hint="use an engine whose features include 'score'"
            )
        left = [at for at, text in enumerate(call.texts) if not told[at] or told[at] < len(text.ids) - text.start]
        texts = [ScoreText(call.texts[at].ids, call.texts[at].start + told[at]) for at in left]
        for place, rows in self._engine.score(texts, top_logprobs=call.top_logprobs):
            told[left[place]] += len(rows)
            yield Scores(call.call_id, left[place], rows, last=False) if rows else None
        yield Scores(call.call_id, 0, [], last=True)

    def _tell_piece(self, telling: _Telling) -> None:
        telling.num_pieces += 1
        for message in telling.pieces:
            if message is not None:
                self._deliver(telling.link, message)
            return
        self._telling = None


def _tenant_of(call: Score | Distribute) -> str:
    return call.tenant if isinstance(call, Score) else ""


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
