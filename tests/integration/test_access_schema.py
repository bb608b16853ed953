"""The whole interface against its own description, with generated requests: no failure of ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import schemathesis
from http_worker import Worker, http_worker
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from ashore.access import OFFICERS
from ashore.serving import StateLink

EXAMPLES = int(os.environ.get("ASHORE_TEST_SCHEMA_EXAMPLES", "6"))
"""Requests for each route."""


@pytest.fixture(scope="module")
def officer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Worker, str, str]]:
    """A worker, the key of a security officer, and that of a developer."""
    run = tmp_path_factory.mktemp("worker")
    link = StateLink(path=str(run / "state.db"), snapshots=str(run / "snapshots"))
    with http_worker(run, state=link, models={"echo": "echo"}) as worker:
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
            case.validate_response(
                answer, checks=[not_a_server_error, response_schema_conformance, status_code_conformance]
            )

        ask()
    assert asked > 100
    assert worker.process.poll() is None
