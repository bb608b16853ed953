"""The engine port. An engine lives in a host process of its own, is single-threaded, and knows token ids only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ashore.core.ids import OrderId
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    GenerateOrder,
    ModelFiles,
    SayOrder,
    ScoredText,
    ScoreText,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ashore.data.engines.prefixes import PrefixPlace


class Engine(Protocol):
    """Generates tokens for many sequences at once.

    Call order: `load` once, then `submit`, `cancel`, `step`, `stats` in any order, then `close` once.
    """

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        """Load the model and return its information. Returns when the first step can run.

        Raises:
            UnsupportedModel: this engine does not support such a model.
            MissingExtra: the library behind the engine is not installed.
            EngineFailed: the library rejected the files; the message has its own text.
        """
        ...

    def submit(self, order: GenerateOrder) -> None:
        """Queue a sequence. Returns at once; every failure comes out of `step` as `Failed`. The id must not be in
        use."""
        ...

    def cancel(self, order_id: OrderId) -> None:
        """End a sequence within one step; `Finished("cancelled")` follows. An unknown or ended id does nothing."""
        ...

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        """Advance every running sequence by one step and return what happened.

        Without work it waits at most `timeout_s` and returns nothing; it never spins. One bad sequence fails alone: the
        others go on.

        Raises:
            HostDied: the engine's backend has ended for good; its host ends too, and is restarted.
        """
        ...

    def stats(self) -> EngineStats:
        """Return counters and gauges. Cheap; may be called between any two steps."""
        ...

    def close(self) -> None:
        """Free everything. May be called twice."""
        ...


@runtime_checkable
class Speaks(Protocol):
    """A port above the engine: a model that takes messages and returns text, in a host of its own. Its card has the
    feature `speak`, and it takes no `GenerateOrder`."""

    def speak(self, order: SayOrder) -> None:
        """Queue an answer, as `Engine.submit` does. `Said` and `Finished` come out of `step`.

        What a server says of tokens is believed within the bounds of the order. An answer that did not end well ends
        with `Failed`.
        """
        ...


@runtime_checkable
class CanEmbed(Protocol):
    """An engine that turns texts into vectors."""

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return one L2-normalised vector for each sequence of token ids. Too long a sequence is `ContextTooLong`.

        A model with the feature `rank` is a cross-encoder: a sequence is a pair of texts, and its vector is one number,
        the logit of how well the second answers the first.
        """
        ...


@runtime_checkable
class CanScore(Protocol):
    """An engine that scores given texts."""

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        """Yield the tokens of each text from `start` on with their log-probabilities, and the top alternatives: in
        pieces, each with the place of its text. Those of one text come in order; a piece may be empty.

        Texts are computed together, and shared beginnings once, if the engine supports it. Running sequences may step
        between two pieces, which are therefore small. Who stops early closes the iterator.

        Raises:
            InvalidRequest: a text without tokens to score, a `start` below 1, or ids beyond the vocabulary.
            UnsupportedByEngine: too many `top_logprobs`.
            ContextTooLong: a text is longer than the context.
            KvCacheExhausted: running sequences hold the memory that a text needs.
        """
        ...


def scored(engine: CanScore, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> list[ScoredText]:
    """Return what `score` yields, whole, for each text. Raises as it does."""
    found: list[ScoredText] = [[] for _ in texts]
    for place, rows in engine.score(texts, top_logprobs=top_logprobs):
        found[place] += rows
    return found


@runtime_checkable
class CanTellDistributions(Protocol):
    """An engine that returns the probabilities of the whole vocabulary."""

    def distributions(self, text: ScoreText) -> Iterator[NDArray[np.float32]]:
        """Yield log-probabilities [N, V] of all tokens for each position from `start` on, in pieces of a few rows.

        The caller owns the pieces. Raises as `CanScore.score` does.
        """
        ...


@runtime_checkable
class CanLoadAdapter(Protocol):
    """An engine that loads LoRA adapters while it runs."""

    def load_adapter(self, name: str, directory: str) -> None:
        """Load a PEFT adapter folder under `name`, which orders use in `adapter`; the same name again replaces it."""
        ...


@runtime_checkable
class CanKeepPrefixes(Protocol):
    """An engine whose prefix cache survives a restart."""

    def keep_prefixes(self, place: PrefixPlace, secret: bytes) -> None:
        """Keep prefixes there, encrypted with `secret`, from now on. Call it once, after `load`."""
        ...


@runtime_checkable
class CanImport(Protocol):
    """An engine whose library imports slowly, and can be imported before the model is ready."""

    def import_library(self) -> None:
        """Import the library, so that `load` need not. May be called twice. Raises `MissingExtra`, as `load` would."""
        ...


@runtime_checkable
class CanSleep(Protocol):
    """An engine that can release its memory, and restore it much faster than by loading.

    Supported if its `EngineInfo` has the feature `sleep`. Called only while no order runs; no order comes in between.
    """

    def sleep(self) -> None:
        """Release the memory of weights and KV cache; the data needed to wake up stays in this machine's memory. May
        be called twice. Raises `EngineFailed`; the engine is unusable then."""
        ...

    def wake(self) -> None:
        """Wake up; returns when the first step can run again, with the same weights and an empty KV cache. May be
        called twice. Raises `EngineFailed`; the engine is unusable then."""
        ...


@runtime_checkable
class CanWait(Protocol):
    """An engine whose events come from elsewhere (a server's thread, a clock) instead of being computed in `step`.

    The host then sleeps on its sockets and on this together, so that neither an order nor a token waits for the other.
    """

    def wait_on(self) -> tuple[int | None, float | None]:
        """Return a descriptor that is readable while events wait, and the seconds until `step` has work anyway.

        `(None, None)` means no events until the next order. Called before every sleep, so it must be cheap.
        """
        ...
