"""Engines that Ray Serve places on two machines, each in a network namespace, while a replica, a machine and the head
die. `ASHORE_TEST_RAY` names the Python of an environment with Ray and ashore (`make test-ray`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_fleet_namespaces import missing

RIG = Path(__file__).parents[1] / "support" / "ray_rig.py"
pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run every fault once, and return what the streams saw."""
    if "ASHORE_TEST_RAY" not in os.environ:
        pytest.skip("needs Ray: make test-ray")
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("ray") / "homes"
    done = subprocess.run(
        ["unshare", "--net", "--mount", os.environ["ASHORE_TEST_RAY"], str(RIG), str(folder)],
        stdout=subprocess.PIPE, text=True, timeout=1100,
    )  # fmt: skip
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    return found


@pytest.mark.parametrize("fault", ["replica", "machine", "head", "replica after the head"])
def test_what_dies_costs_its_streams_and_no_request_without_a_token(report: dict[str, Any], fault: str) -> None:
    seen = report[fault]
    assert seen["requests"] and (seen["failed"], seen["false"]) == (0, 0), seen["errors"]


def test_a_dead_head_costs_nothing(report: dict[str, Any]) -> None:
    assert report["head"]["cut"] == 0
