"""Two machines on one state: what is promoted or taken back by one answers on the other, and nobody is turned away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from postgres_server import fresh_database, postgres_server
from release_load import Asked, ask, clients
from served import Served, call, owner_key, start_served

IN_FORCE_S = 1.0
"""From the command to the last request that begins on the other machine and is answered as before."""
WATCHED_S = 1.5
"""How long after a command the answers are looked at."""
FAKE = "fake:random?delay_s=0.02&tok_per_s=400&tokens=12&seed={seed}"
CONFIG = f'[[model]]\nname = "{FAKE.format(seed=1)}"\nalias = "chat"\n[cache]\nmode = "off"\n'


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@contextmanager
def machines(tmp_path: Path, url: str, free_port: Callable[[], int]) -> Iterator[tuple[Served, Served]]:
    """Start two, each with a home of its own, on one state."""
    running: list[Served] = []
    try:
        for name in ("a", "b"):
            running.append(
                start_served(
                    tmp_path / name, (), store=None, port=free_port(), grpc_port=0, config=CONFIG,
                    env={"ASHORE_STATE_URL": url},
                )
            )  # fmt: skip
        yield running[0], running[1]
    finally:
        for one in running:
            one.stop()


def wait_for(server: Served, key: str, release: str) -> None:
    until_s = time.monotonic() + 30
    while (seen := ask(server, key, "chat", "who answers?")).release != release:
        assert time.monotonic() < until_s, f"{seen.release} answers on {server.home.name}, not {release}"
        time.sleep(0.05)


def last_of(asked: list[Asked], release: str, since_s: float) -> float:
    """Return how long after a moment a request began last that this release answered, in seconds; 0: none did."""
    return max((one.began_s - since_s for one in asked if one.release == release and one.began_s > since_s), default=0)


def test_a_switch_is_in_force_on_every_machine(tmp_path: Path, free_port: Callable[[], int], postgres: str) -> None:
    url = fresh_database(postgres, "release_machines")
    with machines(tmp_path, url, free_port) as (a, b):
        key = owner_key(a)
        call(a, "POST", "/admin/v1/releases", key, {"alias": "chat", "model": FAKE.format(seed=2) + "&load_s=1"})
        switches: list[tuple[Served, Served, str, float, float]] = []
        with ExitStack() as load:
            heard = {one.port: load.enter_context(clients(one, key, "chat", streams=2)) for one in (a, b)}
            call(a, "POST", "/admin/v1/releases/chat-2/promote", key, {"override": "a trial"})
            for one in (a, b):
                wait_for(one, key, "chat-2")
            for here, there in ((a, b), (b, a)):
                for release, before, path in (
                    ("chat-1", "chat-2", "aliases/chat/rollback"),
                    ("chat-2", "chat-1", "releases/chat-2/promote"),
                ):
                    asked_s = time.monotonic()
                    call(here, "POST", f"/admin/v1/{path}", key, {})
                    switches.append((here, there, before, asked_s, time.monotonic()))
                    time.sleep(asked_s + WATCHED_S - time.monotonic())
                    for one in (here, there):
                        assert ask(one, key, "chat", "who answers?").release == release
        for server in (a, b):
            asked = heard[server.port]
            assert {one.release for one in asked} == {"chat-1", "chat-2"}
            lost = [one for one in asked if not one.whole]
            assert not lost, f"{len(lost)} of {len(asked)} requests on {server.home.name} were lost: {lost[:3]}"
        for number, (here, there, before, asked_s, done_s) in enumerate(switches):
            for server, since_s, limit_s in ((here, done_s, 0.0), (there, asked_s, IN_FORCE_S)):
                asked = [one for one in heard[server.port] if one.began_s < asked_s + WATCHED_S]
                took_s = last_of(asked, before, since_s)
                print(f"switch {number}: {server.home.name} {took_s * 1e3:.0f} ms")
                where = f"{before} answers on {server.home.name}"
                assert took_s <= limit_s, f"switch {number}: {where} after {took_s:.2f} s"
