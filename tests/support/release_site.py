"""The calls of releases over HTTP, against one API worker with replicas in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from http_worker import Worker, http_worker, state_link
from memory_workshop import MemoryWorkshop

from ashore.control.access import AccountWish, KeyWish, People
from ashore.control.releases.calls import CALLS
from ashore.core.clock import SystemClock
from ashore.data.authority import SYSTEM, Acts
from ashore.data.engines import EngineOptions, Inventory, ModelPlan, Plan
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.kit.call import ADMIN
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state


class Refused(Exception):
    """What a call was refused with."""

    def __init__(self, status: int, code: str, param: str, hint: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.hint, self.message = status, code, param, hint, message


@dataclass(frozen=True)
class Site:
    """A worker with the alias `chat` at the release `chat-1`, and who may do what."""

    worker: Worker
    keeper: ReleaseKeeper
    owner: str
    developer: str

    def do(self, command: str, *, key: str = "", request_id: str = "", **fields: Any) -> dict[str, Any]:
        """Make the call of a command, `release show`, as the owner or by a key.

        Raises:
            Refused: it is refused.
        """
        call = next(one for one in CALLS if f"{one.noun} {one.word}" == command)
        path = ADMIN + call.path
        for name in call.in_path:
            path = path.replace(f"{{{name}}}", quote(fields.pop(name), safe=""))
        body = json.dumps(fields) if call.has_body and fields else None
        if fields and not call.has_body:
            path += f"?{urlencode(fields)}"
        headers = {"authorization": f"Bearer {key or self.owner}"} | (
            {"x-request-id": request_id} if request_id else {}
        )
        status, _, answer = self.worker.request(call.method, path, body, headers)
        found: dict[str, Any] = json.loads(answer)
        if status != 200:
            told = found["error"]
            raise Refused(status, told["code"], told.get("param") or "", told.get("hint") or "", told["message"])
        return found

    def refuse(self, command: str, **fields: Any) -> tuple[int, str, str]:
        """Return with what a call is refused."""
        with pytest.raises(Refused) as told:
            self.do(command, **fields)
        return told.value.status, told.value.code, told.value.param

    def warmed(self, name: str) -> None:
        """Tell that the hosts of a release have loaded, as the supervisor does."""
        self.keeper.warmed(name)


@contextmanager
def release_site(run: Path) -> Iterator[Site]:
    """Start one."""
    run.mkdir(parents=True, exist_ok=True)
    link = state_link(run)
    database: Database = open_state("", default=Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
    acts = Acts(database, MemoryRecorder(), SystemClock())
    keeper, people = ReleaseKeeper(acts, MemoryWorkshop()), People(acts)
    plan = ModelPlan(
        alias="chat", release="", name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    keeper.adopt(keeper.propose(Plan(models=(plan,), inventory=Inventory(cores=2, memory_bytes=0))))
    keys = {}
    for user, role in (("owner", "model-owner"), ("dev", "developer")):
        made = people.create_account(SYSTEM, AccountWish(id=user, roles=(role,), key=KeyWish()))[1]
        assert made is not None
        keys[user] = made.secret
    try:
        with http_worker(
            run,
            models={"chat": "echo"},
            state=link,
            home=str(run / "home"),
        ) as worker:
            yield Site(worker, keeper, keys["owner"], keys["dev"])
    finally:
        database.close()
