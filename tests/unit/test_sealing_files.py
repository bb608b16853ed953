"""The form of sealed files: every way to alter one is found, and the message says where."""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ashore.core.errors import CorruptBlob
from ashore.kit.sealing import DataKey, new_data_key
from ashore.kit.sealing.chunks import CHUNK_BYTES, HEADER_BYTES, TAG_BYTES
from ashore.kit.sealing.sealedfile import hash_of_sealed, open_file, read_sealed_header, seal_file

SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
CLEAR = random.Random(7).randbytes(2 * CHUNK_BYTES + 12_345)  # three chunks
KEY = new_data_key()


def _seal(folder: Path, clear: bytes, key: DataKey = KEY, name: str = "file") -> Path:
    source, target = folder / f"{name}.clear", folder / f"{name}.sealed"
    source.write_bytes(clear)
    seal_file(source, target, key, sha256=hashlib.sha256(clear).hexdigest(), what=name)
    return target


def _open(sealed: Path, key: DataKey = KEY, *, salt: bytes | None = None, threads: int = 2) -> bytes:
    with tempfile.TemporaryFile() as target:
        open_file(sealed, target.fileno(), key, salt=salt, what="model.gguf of tiny", threads=threads)
        target.seek(0)
        return target.read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return _seal(tmp_path_factory.mktemp("whole"), CLEAR).read_bytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(CLEAR)])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_opens_to_what_was_sealed(tmp_path: Path, size: int, threads: int) -> None:
    sealed = _seal(tmp_path, CLEAR[:size])
    assert _open(sealed, threads=threads) == CLEAR[:size]
    assert sealed.stat().st_size == read_sealed_header(sealed, what="x").sealed_bytes
    assert hash_of_sealed(sealed, KEY, salt=None, what="x") == hashlib.sha256(CLEAR[:size]).hexdigest()
    assert sealed.stat().st_mode & 0o077 == 0


def test_nothing_of_the_clear_bytes_shows(whole: bytes) -> None:
    assert not any(CLEAR[at : at + 16] in whole for at in range(0, len(CLEAR), 4096))


def test_sealing_twice_shares_no_key_and_no_byte_pattern(tmp_path: Path) -> None:
    first, second = (_seal(tmp_path, CLEAR, name=name) for name in ("a", "b"))
    heads = [read_sealed_header(path, what="x") for path in (first, second)]
    assert heads[0].salt != heads[1].salt
    assert first.read_bytes()[HEADER_BYTES : HEADER_BYTES + 64] != second.read_bytes()[HEADER_BYTES : HEADER_BYTES + 64]


def _chunk(data: bytes, number: int) -> bytes:
    return data[HEADER_BYTES + number * SEALED_CHUNK :][:SEALED_CHUNK]


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda d: d[:at] + bytes((d[at] ^ 1,)) + d[at + 1 :]


ALTERED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "first chunk": (_flip(HEADER_BYTES), r"model.gguf of tiny: chunk \d of 3 was altered"),
    "middle chunk": (_flip(HEADER_BYTES + SEALED_CHUNK + 99), "chunk 1 of 3"),
    "last tag": (lambda d: _flip(len(d) - 1)(d), "chunk 2 of 3"),
    "one byte short": (lambda d: d[:-1], "cut short or added to"),
    "one byte more": (lambda d: d + b"\0", "cut short or added to"),
    "last chunk cut off": (lambda d: d[: HEADER_BYTES + 2 * SEALED_CHUNK], "cut short or added to"),
    "cut, and the size made to fit": (
        lambda d: d[:16] + (2 * CHUNK_BYTES).to_bytes(8, "big") + d[24 : HEADER_BYTES + 2 * SEALED_CHUNK],
        "chunk 0 of 2|chunk 1 of 2",
    ),
    "two chunks exchanged": (
        lambda d: d[:HEADER_BYTES] + _chunk(d, 1) + _chunk(d, 0) + d[HEADER_BYTES + 2 * SEALED_CHUNK :],
        "chunk 0 of 3|chunk 1 of 3",
    ),
    "a chunk repeated": (
        lambda d: d[:HEADER_BYTES] + _chunk(d, 0) + _chunk(d, 0) + d[HEADER_BYTES + 2 * SEALED_CHUNK :],
        "chunk 1 of 3",
    ),
    "another magic": (lambda d: b"GGUF" + d[4:], "is not a sealed file"),
    "another version": (lambda d: d[:7] + b"\x02" + d[8:], "version 2"),
    "another chunk size": (lambda d: d[:8] + (1 << 20).to_bytes(4, "big") + d[12:], "cut short or added to"),
    "a chunk size of none": (lambda d: d[:8] + bytes(4) + d[12:], "no sealed file has"),
    "a size without end": (lambda d: d[:16] + b"\xff" * 8 + d[24:], "no sealed file has"),
    "a size that is believable": (lambda d: d[:16] + (1 << 45).to_bytes(8, "big") + d[24:], "cut short or added to"),
    "another key id": (_flip(30), "swapped"),
    "another salt": (_flip(50), "chunk . of 3"),
    "nothing": (lambda d: b"", "has 0 bytes"),
    "a header alone": (lambda d: d[:HEADER_BYTES], "cut short or added to"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_what_is_altered_is_found_and_named(tmp_path: Path, whole: bytes, name: str) -> None:
    alter, words = ALTERED[name]
    path = tmp_path / "sealed"
    path.write_bytes(alter(whole))
    with pytest.raises(CorruptBlob, match=words):
        _open(path)
    with pytest.raises(CorruptBlob):
        hash_of_sealed(path, KEY, salt=None, what="x")


def test_a_file_of_the_same_key_in_the_place_of_another_is_found(tmp_path: Path) -> None:
    mine, other = _seal(tmp_path, CLEAR[:100], name="mine"), _seal(tmp_path, CLEAR[100:200], name="other")
    salt = read_sealed_header(mine, what="x").salt
    assert _open(mine, salt=salt) == CLEAR[:100]
    with pytest.raises(CorruptBlob, match="files were swapped"):
        _open(other, salt=salt)


def test_a_wrong_key_of_the_right_name_opens_nothing(tmp_path: Path) -> None:
    sealed = _seal(tmp_path, CLEAR[:100])
    with pytest.raises(CorruptBlob, match="chunk 0 of 1"):
        _open(sealed, DataKey(key_id=KEY.key_id, secret=os.urandom(32)))


def test_bytes_that_are_not_those_of_the_hash_are_not_sealed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"rotten")
    with pytest.raises(CorruptBlob, match="was altered, so it was not sealed"):
        seal_file(source, tmp_path / "out", KEY, sha256=hashlib.sha256(b"sound").hexdigest(), what="x")
    assert not (tmp_path / "out").exists()
