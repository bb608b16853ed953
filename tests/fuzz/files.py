"""Targets that read files: models and their descriptions, archives of models, ashore.toml."""

from __future__ import annotations

import re
import shutil
import struct
import tarfile
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Final

from odd_inputs import one_clear_error
from store_making import make_store
from tests.fuzz.target import Check, Target
from tiny_models import make_small_gguf, make_tiny_model

from ashore.core.errors import InvalidSpec
from ashore.data.text import TextModel
from ashore.kit.store.archive import unpack_archive
from ashore.kit.store.conversion.safetensorsmeta import read_header
from ashore.kit.store.layout import IndexEntry, check_paths
from ashore.kit.store.manifest import hash_of, parse_manifest
from ashore.kit.store.prepare import prepare
from ashore.kit.store.progress import silent
from ashore.machine.config import read_spec

ODD_NUMBERS: Final = tuple(struct.pack("<Q", n) for n in (0, 1, 1 << 24, 1 << 32, 1 << 40, 1 << 63, (1 << 64) - 1))
ODD_JSON: Final = (
    *(b"null", b"true", b"-1", b"1e400", b"NaN", b"9" * 5000, b'"\\ud800"', b'"../x"', b'"\\u0000"', b"[" * 2000),
    *(b"{}", b"[]", b'""', b"18446744073709551616", b"-0.0", b'{"a":' * 1500, b"\xff", b"\xef\xbb\xbf"),
)


@cache
def _tiny() -> Path:
    return make_tiny_model(Path(tempfile.mkdtemp(prefix="fuzz-")) / "tiny", "llama", layers=1)


@cache
def _gguf() -> bytes:
    return make_small_gguf(Path(tempfile.mkdtemp(prefix="fuzz-")) / "small.gguf").read_bytes()


