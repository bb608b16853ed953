"""Kept answers through the edge: how many a second, and how late at a steady rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.front.load import Load, Tools, post, run_load
from benchmarks.front.server import CpuMeter, Front, front
from benchmarks.front.stalls import Stalls, measure_stalls, queued_p99_ms
from benchmarks.row import Row

SYSTEM = "You are helpful."
QUESTION = "What is the capital of France, and why is it so?"
CHAT = "/v1/chat/completions"
CONNECTIONS = 64
STEADY_PER_S = 5000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure."""

    seconds: float = 6.0
    rounds: int = 5
    workers: int = 1
    threads: int = 0
    """Of the edge; 0: as many as it chooses."""
    nice: int = 0
    """Of the server's processes; the unit for systemd says -10."""
    quick: bool = False


@dataclass(slots=True, kw_only=True)
class Readings:
    """Runs of one kind."""

    loads: list[Load] = field(default_factory=list)
    cpu_us: list[dict[str, float]] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    """Share of the machine that somebody else took meanwhile, the kernel's own threads among them."""
    stalls: list[Stalls] = field(default_factory=list)
    """What the machine took of each processor just before, while nothing ran."""

    @property
    def queued_ms(self) -> list[float]:
        """What a queue with each process on a processor of its own makes of the stalls just before each steady run."""
        return [
            queued_p99_ms(
                stalls,
                edge_us=cpu_us.get("envoy", 0.0),
                worker_us=cpu_us.get("api worker", 0.0),
                generator_us=cpu_us["load"],
                rate_per_s=STEADY_PER_S,
            )
            for stalls, cpu_us in zip(self.stalls, self.cpu_us, strict=True)
        ]

    def plain(self) -> dict[str, object]:
        return {
            "loads": [load.plain() for load in self.loads],
            "cpu_us_per_request": self.cpu_us,
            "others": self.others,
            "stalls": [
                {"worst_share": round(x.worst_share, 5), "longest_ms": round(x.longest_ms, 2)} for x in self.stalls
            ],
        }


def chat(alias: str, number: int | None = None, max_tokens: int | None = None) -> dict[str, object]:
    """Return the body of a request; another number is another question."""
    question = QUESTION if number is None else f"{QUESTION} {number}"
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body: dict[str, object] = {"model": alias, "messages": messages, "temperature": 0}
    return body if max_tokens is None else body | {"max_tokens": max_tokens}


def questions(served: Front, number: int, headers: tuple[tuple[str, str], ...] = ()) -> list[bytes]:
    """Return requests with `number` different bodies."""
    both = [*served.headers, *headers]
    if number == 1:
        return [post(CHAT, chat(served.alias), both)]
    return [post(CHAT, chat(served.alias, at), both) for at in range(number)]


def fill(tools: Tools, served: Front, requests: list[bytes]) -> None:
    """Ask each question until every worker has its answer ready, and stop the benchmark where one is refused."""
    rounds = 8 if served.tls or served.port == served.grpc_port else 3
    load = run_load(
        tools,
        served.port,
        requests,
        connections=16,
        count=max(2000, rounds * len(requests)),
        warmup_s=0,
        tls=served.tls,
    )
    if load.num_errors:
        raise SystemExit(f"filling the cache failed: {load.statuses} {load.failed}")


@contextmanager
def filled(tools: Tools, *, tls: bool, effort: Effort, bodies: int) -> Iterator[tuple[Front, list[bytes]]]:
    """Serve with an edge whose workers hold the answers to `bodies` questions."""
    with front(tls=tls, workers=effort.workers, threads=effort.threads, nice=effort.nice) as served:
        requests = questions(served, bodies)
        fill(tools, served, requests)
        yield served, requests


def measure(tools: Tools, served: Front, requests: list[bytes], effort: Effort, rate: float, even: bool) -> Readings:
    """Return `effort.rounds` runs: closed loop where the rate is 0, and else each after a look at the machine alone."""
    readings = Readings()
    for _ in range(effort.rounds):
        if rate:
            readings.stalls.append(measure_stalls(tools, effort.seconds))
        meter = CpuMeter(served.pid)
        load = run_load(
            tools,
            served.port,
            requests,
            connections=CONNECTIONS,
            seconds=effort.seconds,
            rate_per_s=rate,
            even=even,
            tls=served.tls,
            mark="x-ashore-cache: hit-exact",
        )
        readings.others.append(round(meter.others_share(load.cpu_s), 3))
        readings.cpu_us.append({**meter.per_request_us(load.sent), "load": round(load.cpu_s / load.sent * 1e6, 1)})
        readings.loads.append(load)
    return readings


def cached(tools: Tools, effort: Effort, *, tls: bool) -> list[Row]:
    """Measure one body and a thousand: answers a second, and p99 at a steady rate."""
    rows: list[Row] = []
    for bodies in (1, 1000):
        with filled(tools, tls=tls, effort=effort, bodies=bodies) as (served, requests):
            full = measure(tools, served, requests, effort, 0.0, False)
            steady = measure(tools, served, requests, effort, STEADY_PER_S, False)
            even = measure(tools, served, requests, Effort(seconds=effort.seconds, rounds=1), STEADY_PER_S, True)
        over = f"{'TLS' if tls else 'plain'}, {bodies:,} {'body' if bodies == 1 else 'bodies'}"
        rows += [throughput_row(over, full, served.command), steady_row(over, steady, even, served.command)]
    return rows


def throughput_row(over: str, full: Readings, command: str) -> Row:
    """Return the row of answers a second."""
    loads = full.loads
    errors = sum(load.num_errors for load in loads)
    hits = sum(load.marked for load in loads) / max(1, sum(load.answered for load in loads))
    value = statistics.median(load.per_s for load in loads)
    cpu = ", ".join(f"{kind} {us:.0f}" for kind, us in full.cpu_us[-1].items() if us >= 1)
    return Row(
        what=f"cached answers/s through Envoy ({over})",
        value=value if not errors else None,
        unit="/s",
        bar=8000,
        aim=12_000,
        detail=f"median of {len(loads)} ({min(x.per_s for x in loads):,.0f} to {max(x.per_s for x in loads):,.0f}), "
        f"{errors} errors, {hits:.2%} hits; µs/request: {cpu}",
        readings={"command": command, **full.plain()},
    )


def steady_row(over: str, steady: Readings, even: Readings, command: str) -> Row:
    """Return the row of the 99th percentile at a steady rate."""
    loads = steady.loads
    errors = sum(load.num_errors for load in loads)
    rounds = ", ".join(
        f"{load.ok.p99_ms:.2f} ({queued:.2f}; {stalls.worst_share:.1%})"
        for load, queued, stalls in zip(loads, steady.queued_ms, steady.stalls, strict=True)
    )
    p50, p999 = (statistics.median(getattr(x.ok, name) for x in loads) for name in ("p50_ms", "p999_ms"))
    return Row(
        what=f"p99 at an open-loop {STEADY_PER_S:,.0f}/s ({over})",
        value=statistics.median(load.ok.p99_ms for load in loads) if not errors else None,
        unit="ms",
        bar=5,
        aim=2,
        lower_is_better=True,
        detail=f"Poisson arrivals, median of {len(loads)}, each with what a queue makes of the machine's "
        f"stalls just before, and the share of a processor that those over 1 ms took: {rounds}; "
        f"p50 {p50:.2f}, p99.9 {p999:.2f}; evenly spaced p99 {even.loads[0].ok.p99_ms:.2f}; {errors} errors; "
        f"reached {statistics.median(x.per_s for x in loads):,.0f}/s",
        readings={"command": command, **steady.plain(), "even": even.plain()},
    )
