"""The `llamacpp` engine: our own batching over llama.cpp's memory, our sampler, our grammars."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import (
    AshoreError,
    Conflict,
    EngineFailed,
    InvalidSpec,
    KvCacheExhausted,
    NotReady,
    UnsupportedModel,
)
from ashore.core.ids import OrderId
from ashore.core.nearest import did_you_mean
from ashore.data.engines.failures import failed
from ashore.data.engines.llamacpp.card import CARD, KEPT
from ashore.data.engines.llamacpp.context import LlamaContext, LlamaModel
from ashore.data.engines.llamacpp.library import BUILT, load_library
from ashore.data.engines.llamacpp.memory import Memory
from ashore.data.engines.llamacpp.slots import Slot
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    GenerateOrder,
    ModelFiles,
    ScoredText,
    ScoreText,
    Token,
)
from ashore.data.engines.ordercheck import check_order, check_scored
from ashore.data.engines.sampling import (
    DISTRIBUTION_ROWS,
    PATIENCE_S,
    Constraint,
    Continuation,
    GrammarCompiler,
    by_prefix,
    common_prefix,
    log_softmax,
    score_row,
)
from ashore.data.engines.sampling.lookup import MOST_AHEAD, EarlierAnswers, StepCost, widths
from ashore.kit.processes import allowed_cores

_MOST_SLOTS: Final = 256
"""`LLAMA_MAX_SEQ` of llama.cpp."""
_SPARE_SLOTS: Final = 32
"""Sequence numbers beyond the running ones: ended sequences stay in the cells until they are moved out."""
_DEFAULT_KV_TOKENS: Final = 16_384


@dataclass(slots=True, eq=False)
class _Running:
    number: int
    """Order of arrival."""
    answer: Continuation
    slot: Slot

    @property
    def num_left(self) -> int:
        """Tokens to compute before the next one can be chosen."""
        return len(self.answer.ids) - len(self.slot.ids)


@dataclass(frozen=True, slots=True)
class _Part:
    """The next `count` tokens of one sequence, and those proposed behind them."""

    one: _Running
    count: int
    proposed: list[int]

    @property
    def given(self) -> tuple[int, int, list[int], int]:
        """What `LlamaContext.decode` takes."""
        start = len(self.one.slot.ids)
        ids = [*self.one.answer.ids[start : start + self.count], *self.proposed]
        return self.one.slot.number, start, ids, 1 + len(self.proposed) if self.count == self.one.num_left else 0


class LlamaCppEngine:
    """Implements `Engine`, `CanScore` and `CanTellDistributions` for GGUF files."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._model: LlamaModel | None = None
        self._memory: Memory | None = None
        self._grammars: GrammarCompiler | None = None
        self._score_sequence = 0
        self._max_batch = 0
        self._max_running = 0
        self._numbers = itertools.count()
        self._answers: dict[OrderId, Continuation] = {}
        """Every order that has not ended."""
        self._compiling: dict[OrderId, tuple[int, Future[Constraint]]] = {}
        self._waiting: list[tuple[int, int, Continuation]] = []
        self._running: list[_Running] = []
        self._events: list[EngineEvent] = []
        self._steps = self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._preemptions = 0
        self._scored_tokens = 0
        self._can_share_prefixes = False
        self._step_seconds = 0.0
        self._earlier: EarlierAnswers | None = None
        """Set if tokens are looked up."""
        self._step_cost = StepCost()
        self._proposed = self._accepted = 0

    def import_library(self) -> None:
        load_library()

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        if files.format != "gguf":
            raise UnsupportedModel(
                f"{files.name} has the format {files.format!r}; the llamacpp engine reads GGUF",
                hint="use the original model, or another engine",
            )
        kv_cache, library_name, looks_up = _own_options(options)
        library = load_library(library_name)
        directory = Path(files.directory)
        self._model = model = LlamaModel(library, directory / (files.weights or "model.gguf"))
        context_tokens = options.context_tokens or model.context_tokens
        num_running = min(options.max_sequences, _MOST_SLOTS - 1)
        num_slots = min(num_running + (_SPARE_SLOTS if options.prefix_cache else 0), _MOST_SLOTS - 1)
        self._score_sequence = num_slots
        context = LlamaContext(
            model,
            kv_tokens=options.kv_tokens or max(context_tokens, _DEFAULT_KV_TOKENS),
            num_sequences=num_slots + 1,
            max_batch=max(options.max_batch_tokens, num_slots + 1),
            threads=options.threads or allowed_cores(),
            kv_cache=kv_cache,
        )
        self._max_batch = context.max_batch
        self._can_share_prefixes = model.can_share_prefixes
        keeps = options.prefix_cache and model.can_share_prefixes
        self._memory = Memory(context, num_slots, most_kept=int(context.kv_tokens * KEPT) if keeps else 0)
        self._max_running = num_running
        self._earlier = EarlierAnswers() if looks_up and model.can_share_prefixes else None
        self._grammars = GrammarCompiler(directory, vocab_size=model.vocab_size)
        self._info = EngineInfo(
            kind="llamacpp",
            version=library.version,
            model=files.name,
            precision=model.precision,
            context_tokens=min(context_tokens, context.kv_tokens),
            vocab_size=model.vocab_size,
            kv_tokens=context.kv_tokens,
            max_sequences=num_running,
            features=CARD.features,
            max_top_logprobs=20,
        )
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        try:
            info, _ = self._loaded()
            if order.order_id in self._answers:
                raise Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
            check_order(order, info)
        except AshoreError as error:
            self._events.append(failed(order.order_id, error))
            return
        number = next(self._numbers)
        lookup = self._earlier.lookup(order) if self._earlier is not None else None
        self._answers[order.order_id] = answer = Continuation(order, lookup)
        if order.grammar is not None and self._grammars is not None:
            constraint = self._grammars.compile(order.grammar, order.tenant, answer.begun_ids)
            self._compiling[order.order_id] = (number, constraint)
        else:
            heapq.heappush(self._waiting, (-order.priority, number, answer))

    def cancel(self, order_id: OrderId) -> None:
        answer = self._answers.get(order_id)
        if answer is None:
            return
        self._events.append(answer.finish("cancelled"))
        self._drop_ended()

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        self._collect_grammars()
        self._admit()
        self._follow_grammars(timeout_s)
        if self._running:
            self._advance()
        elif not self._events:
            self._rest(timeout_s)
        events, self._events = self._events, []
        return events

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self._running),
            waiting=len(self._answers) - len(self._running),
            kv_tokens_used=self._memory.num_tokens if self._memory is not None else 0,
            kv_tokens_total=self._info.kv_tokens if self._info is not None else 0,
            steps=self._steps,
            step_seconds=self._step_seconds,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            scored_tokens=self._scored_tokens,
            preemptions=self._preemptions,
            proposed_tokens=self._proposed,
            accepted_tokens=self._accepted,
        )

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        info, memory = self._loaded()
        context = memory.context
        check_scored(texts, info, top_logprobs=top_logprobs)
        known: list[int] = []
        try:
            for place in by_prefix(texts):
                text = texts[place]
                keep = min(common_prefix(known, text.ids), text.start - 1) if self._can_share_prefixes else 0
                context.cut(self._score_sequence, keep)
                at = text.start
                for rows in self._scored_rows(text, keep):
                    followers = text.ids[at : at + len(rows)]
                    at += len(rows)
                    yield place, [score_row(*pair, top_logprobs) for pair in zip(rows, followers, strict=True)]
                known = text.ids[:-1]
        finally:
            context.cut(self._score_sequence, 0)

    def distributions(self, text: ScoreText) -> Iterator[NDArray[np.float32]]:
        info, memory = self._loaded()
        context = memory.context
        check_scored([text], info)
        try:
            for rows in self._scored_rows(text, 0):
                for at in range(0, len(rows), DISTRIBUTION_ROWS):
                    yield log_softmax(np.stack(rows[at : at + DISTRIBUTION_ROWS]))
        finally:
            context.cut(self._score_sequence, 0)

    def _scored_rows(self, text: ScoreText, keep: int) -> Iterator[list[NDArray[np.float32]]]:
        """Compute `text`, whose first `keep` tokens are computed already, and yield the logits before each scored
        token, in pieces; the next yield overwrites them.

        Raises:
            KvCacheExhausted: there is no room.
        """
        context = self._loaded()[1].context
        self._scored_tokens += len(text.ids) - 1 - keep
        first, end = text.start - 1, len(text.ids) - 1
        for start in range(keep, first, context.max_batch):
            given = text.ids[start : min(first, start + context.max_batch)]
            part = (self._score_sequence, start, given, 0)
            self._with_room(lambda part=part: context.decode([part]))  # type: ignore[misc]
        for start in range(first, end, context.max_outputs):
            chunk = text.ids[start : min(end, start + context.max_outputs)]
            part = (self._score_sequence, start, chunk, len(chunk))
            yield self._with_room(lambda part=part: context.decode([part]))  # type: ignore[misc]

    def _with_room(self, decode: Callable[[], list[NDArray[np.float32]] | None]) -> list[NDArray[np.float32]]:
        """Return the result of `decode`, moving ended sequences out until there is room for it."""
        _, memory = self._loaded()
        while (rows := decode()) is None:
            if not memory.make_room():
                raise KvCacheExhausted("the KV cache has no room for a text to score", hint="try again later")
        return rows

    def close(self) -> None:
        if self._grammars is not None:
            self._grammars.close()
        if self._memory is not None:
            self._memory.context.close()
        if self._model is not None:
            self._model.close()
        self._grammars = self._memory = self._model = self._info = None
        self._running.clear()
        self._waiting.clear()
        self._answers.clear()
        self._compiling.clear()
        self._events.clear()

    # --- before a step

    def _loaded(self) -> tuple[EngineInfo, Memory]:
        if self._info is None or self._memory is None:
            raise NotReady("the llamacpp engine is not loaded")
        return self._info, self._memory

    def _collect_grammars(self) -> None:
        for order_id, (number, future) in list(self._compiling.items()):
            if not future.done():
                continue
            del self._compiling[order_id]
            answer = self._answers[order_id]
            try:
                self._events += answer.constrain(future.result())
            except AshoreError as error:
                self._events.append(answer.fail(error))
            if answer.ended:
                del self._answers[order_id]
                continue
            heapq.heappush(self._waiting, (-answer.order.priority, number, answer))

    def _follow_grammars(self, timeout_s: float) -> None:
        """Read what grammars permit next; sequences whose grammar has not answered skip the step."""
        waiting = [answer for answer in self._answers.values() if answer.waits]
        if not waiting:
            return
        idle = len(waiting) == len(self._running) and not self._events
        Continuation.wait(waiting, timeout_s if idle else PATIENCE_S)
        for answer in waiting:
            self._events += answer.follow()
        self._drop_ended()

    def _rest(self, timeout_s: float) -> None:
        if self._compiling:
            wait([future for _, future in self._compiling.values()], timeout_s, FIRST_COMPLETED)
        else:
            time.sleep(timeout_s)

    def _admit(self) -> None:
        """Give waiting orders a sequence number each, reusing any part of their prompt in memory."""
        _, memory = self._loaded()
        while self._waiting and len(self._running) < self._max_running:
            _, number, answer = self._waiting[0]
            if answer.ended:
                heapq.heappop(self._waiting)
                continue
            slot = memory.begin(
                (answer.order.prefix_partition, answer.order.adapter or ""), answer.ids, others_run=bool(self._running)
            )
            if slot is None:
                return
            heapq.heappop(self._waiting)
            if not answer.num_made:
                answer.cached_tokens = len(slot.ids)
                self._prompt_tokens += len(answer.order.prompt_ids)
                self._cached_tokens += len(slot.ids)
            self._running.append(_Running(number, answer, slot))

    # --- the step

    def _advance(self) -> None:
        started_s = time.perf_counter()
        _, memory = self._loaded()
        context = memory.context
        if not (plan := self._plan(proposes=True)):
            return
        try:
            rows = context.decode([part.given for part in plan])
            while rows is None:
                if not memory.make_room() and not self._preempt():
                    self._fail([plan[0].one], KvCacheExhausted("the sequence does not fit into the KV cache"))
                    return
                plan = self._plan(proposes=False)
                rows = context.decode([part.given for part in plan]) if plan else []
        except EngineFailed as error:
            self._fail([part.one for part in plan], error)
            return
        if all(part.count == 1 for part in plan):
            self._step_cost.note(sum(1 + len(part.proposed) for part in plan), time.perf_counter() - started_s)
        remaining = iter(rows)
        for part in plan:
            answer, slot = part.one.answer, part.one.slot
            wants_rows = part.count == part.one.num_left
            slot.ids += answer.ids[len(slot.ids) : len(slot.ids) + part.count]
            if wants_rows:
                made = answer.num_made
                events = answer.take_all(list(islice(remaining, 1 + len(part.proposed))), part.proposed)
                self._events += events
                self._completion_tokens += answer.num_made - made
                self._proposed += len(part.proposed)
                self._accepted += sum(one.accepted for one in events if isinstance(one, Token))
                if part.proposed:
                    slot.ids = answer.ids[: max(len(slot.ids), len(answer.ids) - 1)]
                    context.cut(slot.number, len(slot.ids))
        self._drop_ended()
        if self._running and all(part.count == 1 for part in plan):
            memory.tidy()
        self._steps += 1
        self._step_seconds += time.perf_counter() - started_s

    def _plan(self, *, proposes: bool) -> list[_Part]:
        """Return how many tokens of which sequences the next call computes: first one for each generating sequence,
        and those that it proposes."""
        running = [one for one in self._running if not one.answer.waits]
        generating = [one for one in running if one.num_left == 1][: self._max_batch]
        room = self._max_batch - len(generating)
        # Every part may need a row.
        most = min(
            MOST_AHEAD, (min(room, self._loaded()[1].context.max_outputs - len(running))) // max(1, len(running))
        )
        offers = [one.answer.propose(most) if proposes else ([], []) for one in generating]
        taken = widths([chances for _, chances in offers], token_cost=self._step_cost.share, num_tokens=len(generating))
        plan = [_Part(one, 1, ids[:count]) for one, (ids, _), count in zip(generating, offers, taken, strict=True)]
        room -= sum(taken)
        for one in running:
            if one.num_left > 1 and room > 0:
                count = min(one.num_left, room)
                plan.append(_Part(one, count, []))
                room -= count
        return plan

    def _preempt(self) -> bool:
        """Return the least important, youngest sequence to the queue; False if only one is left."""
        if len(self._running) < 2:
            return False
        victim = max(self._running, key=lambda one: (-one.answer.order.priority, one.number))
        self._running.remove(victim)
        self._loaded()[1].take_back(victim.slot)
        heapq.heappush(self._waiting, (-victim.answer.order.priority, victim.number, victim.answer))
        self._preemptions += 1
        return True

    def _fail(self, broken: list[_Running], error: AshoreError) -> None:
        """End sequences with `error` and drop their memory."""
        _, memory = self._loaded()
        for one in broken:
            self._events.append(one.answer.fail(error))
            memory.give_up(one.slot)
        self._drop_ended()

    def _drop_ended(self) -> None:
        """Release the slots of ended orders; their tokens stay in the memory for others of their partition."""
        _, memory = self._loaded()
        for one in self._running:
            if one.answer.ended:
                memory.end(one.slot)
                if self._earlier is not None:
                    self._earlier.keep(one.answer.order, one.answer.ids)
        self._running = [one for one in self._running if not one.answer.ended]
        for order_id in [order_id for order_id, answer in self._answers.items() if answer.ended]:
            del self._answers[order_id]
            waiting = self._compiling.pop(order_id, None)
            if waiting is not None:
                GrammarCompiler.drop(waiting[1])


def _own_options(options: EngineOptions) -> tuple[str, str, bool]:
    """Return the options of this engine: the type of the KV cache, which library computes, and whether tokens are
    looked up."""
    for name in options.extra:
        if name not in CARD.options.known:
            raise InvalidSpec(f"llamacpp has no option {name!r}", hint=did_you_mean(name, CARD.options.known))
    kv_cache = str(options.extra.get("kv_cache", "f16"))
    if kv_cache not in ("f16", "f32", "q8_0"):
        raise InvalidSpec(f"kv_cache is {kv_cache!r}", hint="use f16, f32 or q8_0")
    library = str(options.extra.get("library", ""))
    if library and library != BUILT and not Path(library).is_absolute():
        raise InvalidSpec(
            f"library is {library!r}", hint=f"{BUILT!r} (llama-cpp-python's), or the absolute path of a libllama.so"
        )
    return kv_cache, library, bool(options.extra.get("lookup", False))
