"""What if the process that administers is killed, or hangs? Clients of models notice nothing, and it comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from home_processes import processes_of
from served import Served, call
from waiting import eventually

CONTROL = "ashore.control\0--run"
STREAMS = 32
TOKENS = 60
MODEL = f"fake:random?tok_per_s=20&tokens={TOKENS}"
"""Three seconds for each stream."""


def pid_of(server: Served) -> int:
    (pid,) = eventually(lambda: processes_of(server.home, CONTROL))
    return pid


def administers(server: Served) -> bool:
    try:
        answer = httpx.get(f"{server.root_url}/admin/v1/keys", headers=with_key(server), timeout=20)
    except httpx.TransportError:
        return False
    return answer.status_code == 200


def with_key(server: Served) -> dict[str, str]:
    return {"authorization": f"Bearer {server.key}"}


def stream(server: Served, number: int) -> int:
    """Return how many pieces an answer had; raise where it was refused or did not come to its end."""
    body = {
        "model": MODEL, "stream": True, "messages": [{"role": "user", "content": f"question {number}"}],
    }  # fmt: skip
    url, pieces, ended = f"{server.root_url}/v1/chat/completions", 0, False
    with httpx.stream("POST", url, json=body, headers=with_key(server), timeout=60) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            pieces += line.startswith("data: {")
            ended |= line == "data: [DONE]"
    assert ended
    return pieces


def under_streams(server: Served, work: Callable[[threading.Event], None]) -> list[int]:
    """Run `work` while streams run, and return how many pieces each had. Its event: the streams have ended."""
    over = threading.Event()
    with ThreadPoolExecutor(STREAMS + 1) as pool:
        asked = [pool.submit(stream, server, number) for number in range(STREAMS)]
        working = pool.submit(work, over)
        found = [one.result(120) for one in asked]
        over.set()
        working.result(120)
    return found


@pytest.fixture(scope="module")
def server(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all(MODEL)


def test_streams_end_whole_while_it_is_killed_again_and_again_and_it_comes_back(server: Served) -> None:
    killed: set[int] = set()

    def kill(over: threading.Event) -> None:
        while not over.is_set():
            for pid in processes_of(server.home, CONTROL):
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            over.wait(0.3)

    pieces = under_streams(server, kill)
    assert len(killed) >= 3 and min(pieces) >= TOKENS - 1
    eventually(lambda: administers(server))
    assert pid_of(server) not in killed


def test_streams_end_whole_while_it_is_stopped_and_what_waits_for_it_is_answered_afterwards(server: Served) -> None:
    eventually(lambda: administers(server))
    pid = pid_of(server)

    def stop(over: threading.Event) -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            assert over.wait(60)
        finally:
            os.kill(pid, signal.SIGCONT)

    with ThreadPoolExecutor(1) as pool:
        os.kill(pid, signal.SIGSTOP)
        waiting = pool.submit(administers, server)
        pieces = under_streams(server, stop)
        assert min(pieces) >= TOKENS - 1
        assert waiting.result(60), "it was answered once the process went on, or was started again"


def test_a_revoked_key_is_refused_as_soon_as_the_revocation_is_answered(server: Served) -> None:
    eventually(lambda: administers(server))
    officer = {"id": "sec", "roles": ["security-officer"], "key": {}}
    sec = call(server, "POST", "/admin/v1/users", server.key, officer)["key"]["key"]
    took_s = []
    for number in range(5):
        user = {"id": f"user-{number}", "roles": ["developer"], "key": {}}
        made = call(server, "POST", "/admin/v1/users", sec, user)["key"]
        headers = {"authorization": f"Bearer {made['key']}"}
        asked = lambda: httpx.get(f"{server.root_url}/v1/models", headers=headers).status_code  # noqa: B023, E731
        assert asked() == 200, "a key works once its creation is answered"
        began_s = time.monotonic()
        call(server, "DELETE", f"/admin/v1/keys/{made['record']['id']}", sec)
        took_s.append(time.monotonic() - began_s)
        assert asked() == 401
    print(f"\na revocation took {min(took_s) * 1e3:.0f} to {max(took_s) * 1e3:.0f} ms")
