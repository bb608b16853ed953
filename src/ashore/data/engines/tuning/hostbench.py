"""Runs a candidate in an engine host of its own and measures it over the host's socket.

One round of measurements over a loaded engine: one stream, four, sixteen, a long prompt, the first token.

Prompts are random token ids, no two alike, so that no prefix cache helps; sequences go on past stop tokens, so that all
are equally long. Times are measured as the request path sees them: orders out, events back, over the host's socket.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ashore.core.errors import DeadlineExceeded, Draining, EngineFailed, HostDied
from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines.client import HostClient
from ashore.data.engines.failures import error_of
from ashore.data.engines.hostlaunch import HostLaunch
from ashore.data.engines.hostprocess import HostProcess, host_process
from ashore.data.engines.model import Failed, Finished, GenerateOrder, ModelFiles, Token
from ashore.data.engines.tuning.model import MANY_STREAMS, Candidate, Round
from ashore.data.engines.tuning.ports import Trial
from ashore.data.engines.tuning.rules import tokens_for

FIRST_TOKEN_PROMPT: Final = 32
LONG_PROMPT: Final = 512
FIRST_TOKEN_TRIES: Final = 3
WARM_UP_TOKENS: Final = 8
STREAM_TARGET_S: Final = 1.0
"""A single stream of a round should last about this long."""
FilesOf = Callable[[Candidate, float], ModelFiles]
"""Gives the files of a candidate's variant, made now, within so many seconds, if they must be. Raises an `AshoreError`
where they cannot."""


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence: when its first and last token came, in seconds after its order."""

    first_s: float
    last_s: float
    tokens: int

    @property
    def per_s(self) -> float:
        """Tokens per second after the first one, which waits for the prompt and is measured separately."""
        if self.tokens < 2:
            return self.tokens / max(self.last_s, 1e-9)
        return (self.tokens - 1) / max(self.last_s - self.first_s, 1e-9)


class Measurer:
    """Takes rounds from one loaded engine."""

    def __init__(self, client: HostClient, *, seed: int = 0) -> None:
        self._client = client
        self._draw = random.Random(seed)
        self._serial = itertools.count()
        self._tokens = WARM_UP_TOKENS
        context = client.info.context_tokens or 2 * LONG_PROMPT
        self._long_prompt = max(1, min(LONG_PROMPT, context - 1))
        self._short_prompt = max(1, min(FIRST_TOKEN_PROMPT, context // 4))
        self._most_tokens = max(1, context - self._short_prompt)

    async def warm_up(self) -> None:
        """Run every shape once untimed, and find how many tokens are worth timing."""
        alone = await self._sequence(self._short_prompt, WARM_UP_TOKENS)
        await self._streams(MANY_STREAMS, 2)
        await self._sequence(self._long_prompt, 1)
        rate = alone.per_s
        self._tokens = min(tokens_for(rate, target_s=STREAM_TARGET_S), self._most_tokens)

    async def round(self) -> Round:
        """Measure everything once.

        Raises:
            AshoreError: a sequence failed, with the engine's reason.
        """
        firsts = [(await self._sequence(self._short_prompt, 1)).first_s for _ in range(FIRST_TOKEN_TRIES)]
        long = await self._sequence(self._long_prompt, 1)
        return Round(
            one_tok_per_s=(await self._sequence(self._short_prompt, self._tokens)).per_s,
            four_tok_per_s=await self._streams(4, self._tokens),
            sixteen_tok_per_s=await self._streams(MANY_STREAMS, self._tokens),
            prefill_tok_per_s=self._long_prompt / long.first_s,
            ttft_ms=1e3 * sorted(firsts)[len(firsts) // 2],
        )

    async def _streams(self, count: int, tokens: int) -> float:
        """Return tokens per second of `count` sequences started together."""
        start_s = time.perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._sequence(self._short_prompt, tokens)) for _ in range(count)]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        wall_s = time.perf_counter() - start_s
        return sum(task.result().tokens for task in tasks) / wall_s

    async def _sequence(self, prompt_tokens: int, new_tokens: int) -> Timed:
        order = self._order(prompt_tokens, new_tokens)
        start_s = time.perf_counter()
        first_s = last_s = 0.0
        tokens = 0
        async for event in self._client.generate(order):
            match event:
                case Token():
                    last_s = time.perf_counter() - start_s
                    first_s = first_s or last_s
                    tokens += 1
                case Failed():
                    raise error_of(event)
                case Finished():
                    continue
        if tokens < new_tokens:
            raise EngineFailed(f"a sequence ended after {tokens} of {new_tokens} tokens, so nothing can be timed")
        return Timed(first_s=first_s, last_s=last_s, tokens=tokens)

    def _order(self, prompt_tokens: int, new_tokens: int) -> GenerateOrder:
        vocab = max(2, self._client.info.vocab_size)
        low = min(1000, vocab // 2)  # the first ids are special tokens and single bytes
        return GenerateOrder(
            order_id=OrderId(f"tune-{next(self._serial)}"),
            prompt_ids=[self._draw.randrange(low, vocab) for _ in range(prompt_tokens)],
            max_new_tokens=new_tokens,
            sampling=Sampling(temperature=0.0),
            ignore_eos=True,
        )


class HostBench:
    """Measures with real hosts, one after another."""

    def __init__(self, *, files_of: FilesOf, log: Path) -> None:
        """Make the bench.

        Args:
            files_of: Returns the files of a candidate.
            log: File to which every host's output is appended.
        """
        self._files_of = files_of
        self._log = log

    def visit(self, candidate: Candidate, *, rounds: int, limit_s: float) -> Trial:
        """See `Bench.visit`."""
        ends_s = time.monotonic() + limit_s
        files = self._files_of(candidate, limit_s)
        start_s = time.monotonic()
        launch = HostLaunch(files=files, options=candidate.options, drain_s=0.0)
        with host_process(launch, log=self._log) as host:
            try:
                return asyncio.run(_measure(host, rounds=rounds, start_s=start_s, ends_s=ends_s))
            except (HostDied, Draining) as error:  # it died, or was stopped
                code = host.stop()
                raise EngineFailed(f"its host died (exit code {code}); see {self._log}") from error


async def _measure(host: HostProcess, *, rounds: int, start_s: float, ends_s: float) -> Trial:
    taken: list[Round] = []
    client = HostClient(host.socket)
    try:
        async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
            await host.connect(client)
            ready_s = time.monotonic() - start_s
            measurer = Measurer(client)
            await measurer.warm_up()
            for _ in range(rounds):
                taken.append(await measurer.round())
    except TimeoutError as error:
        if not taken:
            raise DeadlineExceeded(f"no round fitted into the {ends_s - start_s:.0f} s left") from error
    finally:
        await client.close()
    took_s = time.monotonic() - start_s - ready_s
    return Trial(engine=client.info.version, start_s=ready_s, took_s=took_s, rounds=tuple(taken))
