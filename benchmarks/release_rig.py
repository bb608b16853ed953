"""A server with two releases of one alias, and clients that ask it, for the benchmark of switching."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.peers import free_port

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from release_load import Asked, ask
from served import call, host_of, owner_key, start_served

ALIAS = "chat"
READY_S = 600.0
LONGEST_ANSWER_S = 300.0


class Server:
    """A running `ashore up`, asked by its model owner."""

    def __init__(self, home: Path, model: str) -> None:
        config = f'[[model]]\nname = "{model}"\nalias = "{ALIAS}"\n[cache]\nmode = "off"\n'
        self._served = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config, wait=False)
        self._served.wait_ready(READY_S)
        self.port, self.key = self._served.port, owner_key(self._served)

    def must(self, method: str, path: str, body: object = None) -> Any:
        """Send one request; what is not answered 200 ends the benchmark."""
        return call(self._served, method, path, self.key, body)

    def metrics(self) -> str:
        with urllib.request.urlopen(f"{self._served.root_url}/metrics", timeout=60) as answer:
            return str(answer.read().decode())

    def ask(self, text: str, *, tokens: int) -> Asked:
        """Stream one answer of so many tokens to its end."""
        return ask(
            self, self.key, ALIAS, text, tokens=tokens, timeout_s=LONGEST_ANSWER_S, ignore_eos=True, temperature=0
        )

    def state(self, release: str) -> str:
        return str(self.must("GET", f"/admin/v1/releases/{release}")["state"])

    def wait(self, release: str, *states: str) -> None:
        """Return when a release is in one of these states, and every worker knows."""
        end_s = time.monotonic() + READY_S
        while self.state(release) not in states:
            if time.monotonic() > end_s:
                raise SystemExit(f"{release} is {self.state(release)}, not {' or '.join(states)}, after {READY_S:g} s")
            time.sleep(0.1)
        time.sleep(0.5)

    def host(self, release: str) -> int:
        """Return the process of the host behind a release; 0 while there is none."""
        with suppress(AssertionError):
            return host_of(self._served, release)
        return 0

    def stop(self) -> None:
        self._served.stop(120)


def command(*words: str) -> list[str]:
    """Return the words that run `ashore` with this Python."""
    return [sys.executable, "-m", "ashore.cli.main", *words]


def known_models(home: Path) -> set[str]:
    """Return the references of the models and variants in the store of a home."""
    environment = {**os.environ, "ASHORE_HOME": str(home)}
    listed = subprocess.run(command("model", "list", "--json"), env=environment, stdout=subprocess.PIPE, check=True)
    return {one["reference"] for one in json.loads(listed.stdout)["items"]}


def prepare_models(home: Path, name: str, variants: tuple[str, ...], *, source: str = "") -> None:
    """Bring a model, from `source` or by its name, and the variants of it into the store of a home. What is there
    already stays."""
    environment = {**os.environ, "ASHORE_HOME": str(home)}
    known = known_models(home)
    if name not in known:
        subprocess.run(command("model", "pull", source or name, "--name", name), env=environment, check=True)
    for variant in variants:
        if f"{name}@{variant}" not in known:
            subprocess.run(command("optimize", "quantize", name, "--to", variant), env=environment, check=True)


@contextmanager
def streams(server: Server, count: int, *, tokens: int) -> Iterator[list[Asked]]:
    """Keep so many clients asking, each the next question when it has its answer. The list grows until they are done.

    Entering returns when each has had time for its first answer to begin.
    """
    asked: list[Asked] = []
    stop = threading.Event()

    def load(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            asked.append(server.ask(f"stream {number}, turn {turn}", tokens=tokens))

    threads = [threading.Thread(target=load, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(2.0)
    try:
        yield asked
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def arrivals(server: Server, rate_per_s: float, seconds: float, *, tokens: int, seed: int) -> list[Asked]:
    """Ask at times that chance draws, whether answers are there or not, and return all. One seed, one schedule; no two
    questions begin alike, so that no prompt is known from an earlier window."""
    draws = random.Random(seed)
    asked: list[Asked] = []
    threads = []
    due_s, end_s, number = time.monotonic(), time.monotonic() + seconds, 0
    while (due_s := due_s + draws.expovariate(rate_per_s)) < end_s:
        number += 1
        time.sleep(max(0.0, due_s - time.monotonic()))
        text = f"{time.time_ns()}: schedule {seed}, question {number}"
        threads.append(threading.Thread(target=lambda said=text: asked.append(server.ask(said, tokens=tokens))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return asked
