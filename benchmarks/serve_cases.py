"""The measurements behind `serve_table.py`; each returns plain numbers and judges nothing."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import PeerServer, free_port, process

from ashore.lab.bench import LoadPlan, LoadReport, run_load

NEW_TOKENS = 64
SYSTEM_TOKENS = 4
"""A system prompt of our own, however short, keeps the template from adding its longer default."""
MAIN = (sys.executable, "-m", "ashore.cli.main")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """Prompts that are the same for every server: exact with the model's tokenizer, so that nothing is probed."""

    tokenizer: Path
    user_tokens: int


def plan_for(server: PeerServer, prompts: Prompts | None, **fields: object) -> LoadPlan:
    """Return a plan against one server."""
    base: dict[str, object] = {"url": server.url, "model": server.model, "key": server.key, "output_tokens": NEW_TOKENS}
    if server.extra_body:
        base["extra_body"] = server.extra_body
    if prompts is not None:
        base |= {"tokenizer": prompts.tokenizer, "calibrate": False, "prompt_tokens": prompts.user_tokens}
        base["system_tokens"] = SYSTEM_TOKENS
    return LoadPlan(**(base | fields))  # type: ignore[arg-type]


def load(server: PeerServer, prompts: Prompts | None, **fields: object) -> LoadReport:
    """Put load on a server; a failed request ends the whole benchmark, as its figures would mean nothing."""
    report = asyncio.run(run_load(plan_for(server, prompts, **fields)))
    if report.errors:
        raise SystemExit(f"{server.name}: {report.errors}")
    return report


@contextmanager
def ashore_up(home: Path, model: str, *, config: str = "", logs: Path) -> Iterator[PeerServer]:
    """Run `ashore up` from `home`: `model`, or what `config` (the text of an ashore.toml) names."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = ["--port", str(port), "--grpc-port", "0", "--offline"]
    if config:
        file = logs / "ashore.toml"
        file.write_text(config)
        words = ["up", "--config", str(file), *words]
    else:
        words = ["up", model, *words]
    os.environ["ASHORE_HOME"] = str(home)
    log = logs / f"up-{model.partition(':')[0]}.log"
    with process([*MAIN, *words], url, ready="/readyz", wait_s=120, log=log):
        key = (home / "first-key").read_text().strip()
        yield PeerServer(name="ashore", version="", url=url, command="ashore " + " ".join(words), key=key)


class InProcess:
    """The same engine in a process of its own, asked over a pipe."""

    def __init__(self, launch: Path, log: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.serve_inprocess", str(launch)]
        with open(log, "wb") as sink:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink, text=True
            )
        self.about = self._read()

    def run(self, *, streams: int, requests: int, prompt_tokens: int, shared_tokens: int) -> float:
        """Return tokens a second."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{streams} {requests} {prompt_tokens} {NEW_TOKENS} {shared_tokens}\n")
        self._child.stdin.flush()
        return float(self._read()["tok_per_s"])

    def close(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(30)

    def _read(self) -> dict[str, float]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit("the engine in process ended; see its log")
        return dict(json.loads(line))


def throughput(server: PeerServer, prompts: Prompts, *, streams: int, waves: int, seed: int) -> LoadReport:
    """Return the report of a closed loop of `streams` users with `waves` requests each."""
    return load(server, prompts, concurrency=streams, requests=streams * waves, seed=seed, warmup=1)


def ttft_alone(server: PeerServer, prompts: Prompts, *, requests: int) -> LoadReport:
    """Return the report of short prompts, one at a time."""
    return load(server, prompts, concurrency=1, requests=requests, output_tokens=16, seed=501, warmup=3)


def ttft_poisson(server: PeerServer, prompts: Prompts, *, requests: int) -> tuple[LoadReport, float]:
    """Return the report of Poisson arrivals at the rate that four users reach, and the mean number in flight.

    By Little's law the mean in flight is rate times answer time; the rate is that at which a closed loop of four runs.
    """
    four = load(server, prompts, concurrency=4, requests=24, output_tokens=NEW_TOKENS, seed=601, warmup=1)
    rate = four.requests_per_s * 0.9
    for _ in range(3):
        report = load(server, prompts, rate_per_s=rate, requests=requests, seed=602, warmup=1)
        in_flight = report.sent / report.wall_s * report.e2e_ms.mean / 1e3
        if 3.0 <= in_flight <= 5.0:
            break
        rate *= min(1.3, max(0.6, 4 / in_flight))
    return report, in_flight


def shared_prefix(server: PeerServer, prompts: Prompts, *, rounds: int) -> tuple[float, float]:
    """Return the medians of the first and of later times to first token, in ms, under a system prompt of 600 tokens."""
    firsts, laters = [], []
    for turn in range(rounds):
        report = load(
            server, prompts, concurrency=1, requests=6, output_tokens=4, system_tokens=600, seed=700 + turn, warmup=0
        )
        firsts.append(report.first_ttft_ms)
        laters.append(report.later_ttft_ms.p50)
    return statistics.median(firsts), statistics.median(laters)


def stalls(server: PeerServer, *, streams: int, seconds: float) -> LoadReport:
    """Return the report of `streams` held together on the fake engine at 20 tokens/s each; errors are in it."""
    plan = plan_for(
        server,
        None,
        concurrency=streams,
        requests=streams,
        output_tokens=int(20 * seconds),
        calibrate=False,
        ramp_s=1.0,
    )
    return asyncio.run(run_load(plan))


def first_answer_s(home: Path, model: str, logs: Path) -> float:
    """Return the seconds from starting `ashore up` to the end of the first answer, the model being in the store."""
    began = time.perf_counter()
    with ashore_up(home, model, logs=logs) as server:
        load(server, None, concurrency=1, requests=1, output_tokens=1, warmup=0, calibrate=False)
        return time.perf_counter() - began


def help_s(times: int = 7) -> float:
    """Return the median seconds of `ashore --help`."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([*MAIN, "--help"], check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def quiet_share(seconds: float = 1.0) -> float:
    """Return the share of the processors that other work takes now: figures from a busy machine are not trusted."""

    def busy() -> tuple[float, float]:
        numbers = [float(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(numbers) - numbers[3] - numbers[4], sum(numbers)

    before = busy()
    time.sleep(seconds)
    after = busy()
    return (after[0] - before[0]) / max(1.0, after[1] - before[1])
