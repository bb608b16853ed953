"""Files that a request named: a link out of `[jobs] folders` opens nothing, whenever it is turned."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.core.errors import NotFound, PermissionDenied
from ashore.kit.folders import CHILD_FOLDERS, open_given
from ashore.kit.store import silent
from ashore.kit.store.sources.local import LocalSource
from ashore.kit.textfile import read_text_file
from ashore.lab.evaluation import open_task
from ashore.lab.training.shards.places import open_place
from ashore.lab.training.shards.samples import walk

SECRET = "TOP SECRET, OUTSIDE OF THE POOL"


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of jobs; `secret` lies beside it."""
    folder = tmp_path / "pool"
    folder.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    monkeypatch.setenv(CHILD_FOLDERS, json.dumps([str(folder), "s3://bucket/data"]))
    return folder


def _shard(path: Path) -> object:
    place = open_place(str(path))
    (shard,) = place.shards()
    with place.open(shard) as file:
        return list(walk(file, shard))


READERS: dict[str, Callable[[Path], object]] = {
    "any file": lambda path: open_given(path).read(),
    "a calibration text": lambda path: read_text_file(path, "the text", hint=""),
    "a task": lambda path: open_task(str(path)),
    "a shard": lambda path: _shard(path.with_suffix(".jsonl")),
    "a packed shard": lambda path: _shard(path.with_suffix(".jsonl.gz")),
    "sums of shards": lambda path: open_place(str(path.parent)).sums(),
    "a model": lambda path: LocalSource(path.with_suffix(".gguf")).fetch(None, path.parents[1] / "into", silent),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("what", READERS)
def test_a_link_out_of_the_folders_opens_nothing(what: str, pool: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(SECRET.encode()))
    for name in ("given", "given.jsonl", "given.jsonl.gz", "given.gguf", "SHA256SUMS"):
        (pool / name).symlink_to(tmp_path / ("packed" if name.endswith(".gz") else "secret"))
    with pytest.raises(PermissionDenied) as refused:
        READERS[what](pool / "given")
    assert "leads out of the folders" in refused.value.message and SECRET not in str(refused.value)


def test_links_within_the_folders_are_followed_as_caches_of_hubs_have_them(pool: Path, tmp_path: Path) -> None:
    blobs, snapshot = make_tiny_model(pool / "blobs", "llama"), pool / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    model = make_store(tmp_path / "home").pull(str(snapshot), name="it")
    assert model.source == f"file:{snapshot}"
    plain = make_store(tmp_path / "plain").pull(str(blobs), name="it")
    assert [(one.path, one.digest) for one in model.files] == [(one.path, one.digest) for one in plain.files]


def test_the_secret_behind_a_link_in_a_folder_that_is_pulled_is_in_no_store(pool: Path, tmp_path: Path) -> None:
    folder = make_tiny_model(pool / "tiny", "llama")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").symlink_to(tmp_path / "secret")
    with pytest.raises(PermissionDenied, match=r"chat_template\.jinja leads out"):
        make_store(tmp_path / "home").pull(str(folder), name="it")
    stored = (path for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert not [path for path in stored if SECRET.encode() in path.read_bytes()]


def test_a_file_that_becomes_a_link_once_it_was_checked_is_read_as_it_was(pool: Path, tmp_path: Path) -> None:
    folder = make_tiny_model(pool / "tiny", "llama")
    source = LocalSource(folder)
    before = (folder / "config.json").read_bytes()
    seen = source.fetch(source.resolve(), tmp_path, silent)
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret")
    assert (seen / "config.json").read_bytes() == before and seen.name == "tiny"


def test_a_pipe_in_a_folder_blocks_nothing_and_a_task_is_no_file_of_the_current_directory(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(pool / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        open_given(pool / "pipe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="no task file"):
        open_task("secret")


def test_an_operator_follows_links_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHILD_FOLDERS, raising=False)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with open_given(tmp_path / "link") as file:
        assert file.read().decode() == SECRET
