"""The record over HTTP, without a socket: who may read it, what is found, that every reading is recorded."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from audit_notes import a_log, write_chain

from ashore.access import Binding, OpenDoor, Policy, PolicyAuthority
from ashore.api.http import ROUTES, HttpApp
from ashore.audit import AuditLog, AuditService, Checkpoints, open_anchor, verify_export
from ashore.core import SystemClock
from ashore.metrics import Metrics
from ashore.serving import BytesText, Limits, MemoryReplica, ServingService, Topology


class Office:
    """An application in which everybody holds one role, over a record of two chains."""

    def __init__(self, folder: Path, role: str) -> None:
        self.root, self.keys, self.anchor = folder / "audit", folder / "keys", folder / "anchor"
        self.anchor.mkdir()
        write_chain(self.root, 30, "api-1")
        line = Checkpoints(self.root, self.keys).make(1)
        assert line is not None
        open_anchor(str(self.anchor), Checkpoints(self.root, self.keys).home).put(1, line)
        self.log: AuditLog = a_log(self.root, "api-0")
        clock, metrics = SystemClock(), Metrics()
        serving = ServingService(
            Topology(),
            make_replica=lambda socket: MemoryReplica(),
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=clock,
            metrics=metrics,
        )
        self.app = HttpApp(
            serving,
            OpenDoor(),
            metrics,
            ROUTES,
            limits=Limits(),
            authority=PolicyAuthority(Policy(bindings=(Binding(subject="everyone", role=role),))),
            recorder=self.log,
            audit=AuditService(self.root, self.keys, self.log, anchors=[str(self.anchor)]),
        )

    def call(self, method: str, path: str, query: str = "") -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(dict(message))

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"authorization", b"Bearer x")],
            "client": ("10.0.0.9", 1),
        }
        asyncio.run(self.app(scope, receive, send))
        return sent[0]["status"], b"".join(m.get("body", b"") for m in sent)

    def told(self, action: str) -> list[dict[str, Any]]:
        status, body = self.call("GET", "/admin/v1/audit/records", f"action={action}")
        assert status == 200, body
        return json.loads(body)["items"]  # type: ignore[no-any-return]


@pytest.fixture
def office(tmp_path: Path) -> Any:
    one = Office(tmp_path, "auditor")
    yield one
    one.log.close()


def test_an_auditor_finds_and_is_found(office: Office) -> None:
    status, body = office.call("GET", "/admin/v1/audit/records", "kind=request&model=chat&limit=5")
    items = json.loads(body)["items"]
    assert status == 200 and len(items) == 5 and items[0]["actor"] == "alice@bank" and items[0]["at"].endswith("Z")
    (reading,) = [one for one in office.told("audit:search") if one["detail"].get("model")]
    assert reading["actor"] == "anyone" and reading["origin"] == "10.0.0.9"
    assert reading["detail"] == {"kind": "request", "limit": 5, "model": "chat"}


def test_the_record_is_verified_against_the_configured_anchor_alone(office: Office) -> None:
    status, body = office.call("POST", "/admin/v1/audit/verify", "anchor=configured")
    verdict = json.loads(body)
    assert status == 200 and verdict["ok"] and verdict["anchored"] == 1 and verdict["problems"] == []
    for elsewhere in ("anchor=/etc/passwd", "anchor=s3://evil/x", "place=x"):
        assert office.call("POST", "/admin/v1/audit/verify", elsewhere)[0] == 400
    assert office.told("audit:verify")


def test_an_export_comes_signed(office: Office, tmp_path: Path) -> None:
    status, body = office.call("GET", "/admin/v1/audit/export", "form=csv&kind=request")
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    manifest, problem = verify_export(tmp_path / "out" / "audit-export", office.app.audit.public_keys())  # type: ignore[union-attr]
    assert problem is None and manifest is not None and manifest.records == 30 and manifest.by == "anyone"
    assert office.call("GET", "/admin/v1/audit/export", "form=xlsx")[0] == 400


def test_status_says_how_far_it_is_signed(office: Office) -> None:
    status, body = office.call("GET", "/admin/v1/audit/status")
    assert status == 200 and json.loads(body)["chains"] == {"api-1": 36}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=99999999999999", "limit=1000001", "since=yesterday", "who=alice", "until=%00"],
)
def test_what_is_malformed_is_refused_with_its_name(office: Office, query: str) -> None:
    status, body = office.call("GET", "/admin/v1/audit/records", query)
    assert status == 400 and json.loads(body)["error"]["message"]


@pytest.mark.parametrize("role", ["system-administrator", "security-officer", "developer", "viewer"])
def test_nobody_else_reads_it(tmp_path: Path, role: str) -> None:
    office = Office(tmp_path, role)
    for method, path in (
        ("GET", "/admin/v1/audit/records"),
        ("POST", "/admin/v1/audit/verify"),
        ("GET", "/admin/v1/audit/export"),
        ("GET", "/admin/v1/audit/status"),
    ):
        assert office.call(method, path)[0] == 403
    office.log.close()
