"""`[model.share]` as ashore.toml may have it."""

from __future__ import annotations

import pytest

from ashore.core.errors import InvalidSpec
from ashore.machine.config import parse_spec


def test_less_memory_than_an_engine_needs_to_start_is_refused() -> None:
    model = '[[model]]\nname = "smollm2"\n[model.share]\nmemory_bytes = '
    with pytest.raises(InvalidSpec, match="memory_bytes = 10; the process of an engine alone needs more"):
        parse_spec(model + "10")
    assert parse_spec(model + "0").models[0].share.memory_bytes == 0
