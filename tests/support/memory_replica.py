"""A replica without a host process: it echoes the prompt. The twin of `HostClient`, for tests."""

from __future__ import annotations

import asyncio
import hashlib
import math
from contextlib import suppress
from typing import Final

from ashore.core.errors import AshoreError, Draining, HostDied
from ashore.core.sampling import SAMPLING_FIELDS
from ashore.data.engines import (
    MADE_UP,
    CancelOrder,
    EngineInfo,
    EngineStats,
    Finished,
    GenerateOrder,
    OrderHearer,
    ScoredText,
    ScoreText,
    Token,
    TokenLogprob,
)
from ashore.data.path.bytes_text import END

RESTART_S: Final = 0.03
"""From the death of a host until it is back."""
ALL_FEATURES = (*SAMPLING_FIELDS, "logprobs", "top_logprobs", "grammar", "embed", "score")

ECHO_INFO = EngineInfo(
    kind=MADE_UP.kind,
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
    """Echoes the prompt, token by token. Dies on request, and stays dead, as a connection does."""

    def __init__(
        self,
        info: EngineInfo = ECHO_INFO,
        *,
        token_s: float = 0.0,
        die_after: int | None = None,
        cached_tokens: int = 0,
    ) -> None:
        """Create the replica.

        Args:
            info: Its engine information.
            token_s: Pause before each token.
            die_after: Tokens over all orders after which the host is gone.
            cached_tokens: Prompt tokens of each order that it reports as prefix cache hits.
        """
        self._info = info
        self.cached_tokens = cached_tokens
        self._token_s = token_s
        self._tokens_left = math.inf if die_after is None else die_after
        self._connected = False
        self._gone = asyncio.Event()
        self._left = False
        self.orders: list[GenerateOrder] = []
        """Every order received, for tests that check what reached the engine."""
        self.running = 0
        self.completed_tokens = 0

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def connected(self) -> bool:
        return self._connected

    async def connect(self, timeout_s: float) -> None:
        if self._gone.is_set():
            await asyncio.sleep(RESTART_S)
        self._connected, self._gone, self._left = True, asyncio.Event(), False

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        self.orders.append(order)
        self.running += 1
        return _Echo(self, order, hearer).cancel

    async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
        self._check_alive()
        return [_vector(ids, self._info.embedding_size) for ids in batch]

    async def score(self, texts: list[ScoreText], *, top_logprobs: int = 0, tenant: str = "") -> list[ScoredText]:
        self._check_alive()
        return [[_scored(token_id, top_logprobs) for token_id in text.ids[text.start :]] for text in texts]

    async def stats(self) -> EngineStats:
        return EngineStats(running=self.running, completion_tokens=self.completed_tokens)

    async def gone(self) -> None:
        if self._connected:
            await self._gone.wait()

    async def close(self) -> None:
        self.die()

    def die(self) -> None:
        """Die, as after `kill -9`."""
        self._connected = False
        self._gone.set()

    def leave(self) -> None:
        """Drain: unfinished orders may go elsewhere."""
        self._left = self._connected
        self.die()

    async def pause(self) -> None:
        """Wait for the time of one token.

        Raises:
            HostDied: the replica died meanwhile, or has made all the tokens that it was given.
            Draining: it took leave meanwhile.
        """
        if self._token_s:  # dies at once: after the pause it might have started again
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), self._token_s)
        else:
            await asyncio.sleep(0)
        if self._tokens_left <= 0:
            self.die()
        self._tokens_left -= 1
        self._check_alive()

    def _check_alive(self) -> None:
        if self._left:
            raise Draining(hint="send it again")
        if not self._connected:
            raise HostDied(hint="it restarts by itself; send the request again")


class _Echo:
    """One order: its own prompt."""

    def __init__(self, replica: MemoryReplica, order: GenerateOrder, hearer: OrderHearer) -> None:
        self._replica = replica
        self._order = order
        self._hearer = hearer
        self._made = 0
        self._prompt_ids = order.prompt_ids[: len(order.prompt_ids) - order.begun]
        self._ended = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        self._end()
        self._task.cancel()

    async def _run(self) -> None:
        order = self._order
        try:
            while self._made < min(len(self._prompt_ids) - order.begun, order.max_new_tokens):
                await self._replica.pause()
                self._replica.completed_tokens += 1
                token = self._token(self._prompt_ids[order.begun + self._made])
                self._made += 1
                self._hearer.hear([token])
                if self._ended:
                    return
            self._end()
            self._hearer.hear([self._finished()])
        except AshoreError as fault:
            self._end()
            self._hearer.lose(fault)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._replica.running -= 1

    def _finished(self) -> Finished:
        order = self._order
        whole = order.begun + self._made == len(self._prompt_ids) and not order.ignore_eos
        return Finished(
            order.order_id, "stop" if whole else "length", len(order.prompt_ids), self._cached_tokens(), self._made
        )

    def _token(self, token_id: int) -> Token:
        order = self._order
        cached = 0 if self._made else self._cached_tokens()
        if order.top_logprobs is None:
            return Token(order.order_id, token_id, cached_tokens=cached)
        top = tuple(TokenLogprob((token_id + i) % END, -0.1 - i) for i in range(order.top_logprobs))
        return Token(order.order_id, token_id, -0.1, top, cached)

    def _cached_tokens(self) -> int:
        return min(self._replica.cached_tokens, len(self._order.prompt_ids))


def _scored(token_id: int, top_logprobs: int) -> tuple[TokenLogprob, ...]:
    best = (TokenLogprob((token_id + i) % END, -0.1 - i) for i in range(top_logprobs))
    return (TokenLogprob(token_id, -0.1), *best)


def _vector(ids: list[int], size: int) -> list[float]:
    digest = hashlib.sha256(repr(ids).encode()).digest()
    numbers = [digest[i % 32] - 127.5 for i in range(size)]
    length = math.sqrt(sum(x * x for x in numbers))
    return [x / length for x in numbers]
