"""What forty open tabs of the console cost cached answers: p99 at a steady rate with them and without, in turns.

    python -m benchmarks.front.tabs --rounds 12
    python -m benchmarks.front.tabs --rounds 6 --events-per-s 0.5     # with something to show every two seconds

A tab here is a client that asks what the script of the page Home asks in a browser, with the headers that Chromium
sends (`test_a_tab_asks_for_nothing_until_something_happens` holds the script to it), so that no browser takes the
processors that are measured: two tabs of each browser, of which one follows the events and tells the other; a look at
the main part after an event, no sooner than the server asks for, and else about every two minutes. They are open
before a round begins. They are logged in by the one-time link.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import socket
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
from benchmarks.front.server import MAIN, CpuMeter, Front, front

from ashore.core.clock import SystemClock
from ashore.kit.state import Database, Event, keep_event, open_database

PER_BROWSER = 2
CLOSED_S = 8.0
"""After which the server has seen that streams are closed."""
SELDOM_S, SETTLE_S, REST_S = 120.0, 0.15, 2.0
"""As in console.js."""
CHROMIUM = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0",
    "accept-language": "en-US",
    "sec-fetch-site": "same-origin",
    "sec-fetch-mode": "cors",
    "sec-fetch-dest": "empty",
}


@dataclass
class Seen:
    """What came of the questions of tabs."""

    statuses: dict[int, int] = field(default_factory=dict)
    times_ms: list[float] = field(default_factory=list)
    events: int = 0
    wrong: list[str] = field(default_factory=list)


class Tab:
    """One page Home that is open and seen. Its thread asks; `happened` may be called by any other."""

    def __init__(self, port: int, cookie: str, seen: Seen, over: threading.Event) -> None:
        self._port, self._cookie, self._seen, self._over = port, cookie, seen, over
        self._asked, self._due = 0.0, time.monotonic() + SELDOM_S * random.uniform(0, 1.25)
        self._sooner = threading.Condition()

    def happened(self) -> None:
        """Hear that something happened."""
        self._look_in(SETTLE_S + random.random() * REST_S / 2)

    def close(self) -> None:
        """End `look`, once `over` is set."""
        with self._sooner:
            self._sooner.notify()

    def _look_in(self, seconds: float) -> None:
        with self._sooner:
            self._due = min(self._due, max(time.monotonic() + seconds, self._asked + REST_S))
            self._sooner.notify()

    def look(self) -> None:
        """Ask whenever it is time to, until the tabs are closed."""
        connection, tag = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30), ""
        headers = {**CHROMIUM, "accept": "*/*", "cookie": self._cookie, "x-console-part": "main", "x-console-poll": "1"}
        try:
            while True:
                with self._sooner:
                    while not self._over.is_set() and (left_s := self._due - time.monotonic()) > 0:
                        self._sooner.wait(left_s)
                    if self._over.is_set():
                        return
                    self._due, self._asked = float("inf"), time.monotonic()
                began = time.perf_counter()
                connection.request("GET", "/console", headers=headers | ({"if-none-match": tag} if tag else {}))
                answer = connection.getresponse()
                answer.read()
                self._seen.times_ms.append((time.perf_counter() - began) * 1000)
                self._seen.statuses[answer.status] = self._seen.statuses.get(answer.status, 0) + 1
                tag = answer.getheader("etag") or tag
                self._look_in(SELDOM_S * random.uniform(0.75, 1.25))
        except OSError as fault:
            self._seen.wrong.append(str(fault))
        finally:
            connection.close()


def follow(
    connection: http.client.HTTPConnection, cookie: str, tabs: list[Tab], seen: Seen, over: threading.Event
) -> None:
    """Read the stream of a browser, and tell its tabs, until its connection is shut."""
    try:
        headers = {**CHROMIUM, "accept": "text/event-stream", "cache-control": "no-cache", "cookie": cookie}
        connection.request("GET", "/console/events", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            seen.wrong.append(f"events: {answer.status} {answer.read()[:200]!r}")
            return
        while not over.is_set() and (line := answer.readline()):
            if line.startswith(b"data:"):
                seen.events += 1
                for tab in tabs:
                    tab.happened()
    except (OSError, ValueError, AttributeError, http.client.HTTPException) as fault:
        if not over.is_set():
            seen.wrong.append(str(fault))
    finally:
        connection.close()


@contextmanager
def open_tabs(port: int, cookie: str, number: int, seen: Seen) -> Iterator[None]:
    """Keep tabs open until the block ends; it begins when they are."""
    over = threading.Event()
    tabs = [Tab(port, cookie, seen, over) for _ in range(number)]
    threads = [threading.Thread(target=tab.look, daemon=True) for tab in tabs]
    streams = []
    for first in range(0, number, PER_BROWSER):
        streams.append(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
        streams[-1].connect()
        told = (streams[-1], cookie, tabs[first : first + PER_BROWSER], seen, over)
        threads.append(threading.Thread(target=follow, args=told, daemon=True))
    for thread in threads:
        thread.start()
    time.sleep(2 if number else 0)
    try:
        yield
    finally:
        over.set()
        for tab in tabs:
            tab.close()
        for stream in streams:
            if stream.sock is not None:
                stream.sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(20)
        time.sleep(CLOSED_S if number else 0)


@contextmanager
def happening(database: Database, per_s: float) -> Iterator[None]:
    """Let a job begin again and again, as far as anybody hears, until the block ends."""
    over = threading.Event()

    def tell() -> None:
        while per_s and not over.wait(random.uniform(0.5, 1.5) / per_s):
            event = Event(
                kind="job.running", resource="tenant/default/job/job_bench", reads="job:read",
                about={"job": "job_bench"}, at_ms=int(time.time() * 1000),
            )  # fmt: skip
            with database.write() as connection:
                keep_event(connection, event)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)


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
    parser.add_argument("--events-per-s", type=float, default=0.0, help="that tabs hear of, in both kinds of rounds")
    parser.add_argument("--no-edge", action="store_true", help="ask the worker itself")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, front(edge=not asked.no_edge) as served:
        tools = build(Path(folder))
        requests = questions(served, 1)
        fill(tools, served, requests)
        cookie, seen = logged_in(served), Seen()
        (state,) = served.home.glob("**/state.db")
        database = open_database(state, snapshots=Path(folder) / "snapshots", clock=SystemClock())
        found: dict[str, list[float]] = {"none": [], "tabs": []}
        middle: dict[str, list[float]] = {"none": [], "tabs": []}
        worker_us: dict[str, list[float]] = {"none": [], "tabs": []}
        others: list[float] = []
        errors = 0
        for number in range(asked.rounds):
            kinds = ("none", "tabs") if number % 2 == 0 else ("tabs", "none")
            for kind in kinds:
                shown = asked.tabs if kind == "tabs" else 0
                with open_tabs(served.port, cookie, shown, seen), happening(database, asked.events_per_s):
                    meter = CpuMeter(served.pid)
                    load = run_load(
                        tools, served.port, requests, connections=CONNECTIONS, seconds=asked.seconds,
                        rate_per_s=asked.rate, mark="x-ashore-cache: hit-exact",
                    )  # fmt: skip
                    worker_us[kind].append(meter.per_request_us(load.answered).get("api worker", 0.0))
                    others.append(meter.others_share(load.cpu_s))
                errors += load.num_errors
                found[kind].append(load.ok.p99_ms)
                middle[kind].append(load.ok.p50_ms)
                print(
                    f"{kind:5} p50 {load.ok.p50_ms:.2f} p99 {load.ok.p99_ms:.2f} ms, {load.per_s:.0f}/s, worker "
                    f"{worker_us[kind][-1]:.0f} us, others {others[-1]:.0%}",
                    flush=True,
                )
        database.close()
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
                    "worker_us_a_request": [statistics.median(worker_us[kind]) for kind in ("none", "tabs")],
                    "others_share": statistics.median(others),
                    "looks": seen.statuses,
                    "look_p50_ms": statistics.median(seen.times_ms) if seen.times_ms else None,
                    "events_heard": seen.events,
                    "errors": errors,
                    "broken_tabs": seen.wrong,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
