"""What is attached to a model: it goes where the model goes, changes nothing of it, and ends with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from store_making import alter, make_store, pull_tiny

from ashore.core.errors import Conflict, CorruptBlob, InvalidRequest
from ashore.kit.store import ModelStore

FILES = {"report.json": b'{"perplexity": 9.5}', "report.md": b"# report\n"}


def about(store: ModelStore, ref: str, kind: str | None = None) -> list[tuple[str, list[str]]]:
    return [(one.kind, [f.path for f in one.files]) for one in store.attachments(store.resolve(ref), kind)]


def test_an_attachment_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    assert store.attachments(model) == ()
    made = store.attach(model, "evaluation", FILES)
    assert store.resolve("tiny").digest == model.digest
    assert store.list() == (model,)
    assert store.attachments(model) == (made,)
    assert made.subject == model.digest
    assert store.read_attachment(made, "report.json") == FILES["report.json"]
    again = make_store(tmp_path)
    assert again.attachments(model, "evaluation") == (made,)
    assert again.attachments(model, "gate") == ()
    with pytest.raises(InvalidRequest, match=r"no file 'report.html'"):
        store.read_attachment(made, "report.html")


def test_the_index_is_one_that_any_oci_tool_reads(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    made = store.attach(model, "evaluation", FILES)
    item = json.loads((store.root / "index.json").read_text())["manifests"][-1]
    assert item["digest"] == made.digest
    manifest = json.loads((store.root / "blobs" / "sha256" / made.digest[7:]).read_text())
    assert manifest["subject"]["digest"] == model.digest
    assert manifest["artifactType"] == item["artifactType"] == "application/vnd.ashore.attached.evaluation.v1"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"


def test_the_newest_comes_first_and_ten_are_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    for n in range(13):
        store.attach(model, "evaluation", {"report.json": b"%d" % n})
    store.attach(model, "gate", {"verdict.json": b"{}"})
    found = store.attachments(model, "evaluation")
    assert [int(store.read_attachment(one, "report.json")) for one in found] == list(range(12, 2, -1))
    assert len(store.attachments(model)) == 11
    store.attach(model, "evaluation", {"report.json": b"12"})
    assert len(store.attachments(model, "evaluation")) == 10


def test_gc_keeps_it_while_the_model_lives_and_not_longer(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    made = store.attach(model, "evaluation", FILES)
    report = store.gc()
    assert report.num_blobs == 0
    assert store.read_attachment(made, "report.md") == FILES["report.md"]
    store.remove("tiny")
    store.gc(keep=[model.digest])
    assert store.attachments(model) == (made,)
    store.gc()
    assert list((store.root / "blobs" / "sha256").iterdir()) == []
    with pytest.raises(Conflict, match="no longer in the store"):
        store.attach(model, "evaluation", FILES)


def test_it_travels_in_a_tar(tmp_path: Path) -> None:
    store = make_store(tmp_path / "a")
    pull_tiny(store, tmp_path)
    other = pull_tiny(store, tmp_path, "other", seed=1)
    store.attach(store.resolve("tiny"), "evaluation", FILES)
    store.attach(other, "gate", {"verdict.json": b"{}"})
    tar = store.export("tiny", tmp_path / "tiny.tar")
    there = make_store(tmp_path / "b")
    there.import_tar(tar)
    assert about(there, "tiny") == [("evaluation", ["report.json", "report.md"])]
    there.import_tar(tar)
    assert len(about(there, "tiny")) == 1
    assert there.verify().ok


def test_verify_names_an_altered_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    made = store.attach(model, "evaluation", FILES)
    blob = store.root / "blobs" / "sha256" / made.files[0].digest[7:]
    alter(blob, 3, keep_times=True)
    assert [bad.path for bad in store.verify("tiny").bad] == ["evaluation/report.json"]
    with pytest.raises(CorruptBlob, match="altered"):
        store.read_attachment(made, "report.json")


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("Evaluation", FILES),
        ("", FILES),
        ("evaluation", {}),
        ("evaluation", {"big": bytes(33 << 20)}),
    ],
)
def test_what_is_no_attachment_is_refused(tmp_path: Path, kind: str, files: dict[str, bytes]) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    with pytest.raises(InvalidRequest):
        store.attach(model, kind, files)
    assert store.attachments(model) == ()


def test_a_path_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    with pytest.raises(CorruptBlob, match="points outside"):
        store.attach(model, "evaluation", {"../report": b"x"})


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from ashore.kit.store import layout
from store_making import make_store
writes = 0
whole = layout.write_atomic
def counted(target, data, **options):
    global writes
    writes += 1
    if writes == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    whole(target, data, **options)
layout.write_atomic = counted
store = make_store(Path(sys.argv[1]))
files = {"report.json": f"[{sys.argv[2]}]".encode(), "report.md": sys.argv[2].encode()}
store.attach(store.resolve("tiny"), "evaluation", files)
"""


def test_killed_at_any_write_it_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    before = store.attach(model, "evaluation", FILES)
    paths = [str(Path(__file__).parents[1] / "support")]
    for number in range(1, 40):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(number), *paths]
        ended = subprocess.run(command, env={**os.environ}, timeout=60)
        found = make_store(tmp_path).attachments(model, "evaluation")
        for one in found:
            assert all(store.read_attachment(one, f.path) for f in one.files)
        if ended.returncode == 0:
            assert len(found) == 2
            break
        assert ended.returncode == -signal.SIGKILL
        assert found == (before,)
    else:
        raise AssertionError("it never ended")
    assert number > 4
    assert make_store(tmp_path).verify().ok
