"""The fake engine, twin of the port: as fast as Python allows, and as slow or broken as configured."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import random
import re
import signal
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Literal

from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import AshoreError, ContextTooLong, EngineFailed, NotReady
from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines.failures import failed
from ashore.data.engines.fake import agent, tongue
from ashore.data.engines.fake.card import CARD
from ashore.data.engines.fake.files import END, TOOL, USER, VOCAB_SIZE
from ashore.data.engines.fake.spec import FakeSpec
from ashore.data.engines.grammarprocess import GrammarProcess
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Feature,
    Finished,
    GenerateOrder,
    ModelFiles,
    Rung,
    ScoredText,
    ScoreText,
    Token,
    TokenLogprob,
)
from ashore.data.engines.ordercheck import check_ids, check_order, check_scored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ANSWERED_AT_ONCE: Final = 2
_TICK_S: Final = 0.002
_SCORED_AT_ONCE: Final = 256
"""Paced tokens come out on a grid of this width, so that many slow streams cost few steps."""
_BLOCK_TOKENS: Final = 16
_MOST_BLOCKS: Final = 65_536
_CALL: Final = re.compile(rb"<tool_call>.*</tool_call>", re.DOTALL)
_PRECISIONS: Final = ("fp64", "fp32", "fp16", "int8")
_PLAIN: Final = (Sampling(), Sampling(temperature=0.0))


class _Sequence:
    """One running order."""

    __slots__ = (
        "cached",
        "counts",
        "due_s",
        "echo",
        "made",
        "order",
        "previous",
        "prompt_counts",
        "quick",
        "rng",
        "rung",
        "salt",
    )

    def __init__(self, order: GenerateOrder, said: tuple[int, ...] | None, due_s: float, cached: int) -> None:
        self.order = order
        self.due_s = due_s
        self.cached = cached
        self.made = 0
        self.rung = -1
        self.echo = said
        prompt_ids, begun = _parts(order)
        self.salt = hash(tuple(prompt_ids))
        self.previous = order.prompt_ids[-1]
        sampling = order.sampling
        self.quick = order.top_logprobs is None and (
            sampling == _PLAIN[1] or (self.echo is not None and sampling in _PLAIN)
        )
        self.counts: Counter[int] = Counter(begun)
        self.prompt_counts = Counter(prompt_ids) if sampling.repetition_penalty != 1.0 else Counter()
        self.rng = random.Random(sampling.seed) if sampling.seed is not None else random.Random()
        if sampling.temperature > 0 and sampling.top_k != 1:
            for _ in begun:
                self.rng.random()  # each took one draw


def _parts(order: GenerateOrder) -> tuple[list[int], list[int]]:
    """Return the prompt of an order, and the part of its answer that was made elsewhere."""
    asked = len(order.prompt_ids) - order.begun
    return order.prompt_ids[:asked], order.prompt_ids[asked:]


def _features(spec: FakeSpec) -> tuple[Feature, ...]:
    found = set(CARD.features)
    if spec.mode == "agent":
        found.add("grammar")
    if not spec.sleeps:
        found.discard("sleep")
    return tuple(sorted(found))


class FakeEngine:
    """An engine that needs no model. See `FakeSpec` for its options."""

    def __init__(self, *, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._info: EngineInfo | None = None
        self._spec = FakeSpec(mode="echo")
        self._prefix_cache = True
        self._kv_tokens = 0
        self._adapters: set[str] = set()
        self._live: dict[OrderId, _Sequence | None] = {}
        """Every order that has not ended; None while it waits."""
        self._waiting: list[tuple[int, int, GenerateOrder]] = []
        self._due: list[tuple[float, int, _Sequence]] = []
        self._grammars = GrammarProcess(lambda: {"tokenizer": "byte"})
        self._threads = ThreadPoolExecutor(_ANSWERED_AT_ONCE, thread_name_prefix="agent")
        self._answering: dict[OrderId, tuple[GenerateOrder, Future[str]]] = {}
        """Orders with a grammar, whose answers are computed between the steps."""
        self._answers: dict[OrderId, str] = {}
        self._numbers = itertools.count()
        self._ended: list[EngineEvent] = []
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._draws = random.Random(0)
        self._steps = self._prompt_tokens = self._cached_tokens = self._completion_tokens = self._scored_tokens = 0
        self._step_seconds = 0.0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        spec = FakeSpec.parse(files.name)
        self._sleep(spec.load_s)
        if spec.fail_load:
            raise EngineFailed(f"{files.name}: loading fails, as requested by fail_load", hint="omit fail_load")
        self._spec = spec
        self._draws.seed(spec.seed)
        self._prefix_cache = options.prefix_cache
        context_tokens = min(options.context_tokens or spec.context, spec.context)
        self._kv_tokens = options.kv_tokens or 64 * context_tokens
        self._info = EngineInfo(
            kind="fake",
            version="fake 1",
            model=files.name,
            precision=_PRECISIONS[0],
            rungs=_PRECISIONS[: spec.rungs] if spec.rungs > 1 else (),
            context_tokens=context_tokens,
            vocab_size=VOCAB_SIZE,
            kv_tokens=self._kv_tokens,
            max_sequences=spec.sequences,
            features=_features(spec),
            asleep_bytes=spec.asleep_bytes,
            max_top_logprobs=20,
            embedding_size=spec.embed,
            deterministic_seed=True,
        )
        return self._info

    def sleep(self) -> None:
        self._blocks.clear()

    def wake(self) -> None:
        self._sleep(self._spec.wake_s)
        if self._spec.fail_wake:
            raise EngineFailed("it does not wake up, as requested by fail_wake", hint="omit fail_wake")

    def submit(self, order: GenerateOrder) -> None:
        try:
            check_order(order, self._loaded(), self._adapters)
        except AshoreError as error:
            self._ended.append(failed(order.order_id, error))
            return
        self._live[order.order_id] = None
        if self._spec.mode == "agent" and order.grammar is not None:
            answer = self._threads.submit(agent.reply, _parts(order)[0], order.grammar, self._grammars)
            self._answering[order.order_id] = order, answer
            return
        heapq.heappush(self._waiting, (-order.priority, next(self._numbers), order))

    def cancel(self, order_id: OrderId) -> None:
        if order_id not in self._live:
            return
        sequence = self._live.pop(order_id)
        if sequence is None:
            answering, answer = self._answering.pop(order_id, (None, None))
            if answer is not None:
                answer.cancel()
            order = answering or next(order for _, _, order in self._waiting if order.order_id == order_id)
            self._ended.append(Finished(order_id, "cancelled", len(order.prompt_ids), 0, 0))
        else:
            self._ended.append(self._finished(sequence, "cancelled"))

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        self._collect_answers()
        self._admit()
        events, self._ended = self._ended, []
        if not events:
            wait_s = self._until_due_s()
            if wait_s is None or wait_s > timeout_s:
                self._rest(timeout_s)
                return events
            self._sleep(wait_s)
        started_s = self._clock.monotonic_s()
        horizon_s = started_s + 1e-6
        ready: list[_Sequence] = []
        while self._due and self._due[0][0] <= horizon_s:
            sequence = heapq.heappop(self._due)[2]
            if self._live.get(sequence.order.order_id) is sequence:
                ready.append(sequence)
        if ready:
            self._break_if_told()
            self._sleep(self._spec.step_s)
            for sequence in ready:
                if self._spec.rungs > 1:
                    events += self._told_rung(sequence)
                events.append(self._advance(sequence))
            self._steps += 1
            self._step_seconds += self._clock.monotonic_s() - started_s
        return events

    def wait_on(self) -> tuple[int | None, float | None]:
        if self._ended or (self._waiting and len(self._due) < self._spec.sequences):
            return None, 0.0
        if self._answering:
            return None, min(self._until_due_s() or _TICK_S, _TICK_S)
        return None, self._until_due_s()

    def stats(self) -> EngineStats:
        running = [sequence for sequence in self._live.values() if sequence is not None]
        used = sum(len(sequence.order.prompt_ids) + sequence.made for sequence in running)
        return EngineStats(
            running=len(running),
            waiting=len(self._live) - len(running),
            kv_tokens_used=min(used, self._kv_tokens),
            kv_tokens_total=self._kv_tokens,
            steps=self._steps,
            step_seconds=self._step_seconds,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            scored_tokens=self._scored_tokens,
            block_tokens=_BLOCK_TOKENS,
            rung=self._rung,
            adapters=len(self._adapters),
            running_adapters=_adapters_of(sequence.order for sequence in running),
            waiting_adapters=_adapters_of(order for *_, order in self._waiting if order.order_id in self._live),
        )

    def close(self) -> None:
        self._grammars.close()
        self._threads.shutdown(cancel_futures=True)
        self._answering.clear()
        self._answers.clear()
        self._live.clear()
        self._waiting.clear()
        self._due.clear()
        self._ended.clear()

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        info = self._loaded()
        for ids in batch:
            check_ids(ids, info)
            if len(ids) > info.context_tokens:
                raise ContextTooLong(f"a text has {len(ids)} tokens; the context is {info.context_tokens}")
        return [hashed_vector(ids, info.embedding_size) for ids in batch]

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        check_scored(texts, self._loaded(), top_logprobs=top_logprobs)
        self._scored_tokens += sum(len(text.ids) - 1 for text in texts)
        for place, text in enumerate(texts):
            for first in range(text.start, len(text.ids), _SCORED_AT_ONCE):
                yield (
                    place,
                    [
                        tongue.logprobs(tongue.logits(0, at, text.ids[at - 1]), VOCAB_SIZE, text.ids[at], top_logprobs)
                        for at in range(first, min(first + _SCORED_AT_ONCE, len(text.ids)))
                    ],
                )

    def distributions(self, text: ScoreText) -> Iterator[NDArray[np.float32]]:
        import numpy as np

        check_scored([text], self._loaded())
        for at in range(text.start, len(text.ids)):
            row = tongue.every_logprob(tongue.logits(0, at, text.ids[at - 1]), VOCAB_SIZE)
            yield np.array([row], np.float32)

    def load_adapter(self, name: str, directory: str) -> None:
        """Store `name`; the folder is not read."""
        self._loaded()
        self._adapters.add(name)

    # --- inside a step

    def _loaded(self) -> EngineInfo:
        if self._info is None:
            raise NotReady("the fake engine is not loaded")
        return self._info

    def _until_due_s(self) -> float | None:
        return max(0.0, self._due[0][0] - self._clock.monotonic_s()) if self._due else None

    def _collect_answers(self) -> None:
        for order_id, (order, answer) in list(self._answering.items()):
            if answer.done():
                del self._answering[order_id]
                try:
                    self._answers[order_id] = answer.result()
                except AshoreError as error:
                    del self._live[order_id]
                    self._ended.append(failed(order_id, error))
                    continue
                heapq.heappush(self._waiting, (-order.priority, next(self._numbers), order))

    def _rest(self, timeout_s: float) -> None:
        if self._answering:
            wait([answer for _, answer in self._answering.values()], timeout_s, FIRST_COMPLETED)
        else:
            self._sleep(timeout_s)

    def _said(self, order: GenerateOrder) -> tuple[int, ...] | None:
        """Return the answer to an order, None for random text. Raises `UnsupportedByEngine` as `reply` does."""
        match self._spec.mode:
            case "random":
                return None
            case "agent":
                answer = self._answers.pop(order.order_id, None)
                if answer is None:
                    answer = agent.reply(_parts(order)[0], None, self._grammars)
                return tuple(answer.encode())
            case mode:
                return spoken(_parts(order)[0], calls=mode == "tools")

    def _admit(self) -> None:
        """Move waiting orders into the batch; orders configured to fail do so now."""
        now_s = self._clock.monotonic_s() if self._waiting else 0.0
        while self._waiting and len(self._due) < self._spec.sequences:
            order = heapq.heappop(self._waiting)[2]
            if order.order_id not in self._live:
                self._answers.pop(order.order_id, None)
                continue  # cancelled while it waited
            if self._spec.fail_rate and self._draws.random() < self._spec.fail_rate:
                del self._live[order.order_id]
                error = EngineFailed("this order fails, as requested", hint="lower fail_rate")
                self._ended.append(failed(order.order_id, error))
                continue
            try:
                sequence = _Sequence(
                    order, self._said(order), self._grid(now_s + self._spec.delay_s), self._remember(order)
                )
            except AshoreError as error:
                del self._live[order.order_id]
                self._ended.append(failed(order.order_id, error))
                continue
            self._live[order.order_id] = sequence
            self._prompt_tokens += len(order.prompt_ids)
            self._cached_tokens += sequence.cached
            self._push(sequence)

    def _grid(self, due_s: float) -> float:
        """Round `due_s` up to the grid of paced tokens."""
        paced = self._spec.tok_per_s or self._spec.delay_s
        return math.ceil(due_s / _TICK_S) * _TICK_S if paced else due_s

    def _push(self, sequence: _Sequence) -> None:
        heapq.heappush(self._due, (self._grid(sequence.due_s), next(self._numbers), sequence))

    @property
    def _rung(self) -> int:
        return min(self._spec.rungs - 1, len(self._live) // max(1, self._spec.rung_from))

    def _told_rung(self, sequence: _Sequence) -> list[EngineEvent]:
        """Return the rung event when a rung first takes part in an answer."""
        least = sequence.order.min_precision
        rung = min(self._rung, _PRECISIONS.index(least)) if least else self._rung
        if rung <= sequence.rung:
            return []
        sequence.rung = rung
        return [Rung(sequence.order.order_id, _PRECISIONS[rung])]

    def _advance(self, sequence: _Sequence) -> EngineEvent:
        """Generate one token of `sequence` and return it, or how the sequence ended."""
        order = sequence.order
        token_id, row = self._next_token(sequence)
        if token_id in order.stop_token_ids and not order.ignore_eos:
            if sequence.made >= order.sampling.min_tokens:
                return self._end(sequence, "stop", token_id)
            token_id = next(one for one in range(END) if one not in order.stop_token_ids)
        sequence.made += 1
        sequence.previous = token_id
        self._completion_tokens += 1
        if sequence.made >= order.max_new_tokens:
            self._ended.append(self._end(sequence, "length"))
        else:
            if self._spec.tok_per_s:
                sequence.due_s += 1.0 / self._spec.tok_per_s
            self._push(sequence)
        cached = sequence.cached if sequence.made == 1 else 0
        if row is None:
            return Token(order.order_id, token_id, cached_tokens=cached)
        return Token(order.order_id, token_id, row[0].logprob, row[1:], cached)

    def _next_token(self, sequence: _Sequence) -> tuple[int, tuple[TokenLogprob, ...] | None]:
        certain = self._called_for(sequence)
        order, previous = sequence.order, sequence.previous
        made = order.begun + sequence.made
        if sequence.quick:
            return (tongue.favourite(sequence.salt, made, previous) if certain is None else certain), None
        candidates = tongue.logits(sequence.salt, made, previous, certain=certain)
        chosen = tongue.choose(candidates, order.sampling, sequence.prompt_counts, sequence.counts, sequence.rng)
        sequence.counts[chosen] += 1
        if order.top_logprobs is None:
            return chosen, None
        if order.top_logprobs == 0:  # as `score` reports: a seed and an echo are draws, equally likely
            candidates = tongue.logits(0, len(order.prompt_ids) + sequence.made, previous)
        return chosen, tongue.logprobs(candidates, VOCAB_SIZE, chosen, order.top_logprobs)

    def _called_for(self, sequence: _Sequence) -> int | None:
        """Return the token that is forced: of the echo, or the end."""
        made = sequence.order.begun + sequence.made
        ignores_end = sequence.order.ignore_eos or sequence.made < sequence.order.sampling.min_tokens
        if sequence.echo is None:
            return END if made >= self._spec.tokens and not ignores_end else None
        if not sequence.echo:
            return END
        if made < len(sequence.echo) or ignores_end:
            return sequence.echo[made % len(sequence.echo)]
        return END

    def _end(
        self, sequence: _Sequence, reason: Literal["stop", "length"], stop_token_id: int | None = None
    ) -> Finished:
        del self._live[sequence.order.order_id]
        return self._finished(sequence, reason, stop_token_id)

    def _finished(
        self, sequence: _Sequence, reason: Literal["stop", "length", "cancelled"], stop_token_id: int | None = None
    ) -> Finished:
        order = sequence.order
        return Finished(order.order_id, reason, len(order.prompt_ids), sequence.cached, sequence.made, stop_token_id)

    def _remember(self, order: GenerateOrder) -> int:
        """Put the prompt's whole blocks into the simulated prefix cache and return how many tokens were cached."""
        if not self._prefix_cache or len(order.prompt_ids) <= _BLOCK_TOKENS:
            return 0
        key = hash((order.prefix_partition, order.adapter))
        cached, unbroken = 0, True
        for start in range(0, len(order.prompt_ids) - _BLOCK_TOKENS, _BLOCK_TOKENS):
            key = hash((key, *order.prompt_ids[start : start + _BLOCK_TOKENS]))
            unbroken = unbroken and key in self._blocks
            cached += _BLOCK_TOKENS if unbroken else 0
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > _MOST_BLOCKS:
            self._blocks.popitem(last=False)
        return cached

    def _break_if_told(self) -> None:
        spec, made = self._spec, self._completion_tokens
        if spec.die_after and made >= spec.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
        if spec.raise_after and made >= spec.raise_after:
            raise RuntimeError(f"the fake engine raises after {spec.raise_after} tokens, as requested")
        while spec.hang_after and made >= spec.hang_after:
            self._sleep(3600.0)


