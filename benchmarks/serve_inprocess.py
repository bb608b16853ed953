"""The engine that `ashore up` runs, called in process with no HTTP, no host and no text: what HTTP is measured against.

Started by `serve_table.py` with a launch file of the supervisor. Each line on stdin is `STREAMS REQUESTS PROMPT_TOKENS
NEW_TOKENS SHARED_TOKENS`; the answer is one line of JSON. Prompts begin with the same SHARED_TOKENS, as those that went
through a template do. Closed loop: as soon as a sequence ends the next one is submitted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ashore.core.ids import OrderId
from ashore.data.engines import Failed, Finished, GenerateOrder, Sampling, Token
from ashore.data.engines.cards import make_engine
from ashore.data.engines.hostlaunch import HostLaunch
from ashore.data.engines.ports import Engine
from ashore.kit.processes.launchfiles import read_launch


def prompt(seed: int, length: int, vocab_size: int) -> list[int]:
    """Return token ids that no other seed begins with."""
    return [(seed * 7919 + i * 104729 + i * i * 31) % (vocab_size - 100) + 50 for i in range(length)]


def closed_loop(engine: Engine, vocab_size: int, first: int, line: str) -> dict[str, float]:
    """Run one measurement and return tokens a second and the median time to first token."""
    streams, requests, prompt_tokens, new_tokens, shared_tokens = (int(word) for word in line.split())
    shared = prompt(7, shared_tokens, vocab_size)
    waiting = [
        GenerateOrder(
            order_id=OrderId(str(first + i)),
            prompt_ids=[*shared, *prompt(first + i, prompt_tokens - shared_tokens, vocab_size)],
            max_new_tokens=new_tokens,
            ignore_eos=True,
            sampling=Sampling(temperature=0),
            prefix_partition="bench",
        )
        for i in range(requests)
    ]
    submitted: dict[str, float] = {}
    firsts: dict[str, float] = {}
    tokens = 0
    begun = time.perf_counter()
    left = requests
    running = 0
    while left:
        while waiting and running < streams:
            order = waiting.pop()
            submitted[order.order_id] = time.perf_counter()
            engine.submit(order)
            running += 1
        for event in engine.step(0.1):
            match event:
                case Token():
                    tokens += 1
                    firsts.setdefault(event.order_id, time.perf_counter() - submitted[event.order_id])
                case Finished():
                    left -= 1
                    running -= 1
                case Failed():
                    raise SystemExit(event.message)
    ordered = sorted(firsts.values())
    return {"tok_per_s": tokens / (time.perf_counter() - begun), "ttft_ms": ordered[len(ordered) // 2] * 1e3}


def main() -> None:
    launch = read_launch(Path(sys.argv[1]), HostLaunch)
    engine = make_engine(launch.options.kind)
    info = engine.load(launch.files, launch.options)
    print(json.dumps({"version": info.version, "precision": info.precision}), flush=True)
    for number, line in enumerate(sys.stdin):
        print(json.dumps(closed_loop(engine, info.vocab_size, number * 100_000, line)), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
