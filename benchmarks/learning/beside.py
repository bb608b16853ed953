"""What a run of learning adds to the latency of serving on the same machine.

    python -m benchmarks.learning.beside HOME OUT [--rate 1.0] [--block 40] [--pairs 3] [--threads 0]

Serves the demo model of HOME (int8, its default engine), and asks it at random moments (Poisson, an open loop: a late
answer delays no later question), in blocks with and without a process that teaches an adapter beside it, in turns that
begin with either. The process is what `ashore learn run` is: idle class, the same loop, loss, adapters and precision,
on `--threads` (0: all, as there). Prints the 50th, 95th and 99th percentile of the time to the first token and to the
whole answer, of all blocks of a kind, and how much more they are beside, with what 95 % of resampled pairs of blocks
say. A p99 wants a thousand requests of each kind: `--rate 2 --block 60 --pairs 9` takes 20 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

TOKENS: Final = 24
PERCENTILES: Final = (50, 95, 99)
NAMES: Final = tuple(f"p{one}" for one in PERCENTILES)
RESAMPLED: Final = 1000
WARM_S: Final = 8.0
START_S: Final = 180.0
TEACH: Final = """
import sys
from pathlib import Path
from benchmarks.optimise.task import definitions
from ashore.cli.bootstrap import build_store
from ashore.lab.learning.batches import FeedbackBatches, Learned
from ashore.lab.learning.objectives import FeedbackLoss
from ashore.lab.learning.teaching import SMALLEST_ROW, Teaching, adapted
from ashore.kit.processes.priority import become_idle
from ashore.kit.settings import Home
from ashore.data.text import TextModel
from ashore.lab.training import LoopOptions, faster_precision, mlp_size, train
become_idle()
store = build_store(Home(root=Path(sys.argv[1])))
parent = store.resolve("smollm2")
text = TextModel.load(store.open(parent.reference).directory)
pairs = []
for one in definitions("train"):
    asked, said = text.encode(one.text), [text.encode(answer, bare=True) for answer in (one.kind, "nothing of it")]
    pairs += [([*asked, *answer], [False] * len(asked) + [True] * len(answer)) for answer in said]
batches = FeedbackBatches([Learned("pair", pairs)], (), row_tokens=256, batch_tokens=512, seed=0, epochs=9)
precision = faster_precision(parent.shape.hidden_size, mlp_size(parent.shape), SMALLEST_ROW)
with store.reading(parent.reference) as files:
    model = adapted(files, Teaching(precision=precision, threads=int(sys.argv[2])))
print("teaching", flush=True)
options = LoopOptions(learning_rate=1e-4, precision=precision)
train(model.get_base_model(), batches, FeedbackLoss(model, batches.roles), options,
      watch=lambda one: print(one.step, one.tok_per_s, flush=True))
"""


async def ask(client: httpx.AsyncClient, number: int, found: list[tuple[float, float]]) -> None:
    began = time.perf_counter()
    first = 0.0
    body = {
        "model": "smollm2", "stream": True, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True,
        "messages": [{"role": "user", "content": f"Tell me something about the number {number}."}],
    }  # fmt: skip
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and not first:
                first = time.perf_counter() - began
    found.append((first, time.perf_counter() - began))


async def block(
    client: httpx.AsyncClient, seconds: float, rate: float, rng: random.Random
) -> list[tuple[float, float]]:
    """Ask for so long, and return the time to the first token and to the end of each answer."""
    found: list[tuple[float, float]] = []
    tasks, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until:
        tasks.append(asyncio.create_task(ask(client, rng.randrange(10**9), found)))
        await asyncio.sleep(rng.expovariate(rate))
    await asyncio.gather(*tasks)
    return found


def start_teaching(home: Path, threads: int) -> subprocess.Popen[str]:
    """Start what learns, and return when it does."""
    child = subprocess.Popen([sys.executable, "-c", TEACH, str(home), str(threads)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("1 "):
            break
    return child


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def measure(given: argparse.Namespace, url: str, key: str) -> dict[str, Any]:
    rng = random.Random(0)
    seen: dict[bool, list[list[tuple[float, float]]]] = {False: [], True: []}
    steps = 0
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120) as client:
        await block(client, WARM_S, given.rate, rng)
        for turn in range(given.pairs):
            for beside in ((False, True), (True, False))[turn % 2]:
                child = await asyncio.to_thread(start_teaching, given.home, given.threads) if beside else None
                seen[beside].append(await block(client, given.block, given.rate, rng))
                if child is not None:
                    child.send_signal(signal.SIGKILL)
                    steps += len(child.communicate()[0].splitlines())
    line: dict[str, Any] = {
        "rate": given.rate, "block_s": given.block, "pairs": given.pairs, "threads": given.threads,
        "steps_beside": steps, "load": os.getloadavg(),
    }  # fmt: skip
    draws = np.random.default_rng(0).integers(given.pairs, size=(RESAMPLED, given.pairs))
    for name, column in (("first", 0), ("whole", 1)):
        ms = {beside: [np.array([1000 * one[column] for one in part]) for part in seen[beside]] for beside in seen}
        told = {beside: [_percentiles(parts, pairs) for pairs in ([*range(given.pairs)], *draws)]
                for beside, parts in ms.items()}  # fmt: skip
        for beside, found in told.items():
            kind = f"{name}_{'beside' if beside else 'alone'}_ms"
            line[kind] = {"requests": sum(map(len, ms[beside]))} | dict(
                zip(NAMES, found[0].round(1).tolist(), strict=True)
            )
        more = 100 * (np.array(told[True]) / np.array(told[False]) - 1)
        spread = np.percentile(more[1:], (2.5, 97.5), axis=0).T
        line[f"{name}_more_percent"] = {
            what: [round(float(one), 1) for one in (more[0, at], *spread[at])] for at, what in enumerate(NAMES)
        }
    return line


def _percentiles(blocks: Sequence[Any], which: Sequence[int]) -> Any:
    return np.percentile(np.concatenate([blocks[at] for at in which]), PERCENTILES)


def wait_ready(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the server answers; say what it said where it does not come up."""
    until = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"the server is not ready (exit code {server.poll()}):\n{log.read_text(encoding='utf-8')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--ashore", default="ashore", help="command that serves: another environment may have it")
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--block", type=float, default=40.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of what learns; 0: all")
    given = parser.parse_args()
    port = free_port()
    config = given.home / "beside.toml"
    config.write_text(
        f'[[model]]\nname = "smollm2"\n[http]\nport = {port}\n[grpc]\nport = {free_port()}\n[cache]\nmode = "off"\n'
    )
    env = {**os.environ, "ASHORE_HOME": str(given.home)}
    log = given.home / "beside.log"
    with log.open("w", encoding="utf-8") as said:
        server = subprocess.Popen([given.ashore, "up", "--config", str(config)], env=env, stdout=said, stderr=said)
    try:
        url, key_file = f"http://127.0.0.1:{port}", given.home / "first-key"
        wait_ready(server, url, log)
        line = asyncio.run(measure(given, url, key_file.read_text().strip()))
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    with given.out.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()
