"""What if a process hangs instead of dying? One server, each of whose processes is stopped in turn."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from home_processes import processes_of
from served import Served, start_served
from waiting import eventually

from ashore.kit.processes import get_from

CONFIG = """
[[model]]
name = "fake:random?tok_per_s=20&tokens=4000"
alias = "pair"
replicas = 2

[[model]]
name = "fake:echo?hang_after=40"
alias = "stuck"

[backup]
every_s = 3600
"""
STORY_TOKENS = 260
"""13 s: longer than it takes to notice."""
STOPPED_S = 2.0
NOTICED_S, ANSWERED_S = 10.0, 12.0
"""What is promised of an engine host that hangs. A machine that tests eight things at once gets twice as long."""

WORKER_S = 25.0
"""An API worker of which nothing runs is killed after 10 s; one that took as long as its loop may would take 30."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    ports = [socket.socket() for _ in range(2)]
    for one in ports:
        one.bind(("127.0.0.1", 0))
    numbers = [int(one.getsockname()[1]) for one in ports]
    for one in ports:
        one.close()
    running = start_served(
        tmp_path_factory.mktemp("hanging") / "home",
        (),
        store=None,
        port=numbers[0],
        grpc_port=numbers[1],
        options=("--edge", "envoy", "--workers", "2", "--redis", "embedded"),
        env={"ASHORE_STEP_TIMEOUT_S": "1"},
        config=CONFIG,
        wait=False,
    )
    try:
        eventually(lambda: "Ctrl-C stops it" in running.said() or running.process.poll() is not None, 60)
        assert running.process.poll() is None, running.everything_said()
        yield running
    finally:
        running.stop()


def hosts(server: Served, alias: str) -> list[int]:
    topology = json.loads((server.home / "run" / "topology.json").read_text())
    sockets = next(one["sockets"] for one in topology["models"] if one["alias"] == alias)
    return [pid for one in sockets for pid in processes_of(server.home, "ashore.data.engines.host", one)]


@contextmanager
def client(server: Served) -> Iterator[httpx.Client]:
    verify = ssl.create_default_context(cafile=str(server.home / "edge" / "ca.pem"))
    with httpx.Client(
        base_url=f"https://localhost:{server.port}",
        headers={"authorization": f"Bearer {server.key}"},
        verify=verify,
        trust_env=False,
        timeout=60,
    ) as one:
        yield one


def ask(server: Served, alias: str, text: str, max_tokens: int = 2) -> httpx.Response:
    words = [{"role": "user", "content": text}]
    with client(server) as one:
        return one.post(
            "/v1/chat/completions", json={"model": alias, "messages": words, "max_tokens": max_tokens, "temperature": 1}
        )


