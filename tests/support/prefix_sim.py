"""Servers with prefix caches behind routers that share nothing, on a made-up trace: what a rule of choice is worth.

A server has a bounded LRU of KV blocks, prefills one prompt after the other and decodes all at once. A `view` is a
process with a `Pool` of its own; a request comes to a random one. Run as a program, it prints a table.
"""

from __future__ import annotations

import hashlib
import heapq
import random
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ashore.data.engines.affinity import Turn
from ashore.data.engines.vllm.pool import Pool

BLOCK = 64
"""Tokens."""
PREFILL_PER_S, STEP_S, STEP_MORE_S = 8000.0, 0.012, 0.0004
"""Prompt tokens a second; seconds of a step, and of each sequence in it."""
Rule = Literal["opening", "least", "clairvoyant"]
TURNS = {"chat": 6.0, "agents": 20.0, "docs": 3.0, "oneshot": 1.0}
MIX = {"chat": 0.65, "agents": 0.15, "docs": 0.10, "oneshot": 0.10}
ASKS = {"chat": (1, 6), "agents": (2, 24), "docs": (1, 1), "oneshot": (4, 30)}
SAYS = {"chat": (2, 8), "agents": (1, 4), "docs": (2, 6), "oneshot": (1, 4)}
"""Blocks of a question, and of an answer."""


@dataclass(slots=True, kw_only=True, eq=False)
class Asked:
    """One request: the hash chain of its prompt's blocks, and how many blocks its answer has."""

    at_s: float
    blocks: list[int]
    answer: int
    opening: bytes
    view: int


def chain(before: int, name: object, number: int) -> list[int]:
    found = []
    for place in range(number):
        before = hash((before, name, place))
        found.append(before)
    return found


def trace(seed: int, seconds: float, per_s: float, mix: str, views: int) -> list[Asked]:
    """Return requests in time: conversations, loops of agents, questions on shared documents, single questions."""
    draw = random.Random(seed)
    kinds = MIX if mix == "all" else {mix: 1.0}
    systems = [max(1, int(draw.lognormvariate(2.4, 0.9))) for _ in range(30)]
    documents = [draw.randint(80, 400) for _ in range(60)]
    sessions_per_s = per_s / sum(TURNS[kind] * share for kind, share in kinds.items())
    found, at_s, number = [], 0.0, 0
    while at_s < seconds:
        at_s, number = at_s + draw.expovariate(sessions_per_s), number + 1
        kind = draw.choices(list(kinds), list(kinds.values()))[0]
        system, document = (min(most, int(draw.paretovariate(1.0))) - 1 for most in (30, 60))
        blocks = chain(0, ("system", system), systems[system])
        key = (system, "document", document) if kind == "docs" else (system, number)
        if kind == "docs":
            blocks = blocks + chain(blocks[-1], ("document", document), documents[document])
        opening = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
        now_s = at_s
        for turn in range(max(1, int(draw.expovariate(1 / TURNS[kind]))) if kind != "oneshot" else 1):
            blocks = blocks + chain(blocks[-1], ("user", number, turn), draw.randint(*ASKS[kind]))
            if len(blocks) * BLOCK > 32_000:
                break
            answer = draw.randint(*SAYS[kind])
            view = draw.randrange(views)
            found.append(Asked(at_s=now_s, blocks=blocks, answer=answer, opening=opening, view=view))
            blocks = blocks + chain(blocks[-1], ("model", number, turn), answer)
            now_s += 1.0 + answer * BLOCK * 0.02 + draw.expovariate(1 / (3.0 if kind == "agents" else 25.0))
    return sorted((one for one in found if one.at_s < seconds), key=lambda one: one.at_s)


