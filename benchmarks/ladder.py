"""Bursts on the real CPU engine: the top alone, the lowest rung alone, and the ladder over one KV cache.

`python -m benchmarks.ladder HOME` opens variants of one model in the store of HOME, such as those that
`ashore optimize quantize smollm2 --to fp16` and `--to int8` make. Requests are those of `tests/support/ladder_sim.py`:
chat of many lengths, few, then a burst, then few again. All rates follow from what the lowest rung can do within the
objective, which is measured first. Idle time is skipped, for everybody alike.

On a machine that others use, `--clock processor` measures processor time by threads; then the caches of the neighbours
still count. `--single` computes in single precision. `--report FILE` writes what a dated report needs, as Markdown.
"""

from __future__ import annotations

import argparse
import gc
import platform
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from ashore.core.clock import SystemClock
from ashore.core.ids import OrderId
from ashore.data.engines import EngineOptions, Failed, GenerateOrder, ModelFiles, Rung, Sampling, Token
from ashore.data.engines.openvino.engine import OpenVinoEngine
from ashore.data.engines.openvino.runtime import openvino_version
from ashore.kit.store import ModelStore

THREADS: Final = 2
SPANS: Final = "12,18,14"
"""Seconds before the burst, of it, and after it."""
RECOVERY_S: Final = 4.0
"""After the burst, until calm is calm again: what came in it has to be answered."""
CALM: Final = 0.17
HOT: Final = 0.9
"""Rates as shares of the capacity of the lowest rung."""
PROMPT, OUTPUT = (5.0, 0.6, 16, 800), (4.6, 0.5, 16, 300)
"""Log-normal lengths in tokens: mean and deviation of the logarithm, shortest, longest."""
MEAN_PROMPT, MEAN_OUTPUT = 177, 112
STREAMS: Final = "16,32,48"
"""Closed loops in which the capacity is looked for."""


class Clock:
    """A clock that skips idle time."""

    def __init__(self, by: str) -> None:
        self._seconds: Callable[[], float] = time.perf_counter
        if by == "processor":
            self._seconds = lambda: time.process_time() / THREADS
        self.skipped_s = 0.0

    def __call__(self) -> float:
        return self._seconds() + self.skipped_s


@dataclass(slots=True)
class Request:
    """One request of a trace, and how it was answered. Times count from the start of the trace."""

    at_s: float
    prompt: int
    output: int
    first_s: float = 0.0
    last_s: float = 0.0
    made: int = 0
    lowest: str = ""
    """The least exact precision that took part; empty where nothing is told, since there is one."""

    def is_late(self, ttft_s: float, tpot_s: float) -> bool:
        return self.first_s - self.at_s > ttft_s or (self.last_s - self.first_s) / max(1, self.made - 1) > tpot_s


@dataclass(slots=True)
class Way:
    """One way to answer: a precision, or a ladder."""

    name: str
    engine: OpenVinoEngine
    clock: Clock
    requests: list[list[Request]] = field(default_factory=list)
    switches: int = 0


def opened(store: ModelStore, reference: str) -> ModelFiles:
    """Return a model of the store."""
    found = store.open(reference)
    return ModelFiles(
        name=reference, digest=found.digest, directory=str(found.directory), format=found.format, weights=found.weights
    )


def order(name: str, source: random.Random, prompt: int, output: int) -> GenerateOrder:
    """Return an order with a prompt that no other has."""
    ids = [source.randrange(100, 40_000) for _ in range(prompt)]
    return GenerateOrder(
        order_id=OrderId(name),
        prompt_ids=ids,
        max_new_tokens=output,
        sampling=Sampling(temperature=0),
        ignore_eos=True,
    )


def trace(seed: int, capacity_per_s: float, spans: tuple[float, ...]) -> list[Request]:
    """Return what is asked for."""
    calm_s, burst_s, after_s = spans
    source, now_s, made = random.Random(seed), 0.0, []
    while True:
        is_hot = calm_s <= now_s < calm_s + burst_s
        now_s += source.expovariate(capacity_per_s * (HOT if is_hot else CALM))
        if now_s >= calm_s + burst_s + after_s:
            return made
        lengths = [
            int(min(most, max(least, source.lognormvariate(mean, sigma))))
            for mean, sigma, least, most in (PROMPT, OUTPUT)
        ]
        made.append(Request(now_s, *lengths))


def answer(way: Way, requests: list[Request], name: str) -> None:
    """Let an engine answer requests as they come, until the last token."""
    source, clock, engine = random.Random(name), way.clock, way.engine
    live: dict[str, Request] = {}
    begun, zero_s = 0, clock()
    while begun < len(requests) or live:
        if not live:
            clock.skipped_s += max(0.0, requests[begun].at_s - (clock() - zero_s))
        while begun < len(requests) and requests[begun].at_s <= clock() - zero_s:
            one = live[f"{name}.{begun}"] = requests[begun]
            engine.submit(order(f"{name}.{begun}", source, one.prompt, one.output))
            begun += 1
        for event in engine.step(0.0):
            one, now_s = live[event.order_id], clock() - zero_s
            if isinstance(event, Token):
                one.first_s, one.last_s, one.made = one.first_s or now_s, now_s, one.made + 1
            elif isinstance(event, Rung):
                one.lowest = event.precision
            else:
                assert not isinstance(event, Failed), event
                del live[event.order_id]


