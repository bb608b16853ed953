"""A move of a release returns when the workers go by it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from memory_workshop import MemoryWorkshop

from ashore.control.releases import ReleaseOffice
from ashore.control.releases.calls import CALLS, ReleaseDesk
from ashore.core.clock import ManualClock
from ashore.data.authority import SYSTEM, Acts
from ashore.data.engines import EngineOptions, Inventory, ModelPlan, Plan
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.kit.call import perform
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_database

MOVES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("release shadow", {"release": "chat-2"}),
    ("release rollback", {"alias": "chat"}),
    ("release canary", {"release": "chat-3"}),
    ("release rollback", {"alias": "chat"}),
    ("release promote", {"release": "chat-4", "override": "a trial"}),
    ("release retire", {"release": "chat-5"}),
    ("alias set", {"alias": "prod", "weights_percent": {"chat-1": 100.0}}),
    ("alias remove", {"alias": "prod"}),
)


def test_workers_go_by_every_move_after_it(tmp_path: Path) -> None:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    acts = Acts(database, MemoryRecorder(), ManualClock())
    keeper, office = ReleaseKeeper(acts, MemoryWorkshop()), ReleaseOffice(acts, MemoryWorkshop())
    plan = ModelPlan(
        alias="chat", release="", name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    keeper.adopt(keeper.propose(Plan(models=(plan,), inventory=Inventory(cores=2, memory_bytes=0))))
    desk = ReleaseDesk(office=office)
    steps: list[int] = []

    async def settle() -> None:
        """Note how many steps the history had when workers went by the state."""
        steps.append(len(office.history(SYSTEM)))

    def do(command: str, **fields: Any) -> Any:
        call = next(one for one in CALLS if f"{one.noun} {one.word}" == command)
        return asyncio.run(perform(call, desk, SYSTEM, call.takes(**fields), settle=settle))

    for _ in range(4):
        assert do("release create", model="fake:random").alias == "chat"
    do("release evidence", release="chat-2")
    do("release status", alias="chat")
    assert steps.pop() == len(office.history(SYSTEM)), "every change is waited for, and no look"
    steps.clear()
    for command, fields in MOVES:
        do(command, **fields)
        assert steps.pop() == len(office.history(SYSTEM)), f"{command} is in the state before they go by it"
        assert not steps
    database.close()