def spoken(prompt_ids: Sequence[int], *, calls: bool) -> tuple[int, ...]:
    """Return the text to echo: the last user turn of a chat, or the whole prompt; bytes only.

    With `calls`, only the call in it; once the tool has answered, that answer.
    """
    ids = list(prompt_ids)
    user, tool = _last_turn(ids, USER), _last_turn(ids, TOOL)
    start = max(user, tool) if calls else user
    if start:
        end = ids.index(END, start) if END in ids[start:] else len(ids)
        ids = ids[start:end]
    said = tuple(token_id for token_id in ids if token_id < END)
    if calls and start == user and (asked := _CALL.search(bytes(said))):
        return tuple(asked.group())
    return said


def _last_turn(ids: Sequence[int], role: int) -> int:
    """Return where the last turn of a role begins, 0 if there is none."""
    return len(ids) - ids[::-1].index(role) if role in ids else 0


def hashed_vector(ids: Sequence[int], size: int) -> list[float]:
    """Return a unit vector of `size` numbers; texts that share token trigrams have similar vectors."""
    vector = [0.0] * size
    padded = (END, *ids, END)
    for place in range(len(ids)):
        bits = tongue.mix(padded[place], padded[place + 1], padded[place + 2])
        vector[bits % size] += 1.0 if bits >> 63 else -1.0
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector] if norm else [1.0, *vector[1:]]


def _adapters_of(orders: Iterable[GenerateOrder]) -> tuple[str, ...]:
    """Return the adapters that orders use."""
    return tuple(sorted({order.adapter for order in orders if order.adapter is not None}))
