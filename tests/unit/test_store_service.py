"""The store's use cases on tiny models: pull, resolve, open, variants, verify, remove, collect."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from store_making import alter, blob_of, make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.core.errors import (
    Conflict,
    CorruptBlob,
    InvalidRequest,
    UnknownModel,
    UnknownVariant,
    UnsafeWeights,
    UnsupportedModel,
)


def test_a_folder_becomes_a_model_with_text_files_of_its_own(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    assert (model.reference, model.format, model.weights) == ("tiny", "safetensors", "model.safetensors")
    assert model.licence == "apache-2.0"
    assert model.recipe["precision"] == "fp32"
    files = store.open("tiny")
    generation = json.loads((files.directory / "generation.json").read_text())
    assert generation["eos_token_ids"] == [257]
    assert generation["bos_token_id"] == 256
    assert generation["defaults"] == {"temperature": 0.7, "top_p": 0.9}
    assert "messages" in (files.directory / "chat_template.jinja").read_text()
    assert json.loads((files.directory / "tokenizer.json").read_text())["model"]["type"] == "BPE"


@pytest.mark.parametrize("harm", ["missing", "altered"])
def test_a_model_without_its_manifest_hides_no_other(tmp_path: Path, harm: str) -> None:
    """One deleted file hid every model of the store, and could not be pulled again."""
    store = make_store(tmp_path)
    broken = pull_tiny(store, tmp_path)
    other = store.pull(str(make_tiny_model(tmp_path / "other", "llama")))
    manifest = store.blob_path(broken.digest)
    alter(manifest, 9) if harm == "altered" else manifest.unlink()
    models, [bad] = store.survey()
    assert models == store.list() == (other,)
    assert (bad.reference, bad.digest) == ("tiny", broken.digest) and f"{manifest} of tiny" in bad.problem
    report = store.verify()
    assert (report.num_models, report.bad) == (1, (bad,))
    if harm == "missing":
        with pytest.raises(CorruptBlob, match="none is deleted"):
            store.gc()
    assert pull_tiny(store, tmp_path).digest == broken.digest
    assert store.survey() == ((other, broken), ())
    store.blob_path(broken.digest).unlink()
    store.remove("tiny")
    store.gc()
    assert store.survey() == ((other,), ())


def test_the_layout_is_oci_and_blobs_are_read_only(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    assert json.loads((store.root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.root / "index.json").read_text())
    [entry] = index["manifests"]
    assert entry["digest"] == model.digest
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "tiny"
    manifest = json.loads((store.root / "blobs/sha256" / model.digest[7:]).read_text())
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    by_path = {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]}
    assert by_path["model.safetensors"] == "application/vnd.cncf.model.weight.v1.raw"
    assert by_path["tokenizer.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    assert by_path["README.md"] == "application/vnd.cncf.model.doc.v1.raw"
    assert {oct(p.stat().st_mode & 0o777) for p in (store.root / "blobs/sha256").iterdir()} == {"0o444"}


def test_equal_content_has_an_equal_digest_on_another_machine(tmp_path: Path) -> None:
    source = make_tiny_model(tmp_path / "tiny", "qwen2")
    first = make_store(tmp_path / "a").pull(str(source))
    second = make_store(tmp_path / "b").pull(str(source))
    assert first.digest == second.digest


def test_pulling_twice_changes_nothing_and_shares_every_blob(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    first = pull_tiny(store, tmp_path)
    before = sorted(p.name for p in (store.root / "blobs/sha256").iterdir())
    assert pull_tiny(store, tmp_path).digest == first.digest
    assert sorted(p.name for p in (store.root / "blobs/sha256").iterdir()) == before
    assert len(store.list()) == 1


def test_the_users_own_files_are_neither_linked_nor_changed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    mine = tmp_path / "tiny" / "model.safetensors"
    assert mine.stat().st_ino != blob_of(store, model, "model.safetensors").stat().st_ino
    assert mine.stat().st_mode & 0o200
    mine.write_bytes(b"changed afterwards")
    assert store.verify().ok


def test_a_changed_folder_re_points_the_name_and_the_digest_still_leads_to_the_old_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    old = pull_tiny(store, tmp_path, seed=0)
    new = pull_tiny(store, tmp_path, seed=1)
    assert new.digest != old.digest
    assert store.resolve("tiny").digest == new.digest
    assert store.resolve(f"tiny@{old.digest}").digest == old.digest


def test_a_directory_is_never_resolved_to_a_model_from_another_one(tmp_path: Path) -> None:
    """`ashore up` served the model that had its base name already."""
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path, name="other")
    with pytest.raises(UnknownModel, match=f"no model from {tmp_path}/elsewhere/other"):
        store.resolve(f"file:{tmp_path}/elsewhere/other")
    mine = store.pull(str(tmp_path / "other"), name="mine")
    assert store.resolve(f"{tmp_path}/other/").digest == mine.digest


def test_a_name_cannot_be_taken_by_another_source(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    other = make_tiny_model(tmp_path / "other", "qwen3")
    with pytest.raises(Conflict) as caught:
        store.pull(str(other), name="tiny")
    assert "--name" in caught.value.hint


def test_unknown_names_get_the_nearest_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    with pytest.raises(UnknownModel) as caught:
        store.resolve("tinny")
    assert "'tiny'" in caught.value.hint
    with pytest.raises(UnknownModel) as caught:
        store.resolve("smollm2")
    assert "ashore model pull smollm2" in caught.value.hint
    with pytest.raises(UnknownModel) as caught:
        store.pull("smolm2")
    assert "'smollm2'" in caught.value.hint
    with pytest.raises(UnknownVariant):
        store.resolve("tiny@int8")


def test_a_variant_keeps_lineage_recipe_and_the_parents_text_files(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    made = tmp_path / "made"
    made.mkdir()
    (made / "openvino_model.xml").write_text("<net/>")
    (made / "openvino_model.bin").write_bytes(b"\1" * 5000)
    variant = store.add_variant(
        parent, "int8", made, format="openvino", weights="openvino_model.xml", recipe={"tool": "nncf 3"}
    )
    assert variant.reference == "tiny@int8"
    assert variant.parent == parent.digest
    assert variant.recipe == {"tool": "nncf 3"}
    assert variant.shape == parent.shape
    files = store.open("tiny@int8")
    assert {p.name for p in files.directory.iterdir()} == {
        "openvino_model.xml", "openvino_model.bin", "tokenizer.json", "chat_template.jinja", "generation.json",
    }  # fmt: skip
    assert [m.reference for m in store.list()] == ["tiny", "tiny@int8"]


def test_a_variant_without_its_weights_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    (tmp_path / "made").mkdir()
    with pytest.raises(UnsupportedModel, match="has no file"):
        store.add_variant(parent, "int8", tmp_path / "made", format="openvino", weights="x.xml", recipe={})
    with pytest.raises(InvalidRequest):
        store.add_variant(parent, "a b", tmp_path / "made", format="openvino", weights="x.xml", recipe={})


def test_open_gives_links_and_no_second_copy(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    files = store.open("tiny")
    link = files.directory / "model.safetensors"
    assert link.is_symlink()
    assert link.resolve() == blob_of(store, model, "model.safetensors").resolve()
    assert store.open("tiny").directory == files.directory
    link.unlink()
    link.symlink_to("/dev/null")
    assert store.open("tiny").directory == files.directory
    assert link.resolve() == blob_of(store, model, "model.safetensors").resolve()


@pytest.mark.parametrize("harm", ["altered", "shorter", "longer", "missing"])
def test_a_harmed_blob_is_refused_and_named(tmp_path: Path, harm: str) -> None:
    store = make_store(tmp_path)
    blob = blob_of(store, pull_tiny(store, tmp_path), "model.safetensors")
    blob.chmod(0o644)
    match harm:
        case "altered":
            alter(blob, 60_000)
        case "shorter":
            os.truncate(blob, blob.stat().st_size - 1)
        case "longer":
            blob.write_bytes(blob.read_bytes() + b"x")
        case "missing":
            blob.unlink()
    with pytest.raises(CorruptBlob, match=r"model\.safetensors of tiny"):
        store.open("tiny")
    report = store.verify()
    assert [(b.reference, b.path) for b in report.bad] == [("tiny", "model.safetensors")]


def test_a_bit_that_rots_without_touching_times_is_found_by_verify(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    blob = blob_of(store, pull_tiny(store, tmp_path), "model.safetensors")
    alter(blob, blob.stat().st_size // 2 + 1, keep_times=True)
    assert not store.verify("tiny").ok
    with pytest.raises(CorruptBlob):
        store.open("tiny", verify="full")


def test_a_restored_copy_is_hashed_once_and_accepted(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    blob = blob_of(store, pull_tiny(store, tmp_path), "model.safetensors")
    copy = tmp_path / "copy"
    shutil.copyfile(blob, copy)
    os.replace(copy, blob)
    assert store.open("tiny").reference == "tiny"


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = pull_tiny(store, tmp_path)
    alter(store.root / "blobs/sha256" / model.digest[7:], 30)
    with pytest.raises(CorruptBlob, match="manifest"):
        store.resolve("tiny")


def test_remove_and_gc_free_what_nothing_needs(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    a, b = pull_tiny(store, tmp_path, "a"), pull_tiny(store, tmp_path, "b", seed=1)
    store.open("a")
    assert store.remove("a") == ("a",)
    with pytest.raises(UnknownModel):
        store.resolve("a")
    kept = store.gc(keep={a.digest})
    assert (kept.num_blobs, kept.models) == (0, ())
    assert store.resolve(f"a@{a.digest}").digest == a.digest
    report = store.gc()
    assert report.models == (a.digest,)
    assert report.freed_bytes > 100_000
    assert list((tmp_path / "run/models").iterdir()) == []
    assert store.verify().ok
    assert store.resolve("b").digest == b.digest
    assert store.gc().num_blobs == 0


def test_a_model_with_variants_is_removed_only_with_them(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    parent = pull_tiny(store, tmp_path)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "m.xml").write_text("x")
    store.add_variant(parent, "int8", tmp_path / "made", format="openvino", weights="m.xml", recipe={})
    with pytest.raises(Conflict, match="tiny@int8"):
        store.remove("tiny")
    assert store.remove("tiny", variants=True) == ("tiny", "tiny@int8")


def test_pickles_are_refused_before_anything_is_kept(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = make_tiny_model(tmp_path / "evil", "llama")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeWeights, match="pickles"):
        store.pull(str(folder))
    assert store.list() == ()


def test_pickles_and_scripts_beside_safetensors_stay_outside(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = make_tiny_model(tmp_path / "mixed", "llama")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (folder / "modeling_x.py").write_text("print('hello')")
    assert not {f.path for f in store.pull(str(folder)).files} & {"pytorch_model.bin", "modeling_x.py"}


def test_a_truncated_safetensors_file_is_refused_at_pull(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    folder = make_tiny_model(tmp_path / "cut", "llama")
    os.truncate(folder / "model.safetensors", 100_000)
    with pytest.raises(CorruptBlob, match="truncated"):
        store.pull(str(folder))


def test_sharded_weights_keep_their_index(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    model = store.pull(str(make_tiny_model(tmp_path / "shards", "qwen2", shards=3)))
    assert model.weights == "model.safetensors.index.json"
    assert sum(f.path.endswith(".safetensors") for f in model.files) == 3


def test_two_pulls_at_once_end_with_one_model(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    digests: list[str] = []
    threads = [
        threading.Thread(target=lambda: digests.append(make_store(tmp_path).pull(str(folder)).digest)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 4
    assert len(set(digests)) == 1
    store = make_store(tmp_path)
    assert len(store.list()) == 1
    assert store.verify().ok


def test_a_folder_of_checkpoints_names_them_and_takes_none(tmp_path: Path) -> None:
    parent = tmp_path / "checkpoints"
    make_tiny_model(parent / "a", "qwen2")
    make_tiny_model(parent / "runs" / "b", "qwen2", seed=1)
    store = make_store(tmp_path)
    with pytest.raises(UnsupportedModel, match="has no weights") as caught:
        store.pull(str(parent))
    assert str(parent / "a") in caught.value.message and str(parent / "runs" / "b") in caught.value.message
    assert f"ashore model pull {parent / 'a'}" in caught.value.hint
    assert store.list() == ()


def test_a_folders_own_weights_are_taken_and_none_of_those_below(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "mine", "qwen2")
    alone = make_store(tmp_path / "a").pull(str(folder))
    make_tiny_model(folder / "checkpoint-100", "qwen2", seed=1)
    (folder / "gguf").mkdir()
    (folder / "gguf" / "other.gguf").write_bytes(b"GGUF")
    assert make_store(tmp_path / "b").pull(str(folder)).files == alone.files


def test_a_path_that_is_not_there_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="does not exist"):
        make_store(tmp_path).pull(str(tmp_path / "nothing"))
