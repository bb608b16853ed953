"""What a release is made of, by a name: looking at an adapter's folder is bounded, whatever that folder is."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ashore.core.errors import InvalidSpec
from ashore.data.engines import EngineOptions, ModelFiles, content_of
from ashore.data.engines.content import MOST_FILES

FILES = ModelFiles(name="chat", digest="sha256:1", directory="/nowhere", format="gguf")
OPTIONS = EngineOptions(kind="fake")


def test_files_in_folders_of_an_adapter_count_and_links_that_lead_in_circles_do_not(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "round").symlink_to(tmp_path, target_is_directory=True)
    before = content_of(FILES, OPTIONS, {"tone": str(tmp_path)})
    (tmp_path / "deep" / "adapter_config.json").write_text("{}")
    assert content_of(FILES, OPTIONS, {"tone": str(tmp_path)}) != before


def test_a_folder_with_more_files_than_any_adapter_is_refused(tmp_path: Path) -> None:
    for number in range(MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(InvalidSpec, match="has more than 1000 files and folders; an adapter has only a few"):
        content_of(FILES, OPTIONS, {"tone": str(tmp_path)})


def test_so_is_one_that_takes_long_to_look_at(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).touch()
    seconds = itertools.count()
    with pytest.raises(InvalidSpec, match="2 s to scan"):
        content_of(FILES, OPTIONS, {"tone": str(tmp_path)}, now_s=lambda: float(next(seconds)))


def test_so_is_one_with_a_folder_that_this_user_may_not_read() -> None:
    with TemporaryDirectory(dir="/tmp") as top:
        Path(top).chmod(0o777)
        with as_somebody():
            folder = Path(top) / "tone"
            (folder / "private").mkdir(parents=True)
            (folder / "private").chmod(0)
            with pytest.raises(InvalidSpec, match=r"cannot be read: .*private: Permission denied"):
                content_of(FILES, OPTIONS, {"tone": str(folder)})
            (folder / "private").chmod(0o700)


@contextmanager
def as_somebody() -> Iterator[None]:
    """Be a user to whom permissions matter, in files and in this thread alone: others go on with files of their own."""
    set_user, user = ctypes.CDLL(None).setfsuid, os.geteuid()
    if user == 0:
        set_user(65_534)
    try:
        yield
    finally:
        set_user(user)
