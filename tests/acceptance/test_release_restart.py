"""A worker is killed after a promotion: the next one still takes back what is live where the one before was better."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from home_processes import processes_of
from release_load import clients
from served import Served, call, owner_key, start_served

FAKE = "fake:random?tokens=6&tok_per_s={speed}&seed={seed}"


def promoted(server: Served, key: str) -> None:
    call(server, "POST", "/admin/v1/releases", key, {"alias": "chat", "model": FAKE.format(speed=50, seed=2)})
    call(server, "POST", "/admin/v1/releases/chat-2/promote", key, {"override": "a trial"})
    until_s = time.monotonic() + 30
    while call(server, "GET", "/admin/v1/releases/chat-2", key)["state"] != "live":
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_what_is_live_and_slower_is_taken_back_by_a_worker_that_began_after_the_promotion(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    config = f'[[model]]\nname = "{FAKE.format(speed=200, seed=1)}"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        key = owner_key(server)
        with clients(server, key, "chat", streams=4) as asked:
            time.sleep(8.0)  # ten answers a second are heard, and the state is told every five seconds
        assert all(one.whole for one in asked)
        promoted(server, key)
        old = processes_of(server.home, "ashore.data.worker")
        os.kill(old[0], signal.SIGKILL)
        server.wait_ready()
        assert processes_of(server.home, "ashore.data.worker") not in ([], old)
        with clients(server, key, "chat", streams=4):
            until_s = time.monotonic() + 40
            while (found := call(server, "GET", "/admin/v1/releases/chat-2", key))["state"] == "live":
                assert time.monotonic() < until_s, "it stayed live"
                time.sleep(0.2)
        assert found["state"] == "failed" and "slower" in found["why"]
        last = call(server, "GET", "/admin/v1/aliases/chat/history?limit=1", key)["items"][0]
        assert (last["actor"], last["evidence"]["measure"]) == ("system", "slower")
        assert call(server, "GET", "/admin/v1/aliases/chat", key)["weights_percent"] == {"chat-1": 100.0}
    finally:
        server.stop()
