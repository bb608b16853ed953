"""Files from outside, broken or made to break a reader: each ends in one clear error, or is read; never in a traceback.

Small real files, changed by a seeded chance: bytes flipped, cut, repeated; values of JSON exchanged for odd ones.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import shutil
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from odd_inputs import DEEP, odd_bytes, odd_document, one_clear_error
from store_making import make_store, pull_tiny
from tiny_models import make_small_gguf, make_tiny_model

from ashore.core.errors import AshoreError, CorruptBlob, InvalidRequest, UnsupportedModel
from ashore.data.engines.openvino.decodergraph import Bits, build_decoder
from ashore.data.engines.openvino.peft import read_adapter
from ashore.data.text import TextModel
from ashore.kit.store import convert_safetensors_to_gguf
from ashore.kit.store.archive import unpack_archive
from ashore.kit.store.conversion.ggufmeta import MAX_ENTRIES, GgufMeta, read_gguf_meta
from ashore.kit.store.conversion.safetensorsmeta import read_header
from ashore.kit.store.conversion.vocabulary import tokenizer_from_gguf
from ashore.kit.store.layout import IndexEntry, check_paths
from ashore.kit.store.manifest import hash_of, parse_manifest
from ashore.kit.store.prepare import prepare
from ashore.kit.store.progress import silent

FOUR_TOKENS = b"tokens\x09\0\0\0\x08\0\0\0\x04\0\0\0\0\0\0\0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("hostile") / "tiny", "llama", layers=1)


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_small_gguf(tmp_path_factory.mktemp("hostile") / "small.gguf").read_bytes()


def prepared(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "made", to_f16=False, recommended={}, progress=silent)


def test_gguf_files(small_gguf: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(small_gguf)
    prepared(path, tmp_path)  # as it is, it is read
    for seed in range(250):
        path.write_bytes(odd_bytes(small_gguf, random.Random(seed)))
        with one_clear_error():
            prepared(path, tmp_path)


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe", "deepseek_v3"])
def test_converting_what_does_not_fit_together(kind: str, tmp_path: Path) -> None:
    """A model is checked when it is pulled, and may still say what no graph can be built of."""
    folder = make_tiny_model(tmp_path / "hf", kind)
    config, weights = (folder / "config.json").read_text(), (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    names = sorted(name for name in header if name != "__metadata__")
    for seed in range(24):
        rng = random.Random(seed)
        changed = copy.deepcopy(header)
        one = rng.choice(names)
        if seed % 3 == 1:
            changed[one]["shape"] = changed[one]["shape"][::-1] if rng.randrange(2) else [1, *changed[one]["shape"]]
        elif seed % 3 == 2:
            changed[rng.choice(("model.layers.x.mlp.up_proj.weight", "model.layers", "../../x"))] = changed.pop(one)
        text = json.dumps(changed).encode()
        (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + weights[8 + size :])
        (folder / "config.json").write_text(config if seed % 3 else odd_document(json.loads(config), rng))
        with one_clear_error():
            convert_safetensors_to_gguf(folder, tmp_path / "model.gguf")
            if kind == "llama":
                build_decoder(tmp_path / "model.gguf", Bits(8), Bits(8))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"context_length\x04\0\0\0\x40\0\0\0", b"context_length\x04\0\0\0\0\0\0\0", UnsupportedModel),
        (b"head_count\x04\0\0\0\x02\0\0\0", b"head_count\x04\0\0\0\0\0\0\0", UnsupportedModel),
        (b"{{ messages }}", b"{{ \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8 }}", CorruptBlob),
        (b"llama", b"\xff\xff\xff\xff\xff", CorruptBlob),
        (
            FOUR_TOKENS,
            b"tokens\x09\0\0\0\0\0\0\0" + b"\xff" * 7 + b"\x7f",
            CorruptBlob,
        ),
        (FOUR_TOKENS, b"tokens\x09\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0", CorruptBlob),
    ],
)
def test_aimed_gguf_files(small_gguf: bytes, tmp_path: Path, old: bytes, new: bytes, error: type[AshoreError]) -> None:
    assert old in small_gguf
    (tmp_path / "x.gguf").write_bytes(small_gguf.replace(old, new))
    with pytest.raises(error):
        prepared(tmp_path / "x.gguf", tmp_path)


def test_lists_in_lists_of_a_gguf_file(small_gguf: bytes, tmp_path: Path) -> None:
    inner = struct.pack("<IQ", 9, 1) * 50_000
    old = FOUR_TOKENS
    (tmp_path / "x.gguf").write_bytes(small_gguf.replace(old, b"tokens\x09\0\0\0" + inner))
    with pytest.raises(CorruptBlob, match="a list of ARRAY"):
        prepared(tmp_path / "x.gguf", tmp_path)


def gguf(*fields: bytes) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(fields)) + b"".join(fields)


def gguf_field(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


def test_a_long_list_of_a_gguf_file_takes_little_memory(tmp_path: Path) -> None:
    texts = struct.pack("<IQ", 8, 50_000) + struct.pack("<Q1s", 1, b"a") * 50_000
    (tmp_path / "x.gguf").write_bytes(gguf(gguf_field("tokens", 9, texts)))
    tracemalloc.start()
    try:
        assert read_gguf_meta(tmp_path / "x.gguf").values["tokens"] == ["a"] * 50_000
        assert tracemalloc.get_traced_memory()[1] < 500 * 50_000
    finally:
        tracemalloc.stop()


def test_counts_of_a_gguf_file_are_bounded(tmp_path: Path) -> None:
    many = [gguf_field(f"k{number}", 0, b"\1") for number in range(5_000)]
    (tmp_path / "x.gguf").write_bytes(gguf(*many))
    with pytest.raises(CorruptBlob, match="5000 fields"):
        read_gguf_meta(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 100_000, 0))
    with pytest.raises(CorruptBlob, match="100000 tensors"):
        read_gguf_meta(tmp_path / "x.gguf")


def test_a_token_too_long_to_rebuild_its_merges_is_refused() -> None:
    words = {"general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["a" * 5_000]}
    with pytest.raises(UnsupportedModel, match="5000 characters"):
        tokenizer_from_gguf(GgufMeta({**words, "tokenizer.ggml.scores": [0.0]}, ()))


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors"])
def test_a_pipe_in_a_folder_is_not_waited_for(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "model" / name)
    with pytest.raises(UnsupportedModel, match="not a regular file"):
        prepared(tmp_path / "model", tmp_path)


def safetensors(header: str, data: bytes = b"\0" * 16) -> bytes:
    return struct.pack("<Q", len(header.encode())) + header.encode() + data


def test_safetensors_files(folder: Path, tmp_path: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    path = tmp_path / "x.safetensors"
    header = json.loads(data[8:length])
    for seed in range(150):
        rng = random.Random(seed)
        whole = odd_bytes(data[:length], rng) + data[length:] if seed % 2 else safetensors(odd_document(header, rng))
        path.write_bytes(whole)
        with one_clear_error():
            read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        '{"a":' * 100_000,
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[200],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":' + json.dumps([1] * 1000) + ',"data_offsets":[0,4]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,' + "9" * 5000 + "]}}",
        '{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}',
        "[]",
        '"x"',
    ],
)
def test_aimed_safetensors_headers(header: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors(header))
    with pytest.raises(CorruptBlob):
        read_header(path)
    for length in (0, 1, 1 << 30, 1 << 63, (1 << 64) - 1):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(CorruptBlob):
            read_header(path)


JSON_FILES = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")


def test_lists_of_a_gguf_file_are_bounded_in_sum(tmp_path: Path) -> None:
    half = struct.pack("<IQ", 8, MAX_ENTRIES // 2 + 1)
    with (tmp_path / "x.gguf").open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 2))
        for name in ("a", "b"):
            file.write(gguf_field(name, 9, half))
            file.seek(8 * (MAX_ENTRIES // 2 + 1), os.SEEK_CUR)  # texts of no characters, in a hole of the file
        file.write(b"\0" * 64)
    with pytest.raises(CorruptBlob, match=f"{MAX_ENTRIES + 2} entries in lists"):
        read_gguf_meta(tmp_path / "x.gguf")


def test_many_long_tokens_are_refused() -> None:
    tokens = [f"{number:05}" + "a" * 1_000 for number in range(1_000)]
    words = {"general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens}
    with pytest.raises(UnsupportedModel, match="up to 1005 characters"):
        tokenizer_from_gguf(GgufMeta({**words, "tokenizer.ggml.scores": [0.0] * 1_000}, ()))


def test_a_header_of_empty_lists_takes_little_memory(tmp_path: Path) -> None:
    header = '{"__metadata__":[' + "[]," * 300_000 + '[]],"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    (tmp_path / "x.safetensors").write_bytes(safetensors(header))
    tracemalloc.start()
    try:
        assert list(read_header(tmp_path / "x.safetensors")) == ["a"]
        assert tracemalloc.get_traced_memory()[1] < 3 * len(header)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", [*JSON_FILES, "chat_template.jinja", "model.safetensors.index.json", "modules.json"])
def test_text_that_is_far_too_large_is_not_read(folder: Path, tmp_path: Path, name: str) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(folder, raw)
    if name == "chat_template.jinja":
        (raw / name).touch()
    if name == "modules.json":
        config = json.loads((raw / "config.json").read_text())
        (raw / "config.json").write_text(json.dumps(config | {"model_type": "qwen3"}))
    with (raw / name).open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsupportedModel, match=r"has 1 TiB; expected at most 64 MiB"):
        prepared(raw, tmp_path)


def test_a_long_model_card_is_read_to_its_licence(folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(folder, raw)
    with (raw / "README.md").open("wb") as file:
        file.write(b"---\nlicense: mit\n---\n")
        file.truncate(1 << 40)
    assert prepare(raw, tmp_path / "made", to_f16=False, recommended={}, progress=silent).licence == "mit"


def test_a_folders_json(folder: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(folder, raw)
    prepared(raw, tmp_path)
    for name in JSON_FILES:
        kept = (folder / name).read_text()
        for seed in range(60):
            (raw / name).write_text(odd_document(json.loads(kept), random.Random(seed)), "utf-8", "surrogatepass")
            with one_clear_error():
                prepared(raw, tmp_path)
        for broken in (b"", b"{", b"\xff\xfe", DEEP.encode(), b"[]", b"null", b'{"model_type":"llama"}'):
            (raw / name).write_bytes(broken)
            with one_clear_error():
                prepared(raw, tmp_path)
        (raw / name).write_text(kept)


def test_what_a_tokenizer_reads(folder: Path, tmp_path: Path) -> None:
    """The files of a model that came by import are read where it is served, and no pull looked at them."""
    prepared(folder, tmp_path)
    made = tmp_path / "made"
    shutil.copy(folder / "tokenizer.json", made)
    TextModel.load(made)
    for name in ("tokenizer.json", "generation.json"):
        kept = (made / name).read_text()
        for seed in range(60):
            (made / name).write_text(odd_document(json.loads(kept), random.Random(seed)), "utf-8", "surrogatepass")
            with one_clear_error():
                TextModel.load(made)
        (made / name).write_text(kept)
    for template in (b"\xff", b"{% for %}", b"{{" * 20_000, b"{% if a %}" * 2_000):
        (made / "chat_template.jinja").write_bytes(template)
        with one_clear_error():
            TextModel.load(made)


@pytest.mark.parametrize("token_id", [-1, 1 << 22, 1 << 40])
def test_token_ids_far_above_all_others(folder: Path, tmp_path: Path, token_id: int) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    vocab = spec["model"]["vocab"]
    vocab[next(iter(vocab))] = token_id
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(UnsupportedModel, match=f"token ids .*{token_id}.*expected 0 to 4194303"):
        TextModel.load(tmp_path)


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("exported")
    store = make_store(home)
    store.pull(str(folder), name="tiny")
    return store.export("tiny", home / "tiny.tar")


def blobs_of(tar: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    """Return index, manifest and blobs by digest."""
    with tarfile.open(tar) as opened:
        members = {m.name: opened.extractfile(m).read() for m in opened if m.isreg()}  # type: ignore[union-attr]
    index = json.loads(members["index.json"])
    blobs = {f"sha256:{n.rpartition('/')[2]}": d for n, d in members.items() if n.startswith("blobs/")}
    return index, json.loads(blobs.pop(index["manifests"][0]["digest"])), blobs


def tar_of(target: Path, manifest: Any, index: dict[str, Any], blobs: dict[str, bytes], raw: str = "") -> Path:
    """Write a tar in which every hash is right, whatever the manifest says."""
    data = (raw or json.dumps(manifest)).encode("utf-8", "surrogatepass")
    index = copy.deepcopy(index)
    index["manifests"][0] |= {"digest": hash_of(data), "size": len(data)}
    with tarfile.open(target, "w") as out:
        files = {"oci-layout": b"{}", "index.json": json.dumps(index).encode()}
        files |= {f"blobs/sha256/{d[7:]}": b for d, b in ({**blobs, hash_of(data): data}).items()}
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return target


def test_manifests(exported: Path) -> None:
    _, manifest, _ = blobs_of(exported)
    shape = json.loads(manifest["annotations"]["ashore.shape"])
    for seed in range(200):
        rng = random.Random(seed)
        changed = copy.deepcopy(manifest)
        if seed % 2:
            changed["annotations"]["ashore.shape"] = odd_document(shape, rng)
        data = odd_document(changed, rng).encode("utf-8", "surrogatepass")
        entry = IndexEntry(digest=hash_of(data), num_bytes=len(data), name="x", variant="", tagged=True, created_s=0)
        with one_clear_error():
            model = parse_manifest(data, entry)
            assert model.weights in {f.path for f in model.files}
            check_paths(f.path for f in model.files)
            assert all(type(n) is int for n in (model.shape.context_tokens, model.shape.head_dim))


def with_path(manifest: dict[str, Any], path: str) -> None:
    manifest["layers"][0]["annotations"]["org.cncf.model.filepath"] = path


Change = Callable[[dict[str, Any]], None]
HOSTILE: dict[str, Change] = {
    "weights outside": lambda m: m["annotations"].update({"ashore.weights": "../../../../etc/passwd"}),
    "weights absolute": lambda m: m["annotations"].update({"ashore.weights": "/etc/passwd"}),
    "weights of another name": lambda m: m["annotations"].update({"ashore.weights": "other.safetensors"}),
    "weights a list": lambda m: m["annotations"].update({"ashore.weights": ["model.safetensors"]}),
    "variant a path": lambda m: m["annotations"].update({"ashore.variant": "../x"}),
    "sealing key a path": lambda m: m["annotations"].update(
        {"ashore.sealed.key": "../../x", "ashore.sealed.sheet": "x"}
    ),
    "parent a path": lambda m: m["annotations"].update({"ashore.parent": "../../x"}),
    "shape deep": lambda m: m["annotations"].update({"ashore.shape": DEEP}),
    "shape without context": lambda m: m["annotations"].update(
        {"ashore.shape": m["annotations"]["ashore.shape"].replace('"context_tokens": ', '"context_tokens": 0')}
    ),
    "digest a path": lambda m: m["layers"][0].update({"digest": "sha256:../../../../etc/passwd"}),
    "config digest a path": lambda m: m["config"].update({"digest": "../../index.json"}),
    "path above": lambda m: with_path(m, "../x"),
    "path absolute": lambda m: with_path(m, "/etc/x"),
    "path with NUL": lambda m: with_path(m, "a\0b"),
    "path with a line end": lambda m: with_path(m, "a\nb"),
    "path of 5,000 characters": lambda m: with_path(m, "x" * 5000),
    "path of 5,000 folders": lambda m: with_path(m, "a/" * 5000 + "b"),
    "path half a character": lambda m: with_path(m, "\ud800"),
    "path below a file": lambda m: with_path(m, "tokenizer.json/x"),
    "path twice": lambda m: with_path(m, "tokenizer.json"),
    "path twice but for case": lambda m: with_path(m, "Tokenizer.json"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_add_nothing(name: str, exported: Path, tmp_path: Path) -> None:
    index, manifest, blobs = blobs_of(exported)
    HOSTILE[name](manifest)
    store = make_store(tmp_path / "home")
    with pytest.raises((CorruptBlob, UnsupportedModel, InvalidRequest)) as caught:
        store.import_tar(tar_of(tmp_path / "x.tar", manifest, index, blobs))
    assert caught.value.message.isprintable() and len(caught.value.message) < 400
    assert store.list() == () and not os.listdir(store.root / "blobs/sha256")


def test_archives_by_chance(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    small = tar_of(tmp_path / "small.tar", *(lambda i, m, b: (m, i, b))(*blobs_of(exported)))
    for seed in range(60):
        rng = random.Random(seed)
        data = bytearray(whole[: 8 * 512])
        for _ in range(3):
            data[rng.randrange(512) + 512 * rng.randrange(8)] = rng.choice((0, 0xFF, 0x30, 0x37, ord("x"), ord("L")))
        small.write_bytes(bytes(data) + whole[8 * 512 :] if seed % 2 else odd_bytes(whole[: 6 * 512], rng))
        with one_clear_error():
            unpack_archive(small, tmp_path / f"scratch-{seed}", silent)
        shutil.rmtree(tmp_path / f"scratch-{seed}")


def test_an_archive_with_sparse_members(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    for headers in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "index.json", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.map": "0,x"},
        {"GNU.sparse.size": "x", "GNU.sparse.numblocks": "1", "GNU.sparse.offset": "y"},
        {"size": "9" * 400},
        {"mtime": "nan"},
    ):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
            member = tarfile.TarInfo("index.json")
            member.size = 4
            member.pax_headers = headers
            out.addfile(member, io.BytesIO(b"evil"))
        with pytest.raises(CorruptBlob):
            unpack_archive(path, tmp_path / "scratch", silent)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_archive_whose_header_fills_memory(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, 1 << 36
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        file.truncate(1 << 37)
    with pytest.raises(CorruptBlob, match="a header or member of 68,719,476,736 bytes"):
        unpack_archive(tmp_path / "x.tar", tmp_path / "out", silent)


def test_a_manifest_with_text_that_is_far_too_large(exported: Path) -> None:
    index, manifest, _ = blobs_of(exported)
    next(one for one in manifest["layers"] if "tokenizer.json" in str(one))["size"] = 1 << 40
    entry = index["manifests"][0]
    with pytest.raises(UnsupportedModel, match=r"tokenizer.json has 1 TiB"):
        parse_manifest(
            json.dumps(manifest).encode(),
            IndexEntry(digest=entry["digest"], num_bytes=1, name="tiny", variant="", tagged=True, created_s=0),
        )


def test_an_index_that_names_weights_elsewhere(tmp_path: Path) -> None:
    sharded = make_tiny_model(tmp_path / "sharded", "llama", shards=2)
    index = sharded / "model.safetensors.index.json"
    whole = index.read_text()
    names = json.loads(whole)["weight_map"]
    for place in ("../../etc/x.safetensors", "/etc/x.safetensors", "other.safetensors", ["x"], None, 7):
        index.write_text(json.dumps({"weight_map": {**names, "evil": place}}))
        with pytest.raises(CorruptBlob, match="index"):
            prepared(sharded, tmp_path)
    index.write_text(whole)
    store = make_store(tmp_path / "a")
    store.pull(str(sharded), name="tiny")
    listed, manifest, blobs = blobs_of(store.export("tiny", tmp_path / "tiny.tar"))
    evil = json.dumps({"weight_map": {**names, "evil": "../../../etc/x.safetensors"}}).encode()
    for layer in manifest["layers"]:
        if layer["annotations"]["org.cncf.model.filepath"] == index.name:
            blobs.pop(layer["digest"])
            layer |= {"digest": hash_of(evil), "size": len(evil)}
            blobs[layer["digest"]] = evil
    other = make_store(tmp_path / "b")
    other.import_tar(tar_of(tmp_path / "x.tar", manifest, listed, blobs))
    with pytest.raises(CorruptBlob, match="not one of the model's files"):
        other.open("tiny")


def test_adapters(tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"q": 2}, "bias": "none"}
    names = [f"base_model.model.model.layers.0.self_attn.q_proj.lora_{half}.weight" for half in "AB"]
    header = {
        names[0]: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        names[1]: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16, 32]},
    }
    for seed in range(60):
        rng = random.Random(seed)
        odd = (
            (odd_document(config, rng), json.dumps(header))
            if seed % 2
            else (json.dumps(config), odd_document(header, rng))
        )
        (tmp_path / "adapter_config.json").write_text(odd[0], "utf-8", "surrogatepass")
        (tmp_path / "adapter_model.safetensors").write_bytes(safetensors(odd[1], b"\0" * 32))
        with one_clear_error():
            read_adapter(tmp_path)


def test_a_store_that_somebody_wrote_into(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    pull_tiny(store, tmp_path)
    index = store.root / "index.json"
    document = json.loads(index.read_text())
    for seed in range(60):
        index.write_text(odd_document(document, random.Random(seed)), "utf-8", "surrogatepass")
        with one_clear_error():
            store.list()
            store.open("tiny")