def closed_loop(way: Way, streams: int) -> tuple[float, float]:
    """Return requests a second of so many streams without a pause, and the seconds for each of their tokens."""
    source, engine, clock = random.Random(streams), way.engine, way.clock
    number, begun, left = 2 * streams, 0, 2 * streams
    began_s = clock()
    while left:
        while begun < number and begun - (number - left) < streams:
            engine.submit(order(f"c{streams}.{began_s}.{begun}", source, MEAN_PROMPT, MEAN_OUTPUT))
            begun += 1
        left -= sum(not isinstance(event, Token | Rung) for event in engine.step(0.0))
    took_s = clock() - began_s
    return number / took_s, took_s * streams / number / MEAN_OUTPUT


def capacity(way: Way, tpot_s: float, loops: list[int]) -> tuple[float, str]:
    """Return the most requests a second of closed loops whose tokens are in time, and what all of them gave."""
    found = {streams: closed_loop(way, streams) for streams in loops}
    told = ", ".join(f"{streams} streams {rate:.2f}/s at {s * 1e3:.0f} ms" for streams, (rate, s) in found.items())
    in_time = [rate for rate, seconds in found.values() if seconds <= tpot_s]
    return max(in_time, default=found[loops[0]][0]), told


def share(requests: list[Request], came: tuple[float, float], top: str) -> str:
    """Return how many of the requests that came then were answered by the top alone."""
    here = [one for one in requests if came[0] <= one.at_s < came[1]]
    at_top = sum(one.lowest in ("", top) for one in here)
    return f"{at_top} of {len(here)} ({at_top / max(1, len(here)):.0%})"


def main(words: argparse.Namespace) -> list[str]:
    """Measure; return the lines of the report."""
    objective = {"rung_ttft_ms": words.ttft_ms, "rung_tpot_ms": words.tpot_ms}
    ttft_s, tpot_s = words.ttft_ms / 1000, words.tpot_ms / 1000
    extra = {"INFERENCE_PRECISION_HINT": "f32"} if words.single else {}
    options = EngineOptions(kind="openvino", kv_tokens=65_536, threads=THREADS, prefix_cache=False, extra=extra)
    rungs = words.rungs.split(",")
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as run:
        store = ModelStore(words.home / "store", Path(run), SystemClock())
        files = [opened(store, f"{words.model}@{one}") for one in rungs]

        def way(name: str, top: ModelFiles, below: tuple[ModelFiles, ...] = ()) -> Way:
            made = Way(name, OpenVinoEngine(), Clock(words.clock))
            made.engine = OpenVinoEngine(clock=made.clock)
            has_rungs = replace(options, extra={**extra, **objective}) if below else options
            made.engine.load(replace(top, rungs=below), has_rungs)
            closed_loop(made, 4)
            return made

        ways = [way(rungs[0], files[0]), way(rungs[-1], files[-1])]
        ways.append(way(" > ".join((rungs[0], rungs[-1])), files[0], (files[-1],)))
        if len(rungs) > 2:
            ways.append(way(" > ".join(rungs), files[0], tuple(files[1:])))
        per_s, told = capacity(ways[1], tpot_s, [int(one) for one in words.streams.split(",")])
        spans = tuple(float(one) for one in words.spans.split(","))
        say(f"OpenVINO {openvino_version()}, {platform.machine()}, {THREADS} threads, {words.clock} clock.")
        say(f"Objective: first token {words.ttft_ms} ms, then {words.tpot_ms} ms. Capacity of {rungs[-1]}: {told};")
        say(f"taken: {per_s:.2f}/s. Calm {CALM * per_s:.2f}/s, burst {HOT * per_s:.2f}/s.")
        say("")
        say("| seed | way | late | late of those in the burst | wholly at the top before it | after it | changes |")
        say("|--:|---|---|---|---|---|--:|")
        hot = (spans[0], spans[0] + spans[1])
        for seed in range(words.seed, words.seed + words.seeds):
            for one in ways:
                requests = trace(seed, per_s, spans)
                before = one.engine.stats().rung_switches
                answer(one, requests, f"{one.name}{seed}")
                one.requests.append(requests)
                gc.collect()
                switches = one.engine.stats().rung_switches - before
                one.switches += switches
                say(f"| {seed} {row(one, requests, ttft_s, tpot_s, hot, rungs[0])} | {switches} |")
        say("")
        for one in ways:
            every = [request for requests in one.requests for request in requests]
            say(f"| all {row(one, every, ttft_s, tpot_s, hot, rungs[0])} | {one.switches} |")
    return lines


def row(
    way: Way, requests: list[Request], ttft_s: float, tpot_s: float, hot: tuple[float, float], top: str
) -> str:  # fmt: skip
    """Return the cells of one row."""
    in_burst = [one for one in requests if hot[0] <= one.at_s < hot[1]]
    cells = [way.name]
    for some in (requests, in_burst):
        late = sum(one.is_late(ttft_s, tpot_s) for one in some)
        cells.append(f"{late} of {len(some)} ({late / len(some):.1%})")
    calm = ((0.0, hot[0]), (hot[1] + RECOVERY_S, float("inf")))
    cells += [share(requests, span, top) if ">" in way.name else "-" for span in calm]
    return "| " + " | ".join(cells)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, metavar="HOME")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rungs", default="fp16,int8", help="variants, the most exact first")
    parser.add_argument("--single", action="store_true", help="compute in single precision, whatever the weights are")
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--ttft-ms", type=int, default=1000)
    parser.add_argument("--tpot-ms", type=int, default=60)
    parser.add_argument("--streams", default=STREAMS, help="closed loops in which the capacity is looked for")
    parser.add_argument("--spans", default=SPANS, help="seconds before the burst, of it, and after it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", type=Path)
    words = parser.parse_args()
    found = main(words)
    if words.report:
        words.report.write_text("\n".join(found) + "\n")
