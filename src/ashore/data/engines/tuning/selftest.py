"""Five checks of an engine on a machine on which ashore has not run yet: start, tokens, streams, memory, kill.

Every answer is greedy. Rounding differs between machines and between batches, so two answers agree here when most of
them begin with the same tokens: a wrong mask, position or dequantisation changes the first ones already.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, get_args

import msgspec

from ashore.core.errors import AshoreError, Draining, EngineFailed, HostDied, InvalidRequest
from ashore.core.foreign import foreign_errors
from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines.client import HostClient
from ashore.data.engines.failures import error_of
from ashore.data.engines.hostlaunch import HostLaunch
from ashore.data.engines.hostprocess import HostProcess, host_process
from ashore.data.engines.model import Failed, GenerateOrder, Token
from ashore.data.engines.tuning.model import MANY_STREAMS, Machine
from ashore.kit.textfile import read_text_file

Step = Literal["start", "tokens", "streams", "memory", "kill"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)
QUESTIONS: Final = (
    "What is the capital of France?",
    "Count from one to twelve.",
    "Write one sentence about the sea.",
    "List the days of the week.",
)
NEW_TOKENS: Final = 32
LEADING: Final = 6
"""Tokens at the start of an answer that are compared."""
MOST_GROWTH: Final = 0.05
FREE_GROWTH_BYTES: Final = 64 * 2**20
"""A host may gain this share of its memory, or these bytes if they are more, while the same questions are asked."""
NOTICED_S: Final = 60.0
"""Longest until every stream of a killed host has ended with an error."""

Answer = tuple[int, ...]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One step: whether it passed, and what was seen. `passed` is None where there was nothing to compare with."""

    step: Step
    passed: bool | None
    seen: str


