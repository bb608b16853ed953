"""A response that shall be stored: what would keep it from that is found before a token is made, or is recorded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from direct import Direct
from memory_replica import MemoryReplica

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.data.audit import RequestNote
from ashore.data.authority import OnBehalf, OpenDoor
from ashore.data.http import HttpApp
from ashore.data.jobs import EgressSection, JobDesk, JobsSection, make_desk
from ashore.data.jobs.reserve import RESERVED_BYTES
from ashore.data.path import BytesText, CountingAuditor, Guards, ServedModel, ServingService, Topology
from ashore.kit.metrics import Metrics
from ashore.kit.rooms import Rooms
from ashore.kit.state import Database, open_database


class Disk:
    """A database on a disk whose room is told from a list, and stays at the last."""

    def __init__(self, inner: Database, *free: int) -> None:
        self._inner, self._free = inner, list(free)
        self.place, self.write, self.read, self.changes, self.close = (
            inner.place, inner.write, inner.read, inner.changes, inner.close
        )  # fmt: skip

    def free_bytes(self) -> int | None:
        return self._free.pop(0) if len(self._free) > 1 else self._free[0]


class Noting(CountingAuditor):
    """Keeps what is recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[RequestNote] = []

    def note(self, note: RequestNote) -> None:
        self.notes.append(note)


async def ask(database: Database | None, headers: tuple[tuple[bytes, bytes], ...] = ()) -> tuple[Any, ...]:
    """Ask for a stored response; return status, code, orders of the replica, and outcome and code in the record."""
    replica, auditor, metrics = MemoryReplica(), Noting(), Metrics()
    topology = Topology(models=(ServedModel(alias="echo", release="echo-1", kind="fake", sockets=("/s",)),))
    serving = ServingService(
        topology,
        make_replica=lambda socket: replica,
        load_text=lambda served: BytesText(),
        check_grammar=lambda grammar: None,
        clock=SystemClock(),
        metrics=metrics,
        guards=Guards(auditor=auditor),
    )
    desk = make_desk(database, SystemClock(), JobsSection(), EgressSection())
    app = HttpApp(
        serving, OpenDoor(), metrics, ROUTES, limits=topology.limits,
        rooms=Rooms(gives={OnBehalf: OnBehalf("inner"), JobDesk: desk}),
    )  # fmt: skip
    await serving.start()
    while not all(card.ready for card in serving.models()):
        await asyncio.sleep(0.001)
    body = json.dumps({"model": "echo", "input": "hello", "store": True, "temperature": 1}).encode()
    sent: list[dict[str, Any]] = []
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not unread:
            await asyncio.sleep(60)
        return unread.pop()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/responses", "query_string": b"", "client": None,
        "headers": [(b"content-length", b"%d" % len(body)), *headers],
    }  # fmt: skip
    await app({**scope, "ashore.direct": Direct(send)}, receive, send)
    await serving.close()
    answer = json.loads(b"".join(m.get("body", b"") for m in sent))
    noted = [(note.outcome, note.error_code) for note in auditor.notes]
    return sent[0]["status"], (answer.get("error") or {}).get("code"), len(replica.orders), noted


@pytest.fixture
def inner(tmp_path: Path) -> Iterator[Database]:
    database = open_database(tmp_path / "state.db", snapshots=tmp_path, clock=SystemClock())
    yield database
    database.close()


def test_a_full_disk_is_told_before_a_token_is_made(inner: Database) -> None:
    assert asyncio.run(ask(Disk(inner, 1 << 40))) == (200, None, 1, [("answered", "")])
    assert asyncio.run(ask(Disk(inner, RESERVED_BYTES))) == (507, "disk_full", 0, [])


def test_a_disk_that_fills_meanwhile_is_recorded_as_the_fault_it_was(inner: Database) -> None:
    assert asyncio.run(ask(Disk(inner, 1 << 40, RESERVED_BYTES))) == (507, "disk_full", 1, [("failed", "disk_full")])


def test_where_nothing_can_be_stored_nothing_is_made(inner: Database) -> None:
    assert asyncio.run(ask(None)) == (503, "not_ready", 0, [])
    hook = ((b"x-ashore-webhook", b"https://elsewhere.example/x"),)
    status, code, made, noted = asyncio.run(ask(Disk(inner, 1 << 40), hook))
    assert (status, code, made, noted) == (403, "permission_denied", 0, [])
