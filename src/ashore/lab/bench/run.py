"""One measurement: probe, warm up, load, report."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import random
import time
from collections.abc import Callable, Iterator

import msgspec

from ashore.core.errors import RemoteRefused, SourceUnreachable, Unauthenticated
from ashore.lab.bench.client import Pool, Reply, Target
from ashore.lab.bench.decode import event_json, json_object, to_record
from ashore.lab.bench.model import LoadPlan, LoadReport, LookupReport
from ashore.lab.bench.prompts import PromptMaker, estimate_tokens, tokenizer_counter
from ashore.lab.bench.report import summarise
from ashore.lab.bench.workloads import WorkloadPrompts

WARMUP_INDEX = 1_000_000
"""Prompts for probes and warm-up, so that no counted request repeats one."""


def poisson_arrivals(
    rate_per_s: float, *, seed: int, requests: int | None = None, duration_s: float | None = None
) -> Iterator[float]:
    """Yield arrival times in seconds from the start: exponential gaps with mean 1/rate, ending at the first limit."""
    draw = random.Random(seed)
    at_s = 0.0
    sent = 0
    while requests is None or sent < requests:
        if duration_s is not None and at_s >= duration_s:
            return
        yield at_s
        sent += 1
        at_s += draw.expovariate(rate_per_s)


class Sender:
    """Builds and sends the requests of one plan."""

    def __init__(self, plan: LoadPlan, pool: Pool) -> None:
        count = tokenizer_counter(plan.tokenizer) if plan.tokenizer else estimate_tokens
        self.plan = plan
        self._pool = pool
        self._maker: PromptMaker | WorkloadPrompts = PromptMaker(seed=plan.seed, count_tokens=count)
        if plan.workload is not None:
            self._maker = WorkloadPrompts(plan.workload, seed=plan.seed)
        self._system = self._maker.system(plan.system_tokens) if plan.system_tokens else ""
        self._path = "/chat/completions" if plan.api == "chat" else "/completions"
        self.user_tokens = plan.prompt_tokens

    def request(self, index: int, *, output_tokens: int | None = None, system: bool = True) -> bytes:
        """Return the bytes of the request with this index."""
        plan = self.plan
        prompt = self._maker.prompt(plan.first_index + index, self.user_tokens)
        intro = self._system if system else ""
        body: dict[str, object] = {"model": plan.model, "stream": True, "stream_options": {"include_usage": True}}
        if plan.api == "chat":
            messages = [{"role": "system", "content": intro}] if intro else []
            body["messages"] = [*messages, {"role": "user", "content": prompt}]
        else:
            body["prompt"] = f"{intro}\n{prompt}" if intro else prompt
        body["max_tokens"] = output_tokens or plan.output_tokens
        body["temperature"] = plan.temperature
        if plan.ignore_eos:
            body["ignore_eos"] = True
        body = {name: value for name, value in (body | plan.extra_body).items() if value is not None}
        return self._pool.target.request("POST", self._path, key=plan.key, body=msgspec.json.encode(body))

    async def send(self, index: int, *, started_at: float | None = None) -> Reply:
        """Send one counted request."""
        return await self._pool.ask(self.request(index), started_at=started_at, keep_events=self.plan.keep_text)

    async def calibrate(self) -> None:
        """Adjust the prompt length until the server counts the plan's number of tokens.

        The first probe also checks that the server answers, accepts our key and has the model.

        Raises:
            SourceUnreachable: nothing answers at that address.
            Unauthenticated: the server rejects the key.
            RemoteRefused: the server refuses such a request; its own words are in the message.
        """
        plan, before, each = self.plan, (0, 0), 1.0
        for attempt in range(3 if plan.calibrate else 1):
            request = self.request(WARMUP_INDEX - 1 - attempt, output_tokens=2, system=False)
            answer = await self._pool.ask(request)
            raise_refusal(answer, plan.url)
            counted = max((prompt_tokens(event) for event in answer.tail), default=0)
            if not plan.calibrate or counted in (0, plan.prompt_tokens):
                return
            sent = self.user_tokens
            # at smaller distances word lengths matter more than their number
            if before[0] and abs(sent - before[0]) > 4:
                each = max(0.5, (counted - before[1]) / (sent - before[0]))
            # The server's tokens are much smaller than ours: bytes, for example.
            elif counted > 2 * plan.prompt_tokens:
                each = counted / sent
            before = sent, counted
            self.user_tokens = max(1, sent + round((plan.prompt_tokens - counted) / each))


def prompt_tokens(event: bytes) -> int:
    """Return the prompt tokens that an event reports, 0 if none."""
    return int(((event_json(event) or {}).get("usage") or {}).get("prompt_tokens") or 0)


def raise_refusal(answer: Reply, url: str) -> None:
    """Raise the error that prevents a measurement from starting."""
    if answer.error.startswith("cannot connect"):
        raise SourceUnreachable(
            f"no server answers at {url} ({answer.error.removeprefix('cannot connect: ')})",
            hint="start a server with `ashore up`, or give the address of another one",
        )
    if answer.error:
        raise RemoteRefused(f"the first request to {url} failed: {answer.error}")
    if answer.status == 200:
        return
    body = json_object(answer.body) or {}
    error = body.get("error")
    words = str(
        error.get("message") if isinstance(error, dict) else error or answer.body[:300].decode(errors="replace")
    )
    if answer.status in (401, 403):
        raise Unauthenticated(
            f"{url} returned status {answer.status}: {words}", hint="set ASHORE_API_KEY, or pass --key"
        )
    raise RemoteRefused(
        f"{url} returned status {answer.status} for the first request: {words}", hint="check --api and --extra"
    )


async def first_model(pool: Pool, plan: LoadPlan) -> str:
    """Return the server's first model that generates text."""
    answer = await pool.ask(pool.target.request("GET", "/models", key=plan.key))
    raise_refusal(answer, plan.url)
    items = (json_object(answer.body) or {}).get("data") or ()
    for item in items:
        if isinstance(item, dict) and item.get("id") and item.get("features") != ["embed"]:
            return str(item["id"])
    raise RemoteRefused(f"{plan.url} lists no model", hint="give --model")


