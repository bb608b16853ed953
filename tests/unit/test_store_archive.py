"""A model as a tar, there and back, and what hostile tars get."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from store_making import alter, blob_of, make_store, pull_tiny

from ashore.core.errors import CorruptBlob


def test_a_model_travels_by_tar_unchanged(tmp_path: Path) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path)
    tar = here.export("tiny", tmp_path / "tiny.tar")
    [arrived] = there.import_tar(tar)
    assert arrived.digest == model.digest
    assert there.open("tiny", verify="full").digest == model.digest
    assert [m.digest for m in there.import_tar(tar)] == [model.digest]
    assert len(there.list()) == 1


def test_equal_models_give_equal_tars(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    one, two = store.export("tiny", tmp_path / "1.tar"), store.export("tiny", tmp_path / "2.tar")
    assert one.read_bytes() == two.read_bytes()


def test_a_corrupt_model_is_not_exported_and_leaves_no_file(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    alter(blob_of(store, pull_tiny(store, tmp_path), "model.safetensors"), 50_000)
    with pytest.raises(CorruptBlob):
        store.export("tiny", tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()
    assert not list(tmp_path.glob("tmp*"))


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "blobs/sha256/../../../evil", "other/place", "blobs/sha256/short"]
)
def test_members_that_leave_the_layout_are_refused(tmp_path: Path, name: str) -> None:
    store = make_store(tmp_path / "home")
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as out:
        member = tarfile.TarInfo(name)
        member.size = 4
        out.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(CorruptBlob):
        store.import_tar(tar)
    assert not list(tmp_path.rglob("evil"))
    assert store.list() == ()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_devices_and_sparse_files_are_refused(tmp_path: Path, kind: bytes) -> None:
    store = make_store(tmp_path / "home")
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as out:
        member = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
        member.type = kind
        member.linkname = "/etc/passwd"
        out.addfile(member)
    with pytest.raises(CorruptBlob, match="a link, a device or sparse"):
        store.import_tar(tar)


def test_an_altered_blob_in_a_tar_is_refused_and_nothing_is_added(tmp_path: Path) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    pull_tiny(here, tmp_path)
    tar = here.export("tiny", tmp_path / "tiny.tar")
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 0xFF
    tar.write_bytes(data)
    with pytest.raises(CorruptBlob, match="has the hash"):
        there.import_tar(tar)
    assert there.list() == ()
    assert there.gc().num_blobs == 0


@pytest.mark.parametrize("cut", [0, 1000, 100_000])
def test_a_tar_that_was_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    pull_tiny(here, tmp_path)
    tar = here.export("tiny", tmp_path / "tiny.tar")
    tar.write_bytes(tar.read_bytes()[:cut])
    with pytest.raises(CorruptBlob):
        there.import_tar(tar)
    assert there.list() == ()


def test_a_manifest_with_a_path_outside_is_refused(tmp_path: Path) -> None:
    import hashlib

    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path)
    manifest = json.loads((here.root / "blobs/sha256" / model.digest[7:]).read_text())
    manifest["layers"][0]["annotations"]["org.cncf.model.filepath"] = "../../escaped"
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    index = {"schemaVersion": 2, "manifests": [{"digest": f"sha256:{digest}", "size": len(data), "annotations": {
        "org.opencontainers.image.ref.name": "tiny"}}]}  # fmt: skip
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as out:
        for name, content in (("index.json", json.dumps(index).encode()), (f"blobs/sha256/{digest}", data)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    with pytest.raises(CorruptBlob, match="points outside the model's directory"):
        there.import_tar(tar)
