"""A burst on a ladder by a virtual clock: scheduler, pace and ladder of the engine, steps by a model of time.

Step times are those of the demo model on two quiet cores of Zen 5, per step, generating sequence and prompt token,
measured with all rungs in one host. Run as a program, it prints the table of the report.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Final

from ashore.core.ids import OrderId
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.ladder import Cost, Ladder, Objective
from ashore.data.engines.openvino.pace import Pace
from ashore.data.engines.openvino.scheduler import Scheduler, Sequence

STEP_S: Final = {
    "fp32": (0.0198, 0.00192, 0.00122),
    "bf16": (0.0114, 0.00093, 0.00066),
    "int8": (0.0089, 0.00063, 0.00049),
}
OBJECTIVE: Final = Objective(ttft_s=1.0, tpot_s=0.06)
CALM_PER_S: Final = 0.9
BURST: Final = (40.0, 85.0)
WHOLE_S: Final = 180.0


@dataclass(slots=True)
class Request:
    """One request, and when it was answered."""

    arrival_s: float
    prompt: int
    output: int
    first_s: float = 0.0
    last_s: float = 0.0
    lowest: int = -1

    @property
    def missed(self) -> bool:
        late = self.first_s - self.arrival_s > OBJECTIVE.ttft_s
        return late or (self.last_s - self.first_s) / max(1, self.output - 1) > OBJECTIVE.tpot_s


@dataclass(slots=True)
class Told:
    """What a trace came to."""

    requests: list[Request] = field(default_factory=list)
    switches: int = 0

    @property
    def missed(self) -> float:
        return sum(one.missed for one in self.requests) / len(self.requests)

    def at_the_top(self, from_s: float, to_s: float) -> float:
        """Return the share of the requests that came then which no lower rung took part in."""
        came = [one for one in self.requests if from_s <= one.arrival_s < to_s]
        return sum(one.lowest == 0 for one in came) / max(1, len(came))


def trace(seed: int, burst_per_s: float) -> list[Request]:
    """Return requests: few, then a burst, then few again. Lengths are log-normal, as in chat."""
    source, now_s, made = random.Random(seed), 0.0, []
    while now_s < WHOLE_S:
        now_s += source.expovariate(burst_per_s if BURST[0] <= now_s < BURST[1] else CALM_PER_S)
        prompt = int(min(800, max(16, source.lognormvariate(5.0, 0.6))))
        output = int(min(300, max(16, source.lognormvariate(4.6, 0.5))))
        made.append(Request(now_s, prompt, output))
    return made


def run(requests: Seq[Request], rungs: Seq[str]) -> Told:
    """Answer a trace with a ladder, or with one precision."""
    scheduler = Scheduler(BlockPool(4096, 32), max_sequences=64, prefix_cache=False)
    lowest = STEP_S[rungs[-1]]
    costs = [Cost(step=STEP_S[one][0] / lowest[0], prompt=STEP_S[one][2] / lowest[2]) for one in rungs]
    ladder = Ladder(OBJECTIVE, tuple(costs))
    paces = [Pace(max_batch_tokens=512, max_stall_s=0.1, max_prompt_step_s=0.25) for _ in rungs]
    for pace, rung in zip(paces, rungs, strict=True):
        pace.note(num_sequences=1, num_tokens=128, seconds=STEP_S[rung][0] + 127 * STEP_S[rung][2])
    live: dict[str, tuple[Request, Sequence]] = {}
    now_s, at, told = 0.0, 0, Told()
    while at < len(requests) or live:
        if not live:
            now_s = max(now_s, requests[at].arrival_s)
        while at < len(requests) and requests[at].arrival_s <= now_s:
            one = Request(requests[at].arrival_s, requests[at].prompt, requests[at].output)
            sequence = Sequence(order_id=OrderId(str(at)), ids=[0] * one.prompt, num_prompt=one.prompt)
            live[str(at)] = one, sequence
            scheduler.add(sequence)
            at += 1
        decoding = sum(s.remaining == 1 for s in scheduler.running)
        ahead = [s for s in (*scheduler.running, *scheduler.waiting) if s.remaining > 1]
        oldest_s = min((live[s.order_id][0].arrival_s for s in ahead), default=now_s)
        pending_s = sum(s.remaining for s in ahead) * paces[ladder.rung].seconds_per_token
        rung = ladder.decide(now_s, decoding=decoding, pending_s=pending_s, oldest_wait_s=now_s - oldest_s)
        plan = scheduler.plan(prompt_budget=paces[rung].budget(decoding=decoding))
        tokens = sum(chunk.end - chunk.start for chunk in plan.chunks)
        step_s, sequence_s, prompt_s = STEP_S[rungs[rung]]
        seconds = step_s + decoding * sequence_s + (tokens - decoding) * prompt_s
        now_s += seconds
        scheduler.commit(plan)
        for chunk in plan.chunks:
            request, sequence = live[chunk.sequence.order_id]
            request.lowest = max(request.lowest, rung)
            if not chunk.samples:
                continue
            sequence.ids.append(0)
            request.first_s, request.last_s = request.first_s or now_s, now_s
            if len(sequence.ids) - sequence.num_prompt >= request.output:
                scheduler.remove(sequence)
                del live[chunk.sequence.order_id]
                told.requests.append(request)
        paces[rung].note(num_sequences=len(plan.chunks), num_tokens=tokens, seconds=seconds)
        ladder.note(seconds=seconds, decoding=decoding)
    told.switches = ladder.switches
    return told


def main(seeds: int = 20) -> None:
    """Print missed objectives, switches, and the share at the top, over some seeds."""
    print("| burst | rungs | missed | at the top before the burst | in it | after | switches |")
    print("|---|---|--:|--:|--:|--:|--:|")
    spans = ((0.0, BURST[0] - 5), BURST, (BURST[1] + 15, WHOLE_S))
    for burst in (3.0, 4.0, 4.5, 5.0):
        traces = [trace(seed, burst) for seed in range(seeds)]
        for rungs in (["fp32"], ["bf16"], ["int8"], ["fp32", "int8"], ["bf16", "int8"], ["fp32", "bf16", "int8"]):
            told = [run(one, rungs) for one in traces]
            top = [_mean(one.at_the_top(*span) for one in told) for span in spans]
            missed, switches = _mean(one.missed for one in told), _mean(one.switches for one in told)
            cells = (f"{missed:.2%}", *(f"{one:.0%}" for one in top), f"{switches:.1f}")
            print(f"| {burst:g}/s | {' > '.join(rungs)} | {' | '.join(cells)} |", flush=True)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
