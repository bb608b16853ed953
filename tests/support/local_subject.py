"""A subject whose engine runs in this process: the twin of `HostSubject`, and the short way for small models."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import UnsupportedByEngine
from ashore.core.ids import OrderId
from ashore.data.engines import (
    CanScore,
    CanTellDistributions,
    Engine,
    EngineInfo,
    Failed,
    Finished,
    GenerateOrder,
    Sampling,
    ScoredText,
    ScoreText,
    Token,
    error_of,
    scored,
)
from ashore.data.text import TextModel
from ashore.lab.evaluation.hosted import calls_of
from ashore.lab.evaluation.ports import Generated, Told, untold

_STEP_S = 0.05


class LocalSubject:
    """See `Subject`. The caller has loaded the engine, and closes it."""

    def __init__(self, name: str, engine: Engine, info: EngineInfo, text: TextModel) -> None:
        self._name, self._engine, self._info, self._text = name, engine, info, text
        self._serial = itertools.count()

    @property
    def name(self) -> str:
        return self._name

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def text(self) -> TextModel:
        return self._text

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0, told: Told = untold) -> list[ScoredText]:
        if not isinstance(self._engine, CanScore):
            raise UnsupportedByEngine(f"the engine {self._info.kind!r} does not score texts")
        found: list[ScoredText] = []
        for call in calls_of(texts, top_logprobs=top_logprobs):
            found += scored(self._engine, call, top_logprobs=top_logprobs)
            told(len(found), len(texts))
        return found

    def distributions(self, text: ScoreText) -> NDArray[np.float32]:
        if not isinstance(self._engine, CanTellDistributions):
            raise UnsupportedByEngine(f"the engine {self._info.kind!r} returns only the most likely tokens")
        return np.concatenate(list(self._engine.distributions(text)))

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, ignore_eos: bool = False, told: Told = untold
    ) -> list[Generated]:
        orders = [
            GenerateOrder(
                order_id=OrderId(f"evaluate-{next(self._serial)}"),
                prompt_ids=list(prompt),
                max_new_tokens=max_new_tokens,
                stop_token_ids=tuple(self._text.eos_token_ids),
                sampling=Sampling(temperature=0.0),
                ignore_eos=ignore_eos,
            )
            for prompt in prompts
        ]
        start_s = time.perf_counter()
        for order in orders:
            self._engine.submit(order)
        ids: dict[OrderId, list[int]] = {order.order_id: [] for order in orders}
        times: dict[OrderId, list[float]] = {order.order_id: [] for order in orders}
        ended: dict[OrderId, Finished] = {}
        while len(ended) < len(orders):
            for event in self._engine.step(_STEP_S):
                if event.order_id not in ids:
                    continue  # the end of an order cancelled after another one failed
                match event:
                    case Token():
                        ids[event.order_id].append(event.token_id)
                        times[event.order_id].append(time.perf_counter() - start_s)
                    case Finished():
                        ended[event.order_id] = event
                        told(len(ended), len(orders))
                    case Failed():
                        for order in orders:
                            self._engine.cancel(order.order_id)
                        raise error_of(event)
        return [
            Generated(ids=tuple(ids[i]), reason=ended[i].reason, token_s=tuple(times[i]))
            for i in (order.order_id for order in orders)
        ]

    def resident_bytes(self) -> int:
        fields = Path("/proc/self/statm")
        return int(fields.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if fields.exists() else 0

    def scored_tokens(self) -> int:
        return self._engine.stats().scored_tokens
