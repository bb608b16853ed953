"""Models in a bucket of a real S3 server: SeaweedFS from its wheel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from memory_keeper import MemoryKeeper
from s3_server import KEYS
from store_making import make_store, pull_tiny
from tiny_models import make_tiny_model

from ashore.core.clock import ManualClock
from ashore.core.errors import CorruptBlob, SealingKeyMissing, SourceUnreachable, UnknownModel
from ashore.kit.store import ManifestRemote, ModelStore, open_source, silent
from ashore.kit.store.manifest import descriptors


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    return s3_url


def test_push_and_pull_through_a_bucket(tmp_path: Path, s3: str) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path)
    assert here.push("tiny", "s3://models/team/tiny") == model.digest
    sent: list[str] = []
    here.push("tiny", "s3://models/team/tiny", progress=lambda stage, done, total: sent.append(stage))
    assert sent == []
    arrived = there.pull("s3://models/team/tiny")
    assert arrived.digest == model.digest
    assert there.open("tiny", verify="full")


def test_what_is_attached_goes_along(tmp_path: Path, s3: str) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = here.pull(str(make_tiny_model(tmp_path / "tiny", "qwen2")), name="tiny")
    target = "s3://models/team/attached"
    for n in range(2):
        here.attach(model, "evaluation", {"report.json": b"%d" % n})
        here.push("tiny", target)
    for _ in range(2):
        got = there.pull(target, name="it")
        found = there.attachments(got, "evaluation")
        assert {there.read_attachment(one, "report.json") for one in found} == {b"0", b"1"}
    assert got.digest == model.digest


def test_a_sealed_model_travels_with_its_envelope_and_arrives_under_the_key_of_now(tmp_path: Path, s3: str) -> None:
    keeper = MemoryKeeper()
    here, there = (
        ModelStore(tmp_path / name, tmp_path / f"run-{name}", ManualClock(), keeper=lambda: keeper) for name in "ab"
    )
    pull_tiny(here, tmp_path)
    here.seal("tiny")
    digest = here.push("tiny", "s3://models/team/sealed")
    assert there.pull("s3://models/team/sealed", name="first").digest == digest
    with there.reading("first") as mine, here.reading("tiny") as theirs:
        for path in theirs.directory.rglob("*.*"):
            assert (mine.directory / path.name).read_bytes() == path.read_bytes()

    before = keeper.wrap(bytes(32), bound_to="x").key_id
    here.rekey(new_key=True)
    here.push("tiny", "s3://models/team/sealed")
    late = ModelStore(tmp_path / "c", tmp_path / "run-c", ManualClock(), keeper=lambda: keeper)
    late.pull("s3://models/team/sealed", name="tiny")
    [envelope] = (tmp_path / "c/envelopes").iterdir()
    assert before not in envelope.read_text()
    assert late.verify().ok


def test_a_sealed_model_without_its_envelope_says_so(tmp_path: Path, s3: str) -> None:
    keeper = MemoryKeeper()
    here = ModelStore(tmp_path / "a", tmp_path / "run", ManualClock(), keeper=lambda: keeper)
    pull_tiny(here, tmp_path)
    here.seal("tiny")
    model = here.resolve("tiny")
    assert model.sealed is not None
    remote = open_source("s3://models/team/bare")
    assert isinstance(remote, ManifestRemote)
    data = (here.root / "blobs/sha256" / model.digest[7:]).read_bytes()
    for blob in descriptors(data):
        remote.send_blob(blob, here.root / "blobs/sha256" / blob.digest[7:], silent)
    remote.write_manifest(data, name="tiny")
    with pytest.raises(SealingKeyMissing, match=f"the envelope of its data key {model.sealed.key_id}"):
        make_store(tmp_path / "b").pull("s3://models/team/bare")


def test_an_interrupted_pull_goes_on(tmp_path: Path, s3: str) -> None:
    here, there = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    model = pull_tiny(here, tmp_path, "again", seed=3)
    here.push("again", "s3://models/again")
    weights = next(f for f in model.files if f.path == "model.safetensors")
    part = tmp_path / "b/store/staging"
    key = _staging_key(here, model.digest)
    (part / key).mkdir(parents=True)
    blob = tmp_path / "a/store/blobs/sha256" / weights.digest[7:]
    (part / key / f"{weights.digest[7:]}.part").write_bytes(blob.read_bytes()[:50_000])
    seen: list[int] = []

    def watch(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage == "download model.safetensors":
            seen.append(done_bytes)

    there.pull("s3://models/again", progress=watch)
    assert seen[0] > 50_000
    assert there.verify().ok


def _staging_key(store: object, digest: str) -> str:
    import hashlib

    return hashlib.sha256(f"s3://models/again#{digest}".encode()).hexdigest()[:24]


def test_plain_files_in_a_bucket(tmp_path: Path, s3: str) -> None:
    import obstore
    from obstore.store import S3Store

    bucket = S3Store("models", endpoint=s3, client_options={"allow_http": True})
    folder = make_tiny_model(tmp_path / "tiny", "qwen2")
    for path in folder.iterdir():
        obstore.put(bucket, f"plain/qwen/{path.name}", path.read_bytes())
    model = make_store(tmp_path / "home").pull("s3://models/plain/qwen/")
    assert (model.name, model.format) == ("qwen", "safetensors")


def test_an_altered_object_is_refused(tmp_path: Path, s3: str) -> None:
    import obstore
    from obstore.store import S3Store

    here = make_store(tmp_path / "a")
    model = pull_tiny(here, tmp_path, "bad", seed=4)
    here.push("bad", "s3://models/bad")
    weights = next(f for f in model.files if f.path == "model.safetensors")
    bucket = S3Store("models", endpoint=s3, client_options={"allow_http": True})
    obstore.put(bucket, f"bad/blobs/sha256/{weights.digest[7:]}", b"x" * weights.num_bytes)
    with pytest.raises(CorruptBlob):
        make_store(tmp_path / "b").pull("s3://models/bad")


def test_what_is_not_there(tmp_path: Path, s3: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        make_store(tmp_path).pull("s3://models/nothing")
    assert "slash" in caught.value.hint


def test_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1") as caught:
        make_store(tmp_path).pull("s3://models/tiny")
    assert "AWS_ENDPOINT_URL" in caught.value.hint
