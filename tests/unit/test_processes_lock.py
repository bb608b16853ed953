"""Locks among processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ashore.core.errors import Conflict
from ashore.kit.processes.lock import locked

BUSY = Conflict("somebody has it")


def test_a_second_holder_gets_the_error_that_it_named_until_the_first_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(Conflict, match="somebody has it"), locked(path, lambda: BUSY):
        pass
    with locked(path, lambda: BUSY) as descriptor:
        os.write(descriptor, b"1")
    assert path.read_bytes() == b"1"


def test_a_link_in_place_of_the_file_is_not_followed_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), locked(tmp_path / "lock", flags=os.O_NOFOLLOW):
        pass
    assert not (tmp_path / "elsewhere").exists()
