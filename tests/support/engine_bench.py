"""Running orders on an engine in the test's own process, and comparing tokens with golden ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ashore.core.ids import OrderId
from ashore.data.engines import EngineEvent, Failed, Finished, GenerateOrder, Sampling, Token

GOLDEN = Path(__file__).parents[1] / "golden"
GREEDY = Sampling(temperature=0)


def order(order_id: str, prompt_ids: list[int], **fields: Any) -> GenerateOrder:
    """Return a greedy order of ten tokens, unless `fields` say otherwise."""
    settings: dict[str, Any] = {"max_new_tokens": 10, "sampling": GREEDY, **fields}
    return GenerateOrder(order_id=OrderId(order_id), prompt_ids=prompt_ids, **settings)


def run(engine: Any, *orders: GenerateOrder, steps: int = 5000) -> dict[str, list[EngineEvent]]:
    """Submit orders together and return the events of each, once all have ended."""
    for one in orders:
        engine.submit(one)
    return drain(engine, {one.order_id for one in orders}, steps=steps)


def drain(engine: Any, order_ids: set[str], *, steps: int = 5000) -> dict[str, list[EngineEvent]]:
    """Step until every order named has ended; return the events of each."""
    events: dict[str, list[EngineEvent]] = {order_id: [] for order_id in order_ids}
    left = set(order_ids)
    for _ in range(steps):
        for event in engine.step(0.05):
            events.setdefault(event.order_id, []).append(event)
            if isinstance(event, Finished | Failed):
                left.discard(event.order_id)
        if not left:
            return events
    raise AssertionError(f"{left} did not end within {steps} steps")


def token_ids(events: Sequence[EngineEvent]) -> list[int]:
    """Return the tokens among `events`."""
    return [event.token_id for event in events if isinstance(event, Token)]


def finish(events: Sequence[EngineEvent]) -> Finished:
    """Return the last event, which must be a good end."""
    last = events[-1]
    assert isinstance(last, Finished), last
    return last


def failure(events: Sequence[EngineEvent]) -> Failed:
    """Return the last event, which must be a failure."""
    last = events[-1]
    assert isinstance(last, Failed), last
    return last


def golden_cases(name: str, key: str = "cases") -> list[dict[str, Any]]:
    """Return the cases of a golden file."""
    cases: list[dict[str, Any]] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))[key]
    return cases


def compare_with_golden(engine: Any, cases: list[dict[str, Any]], *, near_tie: float, tokens: int = 0) -> list[str]:
    """Run every case, its first `tokens` or all; return a line for each that parts at a margin of `near_tie` or more.

    All that part are printed. After an honest near-tie the two texts differ, so nothing is compared beyond it.
    """
    new_tokens = tokens or len(cases[0]["tokens"])
    orders = [order(f"golden {n}", case["prompt_ids"], max_new_tokens=new_tokens) for n, case in enumerate(cases)]
    events = run(engine, *orders)
    wrong: list[str] = []
    num_whole = 0
    for number, case in enumerate(cases):
        seen = token_ids(events[f"golden {number}"])
        place = next((i for i, (a, b) in enumerate(zip(seen, case["tokens"], strict=False)) if a != b), None)
        if place is None:
            num_whole += 1
            if len(seen) != new_tokens:
                wrong.append(f"case {number} ended after {len(seen)} tokens: {events[f'golden {number}'][-1]}")
            continue
        margin = case["margins"][place]
        line = f"case {number} parts at token {place}, margin {margin:.4f}: {seen[place]} for {case['tokens'][place]}"
        print(line)
        if margin >= near_tie:
            wrong.append(line)
    print(f"{num_whole} of {len(cases)} are equal to the end")
    return wrong
