"""`python -m benchmarks.dispatch route|pool`: choice by cost and shared cards, simulated on a virtual clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import cyclopts
from benchmarks.dispatch.backends import load_backends
from benchmarks.dispatch.bound import lower_bound
from benchmarks.dispatch.policies import POLICIES
from benchmarks.dispatch.pool import WAYS, Pool, bound, most
from benchmarks.dispatch.shapes import SHAPES, synthesise
from benchmarks.dispatch.simulate import Outcome, simulate
from cyclopts import Parameter

from ashore.cli.columns import table
from ashore.core.errors import InvalidRequest
from ashore.core.timespan import parse_seconds
from ashore.data.dispatch import read_trace

app = cyclopts.App(name="benchmarks.dispatch", help=__doc__)

ShapeName = Literal["azure-conversation", "azure-code", "burstgpt", "chat"]
PolicyName = Literal["all", "cost", "cheapest-in-time", "least-loaded", "round-robin"]
MOST: Final = 200_000


@app.command
def route(
    *,
    backends: Path,
    trace: Path | None = None,
    shape: ShapeName | None = None,
    requests: int = 2000,
    rate: float = 10.0,
    deadline: str = "30s",
    per_token: str = "0.04s",
    faster: float = 1.0,
    policy: PolicyName = "all",
    alone: bool = False,
    optimum: bool = True,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Simulate who answers a trace of requests over unlike back ends: cost, missed deadlines and times of each policy.

    The clock is virtual and nothing is sent. `cost` is the choice that ashore would make: a linear program each second
    over all who wait. The rates and prices of the file are taken as they are; measure them with `ashore bench serve`.

    Parameters
    ----------
    backends
        File with [[backend]] tables: name, price_per_hour, prefill_tokens_per_s, decode_tokens_per_s,
        stream_tokens_per_s; optional: device, count, max_running, max_prompt_tokens.
    trace
        CSV of BurstGPT or Azure, CSV or JSON lines with arrival_s, prompt_tokens, output_tokens.
    shape
        A made trace of this shape in its place.
    requests
        Requests to make, or to read of the trace.
    rate
        Requests a second of a made trace.
    deadline
        From arrival to the whole answer, where the trace says none.
    per_token
        Added to it for each token of the answer.
    faster
        Let a trace come so many times as fast.
    policy
        One policy alone.
    alone
        Also each back end alone.
    optimum
        Also a bound that no policy can be below.
    seed
        Of a made trace.
    as_json
        Print JSON.
    """
    if (trace is None) == (shape is None):
        raise InvalidRequest("give --trace FILE or --shape NAME", hint="one of the two", param="--trace")
    for name, value, least, limit in (
        ("--requests", requests, 1, MOST),
        ("--rate", rate, 1e-3, 1e5),
        ("--faster", faster, 1e-3, 1e4),
    ):
        if not least <= value <= limit:
            raise InvalidRequest(
                f"{name} is {value:,}; expected {least:,} to {limit:,}", hint="choose a value in that range", param=name
            )
    deadline_s, per_token_s = parse_seconds(deadline), parse_seconds(per_token)
    those = load_backends(backends)
    if trace is not None:
        load = read_trace(trace, deadline_s=deadline_s, per_token_s=per_token_s, faster=faster, limit=requests)
    else:
        assert shape is not None
        load = synthesise(
            SHAPES[shape],
            number=requests,
            rate_per_s=rate,
            deadline_s=deadline_s,
            per_token_s=per_token_s,
            seed=seed,
        )
    names = list(POLICIES) if policy == "all" else [policy]
    outcomes: dict[str, tuple[Outcome, float]] = {}
    for name in names:
        print(f"simulating {name}, {len(load):,} requests", file=sys.stderr)
        began_at = time.perf_counter()
        outcomes[name] = simulate(load, those, POLICIES[name]()), time.perf_counter() - began_at
    for one in those if alone else ():
        outcomes[f"{one.name} alone"] = simulate(load, (one,), POLICIES["least-loaded"]()), 0.0
    least_cost = None
    if optimum:
        clean = [one.cost for one, _ in outcomes.values()]
        least_cost, _ = lower_bound(load, those, min(clean))
    if as_json:
        print(json.dumps(_plain(load, outcomes, least_cost), indent=2))
        return
    _show(load, [one.name for one in those], outcomes, least_cost)


