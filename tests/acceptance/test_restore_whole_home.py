"""A machine is gone: one command brings the whole home back, and it answers as it did, within a minute and the copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from whole_home import ashore, make_whole_home, restore_and_ask

pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(900)]


def test_a_whole_home_is_restored_and_answers_as_before(
    tmp_path: Path, demo_home: Path, free_port: Callable[[], int]
) -> None:
    whole = make_whole_home(tmp_path, demo_home, free_port)
    restored = restore_and_ask(whole, tmp_path / "new", free_port)
    assert restored.answer[0] == whole.answer[0]
    assert restored.answer[1] == pytest.approx(whole.answer[1], abs=1e-4)
    assert (tmp_path / "new/first-key").read_bytes() == (whole.home / "first-key").read_bytes()
    assert "all whole" in ashore(tmp_path / "new", "model", "verify")
    assert "as they were written" in ashore(tmp_path / "new", "audit", "verify")
