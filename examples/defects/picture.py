"""Pictures of a line camera, read band by band: TIFF in tiles or strips, and PNG, grey, 8 or 16 bits."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

BLOCK_BYTES = 64 << 20
"""Largest tile or strip."""
BAND_BYTES = 128 << 20
"""Largest band that is held at once."""
MOST_VALUES = 1_000_000
"""Of all tags together, which are read before anything is known of the picture; several may lie at one place."""
WHOLE_BYTES = 512 << 20
"""Largest picture that is decoded as a whole, as PNG must be."""
Image.MAX_IMAGE_PIXELS = None  # the limit here is WHOLE_BYTES, which is an error and not a warning


class RefusedPicture(Exception):
    """A picture that is not what it says it is, or of a kind that is not read here."""


class Tiff:
    """A grey TIFF, of which one row of tiles is in memory at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file and check what it says of itself.

        Raises:
            RefusedPicture: it lies about its size, or its form is not read here.
        """
        try:
            self._path, self._size = path, path.stat().st_size
            with tifffile.TiffFile(path) as opened:
                page = opened.pages[0]
                if sum(tag.count for tag in page.tags) > MOST_VALUES:  # type: ignore[union-attr]
                    raise RefusedPicture(f"its tags have more than {MOST_VALUES:,} values")
                tags = {tag.name: tag.value for tag in page.tags}  # type: ignore[union-attr]
                self._order = opened.byteorder
        except (tifffile.TiffFileError, ValueError, LookupError, TypeError, OverflowError, struct.error) as fault:
            raise RefusedPicture(f"not a sound TIFF: {type(fault).__name__} {fault}"[:200]) from fault
        self.width, self.height = _number(tags, "ImageWidth"), _number(tags, "ImageLength")
        self._tile = _number(tags, "TileWidth", self.width), _number(tags, "TileLength", 0)
        if not self._tile[1]:
            self._tile = self.width, min(self.height, _number(tags, "RowsPerStrip", self.height))
        bits, kind = _number(tags, "BitsPerSample", 1), _number(tags, "Compression", 1)
        self._predictor, self._deflated = _number(tags, "Predictor", 1), kind in (8, 32946)
        if bits not in (8, 16) or _number(tags, "SamplesPerPixel", 1) != 1 or _number(tags, "SampleFormat", 1) != 1:
            raise RefusedPicture("only grey pictures of 8 or 16 bits are read")
        if kind not in (1, 8, 32946) or self._predictor not in (1, 2):
            raise RefusedPicture(f"compression {kind} and predictor {self._predictor} are not read; write deflate")
        self.kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
        if kind == 1 and self._predictor == 1 and self._tile == (self.width, self.height) and "StripOffsets" in tags:
            tags |= self._cut(_number(tags, "StripOffsets"), _number(tags, "StripByteCounts"))
        if min(self.width, self.height, *self._tile) < 1 or self._tile[0] * self._tile[1] * bits // 8 > BLOCK_BYTES:
            raise RefusedPicture(
                f"a tile of {self._tile[0]:,} x {self._tile[1]:,} pixels; at most {BLOCK_BYTES >> 20} MiB"
            )
        self._across, down = -(-self.width // self._tile[0]), -(-self.height // self._tile[1])
        name = "Tile" if "TileOffsets" in tags else "Strip"
        self._starts = np.atleast_1d(tags.get(f"{name}Offsets", ()))
        self._counts = np.atleast_1d(tags.get(f"{name}ByteCounts", ()))
        if not len(self._starts) == len(self._counts) == self._across * down:
            raise RefusedPicture(f"its size needs {self._across * down:,} tiles, but it has {len(self._starts):,}")
        if any(int(a) + int(b) > self._size for a, b in zip(self._starts, self._counts, strict=True)):
            raise RefusedPicture(f"a tile lies beyond the end of the file, which has {self._size:,} bytes")

    def band(self, top: int, rows: int) -> np.ndarray[Any, Any]:
        """Return `rows` whole rows from `top` on."""
        if rows * self.width * self.kind.itemsize > BAND_BYTES:
            raise RefusedPicture(f"a band of {rows} rows of {self.width:,} pixels is more than {BAND_BYTES >> 20} MiB")
        with open(self._path, "rb") as file:
            return self._band(file, top, rows)

    def _band(self, file: BinaryIO, top: int, rows: int) -> np.ndarray[Any, Any]:
        width, length = self._tile
        found = np.empty((rows, self.width), self.kind)
        for down in range(top // length, -(-(top + rows) // length)):
            first, last = max(top, down * length), min(top + rows, (down + 1) * length)
            for column in range(self._across):
                block = self._block(file, down * self._across + column, min(length, self.height - down * length))
                left, right = column * width, min(self.width, (column + 1) * width)
                part = block[first - down * length : last - down * length, : right - left]
                found[first - top : last - top, left:right] = part
        return found

    def _cut(self, start: int, count: int) -> dict[str, Any]:
        """Cut one long plain strip into many, as if the file had been written so."""
        line = self.width * self.kind.itemsize
        if count != line * self.height:
            raise RefusedPicture(f"the pixels need {line * self.height:,} bytes, but the strip has {count:,}")
        self._tile = self.width, 64
        tops = range(0, self.height, 64)
        counts = [min(64, self.height - top) * line for top in tops]
        return {"StripOffsets": [start + top * line for top in tops], "StripByteCounts": counts}

    def _block(self, file: BinaryIO, number: int, rows: int) -> np.ndarray[Any, Any]:
        width, length = self._tile
        rows = rows if width == self.width else length  # the last strip may be shorter, a tile never is
        file.seek(int(self._starts[number]))
        count = int(self._counts[number])
        whole, least = width * length * self.kind.itemsize, width * rows * self.kind.itemsize
        content = file.read(min(count, 2 * whole + 1024))
        if self._deflated:
            try:
                content = zlib.decompressobj().decompress(content, whole + 1)
            except zlib.error as fault:
                raise RefusedPicture(f"tile {number} is broken: {fault}") from fault
        if not least <= len(content) <= whole:
            raise RefusedPicture(f"tile {number} has {len(content):,} bytes or more; {whole:,} were expected")
        pixels = np.frombuffer(content, self.kind.newbyteorder(self._order)).reshape(-1, width).astype(self.kind)
        return np.cumsum(pixels, axis=1, dtype=self.kind) if self._predictor == 2 else pixels


class Png:
    """A grey PNG. Its form allows no reading by tiles, so it is decoded whole, up to `WHOLE_BYTES`."""

    def __init__(self, path: Path) -> None:
        """Decode the file.

        Raises:
            RefusedPicture: it is too large, broken, or not grey.
        """
        try:
            with Image.open(path, formats=["PNG"]) as opened:
                kind = {"L": np.uint8, "I;16": np.uint16}.get(opened.mode)
                if kind is None:
                    raise RefusedPicture("only grey pictures of 8 or 16 bits are read")
                self.kind, (self.width, self.height) = np.dtype(kind), opened.size
                if (size := self.width * self.height * self.kind.itemsize) > WHOLE_BYTES:
                    raise RefusedPicture(
                        f"{size >> 20:,} MiB of pixels; write a PNG of more than 512 MiB as a tiled TIFF"
                    )
                self._pixels = np.asarray(opened)
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, struct.error, zlib.error) as fault:
            raise RefusedPicture(f"not a sound PNG: {fault}"[:200]) from fault

    def band(self, top: int, rows: int) -> np.ndarray[Any, Any]:
        """Return `rows` whole rows from `top` on."""
        return self._pixels[top : top + rows]


def open_picture(path: Path) -> Tiff | Png:
    """Open a picture by its first bytes.

    Raises:
        RefusedPicture: it is neither TIFF nor PNG, or not as it says.
    """
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Tiff(path)
    if start == b"\x89PNG\r\n\x1a\n":
        return Png(path)
    raise RefusedPicture(f"neither TIFF nor PNG: it begins with {start!r}")


def _number(tags: dict[str, Any], name: str, default: int | None = None) -> int:
    value = tags.get(name, default)
    value = value[0] if isinstance(value, tuple) and value else value
    if not isinstance(value, int) or value < 0:
        raise RefusedPicture(f"the TIFF has no sound {name}")
    return int(value)
