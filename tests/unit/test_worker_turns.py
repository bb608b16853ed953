"""When the API worker leaves the processors to the engines, and how long it may take to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.core.kinds import EngineKind
from ashore.data.audit.room import RECORD_END_S
from ashore.data.worker import GRPC_END_S, HTTP_END_S, waits_for_turns
from ashore.kit.settings import Home, Settings
from ashore.machine.deployment.children import api_child


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["openvino"], True),
        (["llamacpp"], False),
        (["llamacpp", "llamacpp"], False),
        (["llamacpp", "openvino"], True),
        (["vllm"], False),
        (["vllm", "openvino"], True),
        (["fake"], True),
        ([], True),
    ],
)
def test_a_worker_waits_for_its_turn_unless_no_engine_beside_it_would_lose_by_that(
    kinds: list[EngineKind], expected: bool
) -> None:
    assert waits_for_turns(kinds) is expected


def test_it_is_not_killed_before_its_own_deadlines_have_passed_and_it_has_written_what_it_writes_last() -> None:
    home = Home(root=Path("/nowhere"))
    settings = Settings(home=home)
    child = api_child(0, home=home, settings=settings)
    assert child.drain_s >= settings.drain_timeout_s + GRPC_END_S + HTTP_END_S + RECORD_END_S
