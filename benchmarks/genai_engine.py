"""The yardstick: OpenVINO GenAI's continuous-batching pipeline behind the engine port; greedy and plain sampling."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ashore.core.errors import AshoreError, Conflict, EngineFailed
from ashore.core.ids import OrderId
from ashore.data.engines.failures import failed
from ashore.data.engines.model import (
    EngineEvent,
    EngineInfo,
    EngineOptions,
    EngineStats,
    Feature,
    Finished,
    GenerateOrder,
    ModelFiles,
    Token,
)
from ashore.data.engines.openvino.config import choose_kv_tokens, run_config
from ashore.data.engines.openvino.graph import BLOCK_TOKENS, PagedModel
from ashore.data.engines.openvino.runtime import import_openvino
from ashore.data.engines.ordercheck import check_order
from ashore.kit.processes import free_memory_bytes

FEATURES: tuple[Feature, ...] = ("logprobs", "seed", "temperature", "top_k", "top_p")


@dataclass(slots=True)
class _Running:
    order: GenerateOrder
    handle: Any
    sent: int = 0


class GenaiEngine:
    """Implements `Engine` over `openvino_genai.ContinuousBatchingPipeline`. For comparisons; it lacks what we added."""

    def __init__(self) -> None:
        self._running: dict[OrderId, _Running] = {}
        self._events: list[EngineEvent] = []
        self._numbers = itertools.count(1)
        self._steps = 0
        self._step_seconds = 0.0

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        self._ov, self._genai = import_openvino(), import_openvino("openvino_genai")
        directory = Path(files.directory)
        config = run_config(options)
        facts = PagedModel(directory / (files.weights or "openvino_model.xml"), config.properties)
        context = options.context_tokens or facts.facts.context_tokens or 4096
        per_token = max(1, facts.kv_bytes_per_block // BLOCK_TOKENS)
        kv_tokens = choose_kv_tokens(
            options, context_tokens=context, bytes_per_token=per_token, free_bytes=free_memory_bytes()
        )
        scheduler = self._genai.SchedulerConfig()
        scheduler.num_kv_blocks = max(1, kv_tokens // BLOCK_TOKENS)
        scheduler.max_num_batched_tokens = options.max_batch_tokens
        scheduler.max_num_seqs = options.max_sequences
        scheduler.enable_prefix_caching = options.prefix_cache
        properties = {k: v for k, v in config.properties.items() if k != "PERFORMANCE_HINT"}
        try:
            self._pipeline = self._genai.ContinuousBatchingPipeline(str(directory), scheduler, "CPU", properties)
        except RuntimeError as error:
            raise EngineFailed(f"GenAI cannot load {files.name}: {error}") from error
        self._info = EngineInfo(
            kind="openvino",
            version=f"openvino-genai {self._genai.__version__}",
            model=files.name,
            precision=facts.facts.precision,
            context_tokens=context,
            vocab_size=facts.facts.vocab_size,
            kv_tokens=scheduler.num_kv_blocks * BLOCK_TOKENS,
            max_sequences=options.max_sequences,
            features=FEATURES,
        )
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        try:
            if order.order_id in self._running:
                raise Conflict(f"order {order.order_id} is running already")
            check_order(order, self._info)
            ids = self._ov.Tensor(np.array([order.prompt_ids], np.int64))
            handle = self._pipeline.add_request(next(self._numbers), ids, self._config(order))
        except AshoreError as error:
            self._events.append(failed(order.order_id, error))
        except RuntimeError as error:
            self._events.append(failed(order.order_id, EngineFailed(f"GenAI refused the order: {error}")))
        else:
            self._running[order.order_id] = _Running(order, handle)

    def cancel(self, order_id: OrderId) -> None:
        running = self._running.pop(order_id, None)
        if running is not None:
            running.handle.cancel()
            self._events.append(_finished(running, "cancelled"))

    def step(self, timeout_s: float) -> Sequence[EngineEvent]:
        if self._pipeline.has_non_finished_requests():
            begun_s = time.perf_counter()
            self._pipeline.step()
            self._step_seconds += time.perf_counter() - begun_s
            self._steps += 1
            for running in list(self._running.values()):
                self._read(running)
        elif not self._events and timeout_s > 0:
            time.sleep(timeout_s)
        events, self._events = self._events, []
        return events

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._running), steps=self._steps, step_seconds=self._step_seconds)

    def close(self) -> None:
        for order_id in list(self._running):
            self.cancel(order_id)
        self._pipeline = None

    def _config(self, order: GenerateOrder) -> Any:
        sampling = order.sampling
        config = self._genai.GenerationConfig()
        config.max_new_tokens = order.max_new_tokens
        config.apply_chat_template = False
        # Without a tokenizer beside the model there is no default, and -1 is refused.
        stops = set(order.stop_token_ids) or {self._info.vocab_size - 1}
        config.eos_token_id, config.stop_token_ids = min(stops), stops
        config.ignore_eos = order.ignore_eos or not order.stop_token_ids
        config.logprobs = 0 if order.top_logprobs is None else 1
        config.do_sample = sampling.temperature > 0
        if config.do_sample:
            config.temperature, config.top_p = sampling.temperature, max(sampling.top_p, 1e-6)
            config.top_k = sampling.top_k or 2**63
            config.rng_seed = sampling.seed if sampling.seed is not None else secrets.randbits(62)
        return config

    def _read(self, running: _Running) -> None:
        order, handle = running.order, running.handle
        while handle.can_read():
            for output in handle.read().values():
                for place, token_id in enumerate(output.generated_ids):
                    if token_id in order.stop_token_ids and not order.ignore_eos:
                        self._end(running, "stop", token_id)
                        return
                    logprob = None if order.top_logprobs is None else float(output.generated_log_probs[place])
                    running.sent += 1
                    self._events.append(Token(order.order_id, int(token_id), logprob))
        if running.sent >= order.max_new_tokens:
            self._end(running, "length")

    def _end(self, running: _Running, reason: str, stop_token_id: int | None = None) -> None:
        del self._running[running.order.order_id]
        self._events.append(_finished(running, reason, stop_token_id))


def _finished(running: _Running, reason: str, stop_token_id: int | None = None) -> Finished:
    order = running.order
    return Finished(order.order_id, reason, len(order.prompt_ids), 0, running.sent, stop_token_id)  # type: ignore[arg-type]
