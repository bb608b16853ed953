"""A replica without a host process: it repeats the prompt. The twin of `HostClient`, for tests."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator

from ashore.engines import EngineEvent, EngineInfo, EngineStats, Finished, GenerateOrder, Token, TokenLogprob
from ashore.errors import HostDied
from ashore.serving.bytes_text import END

ALL_FEATURES = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "logit_bias", "seed", "logprobs", "top_logprobs", "grammar", "embed",
)  # fmt: skip

ECHO_INFO = EngineInfo(
    kind="fake",
    version="memory 1",
    model="memory:echo",
    precision="none",
    context_tokens=4096,
    vocab_size=END + 1,
    kv_tokens=65_536,
    max_sequences=64,
    features=ALL_FEATURES,  # type: ignore[arg-type]
    max_top_logprobs=20,
    embedding_size=8,
    deterministic_seed=True,
)


class MemoryReplica:
    """Echoes the prompt, token by token. Dies when it is told to, and stays dead, as a connection does."""

    def __init__(self, info: EngineInfo = ECHO_INFO, *, token_s: float = 0.0, die_after: int | None = None) -> None:
        """`token_s`: pause before each token. `die_after`: tokens over all orders after which the host is gone."""
        self._info = info
        self._token_s = token_s
        self._tokens_left = math.inf if die_after is None else die_after
        self._connected = False
        self.orders: list[GenerateOrder] = []
        """Every order that was given, for tests that ask what reached the engine."""
        self.running = 0
        self.completed_tokens = 0

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def connected(self) -> bool:
        return self._connected

    async def connect(self, timeout_s: float) -> None:
        self._connected = True

    async def generate(self, order: GenerateOrder) -> AsyncGenerator[EngineEvent, None]:
        self.orders.append(order)
        self.running += 1
        ids = order.prompt_ids[: order.max_new_tokens]
        try:
            for token_id in ids:
                await asyncio.sleep(self._token_s)
                self._spend_one()
                self.completed_tokens += 1
                yield self._token(order, token_id)
        finally:
            self.running -= 1
        yield Finished(
            order.order_id,
            "length" if len(ids) < len(order.prompt_ids) or order.ignore_eos else "stop",
            len(order.prompt_ids),
            0,
            len(ids),
        )

    async def embed(self, batch: list[list[int]]) -> list[list[float]]:
        self._check_alive()
        return [_vector(ids, self._info.embedding_size) for ids in batch]

    async def stats(self) -> EngineStats:
        return EngineStats(running=self.running, completion_tokens=self.completed_tokens)

    async def close(self) -> None:
        self._connected = False

    def die(self) -> None:
        """Be gone, as after `kill -9`."""
        self._connected = False

    def _spend_one(self) -> None:
        if self._tokens_left <= 0:
            self._connected = False
        self._tokens_left -= 1
        self._check_alive()

    def _check_alive(self) -> None:
        if not self._connected:
            raise HostDied(hint="it restarts by itself; send the request again")

    def _token(self, order: GenerateOrder, token_id: int) -> Token:
        if order.top_logprobs is None:
            return Token(order.order_id, token_id)
        top = tuple(TokenLogprob((token_id + i) % END, -0.1 - i) for i in range(order.top_logprobs))
        return Token(order.order_id, token_id, -0.1, top)


def _vector(ids: list[int], size: int) -> list[float]:
    digest = hashlib.sha256(repr(ids).encode()).digest()
    numbers = [digest[i % 32] - 127.5 for i in range(size)]
    length = math.sqrt(sum(x * x for x in numbers))
    return [x / length for x in numbers]
