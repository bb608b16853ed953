"""Sealed models in the store: found, verified, moved, collected and opened like others, and never clear on a disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from crash_steps import run_crashes
from memory_keeper import MemoryKeeper
from store_making import alter, blob_of, pull_tiny

from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, CorruptBlob, InvalidRequest, SealingKeyMissing, UnknownModel
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.sealing import KeyKeeper
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.store import ModelStore, StoredModel

CRASHES = Path(__file__).parents[1] / "support" / "seal_crashes.py"


@pytest.fixture
def keeper() -> MemoryKeeper:
    return MemoryKeeper()


def _store(home: Path, keeper: KeyKeeper | None, recorder: MemoryRecorder | None = None) -> ModelStore:
    run = home / "run" / "models"
    if keeper is None:
        return ModelStore(home / "store", run, ManualClock(), recorder=recorder)
    return ModelStore(home / "store", run, ManualClock(), keeper=lambda: keeper, recorder=recorder)


def _with_variant(store: ModelStore, folder: Path, name: str = "tiny") -> tuple[StoredModel, StoredModel]:
    model = pull_tiny(store, folder, name)
    return model, _add_variant(store, model)


def _add_variant(store: ModelStore, model: StoredModel, data: bytes = b"GGUF" + b"q" * 5000) -> StoredModel:
    with store.scratch(model) as scratch:
        (scratch / "model.gguf").write_bytes(data)
        return store.add_variant(model, "q8_0", scratch, format="gguf", weights="model.gguf", recipe={"by": "test"})


def _content(store: ModelStore, ref: str) -> dict[str, bytes]:
    with store.reading(ref) as files:
        return {str(p.relative_to(files.directory)): p.read_bytes() for p in files.directory.rglob("*") if p.is_file()}


def _disk(home: Path) -> bytes:
    return b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file() and not p.is_symlink())


def test_a_model_is_sealed_with_its_variants_and_opens_to_the_same_bytes(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    _with_variant(store, tmp_path)
    before = {ref: _content(store, ref) for ref in ("tiny", "tiny@q8_0")}
    weights = before["tiny"]["model.safetensors"]
    assert weights[1000:1032] in _disk(tmp_path / "home")
    report = store.seal("tiny")
    assert report.models == ("tiny", "tiny@q8_0")
    assert {m.reference for m in store.list() if m.sealed} == {"tiny", "tiny@q8_0"}
    assert {ref: _content(store, ref) for ref in before} == before
    for needle in (weights[1000:1032], b"q" * 100, before["tiny"]["tokenizer.json"][:64]):
        assert needle not in _disk(tmp_path / "home")
    assert store.seal("tiny").models == ()


def test_unsealing_gives_back_the_very_same_digests(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path, keeper)
    model, variant = _with_variant(store, tmp_path / "in")
    store.seal("tiny")
    assert store.resolve("tiny").digest != model.digest
    assert store.resolve("tiny@q8_0").parent == store.resolve("tiny").digest
    assert store.unseal("tiny").models == ("tiny", "tiny@q8_0")
    assert (store.resolve("tiny"), store.resolve("tiny@q8_0")) == (model, variant)
    assert store.unseal("tiny").models == ()
    assert list((tmp_path / "store/envelopes").iterdir()) == []


def test_what_is_attached_stays_attached(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    _, variant = _with_variant(store, tmp_path)
    store.attach(variant, "evaluation", {"report.json": b"{}"})
    for change in (store.seal, store.unseal):
        change("tiny")
        [found] = store.attachments(store.resolve("tiny@q8_0"))
        assert (found.kind, store.read_attachment(found, "report.json")) == ("evaluation", b"{}")
        assert found.subject == store.resolve("tiny@q8_0").digest
        assert store.attachments(store.resolve("tiny")) == ()
    store.gc()
    assert store.verify().ok


def test_a_variant_made_of_a_sealed_model_is_sealed_and_never_clear_on_the_disk(
    tmp_path: Path, keeper: MemoryKeeper
) -> None:
    store = _store(tmp_path / "home", keeper)
    model = pull_tiny(store, tmp_path)
    store.seal("tiny")
    with store.scratch(store.resolve("tiny")) as scratch:
        assert not scratch.is_relative_to(tmp_path)
    variant = _add_variant(store, store.resolve("tiny"))
    assert variant.sealed is not None
    assert variant.parent == store.resolve("tiny").digest
    content = _content(store, "tiny@q8_0")
    assert content["model.gguf"] == b"GGUF" + b"q" * 5000
    assert content["tokenizer.json"] == _content(store, "tiny")["tokenizer.json"]
    assert b"q" * 100 not in _disk(tmp_path / "home")
    store.unseal("tiny")
    assert store.resolve("tiny@q8_0").parent == model.digest
    assert store.verify().ok


def test_clear_bytes_that_another_model_needs_stay(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    pull_tiny(store, tmp_path, "tiny")
    other = store.pull(str(tmp_path / "tiny"), name="other")
    store.seal("tiny")
    assert store.resolve("other") == other
    assert store.verify().ok
    assert _content(store, "other") == _content(store, "tiny")


def test_older_versions_under_the_name_go_too(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    old = pull_tiny(store, tmp_path)
    readme = tmp_path / "tiny" / "README.md"
    readme.write_text(readme.read_text() + "a later version")
    store.pull(str(tmp_path / "tiny"), name="tiny")
    store.seal("tiny")
    with pytest.raises(UnknownModel):
        store.resolve(f"tiny@{old.digest}")
    assert not blob_of(store, old, "README.md").exists()


@pytest.mark.parametrize("ref", ["tiny@q8_0", "tiny@sha256:" + "0" * 64])
def test_a_variant_alone_is_not_sealed(tmp_path: Path, keeper: MemoryKeeper, ref: str) -> None:
    store = _store(tmp_path, keeper)
    _with_variant(store, tmp_path / "in")
    for act in (store.seal, store.unseal):
        with pytest.raises(InvalidRequest, match="with all its variants"):
            act(ref)


def test_without_the_key_it_is_named_and_where_it_was_looked_for(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    store = _store(tmp_path / "home", KeyringKeeper(ring, ManualClock()))
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    key_id = json.loads(ring.read_text())["active"]
    ring.unlink()
    stranger = KeyringKeeper(tmp_path / "other", ManualClock())
    stranger.renew()
    for keeper, words in (
        (None, "no key source is configured"),
        (KeyringKeeper(ring, ManualClock()), "No such file"),
        (stranger, f"{key_id}.* is not in the keyring {tmp_path}/other"),
    ):
        with pytest.raises(SealingKeyMissing, match=words):
            _store(tmp_path / "home", keeper).open("tiny")
    assert _store(tmp_path / "home", None).list()[0].sealed is not None


def test_a_lost_envelope_says_so(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path, keeper)
    pull_tiny(store, tmp_path / "in")
    store.seal("tiny")
    for path in (tmp_path / "store/envelopes").iterdir():
        path.unlink()
    with pytest.raises(SealingKeyMissing, match=r"the data key .* is lost"):
        _store(tmp_path, keeper).open("tiny")


def test_verification_needs_no_key_and_goes_deeper_with_one(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    blind = _store(tmp_path / "home", None).verify()
    assert blind.ok
    assert blind.closed == ("tiny",)
    assert store.verify().closed == ()
    alter(blob_of(store, store.resolve("tiny"), "config.json"), 80, keep_times=True)
    for one in (store, _store(tmp_path / "home", None)):
        [bad] = one.verify().bad
        assert bad.path == "config.json"


def _repoint(store: ModelStore, edit: dict[str, str], *, swap: tuple[str, str] | None = None) -> None:
    """Write another manifest for `tiny` and name it in the index, as somebody with the disk in hand can."""
    model = store.resolve("tiny")
    document = json.loads((store.root / "blobs/sha256" / model.digest[7:]).read_bytes())
    document["annotations"].update(edit)
    if swap:
        layers = {layer["annotations"]["org.cncf.model.filepath"]: layer for layer in document["layers"]}
        one, other = (layers[path] for path in swap)
        for field in ("digest", "size"):
            one[field], other[field] = other[field], one[field]
    data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    from ashore.kit.store.layout import Layout

    layout = Layout(store.root)
    digest = layout.add_bytes(data)
    layout.write_index(tuple(dataclasses.replace(e, digest=digest, num_bytes=len(data)) for e in layout.read_index()))


@pytest.mark.parametrize(
    ("edit", "swap"),
    [
        ({"ashore.weights": "config.json"}, None),
        ({"ashore.source": "hf:somebody/else"}, None),
        ({"ashore.recipe": '{"precision":"int4"}'}, None),
        ({"ashore.sealed.sheet": "sealed:1:00:AAAA"}, None),
    ],
)
def test_a_manifest_that_was_changed_does_not_open(
    tmp_path: Path, keeper: MemoryKeeper, edit: dict[str, str], swap: tuple[str, str] | None
) -> None:
    store = _store(tmp_path / "home", keeper)
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    _repoint(store, edit, swap=swap)
    with pytest.raises(CorruptBlob, match=r"was altered|is not the one that was sealed"):
        _store(tmp_path / "home", keeper).open("tiny")


def test_files_of_one_model_that_were_exchanged_do_not_open(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    _repoint(store, {}, swap=("tokenizer.json", "tokenizer_config.json"))
    with pytest.raises(CorruptBlob, match="files were swapped"):
        _content(_store(tmp_path / "home", keeper), "tiny")
    assert "swapped" in _store(tmp_path / "home", keeper).verify().bad[0].problem


def test_blobs_of_two_models_that_were_exchanged_are_found(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    for number, name in enumerate(("tiny", "other")):
        pull_tiny(store, tmp_path, name, seed=number)
        store.seal(name)
    mine, other = (blob_of(store, store.resolve(n), "model.safetensors") for n in ("tiny", "other"))
    aside = mine.with_name("aside")
    mine.rename(aside)
    other.rename(mine)
    aside.rename(other)
    with pytest.raises(CorruptBlob, match=r"model.safetensors of tiny"):
        store.open("tiny")
    for path in (tmp_path / "home/store/facts").iterdir():  # and with the facts gone, by the full hash
        path.unlink()
    with pytest.raises(CorruptBlob, match="was altered"):
        _store(tmp_path / "home", keeper).open("tiny")


def test_a_sealed_model_travels_as_a_tar_with_its_envelope(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "a", keeper)
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    tar = store.export("tiny", tmp_path / "tiny.tar")
    assert _content(store, "tiny")["model.safetensors"][1000:1032] not in tar.read_bytes()
    there = _store(tmp_path / "b", keeper)
    [model] = there.import_tar(tar)
    assert model.digest == store.resolve("tiny").digest
    assert _content(there, "tiny") == _content(store, "tiny")
    there.import_tar(tar)
    assert there.verify().ok


def test_collecting_garbage_takes_the_key_with_the_last_model(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path, keeper)
    pull_tiny(store, tmp_path / "in")
    store.seal("tiny")
    store.gc()
    assert len(list((tmp_path / "store/envelopes").iterdir())) == 1
    store.remove("tiny")
    store.gc()
    assert list((tmp_path / "store/envelopes").iterdir()) == []
    assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def test_no_key_is_deleted_while_a_manifest_cannot_be_read(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path, keeper)
    pull_tiny(store, tmp_path / "in")
    store.seal("tiny")
    manifest = store.root / "blobs/sha256" / store.resolve("tiny").digest[7:]
    whole = manifest.read_bytes()
    manifest.chmod(0o644)
    manifest.write_bytes(whole.replace(b"ashore.sealed.key", b"ashore.sealed.kay"))
    store.gc()
    manifest.write_bytes(whole)
    assert _content(_store(tmp_path, keeper), "tiny")


def test_rotation_rewraps_and_rewrites_no_weights(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    store = _store(tmp_path / "home", KeyringKeeper(ring, ManualClock()))
    pull_tiny(store, tmp_path)
    store.seal("tiny")
    before = {p.name: p.stat().st_mtime_ns for p in (store.root / "blobs/sha256").iterdir()}
    report = store.rekey(new_key=True)
    assert (len(report.rewrapped), len(report.current)) == (1, 0)
    assert {p.name: p.stat().st_mtime_ns for p in (store.root / "blobs/sha256").iterdir()} == before
    document = json.loads(ring.read_text())
    document["keys"] = document["keys"][1:]  # the old key is destroyed
    ring.write_text(json.dumps(document))
    assert _content(_store(tmp_path / "home", KeyringKeeper(ring, ManualClock())), "tiny")


def test_a_model_that_changed_meanwhile_is_not_sealed_over(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    pull_tiny(store, tmp_path)

    def meddle(stage: str, done: int, total: int) -> None:
        if done == total:
            readme = tmp_path / "tiny" / "README.md"
            readme.write_text(readme.read_text() + "x")
            _store(tmp_path / "home", keeper).pull(str(tmp_path / "tiny"), name="tiny")

    with pytest.raises(Conflict, match="changed in the meantime"):
        store.seal("tiny", progress=meddle)
    assert store.verify().ok
    assert store.resolve("tiny").sealed is None


def test_rotten_bytes_are_not_sealed(tmp_path: Path, keeper: MemoryKeeper) -> None:
    store = _store(tmp_path / "home", keeper)
    model = pull_tiny(store, tmp_path)
    alter(blob_of(store, model, "model.safetensors"), 5000, keep_times=True)
    with pytest.raises(CorruptBlob, match="was altered, so it was not sealed"):
        store.seal("tiny")
    assert store.resolve("tiny") == model


def test_what_is_done_is_told_to_the_record(tmp_path: Path, keeper: MemoryKeeper) -> None:
    recorder = MemoryRecorder()
    store = _store(tmp_path, keeper, recorder)
    pull_tiny(store, tmp_path / "in")
    store.seal("tiny")
    store.open("tiny")
    store.open("tiny")
    store.rekey()
    store.unseal("tiny")
    with pytest.raises(UnknownModel):
        store.seal("absent")
    assert [(a.action, a.resource, a.outcome) for a in recorder.acts] == [
        ("model:seal", "model/tiny", "done"),
        ("model:open", "model/tiny", "done"),
        ("model:rekey", "model/*", "done"),
        ("model:unseal", "model/tiny", "done"),
        ("model:seal", "model/absent", "failed"),
    ]


CRASHED = [("seal", "kill"), ("seal", "full"), ("unseal", "kill"), ("rekey", "kill"), ("rekey", "full")]


@pytest.mark.parametrize(("verb", "how"), CRASHED)
def test_nothing_is_lost_when_it_is_killed_or_finds_the_disk_full(tmp_path: Path, verb: str, how: str) -> None:
    _crash(tmp_path, verb, how, stride=1 if verb == "rekey" else 7)


@pytest.mark.full
@pytest.mark.parametrize(("verb", "how"), CRASHED)
def test_nothing_is_lost_at_whichever_step_it_is_killed_or_finds_the_disk_full(
    tmp_path: Path, verb: str, how: str
) -> None:
    _crash(tmp_path, verb, how, stride=1)


def _crash(tmp_path: Path, verb: str, how: str, *, stride: int) -> None:
    assert run_crashes(CRASHES, verb, how, str(stride), elsewhere=tmp_path) > (5 if verb == "rekey" else 50)
