"""When the API worker leaves the processors to the engines."""

from __future__ import annotations

import pytest

from ashore.api.worker import waits_for_turns
from ashore.core import EngineKind


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["openvino"], True),
        (["llamacpp"], False),
        (["llamacpp", "llamacpp"], False),
        (["llamacpp", "openvino"], True),
        (["vllm"], True),
        (["fake"], True),
        ([], True),
    ],
)
def test_a_worker_waits_for_its_turn_unless_it_serves_llama_cpp_alone(kinds: list[EngineKind], expected: bool) -> None:
    assert waits_for_turns(kinds) is expected
