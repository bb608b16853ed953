"""Requests that no cache answers: what the edge adds to one client, and how many a second."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from benchmarks.front.cached import CHAT, Effort, chat
from benchmarks.front.load import Load, Tools, post, run_load
from benchmarks.front.server import CpuMeter, Front, front
from benchmarks.row import Row

FRESH = (("cache-control", "no-store"),)
SHORT, LONG = 8, 50
"""Tokens of an answer: the edge's part shows in the short ones, and the engine's in the long ones."""
CONNECTIONS = 32


def fresh(served: Front, tokens: int) -> list[bytes]:
    """Return a request that no cache answers."""
    return [post(CHAT, chat(served.alias, max_tokens=tokens), [*served.headers, *FRESH])]


def proxied(tools: Tools, effort: Effort) -> list[Row]:
    """Measure the API worker itself, and behind the edge without and with TLS, in turn within each round."""
    with ExitStack() as stack:
        ways = {
            "direct": stack.enter_context(front(edge=False)),
            "plain": stack.enter_context(front(workers=effort.workers, threads=effort.threads)),
            "TLS": stack.enter_context(front(workers=effort.workers, threads=effort.threads, tls=True)),
        }
        return [*rates(tools, ways, effort, SHORT), *rates(tools, ways, effort, LONG)]


def lone_client(tools: Tools, effort: Effort) -> list[Row]:
    """Measure one client at the API worker itself, and behind the edge without and with TLS, in turn."""
    with ExitStack() as stack:
        ways = {
            "direct": stack.enter_context(front(edge=False)),
            "plain": stack.enter_context(front(workers=effort.workers, threads=effort.threads)),
            "TLS": stack.enter_context(front(workers=effort.workers, threads=effort.threads, tls=True)),
        }
        return [*added(tools, ways, effort, SHORT), *added(tools, ways, effort, LONG)]


def added(tools: Tools, ways: dict[str, Front], effort: Effort, tokens: int) -> list[Row]:
    """Return what the edge adds to one client that asks one thing after another."""
    seen: dict[str, list[Load]] = {name: [] for name in ways}
    for _ in range(effort.rounds):
        for name, served in ways.items():
            requests = fresh(served, tokens)
            load = run_load(
                tools,
                served.port,
                requests,
                connections=1,
                seconds=effort.seconds / 2,
                tls=served.tls,
                warmup_s=0.5,
            )
            seen[name].append(load)
    errors = sum(load.num_errors for loads in seen.values() for load in loads)
    direct = seen["direct"]
    rows = []
    for name in ("plain", "TLS"):
        more = [edge.ok.p99_ms - base.ok.p99_ms for edge, base in zip(seen[name], direct, strict=True)]
        rows.append(
            Row(
                what=f"proxied, added p99 at one client ({name}, answers of {tokens} tokens)",
                value=statistics.median(more) if not errors else None,
                unit="ms",
                bar=1.5,
                aim=0.5,
                lower_is_better=True,
                detail=f"median of {len(more)} rounds ({min(more):.2f} to {max(more):.2f}); "
                f"p50 {middle(seen[name], 'p50_ms'):.2f} against {middle(direct, 'p50_ms'):.2f} direct, p99 "
                f"{middle(seen[name], 'p99_ms'):.2f} against {middle(direct, 'p99_ms'):.2f}; {errors} errors",
                readings=plain(seen),
            )
        )
    return rows


def rates(tools: Tools, ways: dict[str, Front], effort: Effort, tokens: int) -> list[Row]:
    """Return how many requests a second go through."""
    seen: dict[str, list[Load]] = {name: [] for name in ways}
    cpu: dict[str, dict[str, float]] = {}
    for _ in range(effort.rounds):
        for name, served in ways.items():
            meter = CpuMeter(served.pid)
            load = run_load(
                tools,
                served.port,
                fresh(served, tokens),
                connections=CONNECTIONS,
                seconds=effort.seconds / 2,
                tls=served.tls,
            )
            seen[name].append(load)
            cpu[name] = {**meter.per_request_us(load.sent), "load": round(load.cpu_s / load.sent * 1e6, 1)}
    direct = statistics.median(load.per_s for load in seen["direct"])
    rows = []
    for name in ("plain", "TLS"):
        found = [load.per_s for load in seen[name]]
        errors = sum(load.num_errors for load in seen[name])
        shown = ", ".join(f"{kind} {us:.0f}" for kind, us in cpu[name].items() if us >= 1)
        rows.append(
            Row(
                what=f"proxied requests/s through Envoy ({name}, answers of {tokens} tokens)",
                value=statistics.median(found) if not errors else None,
                unit="/s",
                bar=2000,
                aim=4000,
                detail=f"{CONNECTIONS} connections, median of {len(found)} ({min(found):,.0f} to {max(found):,.0f}); "
                f"direct {direct:,.0f}, ratio {statistics.median(found) / direct:.2f}; {errors} errors; "
                f"µs/request: {shown}",
                readings=plain(seen) | {"cpu_us_per_request": cpu},
            )
        )
    return rows


def plain(loads: dict[str, list[Load]]) -> dict[str, object]:
    """Return runs for the raw record."""
    return {name: [load.plain() for load in some] for name, some in loads.items()}


def middle(loads: list[Load], name: str) -> float:
    """Return the median of one percentile over runs."""
    return float(statistics.median(getattr(load.ok, name) for load in loads))
