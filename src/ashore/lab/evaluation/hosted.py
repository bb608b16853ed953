"""A subject in its own engine host: the artefact as it is served."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import Draining, EngineFailed, HostDied
from ashore.core.ids import OrderId
from ashore.data.engines import (
    EngineInfo,
    EngineOptions,
    Failed,
    Finished,
    GenerateOrder,
    HostClient,
    HostLaunch,
    HostProcess,
    ModelFiles,
    Sampling,
    ScoredText,
    ScoreText,
    Token,
    error_of,
    host_process,
)
from ashore.data.text import TextModel
from ashore.lab.evaluation.ports import Generated, Subject, Told, untold

CALL_TOKENS: Final = 16_384
"""Tokens of one call: some seconds on two cores, so that progress is seen; its first and last steps, which are not
full, are then a small part of it."""
CALL_ANSWERS: Final = 20_000
"""Log-probabilities of one call, top ones included: what fits a frame."""


def calls_of(texts: Sequence[ScoreText], *, top_logprobs: int) -> Iterator[list[ScoreText]]:
    """Cut texts into calls, in order, at least one text each."""
    call: list[ScoreText] = []
    tokens = answers = 0
    for text in texts:
        told = (len(text.ids) - text.start) * (1 + top_logprobs)
        if call and (tokens + len(text.ids) > CALL_TOKENS or answers + told > CALL_ANSWERS):
            yield call
            call, tokens, answers = [], 0, 0
        call.append(text)
        tokens += len(text.ids)
        answers += told
    if call:
        yield call


A = TypeVar("A")
B = TypeVar("B")

CALLS_IN_FLIGHT: Final = 2
"""So that the host has its next call when it ends one."""


@contextmanager
def open_hosted(
    files: ModelFiles, options: EngineOptions, *, text_from: Path | None = None, log: Path | None = None
) -> Iterator[Subject]:
    """Start a host for `files` and yield its subject; the host ends with the block, and with this process.

    The files need not be in a store: a folder that was just made will do.

    Args:
        files: The model.
        options: The engine and how it runs.
        text_from: Folder with `tokenizer.json` and the like; default: that of the model.
        log: Where the host's own words go.

    Raises:
        UnsupportedModel, MissingExtra, EngineFailed: the engine could not load it, in its own words.
    """
    text = TextModel.load(text_from or Path(files.directory))
    launch = HostLaunch(files=files, options=options, drain_s=0.0)
    with asyncio.Runner() as runner, host_process(launch, log=log) as host:
        client = HostClient(host.socket)
        try:
            runner.run(host.connect(client))
            yield HostSubject(files.name, text, client, runner, host)
        except (HostDied, Draining) as error:  # it died, or was stopped
            words = f"; see {log}" if log else ""
            raise EngineFailed(f"the host of {files.name} died (exit code {host.stop()}){words}") from error
        finally:
            runner.run(client.close())


class HostSubject:
    """See `Subject`. `open_hosted` makes it."""

    def __init__(
        self, name: str, text: TextModel, client: HostClient, runner: asyncio.Runner, host: HostProcess
    ) -> None:
        self._name, self._text, self._client, self._runner, self._host = name, text, client, runner, host
        self._serial = itertools.count()

    @property
    def name(self) -> str:
        return self._name

    @property
    def info(self) -> EngineInfo:
        return self._client.info

    @property
    def text(self) -> TextModel:
        return self._text

    def score(self, texts: Sequence[ScoreText], *, top_logprobs: int = 0, told: Told = untold) -> list[ScoredText]:
        calls = list(calls_of(texts, top_logprobs=top_logprobs))
        done = 0

        async def one(call: list[ScoreText]) -> list[ScoredText]:
            nonlocal done
            scored = await self._client.score(call, top_logprobs=top_logprobs)
            done += len(call)
            told(done, len(texts))
            return scored

        answers = self._runner.run(_each(calls, one, at_once=CALLS_IN_FLIGHT))
        return [scored for answer in answers for scored in answer]

    def distributions(self, text: ScoreText) -> NDArray[np.float32]:
        return self._runner.run(self._client.distributions(text))

    def generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, ignore_eos: bool = False, told: Told = untold
    ) -> list[Generated]:
        done = 0

        async def one(prompt: Sequence[int]) -> Generated:
            nonlocal done
            order = GenerateOrder(
                order_id=OrderId(f"evaluate-{next(self._serial)}"),
                prompt_ids=list(prompt),
                max_new_tokens=max_new_tokens,
                stop_token_ids=tuple(self._text.eos_token_ids),
                sampling=Sampling(temperature=0.0),
                ignore_eos=ignore_eos,
            )
            answer = await _answer(self._client, order)
            done += 1
            told(done, len(prompts))
            return answer

        return self._runner.run(_each(prompts, one, at_once=self.info.max_sequences))

    def resident_bytes(self) -> int:
        return self._host.resident_bytes()

    def scored_tokens(self) -> int:
        return self._runner.run(self._client.stats()).scored_tokens


async def _each(items: Sequence[A], work: Callable[[A], Awaitable[B]], *, at_once: int) -> list[B]:
    """Run `work` for every item, some concurrently; the first failure stops the others and is raised."""
    places = iter(enumerate(items))
    done: dict[int, B] = {}

    async def lane() -> None:
        for place, item in places:
            done[place] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_once, len(items))):
                group.create_task(lane())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [done[place] for place in range(len(items))]


async def _answer(client: HostClient, order: GenerateOrder) -> Generated:
    start_s = time.perf_counter()
    ids: list[int] = []
    times: list[float] = []
    async for event in client.generate(order):
        match event:
            case Token():
                ids.append(event.token_id)
                times.append(time.perf_counter() - start_s)
            case Failed():
                raise error_of(event)
            case Finished():
                return Generated(ids=tuple(ids), reason=event.reason, token_s=tuple(times))
    raise EngineFailed("the answer to an order has no end")