@app.command
def pool(
    *,
    cards: int = 32,
    logical: int = 64,
    models: int = 24,
    slo: str = "10s",
    variation: float = 1.0,
    wake: str = "2.2s",
    seconds: str = "300s",
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Simulate cards that models share: the greatest load at which 99 % is in time, and how much of the cards it uses.

    Compares whole cards, fixed fractions (MIG, MPS with limits), fractions that borrow (time slices), fractions that
    move to the models that need them, and the same with batches in the valleys. No card is touched or was measured.
    With the defaults it takes about 20 s.

    Parameters
    ----------
    cards
        Cards there are.
    logical
        Fractions that they are cut into; a multiple of the cards.
    models
        Models, of which few are asked for most (Zipf's law).
    slo
        A request is in time if it is done so long after it came.
    variation
        Coefficient of variation of a model's rate over time; 0.2: steady, 2: bursts and silence.
    wake
        How long a fraction does nothing when it changes its model.
    seconds
        Length of the simulation.
    seed
        Of the load.
    as_json
        Print JSON.
    """
    for name, value, least, limit in (
        ("--cards", cards, 1, 1024),
        ("--models", models, 1, 1024),
        ("--logical", logical, cards, 8 * cards),
        ("--variation", variation, 0.05, 10),
        ("--seconds", parse_seconds(seconds), 60, 3600),
        ("--slo", parse_seconds(slo), 0.5, 60),
        ("--wake", parse_seconds(wake), 0, 600),
    ):
        if not least <= value <= limit:
            said = f"{name} is {value:g}; expected {least:g} to {limit:g}"
            raise InvalidRequest(said, hint="choose a value in that range", param=name)
    if logical % cards:
        said = f"--logical {logical} is no multiple of --cards {cards}"
        raise InvalidRequest(said, hint="each card is cut into as many fractions", param="--logical")
    if models > cards:
        said = f"--models {models} is more than --cards {cards}"
        raise InvalidRequest(said, hint="each model has a card of its own where cards are not shared", param="--models")
    those = Pool(
        cards=cards,
        logical=logical,
        models=models,
        slo_s=parse_seconds(slo),
        variation=variation,
        wake_s=parse_seconds(wake),
        seconds=parse_seconds(seconds),
        seed=seed,
    )
    found = []
    for way in WAYS:
        print(f"simulating {way}", file=sys.stderr)
        found.append(most(those, way))
    longer = most(replace(those, wake_s=1.5 * those.wake_s), "moving")
    shorter = most(replace(those, wake_s=0.5 * those.wake_s), "moving")
    if as_json:
        told = {"ways": [asdict(one) for one in found], "wake_longer": asdict(longer), "wake_shorter": asdict(shorter)}
        print(json.dumps(told | {"bound": bound(those), "simulated": True}, indent=2))
        return
    rows = [(one.way, f"{one.load:.0%}", f"{one.in_time:.2%}", f"{one.productive:.0%}") for one in found]
    table(("way", "greatest load", "in time", "productive"), rows, names=1)
    print(
        f"{cards} cards as {logical}, {models} models; simulated. With {wake} to wake half as long: "
        f"{shorter.load:.0%}; half as long again: {longer.load:.0%} (moving)."
    )
    print(
        f"No way of sharing could have more than {bound(those):.0%} in time under this load: that of all cards as one."
    )


def _plain(load: Sequence[Any], outcomes: dict[str, tuple[Any, float]], bound: float | None) -> dict[str, object]:
    return {
        "requests": len(load),
        "seconds": round(load[-1].arrival_s, 3),
        "optimum": bound,
        "policies": {
            name: asdict(one) | ({"over_optimum": one.cost / bound - 1} if bound else {})
            for name, (one, _) in outcomes.items()
        },
        "simulated": True,
    }


def _show(
    load: Sequence[Any], names: Sequence[str], outcomes: dict[str, tuple[Any, float]], bound: float | None
) -> None:
    head = ("policy", "cost", "over optimum", "missed", "mean s", "p95 s", *names)
    rows = [
        (
            name,
            f"{one.cost:.4f}",
            f"{one.cost / bound - 1:+.1%}".replace("-0.0%", "+0.0%") if bound else "-",
            f"{one.missed} ({one.missed / len(load):.2%})",
            f"{one.mean_s:.1f}",
            f"{one.p95_s:.1f}",
            *(f"{one.answered_by_backend.get(each, 0):,}" for each in names),
        )
        for name, (one, _) in outcomes.items()
    ]
    if bound is not None:
        rows.append(("optimum", f"{bound:.4f}", *["-"] * (4 + len(names))))
    table(head, rows, names=1)
    print(f"{len(load):,} requests in {load[-1].arrival_s:,.0f} s; simulated, with the rates and prices of the file.")


if __name__ == "__main__":
    app()