@cache
def _exported() -> bytes:
    """A tar of a store whose model is a small GGUF file."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "small.gguf").write_bytes(_gguf())
    store = make_store(folder)
    store.pull(str(folder / "small.gguf"), name="small")
    return store.export("small", folder / "small.tar").read_bytes()


def _manifest() -> bytes:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (folder / "x.tar").write_bytes(_exported())
    layout = unpack_archive(folder / "x.tar", folder / "out", silent)
    return layout.blob_path(layout.read_index()[0].digest).read_bytes()


def _prepared(raw: Path, folder: Path) -> None:
    with one_clear_error():
        prepare(raw, folder / "made", to_f16=False, recommended={}, progress=silent)


def _gguf_check(folder: Path, at_end: ExitStack) -> Check:
    path = folder / "x.gguf"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        _prepared(path, folder)

    return check


GGUF: Final = Target(
    name="gguf",
    seeds=lambda: (_gguf(),),
    open=_gguf_check,
    words=(
        *ODD_NUMBERS,
        b"GGUF",
        b"llama",
        b"deepseek2",
        b"tokenizer.ggml.",
        b"\x09\0\0\0",
        b"\x08\0\0\0",
        b"\xff\xfe",
    ),
)


def _safetensors_check(folder: Path, at_end: ExitStack) -> Check:
    path = folder / "x.safetensors"

    def check(data: bytes) -> None:
        if data[:1] == b"{":  # the header alone, so that chance need not find its length
            data = struct.pack("<Q", len(data)) + data + b"\0" * 16
        path.write_bytes(data)
        with one_clear_error():
            for place in read_header(path).values():
                assert 0 <= place.offset <= place.offset + place.num_bytes <= len(data)
                assert place.num_elements >= 0

    return check


def _safetensors_seeds() -> tuple[bytes, ...]:
    header = (
        b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},'
        b'"b":{"dtype":"BF16","shape":[4],"data_offsets":[8,16]}}'
    )
    return header, struct.pack("<Q", len(header)) + header + b"\0" * 16


SAFETENSORS: Final = Target(
    name="safetensors",
    seeds=_safetensors_seeds,
    open=_safetensors_check,
    words=(*ODD_NUMBERS, *ODD_JSON, b'"F8_E4M3"', b'"__metadata__":', b'"shape":[],', b'"data_offsets":[0,0]'),
    num_cases=400,
)

_JSON_FILES: Final = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json")


def _model_check(folder: Path, at_end: ExitStack) -> Check:
    raw, made = folder / "raw", folder / "served"
    shutil.copytree(_tiny(), raw)
    prepare(raw, made, to_f16=False, recommended={}, progress=silent)
    shutil.copy(raw / "tokenizer.json", made)

    def check(data: bytes) -> None:
        number = data[0] if data else 0
        if number < 4:
            path = raw / _JSON_FILES[number]
        else:
            path = made / ("tokenizer.json", "generation.json", "chat_template.jinja")[number % 3]
        kept = path.read_bytes() if path.exists() else None
        path.write_bytes(data[1:])
        try:
            if number < 4:
                _prepared(raw, folder)
            else:
                with one_clear_error():
                    TextModel.load(made)
        finally:
            path.unlink() if kept is None else path.write_bytes(kept)

    return check


def _model_seeds() -> tuple[bytes, ...]:
    files = [(_tiny() / name).read_bytes() for name in _JSON_FILES]
    deepseek = (
        b'{"model_type":"deepseek_v3","architectures":["DeepseekV3ForCausalLM"],"hidden_size":64,"num_hidden_layers":1,'
        b'"num_attention_heads":4,"vocab_size":320,"max_position_embeddings":512,"kv_lora_rank":16,"qk_rope_head_dim":8,'
        b'"qk_nope_head_dim":8,"v_head_dim":8,"n_routed_experts":4,"num_experts_per_tok":2,"n_shared_experts":1,'
        b'"first_k_dense_replace":0,"moe_intermediate_size":16,"quantization_config":{"quant_method":"fp8"},'
        b'"rope_scaling":{"type":"yarn","factor":40}}'
    )
    return (
        *(bytes((n,)) + data for n, data in enumerate(files)),
        b"\0" + deepseek,
        b"\x06" + files[3],
        b'\x04{"eos_token_ids":[257],"bos_token":"<s>","sampling":{"temperature":0.7}}',
        b"\x05{% for m in messages %}{{ m.content }}{% endfor %}",
    )


MODEL: Final = Target(
    name="model", seeds=_model_seeds, open=_model_check, words=ODD_JSON, most_bytes=65_536, num_cases=250
)


def _manifest_check(folder: Path, at_end: ExitStack) -> Check:
    def check(data: bytes) -> None:
        entry = IndexEntry(digest=hash_of(data), num_bytes=len(data), name="x", variant="", tagged=True, created_s=0)
        with one_clear_error():
            model = parse_manifest(data, entry)
            assert model.weights in {f.path for f in model.files}
            check_paths(f.path for f in model.files)

    return check


MANIFEST: Final = Target(
    name="manifest",
    seeds=lambda: (_manifest(),),
    open=_manifest_check,
    words=(*ODD_JSON, b"sha256:" + b"0" * 64, b'"digest":"sha256:../x"', b'"size":-1', b"ashore.weights", b"../"),
    most_bytes=16_384,
    num_cases=300,
)


def _archive_check(folder: Path, at_end: ExitStack) -> Check:
    tar, scratch = folder / "x.tar", folder / "out"

    def check(data: bytes) -> None:
        tar.write_bytes(data)
        try:
            with one_clear_error():
                layout = unpack_archive(tar, scratch, silent)
                assert layout.read_index()
            assert {path.name for path in folder.iterdir()} <= {"x.tar", "out"}, "it wrote beside its folder"
            assert not any(path.is_symlink() for path in scratch.rglob("*"))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    return check


ARCHIVE: Final = Target(
    name="archive",
    seeds=lambda: (_exported(),),
    open=_archive_check,
    words=(
        *(
            b"\0" * 512,
            b"ustar\x0000",
            b"GNU.sparse.map=0,9\n",
            b"30 path=../../x\n",
            b"12 size=-1\n",
            b"22 size=99999999999\n",
        ),
        *(
            tarfile.LNKTYPE,
            tarfile.SYMTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_SPARSE,
            tarfile.XHDTYPE,
            b"\x80\0\0",
        ),
        *(b"index.json", b"oci-layout", b"blobs/sha256/", b"../", b"\xff"),
    ),
    most_bytes=65_536,
    num_cases=60,
)


def _spec_check(folder: Path, at_end: ExitStack) -> Check:
    path = folder / "ashore.toml"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_spec(path)
        except InvalidSpec as fault:
            assert len(fault.message) < 1000 and "\n" not in fault.message, fault.message

    return check


def _spec_seeds() -> tuple[bytes, ...]:
    """What the documentation shows of ashore.toml."""
    pages = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))
    blocks = {
        block
        for page in pages
        for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    }
    assert len(blocks) > 10
    return tuple(block.encode() for block in sorted(blocks))


SPEC: Final = Target(
    name="spec",
    seeds=_spec_seeds,
    open=_spec_check,
    words=(
        *(
            b"inf",
            b"nan",
            b"-1",
            b"0",
            b'""',
            b"true",
            b"[]",
            b"{}",
            b"[[]]",
            b"1e400",
            b"9" * 400,
            b"1979-05-27",
            b"\0",
        ),
        *(
            b'"http://[::1"',
            b'"\\ud800"',
            b"'''",
            b'"../x"',
            b'"0x"',
            b"[" * 600,
            b"=",
            b"\n",
            b"[[model]]\n",
            b'name="a"\n',
        ),
        *(b'"100000000000d"', b'"\xff"', b'"file:///etc/passwd"', b'"("', b'"*"', b"[model]\n", b".", b'"a".b.c='),
    ),
    num_cases=400,
)