async def closed_loop(sender: Sender, record: Callable[[int, Reply], None], *, started_at: float) -> None:
    """Keep a constant number of users busy until the plan's end."""
    plan = sender.plan
    users = plan.concurrency or 1
    next_index = 0

    async def user(number: int) -> None:
        nonlocal next_index
        if plan.ramp_s:
            await asyncio.sleep(plan.ramp_s * number / users)
        while plan.requests is None or next_index < plan.requests:
            if plan.duration_s is not None and time.perf_counter() - started_at >= plan.duration_s:
                return
            index, next_index = next_index, next_index + 1
            record(index, await sender.send(index))

    async with asyncio.TaskGroup() as tasks:
        for number in range(users):
            tasks.create_task(user(number))


async def open_loop(sender: Sender, record: Callable[[int, Reply], None], *, started_at: float) -> None:
    """Send at the planned moments, regardless of the server's state."""
    plan = sender.plan

    async def one(index: int, at: float) -> None:
        record(index, await sender.send(index, started_at=at))

    arrivals = poisson_arrivals(
        plan.rate_per_s or 1.0, seed=plan.seed, requests=plan.requests, duration_s=plan.duration_s
    )
    async with asyncio.TaskGroup() as tasks:
        for index, at_s in enumerate(arrivals):
            delay = started_at + at_s - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            tasks.create_task(one(index, started_at + at_s))


async def run_with_and_without_lookup(plan: LoadPlan, *, progress: Callable[[int], None] | None = None) -> LookupReport:
    """Measure a workload in rounds of one request for each user, each with tokens looked up and without, on the same
    prompts; which comes first alternates, so that a machine that is busy now and then is so for both. Each side has
    its own prefix cache (`cache_salt`), and no round repeats a prompt.

    Args:
        plan: What one side sends; with a workload, a concurrency and a number of requests.
        progress: Called with the number of counted requests that have ended, after each.

    Raises:
        SourceUnreachable, Unauthenticated, RemoteRefused: the server refuses the first request.
    """
    assert plan.workload is not None and plan.requests is not None and plan.concurrency is not None
    users = min(plan.concurrency, plan.requests)
    seen: list[tuple[LoadReport, LoadReport]] = []
    done = 0

    def count(number: int) -> None:
        if progress is not None:
            progress(done + number)

    for number in range(plan.requests // users):
        sides: dict[bool, LoadReport] = {}
        for looks_up in (False, True) if number % 2 else (True, False):
            given = {"lookup": None if looks_up else False, "cache_salt": f"{plan.seed} {looks_up}"}
            side = dataclasses.replace(
                plan,
                requests=users,
                first_index=number * users,
                warmup=0 if number else plan.warmup,
                calibrate=False,
                extra_body={**given, **plan.extra_body},
            )
            sides[looks_up] = await run_load(side, progress=count)
            done += users
        seen.append((sides[True], sides[False]))
    return LookupReport(workload=plan.workload, rounds=tuple(seen))


async def run_load(plan: LoadPlan, *, progress: Callable[[int], None] | None = None) -> LoadReport:
    """Measure a server and return the report.

    Sends probes and warm-up requests first; they are not counted. Returns after the last answer. A request that
    fails during the measurement is counted, not raised.

    Args:
        plan: What to send.
        progress: Called with the number of counted requests that have ended, after each.

    Raises:
        SourceUnreachable, Unauthenticated, RemoteRefused: the server refuses the first request.
    """
    pool = Pool(Target.parse(plan.url), timeout_s=plan.timeout_s, ca_file=plan.ca_file)
    answers: list[tuple[int, Reply]] = []
    try:
        if not plan.model:
            plan = dataclasses.replace(plan, model=await first_model(pool, plan))
        sender = Sender(plan, pool)
        await sender.calibrate()
        for number in range(plan.warmup):
            raise_refusal(await pool.ask(sender.request(WARMUP_INDEX + number)), plan.url)
        gc.collect()
        gc.freeze()
        started_at, cpu_before = time.perf_counter(), time.process_time()

        def record(index: int, answer: Reply) -> None:
            answers.append((index, answer))
            if progress is not None:
                progress(len(answers))

        loop = closed_loop if plan.rate_per_s is None else open_loop
        await loop(sender, record, started_at=started_at)
        cpu_s = time.process_time() - cpu_before
        ended_at = max((a.ended_at for _, a in answers), default=started_at)
    finally:
        gc.unfreeze()
        pool.close()
    records = [to_record(index, answer, started_at=started_at) for index, answer in answers]
    return summarise(plan, records, wall_s=ended_at - started_at, client_cpu_s=cpu_s)
