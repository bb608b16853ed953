"""Twice the capacity for minutes: who was let in gets an answer in time, everybody else a refusal at once."""

from __future__ import annotations

from benchmarks.front.cached import CHAT, Effort
from benchmarks.front.load import SERIAL, Load, Tools, post, run_load
from benchmarks.front.proxied import FRESH
from benchmarks.front.server import CpuMeter, Front, front
from benchmarks.row import Row

SEQUENCES = 64
ENGINE_BOUND = f"fake:echo?sequences={SEQUENCES}&tok_per_s=100"
"""Its slots are what is short: 64 answers of 24 tokens at once, some 260 a second."""
CPU_BOUND = "fake:echo"
"""The processor is what is short, and refusing takes some of it. The engine promises 4,096 sequences."""
DEADLINE_MS = 10_000
MINUTES = 5.0
CONNECTIONS = 2048


def asking(served: Front) -> list[bytes]:
    """Return a question of its own for each time it is sent, with a deadline."""
    body = {"model": served.alias, "messages": [{"role": "user", "content": f"question {SERIAL} ?"}], "temperature": 0}
    return [post(CHAT, body, [*served.headers, *FRESH, ("x-ashore-deadline-ms", str(DEADLINE_MS))])]


def overload(tools: Tools, effort: Effort) -> list[Row]:
    """Measure a model bound by its engine."""
    return run_one(tools, ENGINE_BOUND, "engine-bound", _seconds(effort), 2 * SEQUENCES)


def overload_processor(tools: Tools, effort: Effort) -> list[Row]:
    """Measure a model bound by the processor."""
    return run_one(tools, CPU_BOUND, "processor-bound", _seconds(effort), 64)


def _seconds(effort: Effort) -> float:
    return 20.0 if effort.quick else MINUTES * 60


def run_one(tools: Tools, model: str, name: str, seconds: float, clients: int) -> list[Row]:
    """Find the capacity with a closed loop, then send twice as much."""
    with front(model) as served:
        closed = run_load(tools, served.port, asking(served), connections=clients, seconds=8, warmup_s=2)
        meter = CpuMeter(served.pid)
        load = run_load(
            tools,
            served.port,
            asking(served),
            connections=CONNECTIONS,
            seconds=seconds,
            warmup_s=2,
            rate_per_s=2 * closed.per_s,
            timeout_s=DEADLINE_MS / 1e3 + 1,
        )
        cpu = meter.per_request_us(load.sent)
        command = served.command
    return judge(name, seconds, closed, load, {"command": command, "cpu_us_per_request": cpu})


def judge(name: str, seconds: float, closed: Load, load: Load, raw: dict[str, object]) -> list[Row]:
    """Return the share of the admitted that timed out, and how soon the others were refused."""
    expired = load.statuses.get("504", 0) + load.statuses.get("408", 0)
    late = expired + load.failed["timeout"]
    refusals = load.statuses.get("429", 0) + load.statuses.get("503", 0)
    broken = load.answered - load.ok.count - expired - refusals + load.failed["closed"] + load.failed["answer"]
    admitted = load.ok.count + late
    raw = {**raw, "closed": closed.plain(), "open": load.plain()}
    return [
        Row(
            what=f"timed out of those admitted, twice the capacity for {seconds:.0f} s ({name})",
            value=None if broken or not admitted else 100 * late / admitted,
            unit="%",
            bar=0.05,
            lower_is_better=True,
            detail=f"capacity {closed.per_s:,.0f}/s, sent {2 * closed.per_s:,.0f}/s; {load.ok.count:,} answered "
            f"({load.per_s:,.0f}/s), p50 {load.ok.p50_ms:,.0f}, p99 {load.ok.p99_ms:,.0f}, slowest "
            f"{load.ok.max_ms:,.0f} ms of a deadline of {DEADLINE_MS:,}; {late} timed out; {refusals:,} refused; "
            f"{broken} broken",
            readings=raw,
        ),
        Row(
            what=f"p99 of the refusals ({name})",
            value=load.refused.p99_ms if refusals else None,
            unit="ms",
            bar=10,
            lower_is_better=True,
            detail=f"p50 {load.refused.p50_ms:.2f}, p99.9 {load.refused.p999_ms:.2f}, slowest "
            f"{load.refused.max_ms:.1f} ms; from when they were sent: p50 {load.refused_after_sent.p50_ms:.2f}, p99 "
            f"{load.refused_after_sent.p99_ms:.2f} ms; sent late by the generator: p99 {load.lateness.p99_ms:.2f}, "
            f"p99.9 {load.lateness.p999_ms:.2f} ms; it had no processor for {100 * load.held_up_s / seconds:.1f} % of "
            f"the time",
        ),
    ]
