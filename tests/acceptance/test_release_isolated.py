"""What is wrong with a release is that release's own end: the server goes on, starts again, and takes nothing back."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory_workshop import MemoryWorkshop
from served import Served, call, owner_key, start_served
from sqlalchemy import text

from ashore.control.releases import ReleaseOffice
from ashore.core.clock import SystemClock
from ashore.data.authority import SYSTEM, Acts
from ashore.data.releases import ReleaseWish, Way
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state

CONFIG = """
[release]
adapter_folders = ["/proc"]
[[model]]
name = "fake:echo"
alias = "chat"
[[model]]
name = "fake:random?tokens=4"
alias = "other"
"""


def ask(server: Served, alias: str) -> int:
    """Ask a question; raises where it is not answered."""
    body = {"model": alias, "messages": [{"role": "user", "content": "hello"}]}
    return len(call(server, "POST", "/v1/chat/completions", server.key, body)["choices"])


def ended(server: Served, key: str, name: str) -> dict[str, Any]:
    """Return a release once it has failed."""
    until_s = time.monotonic() + 30
    while (found := call(server, "GET", f"/admin/v1/releases/{name}", key))["state"] != "failed":
        assert time.monotonic() < until_s, found
        time.sleep(0.05)
    return found


def state_of(home: Path) -> Database:
    return open_state("", default=home / "state.db", snapshots=home / "snapshots", clock=SystemClock())


def promoted(office: ReleaseOffice, keeper: ReleaseKeeper, alias: str, model: str) -> str:
    """Have a release be live that never loaded."""
    name = office.create(SYSTEM, ReleaseWish(model=model, alias=alias)).release.name
    office.roll_out(SYSTEM, name, Way(goal="live"), override="a trial")
    keeper.warmed(name)
    return name


def test_bad_releases_fail_while_the_server_runs_and_when_it_starts_with_them(
    tmp_path: Path, free_port: Callable[[], int], ashore: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    home, port = tmp_path / "home", free_port()
    server = start_served(home, (), store=None, port=port, grpc_port=0, config=CONFIG)
    try:
        key = owner_key(server)
        bad = {"model": "fake:echo", "alias": "chat", "name": "proc", "adapters": {"x": "/proc"}}
        call(server, "POST", "/admin/v1/releases", key, bad)
        call(server, "POST", "/admin/v1/releases/proc/shadow", key, {})
        assert "the adapter directory /proc has more than" in ended(server, key, "proc")["why"]
        assert ask(server, "chat") == ask(server, "other") == 1
    finally:
        assert server.stop() == 0
    assert sum("proc" in line for line in server.said().splitlines()) == 2, "loading it, and why not"

    database = state_of(home)
    try:
        acts = Acts(database, MemoryRecorder(), SystemClock())
        office, keeper = ReleaseOffice(acts, MemoryWorkshop()), ReleaseKeeper(acts, MemoryWorkshop())
        broken = promoted(office, keeper, "chat", "fake:echo?fail_load=1")
        torn = promoted(office, keeper, "other", "fake:echo")
        with database.write() as connection:
            connection.execute(text("UPDATE release SET document = '{' WHERE name = :name"), {"name": torn})
        before = (office.alias(SYSTEM, "chat"), office.standing(SYSTEM, broken).course)

        wrong = (
            CONFIG.replace("fake:echo", "fake:echo?tok_per_s=50")
            .replace("other", "third")
            .replace("tokens=4", "fail_load=1")
        )
        failed = start_served(home, (), store=None, port=port, grpc_port=0, config=wrong, wait=False)
        assert failed.process.wait(60) != 0
        assert (office.alias(SYSTEM, "chat"), office.standing(SYSTEM, broken).course) == before
        assert office.alias(SYSTEM, "other").name == "other" and "was removed" not in failed.said()
        name = office.create(SYSTEM, ReleaseWish(model="fake:echo", alias="chat")).release.name
        office.roll_out(SYSTEM, name, Way(goal="shadow", share=100))
    finally:
        database.close()

    done = ashore("release", "rollback", "chat", "--why", "second thoughts", home=home)
    assert done.returncode == 0 and "no server is running" in done.stderr, done.stderr
    done = ashore("release", "retire", broken, home=home)
    assert done.returncode == 2 and f"{broken} answers for chat" in done.stderr

    server = start_served(home, (), store=None, port=port, grpc_port=0, config=CONFIG)
    try:
        assert ask(server, "chat") == ask(server, "other") == 1
        assert call(server, "GET", f"/admin/v1/releases/{name}", key)["state"] == "retired"
        assert "cannot be read" in ended(server, key, torn)["why"]
        assert f"release {broken} failed to start, so fake:echo of ashore.toml answers instead" in server.said()
        assert ended(server, key, broken)["why"].startswith(("engine_failed", "invalid_request", "unsupported"))
    finally:
        assert server.stop() == 0
