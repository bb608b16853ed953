"""The `openvino` engine: our scheduler and our sampler over the plain runtime's paged attention."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from collections.abc import Sequence as Seq
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ashore import __version__
from ashore.core.errors import (
    AshoreError,
    Conflict,
    EngineFailed,
    KvCacheExhausted,
    UnsupportedByEngine,
    UnsupportedModel,
)
from ashore.core.ids import OrderId
from ashore.data.engines.failures import failed
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    GenerateOrder,
    ModelFiles,
    Rung,
    ScoredText,
    ScoreText,
    Token,
)
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.card import CARD
from ashore.data.engines.openvino.config import RunConfig, choose_kv_tokens, is_full_precision, run_config
from ashore.data.engines.openvino.embedder import Embedder, open_encoder
from ashore.data.engines.openvino.graph import BLOCK_TOKENS, Row, make_batch
from ashore.data.engines.openvino.kept import KeptBlocks
from ashore.data.engines.openvino.ladder import Cost, Ladder
from ashore.data.engines.openvino.lora import AdapterBank
from ashore.data.engines.openvino.pace import Pace, usual_size
from ashore.data.engines.openvino.paired import PairedModel, open_model
from ashore.data.engines.openvino.peft import read_adapter
from ashore.data.engines.openvino.runtime import import_openvino, openvino_version
from ashore.data.engines.openvino.scheduler import Chunk, Scheduler, Sequence
from ashore.data.engines.openvino.scoring import ScoredPiece, TextScorer
from ashore.data.engines.ordercheck import check_order, check_scored
from ashore.data.engines.prefixes import PrefixPlace, PrefixStore
from ashore.data.engines.processor import cpu_flags
from ashore.data.engines.sampling import (
    DISTRIBUTION_ROWS,
    PATIENCE_S,
    Constraint,
    Continuation,
    GrammarCompiler,
    log_softmax,
    score_row,
)
from ashore.data.engines.sampling.lookup import MOST_AHEAD, EarlierAnswers, widths
from ashore.kit.processes import free_memory_bytes

_FALLBACK_CONTEXT_TOKENS = 4096
_MAX_TOP_LOGPROBS = 20
_PLENTY = 4
"""Memory left, as a multiple of the weights, with which two compilations stay open beside each other."""
_BESIDE_S = 10.0
"""How long after an order of a tenant the steps of others stay small: its next order comes unannounced."""
_LONG_STALLS = 0.5
"""Longest stalls that a step with a part of a long prompt takes then. On two cores that costs the demo model's long
prompts a sixth of their pace."""


@dataclass(slots=True)
class _Live:
    answer: Continuation
    sequence: Sequence
    """Its `ids` are those of the answer."""
    adapter: str = ""
    """Key of its adapter in the bank."""
    last_rung: int = 0
    """The least exact rung that may compute it."""
    begun_rung: int = 0
    """Rung of the blocks that it may find in, or leave to, the prefix cache."""
    lowest: int = -1
    """The least exact rung that took part in it, -1 before any did."""
    told_rung: int = -1
    came_s: float = 0.0


class OpenVinoEngine:
    """Implements `Engine`, `CanScore`, `CanTellDistributions`, `CanLoadAdapter`, and `CanEmbed` for encoders."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Create it. `clock` returns the seconds that steps and waits are measured in."""
        self._clock = clock
        self._info: EngineInfo | None = None
        self._model: PairedModel | None = None
        self._embedder: Embedder | None = None
        self._grammars: GrammarCompiler | None = None
        self._scheduler = Scheduler(BlockPool(0, BLOCK_TOKENS), max_sequences=1, prefix_cache=False)
        self._pace = Pace(max_batch_tokens=1, max_stall_s=1, max_prompt_step_s=1)
        self._rungs: list[tuple[PairedModel, Pace]] = []
        """Compilations of the same model over the same blocks, the most exact first; empty: there is one."""
        self._ladder: Ladder | None = None
        self._scorer: TextScorer | None = None
        """Scores texts between the steps, in blocks that it borrows."""
        self._rung_tokens: Counter[str] = Counter()
        self._plain: PairedModel | None = None
        """The model as it was before the first adapter: for steps without any, where memory is not short."""
        self._bank: AdapterBank | None = None
        self._adapters: dict[str, str] = {}
        """Name -> key in the bank; a name that is loaded again gets a new key."""
        self._loads = 0
        self._weight_bytes = 0
        self._reopen: Callable[[], PairedModel] | None = None
        self._form: tuple[str, ...] = ()
        """What the content of a block depends on, beside the tokens."""
        self._kept: KeptBlocks | None = None
        self._live: dict[OrderId, _Live] = {}
        self._compiling: dict[OrderId, Future[Constraint]] = {}
        self._earlier: EarlierAnswers | None = None
        """Set if tokens are looked up."""
        self._came_s: dict[str, float] = {}
        """Tenant -> time of its last order, for `_BESIDE_S`."""
        self._events: deque[EngineEvent] = deque()
        self._counts = dict.fromkeys(("steps", "prompt", "cached", "completion", "scored", "proposed", "accepted"), 0)
        self._step_seconds = 0.0

    def import_library(self) -> None:
        import_openvino()

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        directory = Path(files.directory)
        self._embedder = open_encoder(directory, files.weights, options)
        if self._embedder is not None:
            self._info = self._embedder.info(files.name)
            return self._info
        config = run_config(options)
        xml = directory / (files.weights or "openvino_model.xml")
        model = open_model(xml, config)
        self._reopen = partial(open_model, xml, config, adapters=True)
        self._weight_bytes = xml.with_suffix(".bin").stat().st_size
        known = model.facts.context_tokens or _FALLBACK_CONTEXT_TOKENS
        context = options.context_tokens or known
        per_token = max(1, model.kv_bytes_per_block // BLOCK_TOKENS)
        kv_tokens = choose_kv_tokens(
            options, context_tokens=context, bytes_per_token=per_token, free_bytes=free_memory_bytes()
        )
        num_blocks = max(1, kv_tokens // BLOCK_TOKENS)
        model.allocate(num_blocks)
        self._model = model
        self._scheduler = Scheduler(
            BlockPool(num_blocks, BLOCK_TOKENS), max_sequences=options.max_sequences, prefix_cache=options.prefix_cache
        )
        self._pace = Pace(
            max_batch_tokens=options.max_batch_tokens,
            max_stall_s=config.max_stall_s,
            max_prompt_step_s=config.max_prompt_step_s,
        )
        self._pace.warm_up(model, vocab_size=model.facts.vocab_size, num_blocks=num_blocks)
        self._earlier = EarlierAnswers() if config.looks_up else None
        self._grammars = GrammarCompiler(directory, vocab_size=model.facts.vocab_size)
        full = is_full_precision(config.properties)
        precision = "fp32" if full and model.facts.precision == "fp16" else model.facts.precision
        self._form = (files.digest, precision, openvino_version(), str(config.properties))
        self._open_rungs(files, config, vocab_size=model.facts.vocab_size, num_blocks=num_blocks)
        lower = [one.facts.precision for one, _ in self._rungs[1:]]
        self._info = EngineInfo(
            kind="openvino",
            version=openvino_version(),
            model=files.name,
            precision=precision,
            rungs=(precision, *lower) if lower else (),
            context_tokens=min(context, num_blocks * BLOCK_TOKENS),
            vocab_size=model.facts.vocab_size,
            kv_tokens=num_blocks * BLOCK_TOKENS,
            max_sequences=options.max_sequences,
            features=CARD.features,
            max_top_logprobs=_MAX_TOP_LOGPROBS,
            deterministic_seed=full,
        )
        return self._info

    def keep_prefixes(self, place: PrefixPlace, secret: bytes) -> None:
        """Implement `CanKeepPrefixes`: for generating models with a prefix cache and without a ladder."""
        if self._model is None or self._ladder is not None or not self._scheduler.shares_prefixes:
            return
        form = (*self._form, __version__, " ".join(sorted(cpu_flags())))
        store = PrefixStore(
            place,
            secret,
            content="\0".join(form),
            block_bytes=self._model.kv_bytes_per_block,
            block_tokens=BLOCK_TOKENS,
        )
        self._kept = KeptBlocks(store, self._scheduler.pool, self._model, clock=self._clock)

    def _open_rungs(self, files: ModelFiles, config: RunConfig, *, vocab_size: int, num_blocks: int) -> None:
        """Compile the less exact variants over the same blocks."""
        assert self._model is not None
        if not files.rungs:
            return
        self._rungs = [(self._model, self._pace)]
        for one in files.rungs:
            opened = open_model(Path(one.directory) / (one.weights or "openvino_model.xml"), config)
            if (opened.kv_bytes_per_block, opened.facts.vocab_size) != (self._model.kv_bytes_per_block, vocab_size):
                raise UnsupportedModel(
                    f"{one.name} is no rung of {files.name}: its keys and values, or its tokens, are others",
                    hint="name variants of one model as rungs",
                )
            opened.use_cache_of(self._model)
            pace = Pace(
                max_batch_tokens=self._pace.max_batch_tokens,
                max_stall_s=config.max_stall_s,
                max_prompt_step_s=config.max_prompt_step_s,
            )
            pace.warm_up(opened, vocab_size=vocab_size, num_blocks=num_blocks)
            self._rungs.append((opened, pace))
        lowest, costs = self._rungs[-1][1], [Cost(step=1.0, prompt=1.0)]
        for _, pace in reversed(self._rungs[:-1]):  # a rung costs no less than the one below
            step = max(costs[0].step, pace.single_s / lowest.single_s)
            prompt = max(costs[0].prompt, pace.seconds_per_token / lowest.seconds_per_token)
            costs.insert(0, Cost(step=step, prompt=prompt))
        self._ladder = Ladder(config.objective, tuple(costs))

    def load_adapter(self, name: str, directory: str) -> None:
        """Implement `CanLoadAdapter`. The first adapter compiles the model again, with inputs for adapters.

        Steps without an adapter use the first compilation at unchanged cost, unless memory is short. Running sequences
        keep the adapter that they began with, even if its name is reassigned.

        Raises:
            UnsupportedModel: not plain LoRA, or made for another model.
            UnknownModel, CorruptBlob: the folder lacks a file, or one is damaged.
        """
        _, model = self._loaded()
        if self._ladder is not None:
            raise UnsupportedByEngine(
                "a model with a ladder has no adapters", hint="remove [model.ladder], or the adapters"
            )
        adapter = read_adapter(Path(directory))
        if self._bank is None and self._reopen is not None:
            opened = self._reopen()
            opened.use_cache_of(model)
            self._bank = AdapterBank(opened.slots)
            opened.use_adapters(self._bank)
            self._model = opened
            self._plain = model if free_memory_bytes() > _PLENTY * self._weight_bytes else None
        assert self._bank is not None
        self._loads += 1
        key = f"{name}#{self._loads}"
        self._bank.add(key, adapter)
        replaced = self._adapters.get(name)
        self._adapters[name] = key
        if replaced is not None:
            self._drop_if_unused(replaced)

    def submit(self, order: GenerateOrder) -> None:
        try:
            self._accept(order)
        except AshoreError as error:
            self._events.append(failed(order.order_id, error))

    def cancel(self, order_id: OrderId) -> None:
        live = self._live.get(order_id)
        if live is not None:
            self._end(live)
            self._events.append(live.answer.finish("cancelled"))

    def step(self, timeout_s: float) -> Seq[EngineEvent]:
        self._collect_grammars()
        if self._kept is not None:
            for sequence in self._kept.ready():
                self._scheduler.add(sequence)
        self._follow_grammars(timeout_s)
        if not (self._scheduler.running or self._scheduler.waiting or self._events):
            self._rest(timeout_s)
        if self._scheduler.running or self._scheduler.waiting:
            self._advance()
        events = list(self._events)
        self._events.clear()
        return events

    def score(self, texts: Seq[ScoreText], *, top_logprobs: int = 0) -> Iterator[tuple[int, ScoredText]]:
        """Implement `CanScore`."""
        info, _ = self._loaded()
        check_scored(texts, info, top_logprobs=top_logprobs)
        for pieces in self._scored_pieces(texts):
            found = [
                (
                    piece.place,
                    [
                        score_row(row_V, follower, top_logprobs)
                        for row_V, follower in zip(piece.logits_NV, texts[piece.place].ids[piece.first :], strict=False)
                    ],
                )
                for piece in pieces
            ]
            yield from found or [(0, [])]

    def distributions(self, text: ScoreText) -> Iterator[NDArray[np.float32]]:
        """Implement `CanTellDistributions`."""
        info, _ = self._loaded()
        check_scored([text], info)
        for piece in chain.from_iterable(self._scored_pieces([text])):
            for at in range(0, len(piece.logits_NV), DISTRIBUTION_ROWS):
                yield log_softmax(piece.logits_NV[at : at + DISTRIBUTION_ROWS])

    def _scored_pieces(self, texts: Seq[ScoreText]) -> Iterator[list[ScoredPiece]]:
        """Yield the logits before the scored tokens of `texts`, which were checked, step by step."""
        _, model = self._loaded()
        pool, pace, running = self._scheduler.pool, self._pace, self._scheduler.running
        scorer = TextScorer(
            self._plain or model,
            pool,
            chunk_tokens=lambda: pace.budget(decoding=len(running)) if running else pace.max_batch_tokens,
        )
        self._scorer = scorer
        try:
            yield from scorer.pieces(texts)
        finally:
            self._scorer = None
            self._counts["scored"] += scorer.num_computed

    def embed(self, batch: Seq[Seq[int]]) -> list[list[float]]:
        if self._embedder is None:
            raise UnsupportedByEngine(
                "this model generates text; it produces no embeddings", hint="use an encoder model"
            )
        return self._embedder.embed(batch)

    def stats(self) -> EngineStats:
        pool = self._scheduler.pool
        running = {one.order_id for one in self._scheduler.running}
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._live) - len(self._scheduler.running),
            kv_tokens_used=pool.num_held * BLOCK_TOKENS,
            kv_tokens_total=pool.num_blocks * BLOCK_TOKENS,
            steps=self._counts["steps"],
            step_seconds=self._step_seconds,
            prompt_tokens=self._counts["prompt"],
            cached_tokens=self._counts["cached"],
            completion_tokens=self._counts["completion"],
            scored_tokens=self._counts["scored"],
            restored_tokens=0 if self._kept is None else self._kept.restored_tokens,
            kept_prefix_bytes=0 if self._kept is None else self._kept.store.kept_bytes,
            prefix_faults=0 if self._kept is None else self._kept.store.faults,
            preemptions=self._scheduler.preemptions,
            proposed_tokens=self._counts["proposed"],
            accepted_tokens=self._counts["accepted"],
            block_tokens=BLOCK_TOKENS,
            rung=0 if self._ladder is None else self._ladder.rung,
            rung_switches=0 if self._ladder is None else self._ladder.switches,
            rung_tokens=dict(self._rung_tokens),
            adapters=len(self._adapters),
            running_adapters=self._at_work(running),
            waiting_adapters=self._at_work(self._live.keys() - running),
        )

    def _at_work(self, orders: Collection[OrderId]) -> tuple[str, ...]:
        """Return the adapters that orders use, by name."""
        if not self._adapters:
            return ()
        keys = {self._live[one].adapter for one in orders if one in self._live}
        return tuple(sorted(name for name, key in self._adapters.items() if key in keys))

    def close(self) -> None:
        if self._grammars is not None:
            self._grammars.close()
        if self._kept is not None:
            self._kept.close()
        self._grammars = self._model = self._plain = self._embedder = self._bank = self._reopen = self._kept = None
        self._ladder = None
        self._rungs.clear()
        self._adapters.clear()
        self._live.clear()
        self._compiling.clear()
        self._events.clear()

    def _loaded(self) -> tuple[EngineInfo, PairedModel]:
        if self._info is None or self._model is None:
            raise UnsupportedByEngine("this model does not generate text", hint="use a decoder model")
        return self._info, self._model

    def _accept(self, order: GenerateOrder) -> None:
        info, _ = self._loaded()
        if order.order_id in self._live:
            raise Conflict(f"order {order.order_id} is already running", hint="give every order a unique id")
        check_order(order, info, self._adapters)
        adapter = self._adapters[order.adapter] if order.adapter is not None else ""
        exact, earlier = info.deterministic_seed, self._earlier
        lookup = earlier.lookup(order, adapter, is_exact=exact) if earlier is not None else None
        answer = Continuation(order, lookup)
        sequence = Sequence(
            order_id=order.order_id,
            ids=answer.ids,
            num_prompt=len(order.prompt_ids),
            priority=order.priority,
            tenant=order.tenant,
            root=(order.prefix_partition, adapter),
        )
        live = self._live[order.order_id] = _Live(answer, sequence, adapter, came_s=self._clock())
        self._came_s[order.tenant] = live.came_s
        if info.rungs:
            live.last_rung = info.rungs.index(order.min_precision) if order.min_precision else len(info.rungs) - 1
        if order.grammar is not None and self._grammars is not None:
            self._compiling[order.order_id] = self._grammars.compile(order.grammar, order.tenant, answer.begun_ids)
        else:
            self._queue(live)

    def _queue(self, live: _Live) -> None:
        """Let a sequence run, once the beginning of its prompt was read if that is on disk."""
        kept, per_token_s = self._kept, self._pace.seconds_per_token
        if kept is None or live.adapter or not kept.begin(live.sequence, seconds_per_token=per_token_s):
            self._scheduler.add(live.sequence)

    def _collect_grammars(self) -> None:
        for order_id in [i for i, f in self._compiling.items() if f.done()]:
            live = self._live[order_id]
            future = self._compiling.pop(order_id)
            try:
                self._events += live.answer.constrain(future.result())
            except AshoreError as error:
                self._fail(live, error)
                continue
            if live.answer.ended:
                self._end(live)
            else:
                self._queue(live)

    def _follow_grammars(self, timeout_s: float) -> None:
        """Read what grammars permit next, and hold back the sequences whose grammars have not answered."""
        lives = [live for live in self._live.values() if live.answer.waits]
        if not lives:
            return
        idle = len(lives) == len(self._scheduler.running) and not self._scheduler.waiting and not self._events
        Continuation.wait([live.answer for live in lives], timeout_s if idle else PATIENCE_S)
        for live in lives:
            self._events += live.answer.follow()
            live.sequence.held = live.answer.waits
            if live.answer.ended:
                self._end(live)

    def _rest(self, timeout_s: float) -> None:
        if self._compiling:
            wait(self._compiling.values(), timeout=timeout_s, return_when=FIRST_COMPLETED)
            self._collect_grammars()
        elif self._kept is not None and self._kept.num_waiting:
            self._kept.wait_for_reads(timeout_s)
        elif timeout_s > 0:
            time.sleep(timeout_s)

    def _advance(self) -> None:
        _, model = self._loaded()
        begun_s = self._clock()
        decoding = sum(s.remaining == 1 for s in self._scheduler.running)
        rung, pace = 0, self._pace
        if self._ladder is not None:
            rung = self._choose_rung(self._ladder, begun_s, decoding)
            pace = self._rungs[rung][1]
        self._came_s = {one: came_s for one, came_s in self._came_s.items() if begun_s - came_s < _BESIDE_S}
        tenants = self._came_s.keys() | {one.tenant for one in self._scheduler.running}
        stalls = float(len(tenants) > 1)
        self._propose(pace)
        plan = self._scheduler.plan(
            prompt_budget=pace.budget(decoding=decoding, stalls=stalls),
            long_budget=pace.budget(decoding=decoding, stalls=stalls * _LONG_STALLS),
            context_budget=pace.context_budget(stalls=stalls),
        )
        if plan.exhausted and self._scorer is not None:
            self._scorer.give_way()
        for sequence in plan.exhausted:
            if self._scorer is None:
                self._fail(self._live[sequence.order_id], _exhausted(sequence, self._scheduler.pool))
            else:
                sequence.done = 0
                self._scheduler.add(sequence)
        if not plan.chunks:
            return
        for source, target in plan.copies:
            model.copy_block(source, target)
        made: list[tuple[list[Chunk], NDArray[np.float32]]] = []
        try:
            for at, chunks in self._by_rung(plan.chunks, rung):
                sampling = [c for c in chunks if c.samples]
                made.append((sampling, self._compute(at, chunks)))  # each rung has memory of its own for them
        except EngineFailed as failure:
            for chunk in plan.chunks:
                self._fail(self._live[chunk.sequence.order_id], failure)
            return
        self._scheduler.commit(plan)
        for sampling, logits_SV in made:
            row = 0
            for chunk in sampling:
                rows, row = logits_SV[row : row + 1 + len(chunk.proposed)], row + 1 + len(chunk.proposed)
                if chunk.sequence.order_id in self._live:
                    self._take(self._live[chunk.sequence.order_id], rows, chunk.proposed)
        ended_s = self._clock()
        self._counts["steps"] += 1
        self._step_seconds += ended_s - begun_s
        if self._ladder is not None:
            self._ladder.note(seconds=ended_s - begun_s, decoding=decoding)

    def _propose(self, pace: Pace) -> None:
        """Let generating sequences propose what may follow, as far as it makes this step worth more."""
        lives = [self._live[s.order_id] for s in self._scheduler.running if s.remaining == 1 and not s.held]
        offers = [live.answer.propose(MOST_AHEAD) for live in lives]
        taken = widths([chances for _, chances in offers], token_cost=pace.step_cost.share, num_tokens=len(lives))
        for live, (ids, _), count in zip(lives, offers, taken, strict=True):
            live.sequence.proposed = tuple(ids[:count])

    def _choose_rung(self, ladder: Ladder, now_s: float, decoding: int) -> int:
        """Return the rung of the next step, and let newly started sequences look for blocks of the same rung."""
        ahead = [s for s in (*self._scheduler.running, *self._scheduler.waiting) if s.remaining > 1]
        came_s = [live.came_s for s in ahead if not (live := self._live[s.order_id]).answer.num_made]
        rung = ladder.decide(
            now_s,
            decoding=decoding,
            pending_s=sum(s.remaining for s in ahead) * self._rungs[ladder.rung][1].seconds_per_token,
            oldest_wait_s=now_s - min(came_s, default=now_s),
        )
        for sequence in self._scheduler.waiting:
            live = self._live[sequence.order_id]
            live.begun_rung = min(rung, live.last_rung)
            sequence.root = (live.answer.order.prefix_partition, f"#{live.begun_rung}")
        return rung

    def _by_rung(self, chunks: Seq[Chunk], rung: int) -> list[tuple[int, Seq[Chunk]]]:
        """Return the chunks of a step by rung: one rung, except for orders that need a more exact one."""
        if self._ladder is None:
            return [(0, chunks)]
        groups: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            live = self._live[chunk.sequence.order_id]
            at = min(rung, live.last_rung)
            groups.setdefault(at, []).append(chunk)
            if live.lowest < 0 and chunk.start:
                live.lowest = live.begun_rung  # tokens from the prefix cache
            live.lowest = max(live.lowest, at)
            if at > live.begun_rung:
                chunk.sequence.shares = False  # its further blocks are less exact than their place in the cache implies
        return sorted(groups.items())

    def _compute(self, rung: int, chunks: Seq[Chunk]) -> NDArray[np.float32]:
        """Compute chunks with one rung; return the logits of those that sample.

        Raises:
            EngineFailed: the library could not.
        """
        _, model = self._loaded()
        pace = self._pace
        if self._rungs:
            model, pace = self._rungs[rung]
        begun_s = self._clock()
        rows: list[Row] = []
        sampled: list[int] = []
        runs, total = [], 0
        for chunk in chunks:
            s = chunk.sequence
            ids, end = s.ids, chunk.end
            if chunk.proposed:
                ids, end = [*ids, *chunk.proposed], end + len(chunk.proposed)
            rows.append((ids, chunk.start, end, s.table, -(-end // BLOCK_TOKENS)))
            runs.append((self._live[s.order_id].adapter, chunk.num_tokens))
            total += chunk.num_tokens
            if chunk.samples:
                sampled += range(total - 1 - len(chunk.proposed), total)
        if self._plain is not None and not any(adapter for adapter, _ in runs):
            model = self._plain
        if fill := usual_size(total) - total:
            rows.append(model.filler(fill))
            runs.append(("", fill))
        model.start(make_batch(rows, sampled or [total - 1], runs if self._bank is not None else ()))
        logits_SV = model.wait()
        num_context = sum(chunk.start for chunk in chunks)
        seconds = self._clock() - begun_s
        generating = len(chunks) + sum(len(chunk.proposed) for chunk in chunks)
        pace.note(num_sequences=generating, num_tokens=total + fill, seconds=seconds, num_context=num_context)
        return logits_SV

    def _take(self, live: _Live, logits_SV: NDArray[np.float32], proposed: Seq[int]) -> None:
        """Choose the next tokens of one sequence, send them, and end the sequence if it is done."""
        answer, made = live.answer, live.answer.num_made
        if not made:
            answer.cached_tokens = live.sequence.cached
            self._counts["prompt"] += live.sequence.num_prompt
            self._counts["cached"] += live.sequence.cached
        if self._ladder is not None:
            self._tell_rung(live)
        events = answer.take_all(logits_SV, proposed)
        self._events += events
        live.sequence.held = answer.waits
        live.sequence.done += max(0, answer.num_made - made - 1)
        self._counts["completion"] += answer.num_made - made
        if self._ladder is not None:
            self._rung_tokens[self._loaded()[0].rungs[live.lowest]] += answer.num_made - made
        self._counts["proposed"] += len(proposed)
        self._counts["accepted"] += sum(one.accepted for one in events if isinstance(one, Token))
        if answer.ended:
            self._end(live)

    def _tell_rung(self, live: _Live) -> None:
        """Report the rung of the next token if it changed."""
        info, _ = self._loaded()
        if live.lowest != live.told_rung:
            live.told_rung = live.lowest
            self._events.append(Rung(live.answer.order.order_id, info.rungs[live.lowest]))

    def _end(self, live: _Live) -> None:
        """Release everything that a sequence holds."""
        order = live.answer.order
        del self._live[order.order_id]
        if self._earlier is not None:
            self._earlier.keep(order, live.answer.ids, live.adapter)
        future = self._compiling.pop(live.answer.order.order_id, None)
        if future is not None:
            GrammarCompiler.drop(future)
        elif live.sequence in self._scheduler.running or live.sequence in self._scheduler.waiting:
            if self._kept is not None and live.answer.order.kept and not live.adapter:
                self._kept.keep(live.sequence)
            self._scheduler.remove(live.sequence)
        elif self._kept is not None:
            self._kept.drop(live.sequence)
        if live.adapter:
            self._drop_if_unused(live.adapter)

    def _drop_if_unused(self, key: str) -> None:
        """Drop an adapter whose name was reassigned, once no order needs it."""
        needed = key in self._adapters.values() or any(live.adapter == key for live in self._live.values())
        if self._bank is not None and not needed:
            self._bank.drop(key)

    def _fail(self, live: _Live, error: AshoreError) -> None:
        self._end(live)
        self._events.append(live.answer.fail(error))


def _exhausted(sequence: Sequence, pool: BlockPool) -> KvCacheExhausted:
    return KvCacheExhausted(
        f"the sequence has {len(sequence.ids)} tokens and the KV cache of this replica holds "
        f"{pool.num_blocks * pool.block_tokens}",
        hint="request fewer tokens, or raise kv_tokens of the replica",
    )
