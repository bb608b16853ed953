"""The whole interface against its own description, by generated requests alone and in sequences: no failure of ours."""

from __future__ import annotations

import json
import os
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from http_worker import Worker, http_worker, state_link
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.checks import not_a_server_error
from schemathesis.generation.stateful.state_machine import APIStateMachine
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from ashore.data.authority import OFFICERS

EXAMPLES = int(os.environ.get("ASHORE_TEST_SCHEMA_EXAMPLES", "6"))
"""Requests for each route."""
SECONDS = float(os.environ.get("ASHORE_TEST_SCHEMA_SECONDS", "0"))
"""How long to go on with sequences; 0: a few that are always the same."""
DOCUMENTED_FAULTS = ("not_ready", "no_engine", "disk_full", "overloaded", "draining", "host_died")
CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of the test's own: schemathesis keeps there what it found."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def officer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, str, str]]:
    """A worker, the key of a security officer, and that of a developer."""
    run = tmp_path_factory.mktemp("worker")
    with http_worker(run, state=state_link(run), models={"echo": "echo"}) as worker:
        keys = []
        for role in OFFICERS:
            body = json.dumps({"id": role, "roles": [role], "key": {}})
            _, _, answer = worker.request("POST", "/admin/v1/users", body)
            keys.append(json.loads(answer)["key"]["key"])
        headers = {"authorization": f"Bearer {keys[1]}"}
        body = json.dumps({"id": "dev", "roles": ["developer"], "key": {}})
        made = worker.request("POST", "/admin/v1/users", body, headers)[2]
        yield worker, keys[1], json.loads(made)["key"]["key"]


def test_generated_requests_find_no_failure_of_ours(officer: tuple[Worker, str, str]) -> None:
    worker, security, developer = officer
    _, _, page = worker.request("GET", "/openapi.json")
    schema = schemathesis.openapi.from_dict(json.loads(page))
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            key = developer if case.path.startswith("/v1/") else security
            answer = case.call(base_url=worker.root, headers={"authorization": f"Bearer {key}"}, timeout=20)
            if answer.status_code == 503 and answer.json()["error"]["code"] == "not_ready":
                return  # this worker stands alone, without what `ashore up` puts beside it; it says so
            case.validate_response(answer, checks=CHECKS)

        ask()
    assert asked > 100
    assert worker.process.poll() is None


# --- sequences


