"""Differences between the files of models: any bytes come back equal, and no list of a stranger does more than fail."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ashore.control.sites.delta import ModelFiles, Plan, cut_file, finish, make_delta, making, pack, read_index, unpack
from ashore.control.sites.delta.forms import GRAIN, Bytes, Unit, decode, decode_codes, encode
from ashore.control.sites.delta.regions import regions_of, segment_cuts
from ashore.control.sites.delta.steps import Change, Copy, FileSteps, Fill, Index, Requantise, whole
from ashore.control.sites.model import PartFile, Segment
from ashore.control.sites.ports import WrongBytes

UNITS: tuple[Unit, ...] = ("i8", "i4", "w2", "w4")
KEY = "this"


def _array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


@given(st.sampled_from(UNITS), st.binary(max_size=700), st.data())
def test_any_bytes_come_back_out_of_any_others(unit: Unit, old: bytes, data: st.DataObject) -> None:
    old = old[: len(old) // GRAIN[unit] * GRAIN[unit]]
    touched = data.draw(st.lists(st.tuples(st.integers(0, max(0, len(old) - 1)), st.integers(0, 255)), max_size=60))
    new = bytearray(data.draw(st.sampled_from([old, data.draw(st.binary(min_size=len(old), max_size=len(old)))])))
    for place, value in touched if old else ():
        new[place] = value
    payload = encode(_array(old), _array(bytes(new)), unit)
    assert decode(memoryview(payload), _array(old), unit).tobytes() == new


def test_a_gap_may_be_of_any_length() -> None:
    for distance in (0, 1, 253, 254, 255, 256, 509, 510, 511, 5000):
        new = np.zeros(12_000, np.uint8)
        new[[distance, 2 * distance + 1]] = 7, 255
        payload = encode(np.zeros(12_000, np.uint8), new, "i8")
        assert payload[:1] == b"g" and len(payload) < 60
        assert np.array_equal(decode(memoryview(payload), np.zeros(12_000, np.uint8), "i8"), new)


@given(st.sampled_from(UNITS), st.binary(max_size=80), st.sampled_from([0, 4, 340, 680]))
def test_a_payload_of_a_stranger_is_refused_or_gives_as_many_bytes_as_its_base(
    unit: Unit, payload: bytes, size: int
) -> None:
    try:
        made = decode(memoryview(payload), np.zeros(size, np.uint8), unit)
    except ValueError:
        return
    assert made.size == size


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"g",
        b"x123456",
        b"g" + struct.pack("<I", 1) + b"\x10\x01",  # a change beyond the end
        b"g" + struct.pack("<I", 1) + b"\xff" * 40 + b"\x00\x01",
        b"g" + struct.pack("<I", 2) + b"\x01\x01\x01",  # fewer gaps than changes
        b"g" + struct.pack("<I", 0xFFFFFFFF) + b"\x01\x01",
        b"g" + struct.pack("<I", 0) + b"\xff",
        b"b\x00",  # too few bits
        b"b" + b"\x03\x00\x01",  # two changes, one written
        b"b" + b"\x00\x00" + b"\x01",  # one written, none asked for
    ],
)
def test_changes_outside_of_the_codes_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError):
        decode_codes(memoryview(payload), 16)


def test_a_frame_is_refused_before_it_is_unpacked() -> None:
    segment, frame = pack(b"a" * 5000)
    assert unpack(segment, frame) == b"a" * 5000

    def named(data: bytes, clear: int) -> Segment:
        return Segment(sha256=hashlib.sha256(data).hexdigest(), stored=len(data), clear=clear)

    bomb = zstandard.ZstdCompressor().compress(bytes(64 << 20))
    wide = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(window_log=26, write_content_size=False)
    ).compress(bytes(1000))
    lying = bytearray(pack(bytes(100_000))[1])
    at = lying.index(struct.pack("<I", 100_000))
    lying[at : at + 4] = struct.pack("<I", 70_000)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20))
    for data, clear in (
        (frame[:-1], 5000),
        (frame + b"x", 5000),
        (frame, 4999),
        (bomb, 4 << 20),
        (wide, 1000),
        (bytes(lying), 70_000),
        (unsized, 1000),
        (b"no frame", 8),
    ):
        with pytest.raises(WrongBytes):
            unpack(named(data, clear), data)
    with pytest.raises(WrongBytes, match="SHA-256"):
        unpack(segment, frame[:-1] + b"x")


def _safetensors(path: Path, tensors: Mapping[str, tuple[str, np.ndarray]]) -> None:
    header, data = {}, b""
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _model(folder: Path, digest: str) -> ModelFiles:
    files = {one.name: one for one in sorted(folder.iterdir())}
    shas = {name: hashlib.sha256(one.read_bytes()).hexdigest() for name, one in files.items()}
    return ModelFiles(digest=f"sha256:{digest * 64}", files=files, sha256=shas)


def _openvino(folder: Path, rng: np.random.Generator, weights: np.ndarray, *, bits: int) -> None:
    """Write a graph of two products whose codes have four or eight bits, as `ashore optimize quantize` makes it."""
    folder.mkdir()
    data, layers, edges = b"\0\0", [], []
    for number, matrix in enumerate(weights):
        rows, columns = matrix.shape
        group = columns if bits == 8 else 32
        scales = (np.abs(matrix.reshape(rows, -1, group)).max(2, keepdims=True) / (127 if bits == 8 else 7)).astype(
            "<f2"
        )
        codes = np.rint(matrix.reshape(rows, -1, group) / scales.astype("f4")).astype(np.int8)
        packed = codes if bits == 8 else ((codes.reshape(-1)[::2] & 15) | ((codes.reshape(-1)[1::2] & 15) << 4))
        shape = f"{rows}, {columns}" if bits == 8 else f"{rows}, {columns // group}, {group}"
        per = f"{rows}, 1" if bits == 8 else f"{rows}, {columns // group}, 1"
        for layer, kind, sides, array in ((0, f"i{bits}", shape, packed), (2, "f16", per, scales)):
            layers.append(
                f'<layer id="{number}{layer}" name="Constant_{rng.integers(1 << 30)}" type="Const"><data '
                f'element_type="{kind}" shape="{sides}" offset="{len(data)}" size="{array.nbytes}"/></layer>'
            )
            data += array.tobytes() + b"\0" * 6  # constants are aligned
        layers += [
            f'<layer id="{number}1" type="Convert" name="c"/>',
            f'<layer id="{number}3" type="Multiply" name="m"/>',
        ]
        edges += [
            f'<edge from-layer="{number}{one}" from-port="0" to-layer="{number}{other}" to-port="{port}"/>'
            for one, other, port in ((0, 1, 0), (1, 3, 0), (2, 3, 1))
        ]
    text = f"<net><layers>{''.join(layers)}</layers><edges>{''.join(edges)}</edges></net>"
    (folder / "model.xml").write_text(text)
    (folder / "model.bin").write_bytes(data)


def _made(plan: Plan, base: ModelFiles, kept: Mapping[str, bytes], into: Path) -> None:
    by_digest = {base.sha256[path]: file for path, file in base.files.items()}
    for file, steps in plan.files:
        with making(file, into, plan.key, lambda number: by_digest[plan.bases[number]]) as one:
            for placed in steps:
                payload = b""
                if placed.segment >= 0:
                    segment = plan.segments[placed.segment]
                    payload = unpack(segment, kept[segment.sha256])[placed.start : placed.start + placed.length]
                one.apply(placed.step, memoryview(payload))
            one.commit()
        finish(file, into, plan.key)


def _moved(base: ModelFiles, new: ModelFiles, into: Path) -> float:
    """Make `new` out of `base` and out of nothing; return the share of the bytes that the delta takes."""
    kept: dict[str, bytes] = {}

    def keep(segment: Segment, frame: bytes) -> None:
        kept[segment.sha256] = frame

    delta = make_delta(base, new, keep)
    parts = [cut_file(path, new, keep) for path in new.files if new.sha256[path] not in base.sha256.values()]
    into.mkdir()
    _made(whole(parts), base, kept, into)
    for one in parts:
        (into / one.sha256).unlink()
    _made(read_index(unpack(delta.index, kept[delta.index.sha256]), KEY, parts), base, kept, into)
    assert {one.name for one in into.iterdir()} == {one.sha256 for one in parts}
    return delta.size / sum(one.stat().st_size for one in new.files.values())


def test_a_fine_tuned_model_is_made_out_of_its_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
    codes = rng.integers(-127, 128, (512, 3000), np.int8)
    halves = rng.standard_normal(40_000).astype(np.float16)
    moved = rng.integers(0, 256, 20_000, np.uint8)
    _safetensors(tmp_path / "old/a.safetensors", {"c": ("I8", codes), "h": ("F16", halves), "m": ("U8", moved)})
    few = codes.copy()
    few[rng.random(codes.shape) < 0.03] += np.int8(1)
    (tmp_path / "old/text.json").write_text("{}")
    _safetensors(
        tmp_path / "new/a.safetensors",
        {"m": ("U8", moved), "c": ("I8", few), "h": ("F16", (halves * np.float16(1.001))), "n": ("U8", moved[:77])},
    )
    (tmp_path / "new/text.json").write_text("{}")
    (tmp_path / "new/other.json").write_text('{"a": 1}')
    share = _moved(_model(tmp_path / "old", "a"), _model(tmp_path / "new", "b"), tmp_path / "into")
    assert share < 0.06


def test_four_bits_are_predicted_from_eight_of_the_same_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((2, 256, 1024)).astype(np.float32)
    _openvino(tmp_path / "old", rng, weights, bits=8)
    _openvino(tmp_path / "new", rng, weights, bits=4)
    share = _moved(_model(tmp_path / "old", "a"), _model(tmp_path / "new", "b"), tmp_path / "into")
    assert share < 0.2  # 12 % is scales, which the delta carries whole


def test_every_byte_of_a_file_lies_in_one_region_and_one_segment(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    _openvino(tmp_path / "m", rng, rng.standard_normal((3, 64, 128)).astype(np.float32), bits=4)
    (tmp_path / "m/broken.safetensors").write_bytes(b"\xff" * 1000)
    (tmp_path / "m/empty.gguf").write_bytes(b"")
    (tmp_path / "m/big").write_bytes(bytes(9 << 20))
    files = {one.name: one for one in (tmp_path / "m").iterdir()}
    for name, file in files.items():
        end = 0
        for region in regions_of(name, files):
            assert region.at == end and region.size > 0
            end += region.size
        assert end == file.stat().st_size
        cuts = list(segment_cuts(regions_of(name, files)))
        assert sum(size for _, size in cuts) == end and all(size <= 4 << 20 for _, size in cuts)
    assert any(one.grid for one in regions_of("model.bin", files))


FILE = PartFile(path="f", size=100, sha256="f" * 64, segments=())
BASE = "b" * 64
SEGMENT = Segment(sha256="a" * 64, stored=10, clear=100)


@pytest.mark.parametrize(
    ("steps", "segments"),
    [
        ((Copy(0, 101, 0, 0),), ()),  # past the end of the file
        ((Copy(0, 99, 0, 0),), ()),  # not all of it
        ((Copy(0, 60, 0, 0), Copy(0, 60, 0, 0)), ()),  # more in all than the file has
        ((Copy(50, 60, 0, 0), Copy(0, 40, 0, 0)), ()),
        ((Copy(0, 100, 1, 0),), ()),  # a base that is not named
        ((Fill(0, 100),), ()),  # a payload that is nowhere
        ((Fill(0, 60), Fill(60, 40)), (SEGMENT.__class__(sha256="a" * 64, stored=10, clear=70),)),
        ((Change(0, 100, 0, 0, "i8", 101),), (SEGMENT,)),
    ],
)
def test_a_list_that_writes_elsewhere_or_too_much_is_refused(
    steps: tuple[Copy | Fill | Change, ...], segments: tuple[Segment, ...]
) -> None:
    index = Index(bases=(BASE,), files=(FileSteps("f" * 64, steps),), segments=segments)
    with pytest.raises(WrongBytes):
        read_index(msgspec.json.encode(index), KEY, [FILE])


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"bases":[],"files":[["x",[]]],"segments":[]}', b"\xff" * 90])
def test_what_is_no_list_of_steps_is_refused(text: bytes) -> None:
    with pytest.raises(WrongBytes):
        read_index(text, KEY, [FILE])


@pytest.mark.parametrize("number", [-1, 1 << 60])
def test_a_number_below_nothing_or_beyond_any_file_is_refused(number: int) -> None:
    good = msgspec.to_builtins(Index(bases=(BASE,), files=(FileSteps("f" * 64, (Copy(0, 100, 0, 0),)),), segments=()))
    for place in (1, 2, 3, 4):
        step = ["c", 0, 100, 0, 0]
        step[place] = number
        good["files"][0]["steps"] = [step]
        with pytest.raises(WrongBytes):
            read_index(json.dumps(good).encode(), KEY, [FILE])


@pytest.mark.parametrize(
    "step",
    [
        Copy(0, 100, 0, 1),
        Change(0, 100, 0, 0, "i8", 4),
        Change(0, 100, 0, 0, "w2", 4),
        Requantise(0, 100, 0, 0, 0, 50, 0, 64, 4),
        Requantise(0, 100, 0, 99, 0, 50, 0, 50, 4),
        Requantise(0, 100, 0, 0, 1 << 40, 50, 0, 50, 4),
    ],
)
def test_a_step_that_does_not_fit_its_base_is_refused(step: Copy | Change | Requantise, tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(100))
    with making(FILE, tmp_path, KEY, lambda _: tmp_path / "base") as one, pytest.raises(WrongBytes):
        one.apply(step, memoryview(b"abcd"))


def test_a_file_that_comes_out_different_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "base").write_bytes(bytes(100))
    with making(FILE, tmp_path, KEY, lambda _: tmp_path / "base") as one:
        one.apply(Copy(0, 100, 0, 0), memoryview(b""))
        one.commit()
    with pytest.raises(WrongBytes, match="expected ffff"):
        finish(FILE, tmp_path, KEY)
    assert [one.name for one in tmp_path.iterdir()] == ["base"]
