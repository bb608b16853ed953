"""A running server takes the parts of ashore.toml that its centre sets, and nothing else that the file may say."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from served import Served

from ashore.control.sites.parts import SiteParts, write_parts
from ashore.control.sites.rows import SiteRows
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidSpec, NotReady
from ashore.data.path import read_topology
from ashore.kit.processes import ask
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Home
from ashore.kit.state import open_state

CONFIG = """
[sites]
role = "site"
takes = ["cache", "privacy", "budgets"]
[[model]]
name = "fake:echo"
alias = "chat"
"""
PARTS = {
    "budgets": '[[budget]]\nkind = "requests"\ncap = 0\ntenant = "acme"',
    "cache": "ttl_s = 30",
    "privacy": '[[floor]]\nprompts = { email = "block" }',
}


def test_parts_are_put_in_force_survive_a_reload_and_are_taken_back(
    served: Callable[..., Served], ashore: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    server = served(config=CONFIG)
    home, recorder = Home(root=server.home), MemoryRecorder()
    home.sites.mkdir(exist_ok=True)
    database = open_state("", default=home.state_db, snapshots=home.snapshots, clock=SystemClock(), create=False)
    rows = SiteRows(database, MemoryRecorder(), SystemClock())
    parts, file = SiteParts(home.sites, recorder, rows, partial(ask, home.control_socket)), server.home / "ashore.toml"

    def running() -> dict[str, Any]:
        return list(ask(home.control_socket, {"op": "status"}))[-1]["listening"]  # type: ignore[return-value]

    own = running()
    file.write_text(CONFIG + "[admission]\nmax_waiting = 7\n")
    parts.apply(PARTS, 4, instead_of={})
    now = running()
    assert now["cache"]["ttl_s"] == 30 and now["privacy"]["floors"][0]["prompts"] == {"email": "block"}
    assert now["admission"] == own["admission"], "the operator's edit waits for a reload by the operator"
    assert read_topology(home.topology).privacy.floors
    parts.apply(PARTS, 4, instead_of={})
    assert [(one.resource, one.detail["sequence"]) for one in recorder.acts] == [
        ("section/budgets", 4), ("section/cache", 4), ("section/privacy", 4),
    ]  # fmt: skip

    done = ashore("reload", home=server.home)
    assert done.returncode == 0, done.stderr
    assert running()["cache"]["ttl_s"] == 30 and running()["admission"]["max_waiting"] == 7

    for told, why in (({"admission": "max_waiting = 1"}, "not allowed"), ({"cache": "ttl_s = -1"}, "ttl_s")):
        with pytest.raises(InvalidSpec, match=why):
            parts.apply({**PARTS, **told}, 5, instead_of=PARTS)
        assert parts.now() == PARTS and running()["cache"]["ttl_s"] == 30

    write_parts(home.sites, {})  # killed before the server was asked
    assert "acme" in ashore("access", "budget", "list", home=server.home).stdout
    parts.apply({}, 6, instead_of=PARTS)
    assert "acme" not in ashore("access", "budget", "list", home=server.home).stdout
    assert (running()["cache"], running()["privacy"]) == (own["cache"], own["privacy"])
    parts.apply(PARTS, 7, instead_of={})
    parts.drop(["cache", "privacy"])
    assert "budgets" not in parts.now() and "acme" not in ashore("access", "budget", "list", home=server.home).stdout
    database.close()
    assert server.stop() == 0
    with pytest.raises(NotReady):
        parts.check(PARTS)