def stream(server: Served, alias: str, text: str) -> tuple[str, float]:
    """Return the last event of a stream but the end mark, and when it came."""
    words = [{"role": "user", "content": text}]
    body = {
        "model": alias, "messages": words, "max_tokens": STORY_TOKENS, "temperature": 1, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    last = ""
    with client(server) as one, one.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            last = line if line.startswith("data: {") else last
    return last, time.monotonic()


def readiness(server: Served, worker: int) -> dict[str, object]:
    transport = httpx.HTTPTransport(uds=str(server.home / "run" / f"api-{worker}.sock"))
    with httpx.Client(transport=transport, trust_env=False, timeout=10) as one:
        found: dict[str, object] = one.get("http://worker/readyz").json()
        return found


def is_ready(server: Served) -> bool:
    return all(get_from(server.home / "run" / f"api-{worker}.sock", "/readyz") is not None for worker in range(2))


def test_engine_hosts_that_hang_are_noticed_and_replaced_and_what_waited_there_is_answered_elsewhere(
    server: Served,
) -> None:
    """One of two replicas is stopped, as a debugger or the kernel may; the step of another model never returns."""
    before = hosts(server, "pair")
    (hung,) = hosts(server, "stuck")
    with ThreadPoolExecutor(12) as pool:
        running = [pool.submit(stream, server, "pair", f"a long story, {n}") for n in range(4)]
        time.sleep(0.5)  # each has begun somewhere
        stopped_s = time.monotonic()
        os.kill(before[0], signal.SIGSTOP)
        stuck = pool.submit(stream, server, "stuck", "x" * 60)
        fresh = [pool.submit(ask, server, "pair", f"question {n}") for n in range(6)]
        assert [one.result().status_code for one in fresh] == [200] * 6
        assert time.monotonic() - stopped_s < 2 * ANSWERED_S, "what had no token yet went to the other replica"
        last, ended_s = stuck.result()
        assert "it hung" in last and '"code":"host_died"' in last
        assert ended_s - stopped_s < 2 * NOTICED_S
        assert ask(server, "stuck", "short").status_code == 200
        eventually(lambda: hosts(server, "pair") and before[0] not in hosts(server, "pair"))
        eventually(lambda: len(hosts(server, "pair")) == 2 and is_ready(server))
        assert hung not in hosts(server, "stuck") and before[1] in hosts(server, "pair")
        ends = [one.result() for one in running]
    assert all('"error"' not in last and f'"completion_tokens":{STORY_TOKENS}' in last for last, _ in ends), ends
    moved = [last for last, _ in ends if '"moved":"' in last]
    assert moved, "those that had begun on the hung one went on at the other"
    assert server.said().count("it hung: ") == 2


WORKER = ("ashore.data.worker", "--index", "0")
PROCESSES = {
    "an API worker": WORKER,
    "the job worker": ("ashore.control.jobs.worker",),
    "Valkey": ("valkey-server",),
    "Envoy": ("--disable-hot-restart",),
    "the supervisor": ("ashore.cli.main", "up"),
}


@pytest.mark.parametrize("words", PROCESSES.values(), ids=PROCESSES)
def test_whatever_stood_still_for_a_while_requests_are_answered_after_it(
    server: Served, words: tuple[str, ...]
) -> None:
    told = server.said().count("it hung: ")
    everything = hosts(server, "pair") + hosts(server, "stuck") + processes_of(server.home, "ashore.data.worker")
    pid = processes_of(server.home, *words)[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [ask(server, "pair", f"after {words}, {n}").status_code for n in range(4)] == [200] * 4
    eventually(lambda: is_ready(server))
    assert (
        hosts(server, "pair") + hosts(server, "stuck") + processes_of(server.home, "ashore.data.worker") == everything
    )
    assert server.said().count("it hung: ") == told, "two seconds are no reason to kill anything"


def test_an_api_worker_that_hangs_is_replaced_and_the_other_one_answers(server: Served) -> None:
    told = server.said().count("it hung: ")
    workers = processes_of(server.home, "ashore.data.worker")
    pid = workers[0]
    os.kill(pid, signal.SIGSTOP)
    stopped_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(ask, server, "pair", f"while it hangs, {n}") for n in range(8)]
        statuses = [one.result().status_code for one in first]
        took_s = time.monotonic() - stopped_s
    assert set(statuses) <= {200, 503} and 200 in statuses, statuses
    assert took_s < WORKER_S, "what the hung worker had got an error when that was killed"
    eventually(lambda: server.said().count("it hung: ") == told + 1)
    assert [ask(server, "pair", f"after it hung, {n}").status_code for n in range(4)] == [200] * 4
    eventually(lambda: pid not in (now := processes_of(server.home, "ashore.data.worker")) and len(now) == len(workers))
    eventually(lambda: is_ready(server))


def test_a_worker_that_cannot_record_gets_no_requests_until_it_can_again(server: Served) -> None:
    segment = sorted((server.home / "audit" / "chains" / "api-0").glob("*.log"))[-1]
    away = segment.rename(segment.with_suffix(".away"))
    try:

        def is_away() -> bool:
            ask(server, "pair", "something to record")
            return readiness(server, 0)["status"] == "not-recording"

        eventually(is_away)
        eventually(lambda: all(ask(server, "pair", f"elsewhere {n}").status_code == 200 for n in range(6)))
        assert readiness(server, 0)["status"] == "not-recording", "the other worker answered"
    finally:
        away.rename(segment)
    eventually(lambda: is_ready(server))
    assert [ask(server, "pair", f"after it {n}").status_code for n in range(4)] == [200] * 4
