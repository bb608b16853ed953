"""Does the doctor cry on a server that is well, how long does it take, and what do requests feel of it?

`--minutes 25` keeps a server under a light load that changes every minute, has the doctor look every 20 s as an
operator would, and prints every finding of warning or worse: each is a false alarm, or true of the machine.

`--overhead 8` measures instead: windows of 20 s with and without one look, in turn, and the latency in both.
`--loaded 20` takes so many looks at a server that five clients and a busy program for each processor load.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from ashore.control.doctor.survey import LATE
from ashore.control.drills.catalog import all_drills
from ashore.control.drills.load import Asked, ask_once, quantile
from ashore.control.drills.model import Outcome, Twin
from ashore.control.drills.twin import TwinServer
from ashore.control.drills.undoing import Undoing

EVERY_S: Final = 20.0
WINDOW_S: Final = 20.0
CLIENTS: Final = 5
REAL: Final = '[[model]]\nname = "smollm2@int8"\nalias = "small"\n'


@contextmanager
def server(store: str) -> Iterator[tuple[TwinServer, list[Asked]]]:
    """Give a server behind Envoy with two workers and a cache, with a made-up model, and a real one from `store`."""
    twin = Twin(options=("--edge", "envoy", "--workers", "2", "--redis", "embedded"), more=REAL if store else "")
    with (
        tempfile.TemporaryDirectory(prefix="ashore-well-", ignore_cleanup_errors=True) as folder,
        Undoing(Path(folder) / "own.jsonl", 7200) as undoing,
    ):
        one = TwinServer(replace(all_drills()["worker-killed"], twin=twin), Path(folder), undoing)
        if store:
            one.home.root.mkdir(mode=0o700)
            one.home.store.symlink_to(store)
        asked = one.start()
        every = [asked]
        if store:
            every.append(Asked(url=asked.url, key=asked.key, model="small", ca_file=asked.ca_file, tokens=16))
        yield one, every


class Crowd:
    """Clients that come and go: each asks, waits a random while, and stays away while fewer are wanted."""

    def __init__(self, asked: list[Asked]) -> None:
        self._asked, self.wanted, self.outcomes = asked, 1, list[Outcome]()
        self._stop, self._lock, self._zero_s = threading.Event(), threading.Lock(), time.monotonic()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(40)

    def _run(self, client: int) -> None:
        number = 0
        while not self._stop.wait(random.uniform(0.1, 0.5)):
            if client >= self.wanted:
                continue
            number += 1
            asked = self._asked[1 if len(self._asked) > 1 and number % 6 == 0 else 0]
            outcome = ask_once(asked, f"well {client} {number} {self._zero_s}", self._zero_s)
            with self._lock:
                self.outcomes.append(outcome)


def look(one: TwinServer) -> tuple[dict[str, Any], float]:
    """Have the doctor look, as an operator would; return what it found, and how long the whole command took."""
    began_s = time.monotonic()
    env = {**os.environ, "ASHORE_HOME": str(one.home.root)}
    words = [sys.executable, "-m", "ashore.cli.main", "doctor", "--json", "--for", "2s"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found, time.monotonic() - began_s


def alarms(minutes: float, store: str) -> dict[str, Any]:
    """Look every 20 s, and return the alarms with their figures."""
    seen: Counter[str] = Counter()
    told: dict[str, str] = {}
    took, rules = [], 0
    with server(store) as (one, asked):
        crowd = Crowd(asked)
        end_s = time.monotonic() + 60 * minutes
        while (now_s := time.monotonic()) < end_s:
            crowd.wanted = 1 + int(now_s / 60) % CLIENTS
            found, took_s = look(one)
            took.append(took_s)
            rules = max(rules, found["rules"])
            for each in found["items"]:
                if each["severity"] != "advice":
                    key = f"{each['rule']} {each['severity']}"
                    seen[key] += 1
                    figures = "; ".join(f"{e['name']}: {e['seen']} (right: {e['limit']})" for e in each["evidence"])
                    told.setdefault(key, f"{each['what']} [{figures}]")
                    if seen[key] == 1:
                        print(f"{key}: {told[key]}", flush=True)
            time.sleep(max(0.0, EVERY_S - took_s))
        crowd.stop()
    failed = [each for each in crowd.outcomes if not each.ok]
    return {
        "minutes": minutes, "looks": len(took), "rules": rules, "requests": len(crowd.outcomes),
        "failed": len(failed), "failed_with": Counter(f"{each.status} {each.code}".strip() for each in failed),
        "alarms": dict(seen), "what": told, "look_p50_s": round(quantile(took, 0.5), 2),
        "look_most_s": round(max(took), 2), "load_average": os.getloadavg(),
    }  # fmt: skip


def loaded(looks: int, store: str) -> dict[str, Any]:
    """Look at a loaded server; return how long each look took, and what was not read in time."""
    took, late = list[float](), Counter[str]()
    with server(store) as (one, asked):
        crowd = Crowd(asked[:1])
        crowd.wanted = CLIENTS
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            for _ in range(looks):
                time.sleep(3)
                found, took_s = look(one)
                took.append(took_s)
                lacking = (each["missing"].partition(": ") for each in found["unknown"])
                late.update({name for name, _, why in lacking if why == LATE})
        finally:
            for each in busy:
                each.kill()
                each.wait()
            crowd.stop()
    return {
        "looks": looks, "look_p50_s": round(quantile(took, 0.5), 2), "look_most_s": round(max(took), 2),
        "looks_without": late, "load_average": os.getloadavg(),
    }  # fmt: skip


def overhead(rounds: int, store: str) -> dict[str, Any]:
    """Measure windows with and without a look, in turn, and return the latency of whole requests in both."""
    took: dict[bool, list[float]] = {True: [], False: []}
    pairs, looks = [], []
    with server(store) as (one, asked):
        crowd = Crowd(asked[:1])
        crowd.wanted = CLIENTS
        time.sleep(5)
        for number in range(rounds):
            p99 = {}
            for is_looking in (bool(number % 2), not number % 2):
                with crowd._lock:
                    crowd.outcomes.clear()
                end_s = time.monotonic() + WINDOW_S
                if is_looking:
                    looks.append(look(one)[1])
                time.sleep(max(0.0, end_s - time.monotonic()))
                with crowd._lock:
                    values = [each.took_s for each in crowd.outcomes if each.ok]
                took[is_looking] += values
                p99[is_looking] = quantile(values, 0.99)
            pairs.append(p99[True] / p99[False] - 1)
        crowd.stop()
    return {
        "rounds": rounds, "look_p50_s": round(quantile(looks, 0.5), 2), "look_most_s": round(max(looks), 2),
        **{
            f"p{share}_ms": {
                name: round(1e3 * quantile(took[flag], share / 100), 1)
                for name, flag in (("with", True), ("without", False))
            }
            for share in (50, 95, 99)
        },
        "requests": {"with": len(took[True]), "without": len(took[False])},
        "p99_added_percent": round(100 * (quantile(took[True], 0.99) / quantile(took[False], 0.99) - 1), 1),
        "p99_added_percent_median_of_pairs": round(100 * quantile(pairs, 0.5), 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--overhead", type=int, default=0, help="rounds of two windows")
    parser.add_argument("--loaded", type=int, default=0, help="looks beside five clients and busy programs")
    parser.add_argument("--store", default="", help="folder with the model smollm2@int8")
    words = parser.parse_args()
    if words.loaded:
        print(json.dumps(loaded(words.loaded, words.store), indent=1))
        return 0
    if words.overhead:
        print(json.dumps(overhead(words.overhead, words.store), indent=1))
        return 0
    told = alarms(words.minutes or 25.0, words.store)
    print(json.dumps(told, indent=1))
    return int(bool(told["alarms"]))


if __name__ == "__main__":
    raise SystemExit(main())