def linked(page: bytes) -> dict[str, Any]:
    """Return the description with the links that names alone do not tell: an account's id owns keys and has roles, a
    release's name is moved, an alias goes back. All others schemathesis finds by itself."""
    document: dict[str, Any] = json.loads(page)
    paths = document["paths"]

    def link(source: str, method: str, targets: dict[str, str], **given: Any) -> None:
        answer = paths[source][method]["responses"]["200"]
        for target, verb in targets.items():
            place = target.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
            answer.setdefault("links", {})[f"{verb} {target}"] = {"operationRef": f"#/paths/{place}/{verb}", **given}

    for kind in ("users", "service-accounts"):
        one = f"/admin/v1/{kind}/{{account}}"
        for verb in ("get", "patch", "delete"):
            link(f"/admin/v1/{kind}", "post", {one: verb}, parameters={"path.account": "$request.body#/id"})
        owned = {"owner": "$request.body#/id"}
        link(f"/admin/v1/{kind}", "post", {"/admin/v1/keys": "post"}, requestBody=owned)
    for move in ("shadow", "canary", "promote", "retire", "evidence", "burn", "pairs"):
        target = f"/admin/v1/releases/{{release}}/{move}"
        named = {"path.release": "$response.body#/items/0/name"}
        link("/admin/v1/releases", "get", {target: next(iter(paths[target]))}, parameters=named)
    of_alias = {"path.alias": "$response.body#/items/0/name"}
    link("/admin/v1/aliases", "get", {"/admin/v1/aliases/{alias}/rollback": "post"}, parameters=of_alias)
    link("/admin/v1/aliases", "get", {"/admin/v1/aliases/{alias}/history": "get"}, parameters=of_alias)
    ordered = {"input_file_id": "$response.body#/id", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    link("/v1/files", "post", {"/v1/batches": "post"}, requestBody=ordered)
    return document


class Callers:
    """Accounts of every office and a developer on a server, and the key for each path."""

    def __init__(self, root: str, first_key: str) -> None:
        self.root = root
        self.keys: dict[str, str] = {}
        self.key_ids: set[str] = set()
        for role in OFFICERS:
            self.keys[role] = self._new(f"fuzz-{role}", role, first_key)
        self.keys["developer"] = self._new("fuzz-dev", "developer", self.keys["security-officer"])

    def _new(self, name: str, role: str, key: str) -> str:
        body = json.dumps({"id": name, "roles": [role], "key": {}}).encode()
        request = urllib.request.Request(
            f"{self.root}/admin/v1/users", body, {"authorization": f"Bearer {key}", "content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            made = json.load(answer)["key"]
        self.key_ids.add(made["record"]["id"])
        return str(made["key"])

    def key_for(self, path: str) -> str:
        if path.startswith("/v1/"):
            return self.keys["developer"]
        if path.startswith("/admin/v1/audit"):
            return self.keys["auditor"]
        of_system = ("/admin/v1/releases", "/admin/v1/aliases", "/admin/v1/cache", "/admin/v1/jobs", "/metrics")
        return self.keys["system-administrator" if path.startswith(of_system) else "security-officer"]


LINE = b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"fake:echo","messages":[]}}\n'
PLAUSIBLE: dict[str, Any] = {
    "model": "fake:echo",
    "alias": "fake:echo",
    "tenant": "default",
    "roles": ["developer"],
    "groups": [],
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "purpose": "batch",
    "file": LINE,
    "role": "developer",
    "subject": "user/fuzz-dev",
    "rules": ["infer on model/fake:echo"],
    "title": "t",
    "key": {},
    "previous_response_id": None,
    "engine": "",
    "adapters": {},
    "options": {},
    "tools": [],
    "tool_choice": "auto",
    "models": [],
    "actions": [],
    "networks": [],
    "text": None,
    "response_format": None,
    "thinking": None,
    "stop": None,
}
"""What a call says where chance alone would be refused at once, and nothing come after it."""


def plausible(body: dict[str, Any]) -> None:
    """Make most bodies such that the server may do what they ask."""
    chance = zlib.crc32(repr(body).encode())
    if chance % 4:
        names = dict.fromkeys(("id", "name"), f"made-{chance % 5}")
        body.update({name: value for name, value in {**PLAUSIBLE, **names}.items() if name in body})


def machine_of(page: bytes, callers: Callers, asked: list[tuple[str, int]]) -> type[APIStateMachine]:
    """Return sequences of calls in which one answer's ids go into the next call."""

    class Calls(schemathesis.openapi.from_dict(linked(page)).as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: schemathesis.Case) -> None:
            for name, value in case.path_parameters.items():
                if value in callers.key_ids or str(value).startswith("fuzz-"):  # or it would soon have nobody to ask as
                    case.path_parameters[name] = "nobody"
            if case.method == "PUT" and case.path == "/admin/v1/policy" and isinstance(case.body, dict):
                case.body["dry_run"] = True
            if isinstance(case.body, dict):
                plausible(case.body)

        def get_call_kwargs(self, case: schemathesis.Case) -> dict[str, Any]:
            key = callers.key_for(case.path)
            return {"base_url": callers.root, "headers": {"authorization": f"Bearer {key}"}, "timeout": 30}

        def validate_response(self, response: Any, case: schemathesis.Case, *_: Any, **__: Any) -> None:
            asked.append((f"{case.method} {case.path}", response.status_code))
            if response.status_code >= 400:
                error = response.json()["error"]
                assert error["message"], error
                if response.status_code in (503, 507) and error["code"] in DOCUMENTED_FAULTS:
                    return
            case.validate_response(response, checks=CHECKS)

    return Calls


def test_sequences_of_calls_find_no_failure_of_ours(served: Callable[..., Any]) -> None:
    one = served("fake:echo")
    with urllib.request.urlopen(f"{one.root_url}/openapi.json", timeout=20) as answer:
        page = answer.read()
    asked: list[tuple[str, int]] = []
    machine = machine_of(page, Callers(one.root_url, one.key), asked)
    ends_at = time.monotonic() + SECONDS
    while True:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=8,
                stateful_step_count=20,
                derandomize=not SECONDS,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
        if time.monotonic() >= ends_at:
            break
    assert one.process.poll() is None and one.ready()
    assert len({call for call, status in asked if status < 300}) > 10, asked
