"""One order between logits and events: sampling, grammar, stop tokens, limits. Shared by engines that yield logits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import AshoreError
from ashore.data.engines.failures import failed
from ashore.data.engines.model import EngineEvent, Finished, GenerateOrder, ScoreText, Token, TokenLogprob
from ashore.data.engines.sampling.constraint import PATIENCE_S, Constraint
from ashore.data.engines.sampling.lookup import Lookup
from ashore.data.engines.sampling.sampler import Sampler, log_normaliser, top_of

DISTRIBUTION_ROWS: Final = 32
"""Most rows in one piece of distributions: 32 rows of 250,000 numbers are 32 MB, half of what a frame takes."""


_log = logging.getLogger(__name__)


class Continuation:
    """The tokens of an order so far. `ids` is prompt and answer, which a restart must recompute."""

    def __init__(self, order: GenerateOrder, lookup: Lookup | None = None) -> None:
        self.order = order
        self._lookup = lookup
        self.ids = list(order.prompt_ids)
        self.cached_tokens = 0
        self.ended = False
        self._constraint: Constraint | None = None
        self._asked = len(order.prompt_ids) - order.begun
        self._sampler = Sampler(order.sampling, order.prompt_ids[: self._asked], self.begun_ids)
        self._stops = frozenset() if order.ignore_eos else frozenset(order.stop_token_ids)

    @property
    def num_made(self) -> int:
        return len(self.ids) - len(self.order.prompt_ids)

    @property
    def begun_ids(self) -> list[int]:
        """The part of the answer that was made elsewhere."""
        return self.order.prompt_ids[self._asked :]

    def constrain(self, constraint: Constraint) -> list[EngineEvent]:
        """Constrain the answer, of which nothing was made here, to a grammar that follows `begun_ids`; return how the
        answer ends, if nothing may follow them."""
        self._constraint = constraint
        return [self.finish("stop")] if constraint.is_complete else []

    @property
    def waits(self) -> bool:
        """Whether the grammar has not answered since the last token: nothing is computed until then."""
        return self._constraint is not None and self._constraint.waits

    def follow(self) -> list[EngineEvent]:
        """Read the grammar's answer if it is there; return how the answer ends, if it does."""
        if self._constraint is None or not self._constraint.waits or not self._constraint.is_answered:
            return []
        try:
            self._constraint.look()
        except AshoreError as error:
            return [self.fail(error)]
        if self._constraint.is_complete:
            return [self.finish("stop")]
        return [self.finish("length")] if self.num_made >= self.order.max_new_tokens else []

    @staticmethod
    def wait(answers: Iterable[Continuation], timeout_s: float) -> None:
        """Wait until no answer waits for its grammar, or each has for `timeout_s`."""
        Constraint.wait([one._constraint for one in answers if one._constraint and one._constraint.waits], timeout_s)

    def propose(self, most: int) -> tuple[list[int], list[float]]:
        """Return up to `most` tokens that may come next, and for each the likelihood that it and all before it do.

        Pass those that are computed to `take_all`.
        """
        most = min(most, self.order.max_new_tokens - self.num_made - 1)
        if self._lookup is None or most < 1:
            return [], []
        ids, chances = self._lookup.propose(most)
        if ids and self._constraint is not None and not self._constraint.allowed()[ids[0]]:
            return [], []
        return ids, chances

    def take_all(self, logits_SV: Iterable[NDArray[np.float32]], proposed: Sequence[int]) -> list[EngineEvent]:
        """Sample tokens as `take` does, as long as they are the proposed ones, and the first that is not.

        Afterwards the keys and values of all tokens but the last are computed.

        Args:
            logits_SV: The row before the first proposed token, and one after each.
            proposed: The tokens that were computed behind the sequence.
        """
        events: list[EngineEvent] = []
        until_s = time.monotonic() + PATIENCE_S
        for place, logits_V in enumerate(logits_SV):
            events += self.take(logits_V, proposed[place:])
            if self._constraint is not None and place < len(proposed) and self.ids[-1] == proposed[place]:
                self._constraint.wait_until(until_s)
                events += self.follow()
            if self.ended or self.waits or place == len(proposed) or self.ids[-1] != proposed[place]:
                break
        return events

    def take(self, logits_V: NDArray[np.float32], proposed: Sequence[int] = ()) -> list[EngineEvent]:
        """Sample the next token from its logits and return the events to send; `ended` reports whether more may
        come. `proposed` are the tokens that were computed for this place and those after it."""
        order = self.order
        try:
            allowed_V = self._constraint.allowed() if self._constraint is not None else None
            token_id = self._sampler.choose(logits_V, self._held(allowed_V, logits_V.size))
            if token_id in self._stops:
                return [self.finish("stop", token_id)]
            self._sampler.note(token_id)
            self.ids.append(token_id)
            if self._lookup is not None:
                self._lookup.follow(token_id)
            events: list[EngineEvent] = [self._token(token_id, logits_V, proposed)]
            if self._constraint is not None:
                self._constraint.accept(token_id)
        except Exception as error:  # noqa: BLE001 - the outermost place that knows whose answer it is: others go on
            if not isinstance(error, AshoreError):
                _log.exception("the next token of %s cannot be chosen", order.order_id)
            return [self.fail(error)]
        if self._constraint is None and self.num_made >= order.max_new_tokens:
            events.append(self.finish("length"))
        return events

    def _held(self, allowed_V: NDArray[np.bool_] | None, size: int) -> NDArray[np.bool_] | None:
        """Return the allowed tokens: no stop token before `min_tokens`, unless a grammar permits nothing else."""
        if not self._stops or self.num_made >= self.order.sampling.min_tokens:
            return allowed_V
        held_V = np.ones(size, np.bool_) if allowed_V is None else allowed_V.copy()
        held_V[[token_id for token_id in self._stops if token_id < size]] = False
        return held_V if held_V.any() else allowed_V

    def finish(self, reason: Literal["stop", "length", "cancelled"], stop_token_id: int | None = None) -> Finished:
        """End the order normally and return its last event."""
        self._end()
        order = self.order
        return Finished(order.order_id, reason, len(order.prompt_ids), self.cached_tokens, self.num_made, stop_token_id)

    def fail(self, error: BaseException) -> EngineEvent:
        """End the order with an error and return its last event."""
        self._end()
        return failed(self.order.order_id, error)

    def _end(self) -> None:
        self.ended = True
        if self._constraint is not None:
            self._constraint.close()
            self._constraint = None

    def _token(self, token_id: int, logits_V: NDArray[np.float32], proposed: Sequence[int]) -> Token:
        order = self.order
        cached = self.cached_tokens if self.num_made == 1 else 0
        accepted = int(bool(proposed) and proposed[0] == token_id)
        rejected = 0 if accepted else len(proposed)
        if order.top_logprobs is None:
            return Token(order.order_id, token_id, None, (), cached, accepted, rejected)
        log_total = log_normaliser(logits_V)
        top = top_of(logits_V, log_total, order.top_logprobs)
        return Token(order.order_id, token_id, float(logits_V[token_id]) - log_total, top, cached, accepted, rejected)


