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
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
READY_S: Final = 120.0
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


class Server:
    """`ashore up` with both models."""

    def __init__(self, home: Path, store: Path, model: str, measured: float, neighbour: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = home
        (home / "store").symlink_to(store)
        lines = ["[grpc]", "port = 0", "[cache]", 'mode = "off"']
        for alias, cpus in (("measured", measured), ("neighbour", neighbour)):
            lines += ["[[model]]", f'name = "{model}"', f'alias = "{alias}"']
            if cpus:
                lines += ["[model.share]", f"cpus = {cpus:g}"]
        (home / "ashore.toml").write_text("\n".join(lines) + "\n")
        words = [sys.executable, "-m", "ashore.cli.main", "up", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*words, "--config", str(home / "ashore.toml")],
            env={**os.environ, "ASHORE_HOME": str(home)},
            stdout=(home / "up.out").open("wb"),
            stderr=subprocess.STDOUT,
        )
        until_s = time.monotonic() + READY_S
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > until_s:
                self.process.kill()
                raise SystemExit((home / "up.out").read_text())
            time.sleep(0.2)
        self.key = (home / "first-key").read_text().strip()

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def host(self, alias: str) -> int:
        """Return the process of the engine host of a model."""
        topology = json.loads((self.home / "run" / "topology.json").read_text())
        [path] = [one["sockets"][0] for one in topology["models"] if one["alias"] == alias]
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"ashore.engines.host" in words and path.encode() in words:
                    return int(folder.name)
        raise SystemExit(f"{alias} has no host")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def processor_s(pid: int) -> float:
    """Return the processor time that a process has had."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * TICK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What came of some seconds."""

    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    measured_cpus: float
    neighbour_cpus: float


def read(server: Server, load: Load, seconds: float) -> Reading:
    """Return what a load that runs sees in the next seconds."""
    hosts = [server.host("measured"), server.host("neighbour")]
    before, began_s = [processor_s(pid) for pid in hosts], time.perf_counter()
    load.gaps_s.clear()
    load.tokens = 0
    time.sleep(seconds)
    took_s = time.perf_counter() - began_s
    gaps_ms = np.array(load.gaps_s) * 1e3
    used = [(processor_s(pid) - was) / took_s for pid, was in zip(hosts, before, strict=True)]
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
        server = Server(Path(folder), home / "store", model, measured, neighbour)
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
