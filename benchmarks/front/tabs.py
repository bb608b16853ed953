"""What forty open tabs of the console cost cached answers: p99 at a steady rate with them and without, in turns.

    python -m benchmarks.front.tabs --rounds 12

A tab is what the page Home is in a browser: a connection of its own that asks for the main part every five seconds,
with the tag of what it has. It is logged in by the one-time link.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.front.cached import CONNECTIONS, STEADY_PER_S, fill, questions
from benchmarks.front.load import build, run_load
from benchmarks.front.server import MAIN, Front, front

POLL_S = 5.0


@dataclass
class Tabs:
    """Open tabs, and what came of their questions."""

    port: int
    cookie: str
    number: int
    statuses: dict[int, int] = field(default_factory=dict)
    times_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Keep them open until the block ends."""
        over = threading.Event()
        threads = [threading.Thread(target=self._poll, args=(at, over), daemon=True) for at in range(self.number)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(20)

    def _poll(self, at: int, over: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"cookie": self.cookie, "x-console-part": "main", "x-console-poll": "1"}
        tag = ""
        try:
            if over.wait(POLL_S * at / self.number):
                return
            while True:
                began = time.perf_counter()
                connection.request("GET", "/console", headers=headers | ({"if-none-match": tag} if tag else {}))
                answer = connection.getresponse()
                answer.read()
                self.times_ms.append((time.perf_counter() - began) * 1000)
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
                tag = answer.getheader("etag") or tag
                if over.wait(POLL_S):
                    return
        except OSError as fault:
            self.wrong.append(str(fault))
        finally:
            connection.close()


def logged_in(served: Front) -> str:
    """Return the cookie of a session that the one-time link opened."""
    words = [*MAIN, "session", "link"]
    env = {**os.environ, "ASHORE_HOME": str(served.home)}
    link = subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("GET", re.sub(r"^https?://[^/]+", "", link), headers={"host": f"127.0.0.1:{served.port}"})
    answer = connection.getresponse()
    answer.read()
    cookies = [value.partition(";")[0] for name, value in answer.getheaders() if name.lower() == "set-cookie"]
    connection.close()
    if answer.status != 303 or not cookies:
        raise SystemExit(f"the link did not open a session: {answer.status}")
    return "; ".join(one for one in cookies if not one.endswith("="))


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="of each kind")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a round")
    parser.add_argument("--tabs", type=int, default=40)
    parser.add_argument("--rate", type=float, default=STEADY_PER_S)
    parser.add_argument("--no-edge", action="store_true", help="ask the worker itself")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, front(edge=not asked.no_edge) as served:
        tools = build(Path(folder))
        requests = questions(served, 1)
        fill(tools, served, requests)
        cookie = logged_in(served)
        found: dict[str, list[float]] = {"none": [], "tabs": []}
        middle: dict[str, list[float]] = {"none": [], "tabs": []}
        tabs = Tabs(served.port, cookie, asked.tabs)
        errors = 0
        for number in range(asked.rounds):
            kinds = ("none", "tabs") if number % 2 == 0 else ("tabs", "none")
            for kind in kinds:
                shown = asked.tabs if kind == "tabs" else 0
                one = Tabs(served.port, cookie, shown, tabs.statuses, tabs.times_ms, tabs.wrong)
                with one.open():
                    load = run_load(
                        tools, served.port, requests, connections=CONNECTIONS, seconds=asked.seconds,
                        rate_per_s=asked.rate, mark="x-ashore-cache: hit-exact",
                    )  # fmt: skip
                errors += load.num_errors
                found[kind].append(load.ok.p99_ms)
                middle[kind].append(load.ok.p50_ms)
                print(f"{kind:5} p50 {load.ok.p50_ms:.2f} p99 {load.ok.p99_ms:.2f} ms, {load.per_s:.0f}/s", flush=True)
        pairs = [two / one for one, two in zip(found["none"], found["tabs"], strict=True)]
        print(
            json.dumps(
                {
                    "p99_ms_without": found["none"],
                    "p99_ms_with": found["tabs"],
                    "medians_ms": [statistics.median(found["none"]), statistics.median(found["tabs"])],
                    "ratio_of_medians": statistics.median(found["tabs"]) / statistics.median(found["none"]),
                    "median_of_ratios": statistics.median(pairs),
                    "p50_medians_ms": [statistics.median(middle["none"]), statistics.median(middle["tabs"])],
                    "polls": tabs.statuses,
                    "poll_p50_ms": statistics.median(tabs.times_ms) if tabs.times_ms else None,
                    "poll_p95_ms": sorted(tabs.times_ms)[-max(1, len(tabs.times_ms) // 20)] if tabs.times_ms else None,
                    "errors": errors,
                    "broken_tabs": tabs.wrong,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
