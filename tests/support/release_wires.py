"""The calls of releases over HTTP and over gRPC, in one form, against one API worker with replicas in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import grpc
from google.protobuf import json_format
from http_worker import Worker, http_worker

from ashore.access import SYSTEM, AccountWish, Acts, KeyWish, People
from ashore.api.grpc.gen import releases_pb2 as pb
from ashore.api.grpc.gen import releases_pb2_grpc
from ashore.api.grpc.releases import message_types
from ashore.api.http.admin.releases import RELEASE_ROUTES
from ashore.api.releasecalls import RELEASE_CALLS
from ashore.core import MemoryRecorder, SystemClock
from ashore.engines import EngineOptions
from ashore.planning import Inventory, ModelPlan, Plan
from ashore.releases import ReleaseKeeper, ReleasePolicy
from ashore.releases.memory import MemoryWorkshop
from ashore.serving import GrpcListen, StateLink
from ashore.state import Database, open_state

CODES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ABORTED",
}  # fmt: skip


class Refused(Exception):
    """What a call was refused with; `status` is the name of the gRPC code."""

    def __init__(self, status: str, code: str, param: str, hint: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.hint, self.message = status, code, param, hint, message


class Wire(Protocol):
    def call(self, name: str, key: str, request_id: str = "", **fields: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class HttpWire:
    worker: Worker

    def call(self, name: str, key: str, request_id: str = "", **fields: Any) -> dict[str, Any]:
        call = next(one for one in RELEASE_CALLS if one.name == name)
        route = next(one for one in RELEASE_ROUTES if one.operation == f"releases_{call.do.__name__}")
        path = route.path
        if call.subject:
            path = path.replace(f"{{{call.subject}}}", quote(fields.pop(call.subject), safe=""))
        query = {field: fields.pop(field) for field in route.query if field in fields}
        body = json.dumps(fields) if fields else None
        status, _, answer = self.worker.request(
            route.method, path + (f"?{urlencode(query)}" if query else ""), body,
            {"authorization": f"Bearer {key}", **({"x-request-id": request_id} if request_id else {})},
        )  # fmt: skip
        found: dict[str, Any] = json.loads(answer)
        if status != 200:
            told = found["error"]
            raise Refused(CODES[status], told["code"], told.get("param") or "", told.get("hint") or "", told["message"])
        return found


@dataclass(frozen=True)
class GrpcWire:
    address: str

    def call(self, name: str, key: str, request_id: str = "", **fields: Any) -> dict[str, Any]:
        takes, _ = message_types(name)
        fields = {
            field: {k: scalar(v) for k, v in value.items()} if field == "options" else value
            for field, value in fields.items()
        }
        metadata = [("authorization", f"Bearer {key}"), *([("x-request-id", request_id)] if request_id else [])]
        with grpc.insecure_channel(self.address) as channel:
            stub = releases_pb2_grpc.ReleasesStub(channel)
            try:
                answer = getattr(stub, name)(json_format.ParseDict(fields, takes()), metadata=metadata, timeout=20)
            except grpc.RpcError as fault:
                raise refused(fault) from fault
        return plain(answer)


def refused(fault: grpc.RpcError) -> Refused:
    told = dict(fault.trailing_metadata())
    return Refused(
        fault.code().name, told["ashore-code"], told.get("ashore-param", ""), told.get("ashore-hint", ""),
        fault.details(),
    )  # fmt: skip


def scalar(value: str | int | float | bool) -> dict[str, Any]:
    kinds = ((bool, "flag"), (int, "integer"), (float, "number"), (str, "text"))
    return {next(name for kind, name in kinds if isinstance(value, kind)): value}


def plain(message: Any) -> dict[str, Any]:
    """Return a message as the JSON of HTTP has it, read by protobuf's own reader."""
    found: dict[str, Any] = _plain(
        json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
    return found


WHOLE_NUMBERS = {"until", "since", "needed_bytes", "created_at", "changed_at"}


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        if name in ("options", "details", "evidence"):
            return {
                key: int(one["integer"]) if "integer" in one else next(iter(one.values())) for key, one in value.items()
            }
        return {key: _plain(one, key) for key, one in value.items()}
    return int(value) if name in WHOLE_NUMBERS else value


@dataclass(frozen=True)
class Site:
    """A worker with the alias `chat` at the release `chat-1`, and who may do what."""

    worker: Worker
    http: HttpWire
    grpc: GrpcWire
    keeper: ReleaseKeeper
    people: People
    owner: str
    reader: str
    developer: str

    def warmed(self, name: str) -> None:
        """Tell that the hosts of a release have loaded, as the supervisor does."""
        self.keeper.warmed(name)


@contextmanager
def release_site(run: Path) -> Iterator[Site]:
    """Start one."""
    run.mkdir(parents=True, exist_ok=True)
    link = StateLink(path=str(run / "state.db"), snapshots=str(run / "snapshots"))
    database: Database = open_state("", default=Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
    acts = Acts(database, MemoryRecorder(), SystemClock())
    keeper, people = ReleaseKeeper(acts, MemoryWorkshop()), People(acts)
    plan = ModelPlan(
        alias="chat", release="", name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    keeper.adopt(keeper.propose(Plan(models=(plan,), inventory=Inventory(cores=2, memory_bytes=0))))
    keys = {}
    for user, role in (("owner", "model-owner"), ("dev", "developer"), ("watcher", "model-owner")):
        made = people.create_account(SYSTEM, AccountWish(id=user, roles=(role,), key=KeyWish()))[1]
        assert made is not None
        keys[user] = made.secret
    address = f"unix:{run / 'grpc.sock'}"
    try:
        with http_worker(
            run,
            models={"chat": "echo"},
            state=link,
            home=str(run / "home"),
            grpc=GrpcListen(uds=str(run / "grpc.sock")),
            release=ReleasePolicy(allow_options=("fast", "mode", "n", "rate", "tokens")),
        ) as worker:
            yield Site(
                worker, HttpWire(worker), GrpcWire(address), keeper, people, keys["owner"], keys["watcher"], keys["dev"]
            )
    finally:
        database.close()


def watch(address: str, key: str, alias: str) -> Any:
    """Return a call of WatchAlias, to be read and cancelled."""
    channel = grpc.insecure_channel(address)
    stub = releases_pb2_grpc.ReleasesStub(channel)
    return stub.WatchAlias(
        pb.WatchAliasRequest(alias=alias), metadata=(("authorization", f"Bearer {key}"),), timeout=30
    )
