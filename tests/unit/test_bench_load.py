"""The load client against a server of a few lines that we can make behave in any way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import get_args

import pytest

from ashore.core.errors import InvalidRequest, RemoteRefused, SourceUnreachable, Unauthenticated
from ashore.lab.bench import (
    LoadPlan,
    LookupReport,
    Slo,
    WorkloadPrompts,
    percentile,
    poisson_arrivals,
    report_json,
    run_load,
    run_with_and_without_lookup,
)
from ashore.lab.bench.client import Connection, Reply, Target, has_text
from ashore.lab.bench.decode import to_record
from ashore.lab.bench.prompts import PromptMaker, estimate_tokens
from ashore.lab.bench.workloads import Workload

Answering = Callable[[asyncio.StreamWriter, dict[str, object]], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(payload: object, newline: str = "\n") -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return f"data: {text}{newline}{newline}".encode()


def tokens(body: dict[str, object], newline: str = "\n") -> list[bytes]:
    """The events of an answer as servers send them: role, one per token, finish, usage, end."""
    number = int(str(body["max_tokens"]))
    events = [event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}, newline)]
    events += [event({"choices": [{"index": 0, "delta": {"content": f" t{i}"}}]}, newline) for i in range(number)]
    events.append(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, newline))
    messages = body.get("messages") or [{"content": body.get("prompt", "")}]
    prompt = sum(len(m["content"].split()) for m in messages) + 7  # type: ignore[attr-defined]
    usage = {"prompt_tokens": prompt, "completion_tokens": number, "prompt_tokens_details": {"cached_tokens": 3}}
    return [*events, event({"choices": [], "usage": usage}, newline), event("[DONE]", newline)]


async def answer_normally(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
    writer.write(HEAD)
    for one in tokens(body):
        writer.write(chunk(one))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def server(answer: Answering) -> AsyncIterator[str]:
    seen: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(x[15:]) for x in head.split(b"\r\n") if x.startswith(b"content-length:")), 0)
                body = json.loads(await reader.readexactly(length)) if length else {}
                if b"GET /v1/models" in head:
                    data = json.dumps({"data": [{"id": "toy"}]}).encode()
                    fields = f"content-type: application/json\r\ncontent-length: {len(data)}"
                    writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode() + data)
                else:
                    await answer(writer, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for task in seen:
            task.cancel()
        await asyncio.gather(*seen, return_exceptions=True)


def measure(answer: Answering, **fields: object) -> object:
    async def main() -> object:
        async with server(answer) as url:
            return await run_load(LoadPlan(url=url, **{"requests": 6, "concurrency": 3} | fields))  # type: ignore[arg-type]

    return asyncio.run(main())


def test_a_closed_loop_counts_what_the_server_says() -> None:
    report = measure(answer_normally, output_tokens=5, keep_text=True, slo=Slo(ttft_ms=5000, tpot_ms=1000))
    assert (report.model, report.sent, report.succeeded, report.errors) == ("toy", 6, 6, {})
    assert report.completion_tokens == 30
    assert report.cached_tokens == 18
    assert {r.text for r in report.records} == {" t0 t1 t2 t3 t4"}
    assert {len(r.gaps_s) for r in report.records} == {4}, "role, finish, usage and [DONE] are no tokens"
    assert {r.finish_reason for r in report.records} == {"length"}
    assert report.goodput.share == 1.0
    assert report.stalled_streams == 0
    plain = json.loads(report_json(report))
    assert "records" not in plain and plain["ttft_ms"]["count"] == 6


def test_prompts_are_stretched_until_the_server_counts_what_was_asked_for() -> None:
    report = measure(answer_normally, prompt_tokens=40, output_tokens=1)
    assert all(abs(r.prompt_tokens - 40) <= 1 for r in report.records)


def test_an_open_loop_counts_waiting_from_the_planned_arrival() -> None:
    async def slowly(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        await asyncio.sleep(0.05)
        await answer_normally(writer, body)

    report = measure(slowly, concurrency=None, rate_per_s=200.0, requests=20, output_tokens=2)
    assert report.succeeded == 20
    assert report.ttft_ms.p50 >= 50
    assert report.wall_s < 0.9, "twenty answers of 50 ms overlap"


def test_refusals_and_cut_streams_are_counted_by_name() -> None:
    seen = 0

    async def moody(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            data = b'{"error":{"message":"full","code":"overloaded"}}'
            writer.write(b"HTTP/1.1 429 Too Many\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))
        elif seen == 4:
            writer.write(HEAD + chunk(tokens(body)[1]))
            writer.close()
        elif seen == 5:
            writer.write(HEAD + chunk(tokens(body)[1]) + chunk(event({"error": {"code": "host_died"}})) + b"0\r\n\r\n")
        elif seen == 6:
            writer.write(HEAD + chunk(tokens(body)[1]) + b"0\r\n\r\n")
        else:
            await answer_normally(writer, body)

    report = measure(moody, concurrency=1, requests=6, warmup=1, calibrate=False, slo=Slo(ttft_ms=10_000))
    assert report.errors == {
        "429 overloaded": 1,
        "connection lost": 1,
        "in stream: host_died": 1,
        "stream ended without [DONE]": 1,
    }
    assert report.succeeded == 2
    assert report.goodput.share == pytest.approx(2 / 6)


def test_a_stalled_stream_is_found() -> None:
    async def stalling(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        events = tokens(body)
        writer.write(HEAD + chunk(events[0] + events[1]))
        await writer.drain()
        await asyncio.sleep(0.06)
        writer.write(chunk(b"".join(events[2:])) + b"0\r\n\r\n")

    report = measure(stalling, requests=3, output_tokens=3, stall_ms=40.0)
    assert report.stalled_streams == 3
    assert report.worst_gap_ms.max >= 55


def test_a_silent_server_is_left_after_the_timeout() -> None:
    count = 0

    async def silent(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        nonlocal count
        count += 1
        if count == 1:
            await answer_normally(writer, body)

    report = measure(silent, requests=2, concurrency=2, warmup=0, calibrate=False, timeout_s=0.2)
    assert report.errors == {"timeout": 2}


def test_a_connection_that_the_server_closed_while_idle_is_no_failure() -> None:
    async def closing(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        await answer_normally(writer, body)
        writer.close()

    report = measure(closing, requests=8, concurrency=2, output_tokens=2)
    assert (report.succeeded, report.errors) == (8, {})


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("step", [1, 3, 50, 10_000])
def test_any_cut_of_the_bytes_gives_the_same_events(newline: str, step: int) -> None:
    async def main() -> Reply:
        connection = Connection()
        connection.connection_made(FakeTransport())  # type: ignore[arg-type]
        done = connection.send(b"x", keep_events=True)
        raw = HEAD + b"".join(
            chunk(e) for e in [b": hello" + 2 * newline.encode(), *tokens({"max_tokens": 4}, newline)]
        )
        raw += b"0\r\n\r\n"
        for at in range(0, len(raw), step):
            connection.data_received(raw[at : at + step])
        return await done

    answer = asyncio.run(main())
    record = to_record(0, answer, started_at=answer.sent_at)
    assert (record.error, record.text, len(record.gaps_s)) == ("", " t0 t1 t2 t3", 3)
    assert record.completion_tokens == 4


class FakeTransport:
    def write(self, data: bytes) -> None: ...

    def abort(self) -> None: ...


def test_what_keeps_a_measurement_from_starting_is_an_error_with_a_next_step() -> None:
    async def forbidding(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        data = b'{"error":{"message":"who are you?"}}'
        writer.write(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data))

    async def confused(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        writer.write(b"HTTP/1.1 400 No\r\ncontent-length: 5\r\n\r\nwhat?")

    with pytest.raises(Unauthenticated, match="who are you") as denied:
        measure(forbidding)
    assert "ASHORE_API_KEY" in denied.value.hint
    with pytest.raises(RemoteRefused, match="what"):
        measure(confused)
    with pytest.raises(SourceUnreachable) as gone:
        asyncio.run(run_load(LoadPlan(url="http://127.0.0.1:9", concurrency=1, requests=1)))
    assert "ashore up" in gone.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"requests": 1},
        {"requests": 1, "concurrency": 1, "rate_per_s": 1.0},
        {"concurrency": 1},
        {"concurrency": 0, "requests": 1},
        {"rate_per_s": -1.0, "requests": 1},
    ],
)
def test_impossible_plans_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        LoadPlan(url="http://x", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "host", "port", "base"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, "/v1"),
        ("localhost:81/v1/", "localhost", 81, "/v1"),
        ("https://models.example/openai/v1", "models.example", 443, "/openai/v1"),
        ("http://[::1]:8080", "::1", 8080, "/v1"),
    ],
)
def test_addresses(url: str, host: str, port: int, base: str) -> None:
    target = Target.parse(url)
    assert (target.host, target.port, target.base) == (host, port, base)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999999"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Target.parse(url)


def test_has_text() -> None:
    assert has_text(b'data: {"choices":[{"delta":{"content":"a"}}]}')
    assert has_text(b'data: {"choices": [{"delta": {"content": "", "reasoning_content": "x"}}]}')
    assert not has_text(b'data: {"choices":[{"delta":{"content":""}}]}')
    assert not has_text(b'data: {"choices":[{"delta":{"content":null}}]}')


def test_prompts_are_repeatable_unlike_and_of_the_wanted_length() -> None:
    maker, again, other = PromptMaker(seed=1), PromptMaker(seed=1), PromptMaker(seed=2)
    prompts = [maker.prompt(i, 100) for i in range(50)]
    assert prompts == [again.prompt(i, 100) for i in range(50)]
    assert prompts[0] != other.prompt(0, 100)
    assert len({p[:9] for p in prompts}) == 50, "no common beginning"
    assert all(abs(estimate_tokens(p) - 100) <= 1 for p in prompts)
    assert maker.system(600) == again.system(600)


def test_poisson_arrivals_have_the_rate_and_the_spread() -> None:
    times = list(poisson_arrivals(50.0, seed=3, duration_s=100.0))
    assert len(times) == pytest.approx(5000, rel=0.05)
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert sum((g - mean) ** 2 for g in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.15)
    assert len(list(poisson_arrivals(5.0, seed=3, requests=7))) == 7


def test_percentile_interpolates() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) == 0.0


@pytest.mark.parametrize("wanted", [64, 512])
def test_prompts_have_the_length_asked_for_where_a_token_is_a_letter(wanted: int) -> None:
    async def spell(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        writer.write(HEAD)
        text = str(body["messages"][0]["content"])  # type: ignore[index]
        usage = {"prompt_tokens": len(text) + 7, "completion_tokens": 1}
        choice = {"index": 0, "delta": {"content": "t"}, "finish_reason": "length"}
        for one in (event({"choices": [choice]}), event({"choices": [], "usage": usage}), event("[DONE]")):
            writer.write(chunk(one))
        writer.write(b"0\r\n\r\n")

    report = measure(spell, prompt_tokens=wanted, output_tokens=1, requests=20)
    assert report.prompt_tokens / 20 == pytest.approx(wanted, rel=0.15)


def test_workloads_have_prompts_of_real_texts_and_another_seed_has_others() -> None:
    for kind in get_args(Workload):
        made = [WorkloadPrompts(kind, seed=seed).prompt(index, 0) for seed in (0, 1) for index in range(40)]
        again = [WorkloadPrompts(kind, seed=seed).prompt(index, 0) for seed in (0, 1) for index in range(40)]
        assert made == again
        assert len(set(made[:40]) & set(made[40:])) <= 8, kind
        assert all(50 < len(prompt) < 6_000 for prompt in made)


def test_a_workload_is_sent_with_tokens_looked_up_and_without_in_turns() -> None:
    seen: list[tuple[object, object, str]] = []

    async def answer(writer: asyncio.StreamWriter, body: dict[str, object]) -> None:
        content = body["messages"][0]["content"]  # type: ignore[index]
        seen.append((body.get("lookup", True), body["cache_salt"], str(content)))
        assert "ignore_eos" not in body
        await answer_normally(writer, body)

    told: list[int] = []

    async def measured() -> LookupReport:
        async with server(answer) as url:
            plan = LoadPlan(
                url=url, model="m", concurrency=1, requests=2, workload="edit", output_tokens=4, ignore_eos=False
            )
            return await run_with_and_without_lookup(plan, progress=told.append)

    report = asyncio.run(measured())
    assert sorted(prompt for on, _, prompt in seen if on) == sorted(prompt for on, _, prompt in seen if not on)
    assert {(looks_up, salt) for looks_up, salt, _ in seen} == {(True, "0 True"), (False, "0 False")}
    assert told == [1, 2, 3, 4]
    assert len(report.rounds) == 2
    assert report.ratios[0] == report.rounds[0][0].tok_per_s / report.rounds[0][1].tok_per_s
    written = json.loads(report_json(report))
    assert written["workload"] == "edit"
    assert written["ratio"] == pytest.approx(report.ratio)
    assert written["rounds"][0]["without"]["completion_tokens"] == 4
