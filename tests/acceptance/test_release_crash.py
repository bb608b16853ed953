"""The host of what is live is killed under load: the standby answers, and nobody without a token is turned away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from release_load import Asked, ask, clients
from served import Served, call, host_of, owner_key, start_served

ANSWERS_WITHIN_S = 2.0
"""From the crash to the first token of a request that comes after it."""


def kill_under_load(server: Served, key: str, model: str, release: str, *, streams: int) -> tuple[float, list[Asked]]:
    """Kill the host of a release while so many clients ask; return when, and every answer."""
    with clients(server, key, model, streams=streams) as asked:
        time.sleep(1.0)
        os.kill(host_of(server, release), signal.SIGKILL)
        killed_s = time.monotonic()
        time.sleep(2.0)
    return killed_s, asked


def two_releases(server: Served, key: str, alias: str, model: str) -> None:
    """Have `ALIAS-2` live and `ALIAS-1` stand by."""
    call(server, "POST", "/admin/v1/releases", key, {"alias": alias, "model": model})
    call(server, "POST", f"/admin/v1/releases/{alias}-2/promote", key, {"override": "a trial"})
    while (found := call(server, "GET", f"/admin/v1/releases/{alias}-2", key))["state"] == "warming":
        time.sleep(0.1)
    assert found["state"] == "live", found["why"]
    while ask(server, key, alias, "who answers?").release != f"{alias}-2":
        time.sleep(0.05)


def check(server: Served, key: str, alias: str, killed_s: float, asked: list[Asked]) -> None:
    live, standby = f"{alias}-2", f"{alias}-1"
    lost = [one for one in asked if not one.whole and not one.first_s]
    assert not lost, f"{len(lost)} of {len(asked)} requests without a first token were lost: {lost[:3]}"
    cut = [one for one in asked if not one.whole]
    assert all(one.release == live and one.began_s < killed_s for one in cut)
    moved = [one for one in asked if one.began_s < killed_s < one.first_s and one.whole]
    assert moved and {one.release for one in moved} == {standby}, "they were retried on the standby"
    after = [one.first_s - killed_s for one in asked if one.began_s > killed_s and one.release == standby]
    assert after and min(after) < ANSWERS_WITHIN_S
    status = wait_for_rollback(server, key, alias)
    assert status["alias"]["weights_percent"] == {standby: 100.0}
    assert {one["name"]: one["state"] for one in status["releases"]} == {standby: "live", live: "standby"}
    history = call(server, "GET", f"/admin/v1/aliases/{alias}/history?limit=10", key)["items"]
    (back,) = [one for one in history if one["verb"] == "rollback"]
    assert (back["release"], back["actor"], back["why"]) == (standby, "system", "a host crashed")
    assert any("killed" in str(value).lower() for value in back["evidence"].values()), f"with how it fell: {back}"


def wait_for_rollback(server: Served, key: str, alias: str) -> dict[str, Any]:
    until_s = time.monotonic() + 10
    while True:
        status = call(server, "GET", f"/admin/v1/aliases/{alias}/status", key)
        if status["alias"]["weights_percent"] == {f"{alias}-1": 100.0} or time.monotonic() > until_s:
            return status
        time.sleep(0.1)


def test_a_crash_of_what_is_live_loses_no_request_that_had_heard_nothing(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """A restart takes 6 s, so that whoever waited for it would be seen."""
    fake = "fake:random?delay_s=0.2&tok_per_s=60&tokens=12&load_s={load}&seed={seed}"
    config = f'[[model]]\nname = "{fake.format(load=0, seed=1)}"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(tmp_path / "home", (), store=None, port=free_port(), grpc_port=0, config=config)
    try:
        key = owner_key(server)
        two_releases(server, key, "chat", fake.format(load=6, seed=2))
        killed_s, asked = kill_under_load(server, key, "chat", "chat-2", streams=16)
        check(server, key, "chat", killed_s, asked)
    finally:
        server.stop()


@pytest.mark.full
def test_the_same_with_a_real_engine(demo_home: Path, tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = '[[model]]\nname = "smollm2@int8"\nalias = "chat"\n[cache]\nmode = "off"\n'
    server = start_served(
        tmp_path / "home", (), store=demo_home / "store", port=free_port(), grpc_port=0, config=config
    )
    try:
        key = owner_key(server)
        two_releases(server, key, "chat", "smollm2@int8")
        killed_s, asked = kill_under_load(server, key, "chat", "chat-2", streams=8)
        check(server, key, "chat", killed_s, asked)
    finally:
        server.stop()
