"""Schemathesis over all of `/openapi.json` of a running server, as each role: `make test-openapi`.

It sends what the schemas allow and what they forbid, one request at a time and in sequences that use what earlier
answers gave (`stateful`). The bar: no answer of 500 or above, and nothing taken that the schema forbids.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from commands import run_command
from served import Served, start_served
from suite_venv import suite_python

pytestmark = [pytest.mark.full, pytest.mark.timeout(3600)]

CONFIG: Final = """
[learning]
feedback = true
[[model]]
name = "fake:agent"
alias = "agent"
"""
OFFICES: Final = ("system-administrator", "security-officer", "auditor")
EXAMPLES: Final = int(os.environ.get("ASHORE_OPENAPI_EXAMPLES", "10"))
"""Random requests of each operation, beside those that cover every bound of its schema."""
REFUSED_TO_ITSELF: Final = ("POST /admin/v1/keys/{key}/rotate", "DELETE /admin/v1/keys/{key}")
"""Operations that would end the key of the run."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("openapi")
    one = start_served(home, [], store=None, port=free_port(), grpc_port=0, config=CONFIG)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def keys(server: Served) -> dict[str, str]:
    """Make the three administrators and a developer; return their keys."""
    made = {}
    for name, role in (*zip(("sam", "sec", "ann"), OFFICES, strict=True), ("dev", "developer")):
        env = {"ASHORE_API_KEY": made["security-officer"]} if name == "dev" else {}
        done = run_command("access", "user", "create", name, "--role", role, home=server.home, env=env)
        assert done.returncode == 0, done.stderr
        made[role] = done.stdout.strip()
    return made


@pytest.mark.parametrize("role", [*OFFICES, "developer"])
def test_no_request_is_a_fault_of_the_server_and_none_is_taken_that_the_schema_forbids(
    server: Served, keys: dict[str, str], role: str, tmp_path: Path
) -> None:
    schemathesis = suite_python("openapi").with_name("schemathesis")
    words = [str(schemathesis), "run", f"{server.root_url}/openapi.json", "-H", f"Authorization: Bearer {keys[role]}"]
    words += ["--checks", "not_a_server_error,negative_data_rejection", "--continue-on-failure", "--no-color"]
    words += ["--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--seed", "1"]
    words += ["--request-timeout", "60", "--warnings", "off", "--generation-database", "none"]
    for operation in REFUSED_TO_ITSELF:
        words += ["--exclude-name", operation]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=3500)
    found = re.search(r"([\d,]+) generated", done.stdout)
    print(f"\n{role}: {found[1] if found else 'no'} requests")
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]
    assert found is not None and server.ready()
