"""Streamed answers through the edge: the first piece, the pieces after it, and many streams at once."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.front.cached import CHAT, Effort
from benchmarks.front.load import Load, Tools, post, run_load
from benchmarks.front.proxied import FRESH
from benchmarks.front.server import Front, front
from benchmarks.row import Row

STREAMS = 256
TOK_PER_S = 20
SECONDS = 10
DELAYED_ACK_MS = 40.0
"""Linux waits so long before it acknowledges a lone small segment; with Nagle's algorithm on the other side, the next
piece of a stream waits for it."""


def stream(served: Front, tokens: int) -> list[bytes]:
    """Return a request whose echoed answer has `tokens` tokens."""
    text = "".join(chr(97 + at % 26) for at in range(tokens))
    body = {"model": served.alias, "messages": [{"role": "user", "content": text}], "stream": True}
    return [post(CHAT, body, [*served.headers, *FRESH])]


def streams(tools: Tools, effort: Effort) -> list[Row]:
    """Compare the edge, with TLS and without, to the API worker itself."""
    model = f"fake:echo?tok_per_s={TOK_PER_S}"
    tokens = TOK_PER_S * (4 if effort.quick else SECONDS)
    with ExitStack() as stack:
        ways = {
            "direct": stack.enter_context(front(model, edge=False)),
            "plain": stack.enter_context(front(model, workers=effort.workers, threads=effort.threads)),
            "TLS": stack.enter_context(front(model, workers=effort.workers, threads=effort.threads, tls=True)),
        }
        one: dict[str, list[Load]] = {name: [] for name in ways}
        for _ in range(effort.rounds):
            for name, served in ways.items():
                one[name].append(
                    run_load(
                        tools,
                        served.port,
                        stream(served, 10),
                        connections=1,
                        count=6,
                        warmup_s=0,
                        tls=served.tls,
                        stream=True,
                    )
                )
        many = {
            name: run_load(
                tools,
                served.port,
                stream(served, tokens),
                connections=STREAMS,
                count=STREAMS,
                warmup_s=0,
                rate_per_s=STREAMS / 1.0,
                even=True,
                tls=served.tls,
                stream=True,
            )
            for name, served in ways.items()
        }
    raw = {"one": {k: [x.plain() for x in v] for k, v in one.items()}, "many": {k: v.plain() for k, v in many.items()}}
    rows = []
    for name in ("plain", "TLS"):
        added = sorted(e.first_piece.p50_ms for e in one[name])[effort.rounds // 2]
        base = sorted(d.first_piece.p50_ms for d in one["direct"])[effort.rounds // 2]
        steps = [load.gaps.p50_ms for load in one[name]]
        rows.append(
            Row(
                what=f"one stream, first piece later than direct, p50 ({name})",
                value=added - base,
                unit="ms",
                bar=DELAYED_ACK_MS / 4,
                lower_is_better=True,
                detail=f"{added:.2f} against {base:.2f} ms; between pieces p50 {min(steps):.1f} to {max(steps):.1f} ms "
                f"where the engine makes one each {1000 / TOK_PER_S:.0f} ms, longest "
                f"{longest(one[name]):.1f} (direct {longest(one['direct']):.1f}); "
                f"a delayed acknowledgement would show as {DELAYED_ACK_MS:.0f} ms",
                readings=raw,
            )
        )
        edge, direct = many[name], many["direct"]
        whole = edge.frames == direct.frames and not edge.num_errors and not direct.num_errors
        rows.append(
            Row(
                what=f"{STREAMS} streams at {TOK_PER_S} tokens/s, longest gap ({name})",
                value=edge.worst_gaps.max_ms if whole else None,
                unit="ms",
                bar=200,
                lower_is_better=True,
                detail=f"direct {direct.worst_gaps.max_ms:.1f}; gaps p99 {edge.gaps.p99_ms:.1f} against "
                f"{direct.gaps.p99_ms:.1f}; first piece p50 {edge.first_piece.p50_ms:.1f} against "
                f"{direct.first_piece.p50_ms:.1f}, p99 {edge.first_piece.p99_ms:.1f} against "
                f"{direct.first_piece.p99_ms:.1f}; {edge.frames:,} events, {direct.frames:,} direct; "
                f"{edge.stalled} streams stalled; {edge.num_errors} errors",
            )
        )
    return rows


def longest(loads: list[Load]) -> float:
    """Return the longest gap of several runs."""
    return max(load.gaps.max_ms for load in loads)
