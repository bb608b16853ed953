"""Three engine nodes behind two servers, each in a network namespace of its own, while things die.

`pytest -s` prints what was seen; the how-to and the dated report have the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RIG = Path(__file__).parents[1] / "support" / "fleet_rig.py"
WHOLE_AGAIN_S = 10.0
"""From a fault to the last request that ended badly for it, or waited more than 2 s for its first token."""
AWAY_S = 60.0
"""How long the rig has Postgres and Valkey dead."""
pytestmark = [pytest.mark.full, pytest.mark.timeout(1500)]


def missing() -> str:
    """Return why namespaces cannot be made here; empty where they can."""
    if os.geteuid():
        return "network namespaces need root"
    probe = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", "mount -t tmpfs none /run && ip netns add probe"],
        capture_output=True, text=True,
    )  # fmt: skip
    return f"network namespaces are not permitted here: {probe.stderr.strip()}" if probe.returncode else ""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run every fault once, and return what the streams saw."""
    if why := missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("fleet") / "homes"
    kills = os.environ.get("ASHORE_FLEET_KILLS", "20")
    done = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, str(RIG), str(folder), "--kills", kills],
        stdout=subprocess.PIPE, text=True, timeout=1400,
    )  # fmt: skip
    assert done.returncode == 0
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    return found


@pytest.mark.parametrize("fault", ["kills", "cuts"])
def test_a_node_that_dies_costs_its_streams_and_no_request_without_a_token(report: dict[str, Any], fault: str) -> None:
    seen = report[fault]
    assert seen["requests"] > 32
    assert (seen["failed"], seen["false"]) == (0, 0), seen["errors"]
    assert seen["longest_hurt_s"] <= WHOLE_AGAIN_S


def test_nodes_that_are_drained_and_replaced_cost_nothing(report: dict[str, Any]) -> None:
    seen = report["drain"]
    assert (seen["failed"], seen["cut"], seen["false"]) == (0, 0, 0), seen["errors"]


@pytest.mark.parametrize("fault", ["postgres still", "postgres dead", "valkey still", "valkey dead"])
def test_while_postgres_or_valkey_are_away_requests_go_on(report: dict[str, Any], fault: str) -> None:
    assert report["kept answers"], "the cache is in use"
    seen = report[fault]
    assert seen["requests"] > 32
    assert (seen["failed"], seen["cut"], seen["false"]) == (0, 0, 0), seen["errors"]


def test_budgets_end_with_their_grants_while_postgres_is_dead_and_are_back_after_it(report: dict[str, Any]) -> None:
    seen = report["postgres dead with a budget"]
    assert (seen["cut"], seen["false"]) == (0, 0), seen["errors"]
    assert seen["failed"] and all(error.startswith("503") for error in seen["errors"]), seen["errors"]
    assert AWAY_S - 10 < seen["longest_hurt_s"] <= AWAY_S + WHOLE_AGAIN_S
    for fault in ("valkey still", "valkey dead", "drain"):
        seen = report[f"{fault} with a budget"]
        assert (seen["failed"], seen["cut"], seen["false"]) == (0, 0, 0), seen["errors"]


def test_a_server_that_dies_costs_its_own_streams_alone(report: dict[str, Any]) -> None:
    seen = report["front"]
    assert (seen["failed"], seen["cut"], seen["false"]) == (0, 0, 0), seen["errors"]
    assert report["front-all"]["false"] == 0 == report["front-all with a budget"]["false"]