class Server:
    """One server: its prefix cache, and when it can begin with the next prompt."""

    def __init__(self, kv_tokens: int) -> None:
        self._most = kv_tokens // BLOCK
        self._kept: OrderedDict[int, None] = OrderedDict()
        self.running = 0
        self.free_at_s = 0.0

    def match(self, blocks: list[int]) -> int:
        return next((place for place, one in enumerate(blocks[:-1]) if one not in self._kept), len(blocks) - 1)

    def put(self, blocks: list[int]) -> None:
        for one in reversed(blocks):  # ends are forgotten first
            self._kept[one] = None
            self._kept.move_to_end(one)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a trace saw."""

    hits: float
    mean_s: float
    p95_s: float
    fullest: float
    """Share of the requests on the fullest server, times their number."""
    openings: tuple[int, int] = (0, 0)
    first_s: list[float] = field(default_factory=list)


def replay(
    asked: list[Asked], rule: Rule, *, servers: int = 4, views: int = 1, kv_tokens: int = 200_000, lose: bool = False
) -> Seen:
    """Send a trace to servers by a rule; with `lose` one of them leaves half-way."""
    urls = [f"http://10.0.0.{number}:8000" for number in range(servers)]
    pools = [Pool(urls) for _ in range(views)]
    for pool in pools:
        for one in pool.backends:
            pool.probed(one, 0.0)
    nodes = {url: Server(kv_tokens) for url in urls}
    ends: list[tuple[float, int, Iterator[None]]] = []
    first_s, hits, total, sent = [], 0, 0, dict.fromkeys(urls, 0)
    half_s = asked[-1].at_s / 2
    for number, one in enumerate(asked):
        while ends and ends[0][0] <= one.at_s:
            _, order, going = heapq.heappop(ends)
            if (next_s := next(going, None)) is not None:
                heapq.heappush(ends, (next_s, order, going))  # type: ignore[misc]
        if lose and one.at_s > half_s:
            for pool in pools:
                pool.set(dict.fromkeys(urls[:-1], False))
            lose = False
        pool = pools[one.view]
        tokens = len(one.blocks) * BLOCK
        turn = Turn(opening=one.opening if rule == "opening" else b"", prompt_tokens=tokens)
        if rule == "clairvoyant":
            picked = min(pool.ready, key=lambda place: _wait_s(nodes[place.url], one))
        else:
            found = pool.pick(one.at_s, (), turn)
            assert found is not None
            picked = found
        node = nodes[picked.url]
        cached = node.match(one.blocks)
        node.put(one.blocks)
        node.running += 1
        node.free_at_s = max(one.at_s, node.free_at_s) + (len(one.blocks) - cached) * BLOCK / PREFILL_PER_S
        begins_s = node.free_at_s + STEP_S + STEP_MORE_S * node.running
        over_s = begins_s + one.answer * BLOCK * (STEP_S + STEP_MORE_S * node.running)
        going = _going(pool, picked, turn, node, one, cached * BLOCK, over_s)
        next(going)
        heapq.heappush(ends, (begins_s, number, going))
        first_s.append(begins_s - one.at_s)
        hits, total = hits + cached, total + len(one.blocks)
        sent[picked.url] += 1
    first_s.sort()
    return Seen(
        hits=hits / total,
        mean_s=sum(first_s) / len(first_s),
        p95_s=first_s[int(0.95 * len(first_s))],
        fullest=max(sent.values()) * servers / len(asked),
        openings=(sum(one.affinity.placed[0] for one in pools), sum(one.affinity.placed[1] for one in pools)),
    )


def _going(pool, picked, turn, node, one, cached_tokens, over_s):  # type: ignore[no-untyped-def]
    with pool.running(picked, turn):
        yield
        turn.begin_at(picked)
        yield over_s
    node.running -= 1
    node.put(one.blocks)
    pool.ended(picked, turn, cached_tokens)


def _wait_s(node: Server, one: Asked) -> float:
    """Return the time to a first token on a server whose cache and queue are known."""
    work_s = (len(one.blocks) - node.match(one.blocks)) * BLOCK / PREFILL_PER_S
    return max(0.0, node.free_at_s - one.at_s) + work_s + 4 * STEP_MORE_S * node.running


def load_of(share: float, servers: int, mix: str, *, seed: int = 1) -> float:
    """Return the requests a second that take a share of what the servers can prefill, at six hits of ten."""
    some = trace(seed, 600, 5, mix, 1)
    mean = sum(len(one.blocks) for one in some) / len(some) * BLOCK
    return share * servers * PREFILL_PER_S / (mean * 0.4)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 1200
    runs = [("all", 0.7, 1), ("all", 0.7, 8), ("all", 0.35, 4), ("all", 1.0, 4), ("chat", 0.7, 4), ("agents", 0.7, 4)]
    for mix, load, views in (*runs, ("docs", 0.7, 4), ("oneshot", 0.35, 1), ("oneshot", 0.7, 1), ("oneshot", 0.7, 4)):
        asked = trace(1, seconds, load_of(load, 4, mix), mix, views)
        print(f"# {mix}, load {load}, {views} views, {len(asked)} requests")
        best = replay(asked, "clairvoyant", views=views)
        for rule in ("least", "opening", "clairvoyant"):
            seen = replay(asked, rule, views=views)  # type: ignore[arg-type]
            print(
                f"{rule:12} hits {seen.hits:.3f} ({seen.hits / best.hits:.2f})"
                f"  first token mean {seen.mean_s * 1e3:7.0f}"
                f" p95 {seen.p95_s * 1e3:7.0f} ms  fullest {seen.fullest:.2f}  {seen.openings}"
            )


if __name__ == "__main__":
    main()
