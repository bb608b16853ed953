"""From the thousandth example to a promoted adapter, by itself: a server, votes, and nobody who does anything more.

    python -m benchmarks.learning.unattended HOME OUT [--examples 1000] [--items 400] [--step 20] [--traffic 4]

Starts `ashore up` over the store of HOME, with `at_examples` and `promote = "automatic"`, and a state of its own. All
votes but one are written into it as the request path would have left them (200 simulated users, definitions of
WordNet, `votes.py`); the last answer is asked for and corrected over HTTP. From then on the clock runs: the keeper sees
that a run is due, the job learns on idle processors, is judged, released, shadowed, made a canary in three steps of
`--step` seconds under `--traffic` requests a second, and promoted. Every line of the run's log is kept with its moment,
so OUT (a line of JSON) says which phase took how long. What was learned stays in the store of HOME: give it a copy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
from benchmarks.learning.beside import free_port, wait_ready
from benchmarks.learning.votes import honest_votes, question
from benchmarks.optimise.task import definitions, kinds, write_files

from ashore.cli.bootstrap import open_state
from ashore.data.audit import SqlSubjectKeys
from ashore.data.feedback.filters import Row
from ashore.data.feedback.model import Vote
from ashore.data.feedback.sql import save_vote
from ashore.data.feedback.texts import SealedTexts, as_text, seal
from ashore.kit.settings import read_settings

MODEL: Final = "smollm2"
LOOK_S: Final = 1.0
LONGEST_S: Final = 3600.0
STEP: Final = re.compile(r"step (?!1 of )")
"""A line that says of a step of learning, but for the first."""
ENDED: Final = ("refused", "stopped")
ACCOUNTS: Final = (
    ("sam", "system-administrator"), ("sec", "security-officer"), ("ann", "auditor"), ("owner", "model-owner"),
)  # fmt: skip
CONFIG: Final = """[[model]]
name = "{model}"
[http]
port = {port}
[grpc]
port = {grpc}
[cache]
mode = "off"
[learning]
feedback = true
tasks = ["{task}"]
task_items = {items}
promote = "automatic"
step_s = {step}
at_examples = {examples}
key_file = "{key}"
"""


def rows_of_users(number: int) -> Iterator[Row]:
    """Yield votes of simulated users that bring an example each, no two on the same answer."""
    items = definitions("train")
    labels = kinds(items)
    for turn in range(-(-number // len(items))):
        for row in honest_votes(items, labels, seed=turn):
            name = f"{turn}-{row.feedback_id}"
            yield replace(row, feedback_id=name, digest=name)


def keep_votes(home: Path, number: int) -> None:
    """Write so many votes into the state of a home, the last one a minute ago."""
    database = open_state(read_settings({"ASHORE_HOME": str(home)}))
    texts = SealedTexts(SqlSubjectKeys(database))
    now_ms = int(time.time() * 1000)
    rows = [row for row, _ in zip(rows_of_users(number), range(number), strict=False)]
    keys = {row.account: texts.key("default", row.account) for row in rows}
    with database.write() as connection:
        for at, row in enumerate(rows):
            key, when_ms = keys[row.account], now_ms - 60_000 - (len(rows) - at) * 13_000
            save_vote(connection, Vote(
                feedback_id=row.feedback_id, tenant="default", account=row.account, answer_id=row.feedback_id,
                voter=row.voter, model=MODEL, release=f"{MODEL}-1", rating=row.rating, score=None, tags=(),
                digest=row.digest, num_tokens=row.num_tokens, key_id=key.key_id,
                question=seal(key, as_text(row.messages)), answer=seal(key, row.answer),
                correction=seal(key, row.correction) if row.correction else "", preferred="", said=row.feedback_id,
                answered_ms=when_ms, created_ms=when_ms, changed_ms=when_ms,
            ))  # fmt: skip
    database.close()


def make_owner(env: dict[str, str]) -> str:
    """Make the administrators, and an account that owns the models; return its key."""
    keys = {}
    for name, role in ACCOUNTS:
        words = [sys.executable, "-m", "ashore.cli.main", "access", "user", "create", name, "--role", role]
        as_officer = {"ASHORE_API_KEY": keys["sec"]} if "ann" in keys else {}
        made = subprocess.run(words, env={**env, **as_officer}, stdout=subprocess.PIPE, text=True, check=True)
        keys[name] = made.stdout.strip()
    return keys["owner"]


class Watched:
    """A server on which a model learns by itself."""

    def __init__(self, url: str, key: str, traffic: float) -> None:
        self._client: Final = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=600)
        self._traffic, self._rng = traffic, random.Random(0)
        self.moments: Final[list[tuple[float, str]]] = []
        self._began = 0.0

    async def follow(self) -> str:
        """Cast the last vote, and return how it ended: `promoted`, or what stopped it."""
        asked = definitions("test")[-1]
        answer = await self._ask(question(asked.text))
        said = {"id": answer["id"], "correction": asked.kind}
        vote = await self._client.post("/v1/feedback", json=said)
        vote.raise_for_status()
        self._began = time.perf_counter()
        self._note("the last vote is kept")
        asking: asyncio.Task[None] | None = None
        try:
            while time.perf_counter() - self._began < LONGEST_S:
                run = await self._run()
                await self._log()
                if run.get("state") in ENDED:
                    return f"{run['state']}: {run.get('why', '')}"
                if release := run.get("release"):
                    shown = await self._get(f"/admin/v1/releases/{release}")
                    state = shown["state"]
                    self._note(f"{release} is {state}")
                    if state == "live":
                        return "promoted"
                    if state in ("retired", "failed"):
                        return f"{release} is {state}: {shown['why']}"
                    asking = asking or asyncio.create_task(self._keep_asking())
                await asyncio.sleep(LOOK_S)
            return f"given up after {LONGEST_S:.0f} s"
        finally:
            if asking is not None:
                asking.cancel()
            await self._client.aclose()

    async def _run(self) -> dict[str, Any]:
        runs: list[dict[str, Any]] = (await self._get("/admin/v1/learning/runs"))["items"]
        return runs[0] if runs else {}

    async def _log(self) -> None:
        """Note what the job of the run says that it had not said."""
        jobs = [one for one in (await self._get("/admin/v1/jobs"))["items"] if one["kind"] == "learn run"]
        for one in jobs[:1]:
            shown = await self._get(f"/admin/v1/jobs/{one['id']}")
            self._note(f"the job is {shown['state']}" + (f": {shown['error_message']}" if shown["error_code"] else ""))
            for line in (shown["operation"] or {}).get("log", []):
                if not STEP.match(line):
                    self._note(line)

    def _note(self, what: str) -> None:
        if what not in (said for _, said in self.moments):
            self.moments.append((round(time.perf_counter() - self._began, 1), what))
            print(f"{self.moments[-1][0]:7.1f} s  {what}", flush=True)

    async def _get(self, path: str) -> dict[str, Any]:
        answer = await self._client.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def _ask(self, text: str) -> dict[str, Any]:
        body = {"model": MODEL, "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": text}]}
        answer = await self._client.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def _keep_asking(self) -> None:
        items, waiting = definitions("test"), set[asyncio.Task[Any]]()
        while True:
            one = asyncio.create_task(self._ask(question(self._rng.choice(items).text)))
            waiting.add(one)
            one.add_done_callback(waiting.discard)
            await asyncio.sleep(self._rng.expovariate(self._traffic))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--items", type=int, default=400, help="most items of each task")
    parser.add_argument("--step", type=float, default=20.0, help="seconds of the shadow and of each canary step")
    parser.add_argument("--traffic", type=float, default=4.0, help="requests a second once there is a shadow")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home, port = Path(scratch) / "home", free_port()
        home.mkdir(mode=0o700)
        (home / "store").symlink_to(given.home.absolute() / "store")
        task = write_files(Path(scratch) / "tasks").kinds
        key, config, log = home / "owner.key", home / "ashore.toml", home / "up.log"
        config.write_text(CONFIG.format(
            model=MODEL, port=port, grpc=free_port(), task=task, items=given.items, step=given.step, key=key,
            examples=given.examples,
        ))  # fmt: skip
        keep_votes(home, given.examples - 1)
        env = {**os.environ, "ASHORE_HOME": str(home)}
        with log.open("w", encoding="utf-8") as said:
            words = [sys.executable, "-m", "ashore.cli.main", "up", "--config", str(config)]
            server = subprocess.Popen(words, env=env, stdout=said, stderr=said)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_ready(server, url, log)
            owner = make_owner(env)
            key.write_text(owner)
            watched = Watched(url, owner, given.traffic)
            ended = asyncio.run(watched.follow())
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
                server.wait(60)
    line = {
        "examples": given.examples, "items": given.items, "step_s": given.step, "ended": ended,
        "whole_s": watched.moments[-1][0], "load": os.getloadavg(), "moments": watched.moments,
    }  # fmt: skip
    with given.out.open("a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")
    print(f"{ended} after {line['whole_s']} s")


if __name__ == "__main__":
    main()
