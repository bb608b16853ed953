"""A file is replaced whole, or stands as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ashore.kit.wholefile import write_whole


def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"old")
    write_whole(path, b"new", mode=0o440)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o440
    write_whole(path, b"newer", durable=False)
    assert path.read_bytes() == b"newer" and path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["one"]


def test_what_fails_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["one"]


def test_what_is_not_a_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match="not a file that can be replaced"):
            write_whole(path, b"new")
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]