class Selftest(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a test, as `ashore engine selftest` writes it. Its answers are a reference for another machine."""

    model: str
    digest: str
    engine: str
    """Library and version, as the engine says."""
    precision: str
    machine: Machine
    accelerators: dict[str, int]
    """Cards by maker."""
    at_s: int
    took_s: float
    checks: tuple[Check, ...]
    answers: tuple[Answer, ...]
    """Tokens of the answers to `QUESTIONS`, each asked alone."""

    @property
    def failed(self) -> tuple[Step, ...]:
        """Steps that did not pass, and those that were not reached."""
        passed = {check.step for check in self.checks if check.passed is not False}
        return tuple(step for step in STEPS if step not in passed)


@dataclass(kw_only=True)
class Seen:
    """What a test has found so far; it stays when a step raises."""

    on_step: Callable[[Step], None]
    """Called before each step."""
    step: Step = "start"
    checks: list[Check] = field(default_factory=list)
    answers: tuple[Answer, ...] = ()
    engine: str = ""
    precision: str = ""

    def begin(self, step: Step) -> None:
        self.step = step
        self.on_step(step)

    def end(self, passed: bool | None, seen: str) -> None:
        self.checks.append(Check(step=self.step, passed=passed, seen=seen))


def agree(ours: Sequence[Answer], theirs: Sequence[Answer]) -> int:
    """Return how many answers begin with the same tokens."""
    return sum(one[:LEADING] == other[:LEADING] for one, other in zip(ours, theirs, strict=True))


def run_selftest(
    launch: HostLaunch,
    prompts: Sequence[list[int]],
    *,
    reference: Sequence[Answer],
    load_s: float,
    log: Path,
    on_step: Callable[[Step], None],
) -> Seen:
    """Run the steps in order, and return what was seen. The first step that does not work is the last one.

    Returns when the hosts are gone, in every case.

    Args:
        launch: Model and engine.
        prompts: Tokens of `QUESTIONS`.
        reference: Their answers from elsewhere; empty: none.
        load_s: Seconds of load for the step `memory`.
        log: File to which the output of the hosts is appended.
        on_step: Called before each step.
    """
    seen = Seen(on_step=on_step)
    try:
        with host_process(launch, log=log) as host:
            asyncio.run(_first_host(host, prompts, reference, load_s, seen))
        with host_process(launch, log=log) as host:
            asyncio.run(_second_host(host, prompts, seen))
    except AshoreError as fault:
        seen.end(False, fault.message)
    return seen


@asynccontextmanager
async def _connected(host: HostProcess) -> AsyncIterator[HostClient]:
    client = HostClient(host.socket)
    try:
        await host.connect(client)
        yield client
    finally:
        await client.close()


async def _first_host(
    host: HostProcess, prompts: Sequence[list[int]], reference: Sequence[Answer], load_s: float, seen: Seen
) -> None:
    seen.begin("start")
    began_s = time.monotonic()
    async with _connected(host) as client:
        seen.engine, seen.precision = client.info.version, client.info.precision
        seen.end(True, f"ready after {time.monotonic() - began_s:.1f} s")

        seen.begin("tokens")
        seen.answers = tuple([await _answer(client, f"alone-{i}", prompt) for i, prompt in enumerate(prompts)])
        if reference:
            same = agree(seen.answers, reference)
            seen.end(2 * same > len(prompts), f"{same} of {len(prompts)} answers begin as in the reference")
        else:
            seen.end(None, "no reference to compare with; give --reference")

        seen.begin("streams")
        many = [prompts[i % len(prompts)] for i in range(MANY_STREAMS)]
        alone = [seen.answers[i % len(prompts)] for i in range(MANY_STREAMS)]
        began_s = time.monotonic()
        together = await _answers(client, "streams", many)
        rate = sum(map(len, together)) / (time.monotonic() - began_s)
        same = agree(together, alone)
        seen.end(2 * same > MANY_STREAMS, f"{same} of {MANY_STREAMS} streams begin as alone; {rate:.0f} tokens/s")

        seen.begin("memory")
        before, rounds, ends_s = host.resident_bytes(), 0, time.monotonic() + load_s
        while rounds == 0 or time.monotonic() < ends_s:
            await _answers(client, f"load-{rounds}", many)
            rounds += 1
        grown = host.resident_bytes() - before
        used = f"{before / 2**20:.0f} MiB, {grown / 2**20:+.0f} MiB after {rounds} rounds of {MANY_STREAMS} streams"
        seen.end(grown <= max(MOST_GROWTH * before, FREE_GROWTH_BYTES), used)

        seen.begin("kill")
        await _killed(host, client, many)


async def _killed(host: HostProcess, client: HostClient, prompts: Sequence[list[int]]) -> None:
    """Kill a host in the middle of its answers."""
    first = asyncio.Event()
    tasks = [asyncio.create_task(_answer(client, f"killed-{i}", one, first)) for i, one in enumerate(prompts)]
    await asyncio.wait({asyncio.create_task(first.wait()), *tasks}, return_when=asyncio.FIRST_COMPLETED)
    host.process.kill()
    done, late = await asyncio.wait(tasks, timeout=NOTICED_S)
    for task in late:
        task.cancel()
    faults = [fault for task in done if (fault := task.exception()) is not None]
    if late or [fault for fault in faults if not isinstance(fault, HostDied | Draining)]:
        raise EngineFailed(f"{len(late)} of {len(tasks)} streams did not end with an error: {faults[:1]}")


async def _second_host(host: HostProcess, prompts: Sequence[list[int]], seen: Seen) -> None:
    began_s = time.monotonic()
    async with _connected(host) as client:
        again = [await _answer(client, f"again-{i}", prompt) for i, prompt in enumerate(prompts)]
    same = agree(again, seen.answers)
    took = f"answered {time.monotonic() - began_s:.1f} s after a kill"
    seen.end(2 * same > len(prompts), f"{took}; {same} of {len(prompts)} answers begin as before")


async def _answers(client: HostClient, name: str, prompts: Sequence[list[int]]) -> tuple[Answer, ...]:
    """Return the answers to prompts that are asked at once."""
    tasks = [asyncio.create_task(_answer(client, f"{name}-{i}", prompt)) for i, prompt in enumerate(prompts)]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _answer(client: HostClient, order: str, prompt: list[int], first: asyncio.Event | None = None) -> Answer:
    made: list[int] = []
    asked = GenerateOrder(
        order_id=OrderId(f"selftest-{order}"),
        prompt_ids=prompt,
        max_new_tokens=NEW_TOKENS,
        sampling=Sampling(temperature=0.0),
        ignore_eos=True,
    )
    async for event in client.generate(asked):
        match event:
            case Token():
                made.append(event.token_id)
                if first is not None:
                    first.set()
            case Failed():
                raise error_of(event)
            case _:
                continue
    if len(made) < NEW_TOKENS:
        raise EngineFailed(f"an answer ended after {len(made)} of {NEW_TOKENS} tokens")
    return tuple(made)


def read_selftest(path: Path) -> Selftest:
    """Return what `ashore engine selftest` wrote.

    Raises:
        InvalidRequest: the file is missing or is something else.
    """
    form = "expected a file that `ashore engine selftest` wrote on another machine"
    text = read_text_file(path, "the reference", hint=form)
    with foreign_errors(f"{path} is not the result of a selftest", InvalidRequest, hint=form):
        return msgspec.json.decode(text, type=Selftest)
