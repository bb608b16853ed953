"""Two real CPU engines side by side, each with what `[model.share]` promises it: one is measured, one is saturated.

`python -m benchmarks.shares HOME` serves a model of the store of HOME twice under `ashore up`. First the measured one
answers alone, with its share; then its neighbour has more to do than it can, and the measured one answers the same
again. Reported are the tokens of the measured one against alone, the processor time of both hosts against what was
promised, and the gaps between tokens, as the client sees them. Clients and API worker run on the same machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from benchmarks.peers import free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from served import Served, host_of, start_served

STREAMS, OUTPUT, WORDS = 2, 128, 24
"""Of the model that is measured."""
PUSHING, PUSHED_OUTPUT, PUSHED_WORDS = 6, 48, 300
"""Of its neighbour: long prompts, and more of them at once than it can do."""


@dataclass(slots=True)
class Load:
    """Streams at one model without a pause, and when their tokens came."""

    port: int
    key: str
    model: str
    streams: int
    words: int
    output: int
    stop: threading.Event = field(default_factory=threading.Event)
    gaps_s: list[float] = field(default_factory=list)
    tokens: int = 0

    def run(self, seed: int) -> None:
        source = random.Random(seed)
        while not self.stop.is_set():
            text = " ".join(str(source.randrange(1000)) for _ in range(self.words))
            body = {
                "model": self.model, "prompt": text, "max_tokens": self.output, "stream": True, "ignore_eos": True,
                "temperature": 0,
            }  # fmt: skip
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            connection.request("POST", "/v1/completions", json.dumps(body), {"authorization": f"Bearer {self.key}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"{answer.status} {answer.read().decode()}")
            last_s = 0.0
            for line in answer:
                if line.startswith(b"data: {") and b'"text"' in line:
                    now_s = time.perf_counter()
                    if last_s:
                        self.gaps_s.append(now_s - last_s)
                    last_s = now_s
                    self.tokens += 1
                if self.stop.is_set():
                    break
            connection.close()


@contextmanager
def loaded(one: Load) -> Iterator[Load]:
    """Keep the streams of a load running."""
    threads = [threading.Thread(target=one.run, args=(number,)) for number in range(one.streams)]
    for thread in threads:
        thread.start()
    try:
        yield one
    finally:
        one.stop.set()
        for thread in threads:
            thread.join()


def started(home: Path, store: Path, model: str, measured: float, neighbour: float) -> Served:
    """Start `ashore up` with the model under both aliases."""
    config = '[cache]\nmode = "off"\n'
    for alias, cpus in (("measured", measured), ("neighbour", neighbour)):
        config += f'[[model]]\nname = "{model}"\nalias = "{alias}"\n'
        config += f"[model.share]\ncpus = {cpus:g}\n" if cpus else ""
    return start_served(home, (), store=store, port=free_port(), grpc_port=0, config=config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What came of some seconds."""

    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    measured_cpus: float
    neighbour_cpus: float


def read(server: Served, load: Load, seconds: float) -> Reading:
    """Return what a load that runs sees in the next seconds."""
    hosts = [psutil.Process(host_of(server, release)) for release in ("measured-1", "neighbour-1")]
    before, began_s = [host.cpu_times() for host in hosts], time.perf_counter()
    load.gaps_s.clear()
    load.tokens = 0
    time.sleep(seconds)
    took_s = time.perf_counter() - began_s
    gaps_ms = np.array(load.gaps_s) * 1e3
    spent = zip(hosts, before, strict=True)
    used = [(sum(host.cpu_times()[:2]) - sum(was[:2])) / took_s for host, was in spent]
    return Reading(
        tokens_per_s=load.tokens / took_s,
        p50_ms=float(np.percentile(gaps_ms, 50)),
        p99_ms=float(np.percentile(gaps_ms, 99)),
        measured_cpus=used[0],
        neighbour_cpus=used[1],
    )


def measure(home: Path, model: str, measured: float, neighbour: float, seconds: float, rounds: int) -> list[str]:
    """Measure one division; return the rows of a table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        server = started(Path(folder), home / "store", model, measured, neighbour)
        try:
            watched = Load(server.port, server.key, "measured", STREAMS, WORDS, OUTPUT)
            with loaded(watched):
                time.sleep(3)
                for _ in range(rounds):
                    alone = read(server, watched, seconds)
                    pushing = Load(server.port, server.key, "neighbour", PUSHING, PUSHED_WORDS, PUSHED_OUTPUT)
                    with loaded(pushing):
                        time.sleep(2)
                        beside = read(server, watched, seconds)
                    time.sleep(1)
                    rows.append(
                        f"| {measured:g} and {neighbour or 'the rest'} | {alone.tokens_per_s:.1f} | "
                        f"{beside.tokens_per_s:.1f} | {beside.tokens_per_s / alone.tokens_per_s:.2f} | "
                        f"{beside.measured_cpus:.2f} | {beside.neighbour_cpus:.2f} | "
                        f"{alone.p50_ms:.1f}, {alone.p99_ms:.1f} | {beside.p50_ms:.1f}, {beside.p99_ms:.1f} | "
                        f"{beside.p99_ms / alone.p99_ms:.2f} |"
                    )
                    print(rows[-1], flush=True)
        finally:
            server.stop()
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path, metavar="HOME")
    parser.add_argument("--model", default="smollm2@int8")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--divide", action="append", help="MEASURED,NEIGHBOUR in processors; 0: no share of its own")
    given = parser.parse_args()
    print(
        "| promised | tokens/s alone | beside | ratio | processors beside | of the neighbour | "
        "gap alone, ms (p50, p99) | beside | p99, ratio |\n|---|--:|--:|--:|--:|--:|---|---|--:|",
        flush=True,
    )
    for words in given.divide or ["1,1", "1,0", "0.5,1.5"]:
        first, second = (float(word) for word in words.split(","))
        measure(given.home.absolute(), given.model, first, second, given.seconds, given.rounds)