def score_row(logits_V: NDArray[np.float32], token_id: int, top_logprobs: int) -> tuple[TokenLogprob, ...]:
    """Return the log-probability of the token that followed, then those of the top tokens."""
    log_total = log_normaliser(logits_V)
    first = TokenLogprob(token_id, float(logits_V[token_id]) - log_total)
    return (first, *top_of(logits_V, log_total, top_logprobs))


def log_softmax(logits_NV: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log-probabilities of rows of logits, as a new array."""
    shifted_NV: NDArray[np.float32] = logits_NV - logits_NV.max(axis=1, keepdims=True)
    totals_N1 = np.exp(shifted_NV).sum(axis=1, keepdims=True, dtype=np.float64)
    shifted_NV -= np.log(totals_N1).astype(np.float32)
    return shifted_NV


def by_prefix(texts: Sequence[ScoreText]) -> list[int]:
    """Return the indices of texts, sorted so that common prefixes are neighbours."""
    return sorted(range(len(texts)), key=lambda place: texts[place].ids)


def common_prefix(a: Sequence[int] | NDArray[np.int32], b: Sequence[int] | NDArray[np.int32]) -> int:
    """Return how many leading ids are equal."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(np.asarray(a[:size], np.int32) != np.asarray(b[:size], np.int32))
    return int(differ[0]) if differ.size else size
