"""The `torch` engine: transformers in single precision, the reference that the others are compared with.

One sequence at a time inside a step, each with its own cache: slow and simple. It supports safetensors folders and,
through transformers, GGUF files. Extra: `ashore[train]`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import AshoreError, Conflict, NotReady
from ashore.core.ids import OrderId
from ashore.data.engines.failures import failed
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    GenerateOrder,
    ModelFiles,
    ScoredText,
    ScoreText,
)
from ashore.data.engines.ordercheck import check_order, check_scored
from ashore.data.engines.sampling import (
    DISTRIBUTION_ROWS,
    Continuation,
    by_prefix,
    common_prefix,
    log_softmax,
    score_row,
)
from ashore.data.engines.torch.card import CARD
from ashore.data.engines.torchmodel import load_torch_model, torch_libraries

_SCORED_AT_ONCE: Final = 256
_MIN_SHARED: Final = 8


class _Sequence:
    """An order with the keys and values of its tokens so far."""

    def __init__(self, answer: Continuation, cache: Any, num_cached: int) -> None:
        self.answer = answer
        self.cache = cache
        self.num_computed = num_cached


class TorchEngine:
    """Implements `Engine`, `CanScore` and `CanTellDistributions` with transformers."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._model: Any = None
        self._cache_name = "past_key_values"
        """Name of the cache's argument; newer versions of transformers call it `cache`."""
        self._prefix_cache = False
        self._max_sequences = 1
        self._waiting: list[Continuation] = []
        self._running: list[_Sequence] = []
        self._kept: tuple[tuple[str, str], list[int], Any] | None = None
        """The last ended sequence: partition and adapter, its tokens, its cache. One is enough for a reference."""
        self._events: list[EngineEvent] = []
        self._steps = self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._scored_tokens = 0
        self._step_seconds = 0.0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        torch, transformers = torch_libraries()
        if options.threads:
            torch.set_num_threads(options.threads)
        self._model = load_torch_model(Path(files.directory), files.format, files.weights, name=files.name)
        names = inspect.signature(self._model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        config = self._model.config.get_text_config()
        known = int(getattr(config, "max_position_embeddings", 0)) or 4096
        context_tokens = options.context_tokens or known
        self._prefix_cache = options.prefix_cache
        self._max_sequences = options.max_sequences
        self._info = EngineInfo(
            kind="torch",
            version=f"torch {torch.__version__}, transformers {transformers.__version__}",
            model=files.name,
            precision="fp32",
            context_tokens=context_tokens,
            vocab_size=int(config.vocab_size),
            kv_tokens=options.kv_tokens or context_tokens * options.max_sequences,
            max_sequences=options.max_sequences,
            features=CARD.features,
            max_top_logprobs=20,
            deterministic_seed=True,
        )
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        try:
            check_order(order, self._loaded())
            if any(answer.order.order_id == order.order_id for answer in self._all()):
                raise Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
        except AshoreError as error:
            self._events.append(failed(order.order_id, error))
            return
        self._waiting.append(Continuation(order))
        self._waiting.sort(key=lambda answer: -answer.order.priority)

    def cancel(self, order_id: OrderId) -> None:
        for answer in self._all():
            if answer.order.order_id == order_id:
                self._events.append(answer.finish("cancelled"))
        self._drop_ended()

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        started_s = time.perf_counter()
        while self._waiting and len(self._running) < self._max_sequences:
            self._running.append(self._start(self._waiting.pop(0)))
        if self._running:
            for sequence in self._running:
                self._advance(sequence)
            self._drop_ended()
            self._steps += 1
            self._step_seconds += time.perf_counter() - started_s
        elif not self._events:
            time.sleep(timeout_s)
        events, self._events = self._events, []
        return events

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        check_scored(texts, self._loaded(), top_logprobs=top_logprobs)
        cache, known = self._new_cache(), list[int]()
        for place in by_prefix(texts):
            text = texts[place]
            shared = min(common_prefix(known, text.ids), text.start - 1)
            if shared < _MIN_SHARED:
                cache, shared = self._new_cache(), 0
            elif shared < len(known):
                cache.crop(shared - len(known))  # a negative number is the count to remove, in every version
            known = text.ids[:-1]
            at = text.start
            for rows_NV in self._scored_rows(text, cache, shared):
                followers = text.ids[at : at + len(rows_NV)]
                at += len(rows_NV)
                yield place, [score_row(*pair, top_logprobs) for pair in zip(rows_NV, followers, strict=True)]

    def distributions(self, text: ScoreText) -> Iterator[NDArray[np.float32]]:
        check_scored([text], self._loaded())
        for rows_NV in self._scored_rows(text, self._new_cache(), 0):
            for at in range(0, len(rows_NV), DISTRIBUTION_ROWS):
                yield log_softmax(rows_NV[at : at + DISTRIBUTION_ROWS])

    def _scored_rows(self, text: ScoreText, cache: Any, num_cached: int) -> Iterator[NDArray[np.float32]]:
        """Yield the logits [N, V] that predict the tokens of `text` from its `start` on, in pieces."""
        first, end = text.start - 1, len(text.ids) - 1
        self._scored_tokens += end - num_cached
        for at in range(num_cached, end, _SCORED_AT_ONCE):
            upto = min(end, at + _SCORED_AT_ONCE)
            rows = min(upto - at, max(0, upto - first))
            logits_NV = self._forward(text.ids[at:upto], cache, rows=max(1, rows))
            yield logits_NV[len(logits_NV) - rows :]

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_tokens_used=sum(sequence.num_computed for sequence in self._running),
            kv_tokens_total=self._info.kv_tokens if self._info is not None else 0,
            steps=self._steps,
            step_seconds=self._step_seconds,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            scored_tokens=self._scored_tokens,
        )

    def close(self) -> None:
        self._info = self._model = self._kept = None
        self._waiting.clear()
        self._running.clear()
        self._events.clear()

    def _loaded(self) -> EngineInfo:
        if self._info is None:
            raise NotReady("the torch engine is not loaded")
        return self._info

    def _all(self) -> list[Continuation]:
        return [*self._waiting, *(sequence.answer for sequence in self._running)]

    def _start(self, answer: Continuation) -> _Sequence:
        """Reuse the kept sequence's cache if partition, adapter and first tokens are equal."""
        self._prompt_tokens += len(answer.ids)
        if self._kept is not None and self._kept[0] == _partition(answer):
            _, ids, cache = self._kept
            shared = min(common_prefix(ids, answer.ids), len(answer.ids) - 1)
            if shared >= _MIN_SHARED:
                self._kept = None
                if shared < len(ids):
                    cache.crop(shared - len(ids))  # a negative number is the count to remove, in every version
                answer.cached_tokens = shared
                self._cached_tokens += shared
                return _Sequence(answer, cache, shared)
        return _Sequence(answer, self._new_cache(), 0)

    def _advance(self, sequence: _Sequence) -> None:
        answer = sequence.answer
        made = answer.num_made
        logits_TV = self._forward(answer.ids[sequence.num_computed :], sequence.cache, rows=1)
        sequence.num_computed = len(answer.ids)
        self._events += answer.take(logits_TV[-1])
        self._completion_tokens += answer.num_made - made

    def _new_cache(self) -> Any:
        _, transformers = torch_libraries()
        return transformers.DynamicCache()

    def _forward(self, ids: list[int], cache: Any, *, rows: int) -> NDArray[np.float32]:
        """Compute `ids` after the content of `cache`, add them to it, and return logits of the last `rows` of them."""
        torch, _ = torch_libraries()
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([ids]),
                use_cache=True,
                logits_to_keep=rows,
                **{self._cache_name: cache},
            )
        logits_TV: NDArray[np.float32] = out.logits[0].float().numpy()
        return logits_TV

    def _drop_ended(self) -> None:
        for sequence in self._running:
            if sequence.answer.ended and self._prefix_cache and sequence.num_computed:
                ids = sequence.answer.ids[: sequence.num_computed]
                self._kept = (_partition(sequence.answer), ids, sequence.cache)
        self._running = [sequence for sequence in self._running if not sequence.answer.ended]
        self._waiting = [answer for answer in self._waiting if not answer.ended]


def _partition(answer: Continuation) -> tuple[str, str]:
    return answer.order.prefix_partition, answer.order.adapter or ""
