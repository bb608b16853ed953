"""A stored request that kills its API worker each time that it runs: it is given up, and nobody else is."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from home_processes import processes_of
from openai import APIConnectionError, APIStatusError, OpenAI
from served import Served, start_served
from waiting import eventually

CONFIG = """
[[model]]
name = "fake:echo?tok_per_s=5"
alias = "slow"
[[model]]
name = "fake:echo"
alias = "quick"
"""


class Poison(threading.Thread):
    """Stands for a request that kills what runs it: kills the API worker of a home whenever a job is under way."""

    def __init__(self, home: Path, job_id: str) -> None:
        super().__init__(daemon=True)
        self.home, self.job_id = home, job_id
        self.kills = 0
        self.ended = threading.Event()

    def run(self) -> None:
        query, before, killed = "SELECT state, lease_number FROM job WHERE job_id = ?", None, None
        with closing(sqlite3.connect(self.home / "state.db", timeout=10, isolation_level=None)) as state:
            while not self.ended.wait(0.5):
                row = state.execute(query, (self.job_id,)).fetchone()
                if row[0] == "running" and row == before and row != killed:  # for so long: it has reached the worker
                    for pid in processes_of(self.home, "ashore.data.worker"):
                        os.kill(pid, signal.SIGSEGV)
                    killed, self.kills = row, self.kills + 1
                before = row


def client_of(server: Served) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=20)


def chats(client: OpenAI, until: Callable[[], bool]) -> tuple[int, int]:
    """Chat until something holds; return how many chats were answered, and how many were not."""
    answered = failed = 0
    end_s = time.monotonic() + 60
    while not until():
        assert time.monotonic() < end_s, "it did not end"
        try:
            client.chat.completions.create(model="quick", messages=[{"role": "user", "content": "hi"}])
            answered += 1
        except (APIConnectionError, APIStatusError):
            failed += 1
        time.sleep(0.05)
    return answered, failed


def test_a_stored_request_that_kills_its_worker_is_given_up_and_the_others_are_answered(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {"port": free_port(), "grpc_port": free_port()}
    home = tmp_path / "home"
    server = start_served(home, [], store=None, config=CONFIG, **ports)
    try:
        with client_of(server) as client:
            bad = client.responses.create(model="slow", input="x" * 400, background=True).id
            good = [client.responses.create(model="slow", input="hello", background=True).id for _ in range(3)]
            poison = Poison(home, bad)
            poison.start()
            answered, _ = chats(client, lambda: poison.kills == 1 and server.ready())
            assert answered and server.process.poll() is None
        assert server.stop() == 0
        server = start_served(home, [], store=None, config=CONFIG, **ports)
        with client_of(server) as client:

            def state_of(job_id: str) -> str | None:
                try:
                    return client.responses.retrieve(job_id).status
                except APIConnectionError:
                    return None

            chats(client, lambda: state_of(bad) == "failed")
            error = client.responses.retrieve(bad).error
            assert error is not None and "2 processes died while it was under way" in error.message
            eventually(lambda: {state_of(one) for one in good} == {"completed"})
            assert chats(client, iter([False] * 10 + [True]).__next__) == (10, 0), "it kills no more"
            assert poison.kills == 2 and server.process.poll() is None
            assert "was killed by SIGSEGV; restarting it" in server.said()
            poison.ended.set()
            poison.join()
    finally:
        server.stop()
