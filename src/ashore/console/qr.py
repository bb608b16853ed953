"""A QR code of a short text, as the path of an SVG: byte mode, error correction M, versions 1 to 10, mask 0. Pure.

Readers take every mask; an encoder chooses among eight where the data are so regular that one would be hard to read,
which a shared secret is not. Source: ISO/IEC 18004:2015; the figures of versions are those of its tables 9 and E.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

VERSIONS: Final = (
    (26, 10, 1), (44, 16, 1), (70, 26, 1), (100, 18, 2), (134, 24, 2), (172, 16, 4), (196, 18, 4), (242, 22, 4),
    (292, 22, 5), (346, 26, 5),
)  # fmt: skip
"""Codewords in all, those of correction in a block, and blocks, of each version at M."""
QUIET: Final = 4
"""Light modules around it."""
Grid = list[list[bool]]


def qr_path(text: str) -> tuple[str, int]:
    """Return the dark modules as the path of an SVG, and how wide the picture is with its light rim; empty and 0 where
    the text is too long."""
    grid = qr_modules(text.encode())
    parts = [
        f"M{x + QUIET} {y + QUIET}h1v1h-1z" for y, row in enumerate(grid) for x, is_dark in enumerate(row) if is_dark
    ]
    return "".join(parts), len(grid) + 2 * QUIET if grid else 0


def qr_modules(data: bytes) -> Grid:
    """Return the modules of a code, row by row, dark ones true; none where the data are too many."""
    for version, (total, correction, blocks) in enumerate(VERSIONS, start=1):
        capacity = total - correction * blocks
        if len(data) + (2 if version < 10 else 3) <= capacity:
            words = _with_correction(_padded(data, version, capacity), correction, blocks)
            return _drawn(version, words)
    return []


def _padded(data: bytes, version: int, capacity: int) -> bytes:
    """Return the codewords of the data: mode, length, bytes, end, and what fills the rest."""
    wide = 8 if version < 10 else 16
    number = (0b0100 << wide | len(data)) << 8 * len(data) | int.from_bytes(data, "big")
    bits = 4 + wide + 8 * len(data)
    packed = (number << (-bits) % 8).to_bytes((bits + 7) // 8, "big")
    return packed + bytes(0xEC if at % 2 == 0 else 0x11 for at in range(capacity - len(packed)))


def _with_correction(data: bytes, correction: int, blocks: int) -> bytes:
    """Return the codewords in the order in which they are drawn: a byte of each block in turn."""
    short, longer = divmod(len(data), blocks)
    parts, at = [], 0
    for number in range(blocks):
        size = short + (number >= blocks - longer)
        parts.append(data[at : at + size])
        at += size
    ends = [_remainder(part, correction) for part in parts]
    turns = [part[at : at + 1] for at in range(short + 1) for part in parts]
    return b"".join(turns) + bytes(end[at] for at in range(correction) for end in ends)


def _times(x: int, y: int) -> int:
    """Multiply in GF(256) by the polynomial 0x11D."""
    product = 0
    for bit in range(7, -1, -1):
        product = product << 1 ^ (product >> 7) * 0x11D ^ (y >> bit & 1) * x
    return product


@cache
def _generator(degree: int) -> tuple[int, ...]:
    found, root = [0] * (degree - 1) + [1], 1
    for _ in range(degree):
        for at in range(degree):
            found[at] = _times(found[at], root) ^ (found[at + 1] if at + 1 < degree else 0)
        root = _times(root, 2)
    return tuple(found)


def _remainder(data: bytes, degree: int) -> list[int]:
    """Return the codewords of correction of one block (Reed and Solomon)."""
    left = [0] * degree
    for byte in data:
        factor = byte ^ left.pop(0)
        left.append(0)
        left = [one ^ _times(two, factor) for one, two in zip(left, _generator(degree), strict=True)]
    return left


def _checked(value: int, generator: int) -> int:
    """Return the remainder of a value by a polynomial, whose first bit is that of the remainder's end."""
    size = generator.bit_length() - 1
    left = value << size
    while left.bit_length() > size:
        left ^= generator << left.bit_length() - size - 1
    return value << size | left


def _drawn(version: int, words: bytes) -> Grid:
    size = 17 + 4 * version
    grid: Grid = [[False] * size for _ in range(size)]
    fixed: Grid = [[False] * size for _ in range(size)]

    def put(x: int, y: int, is_dark: bool) -> None:
        if 0 <= x < size and 0 <= y < size:
            grid[y][x], fixed[y][x] = is_dark, True

    for at in range(size):
        put(6, at, at % 2 == 0)
        put(at, 6, at % 2 == 0)
    middles = (6, (size - 1) // 2, size - 7) if version > 6 else (6, size - 7)
    for x, y in ((x, y) for x in middles for y in middles if version > 1):
        if (x, y) not in ((6, 6), (6, size - 7), (size - 7, 6)):
            for dx, dy in _square(2):
                put(x + dx, y + dy, max(abs(dx), abs(dy)) != 1)
    for x, y in ((3, 3), (size - 4, 3), (3, size - 4)):
        for dx, dy in _square(4):
            put(x + dx, y + dy, max(abs(dx), abs(dy)) not in (2, 4))
    form = _checked(0b00000, 0x537) ^ 0x5412
    for at in range(15):
        is_dark = bool(form >> at & 1)
        put(8, at if at < 6 else at + 1 if at < 8 else size - 15 + at, is_dark)
        put(size - 1 - at if at < 8 else 7 if at == 8 else 14 - at, 8, is_dark)
    put(8, size - 8, True)
    for at in range(18 if version > 6 else 0):
        is_dark, far, near = bool(_checked(version, 0x1F25) >> at & 1), size - 11 + at % 3, at // 3
        put(far, near, is_dark)
        put(near, far, is_dark)
    bits = (byte >> shift & 1 for byte in words for shift in range(7, -1, -1))
    for x, y in _path(size):
        if not fixed[y][x]:
            grid[y][x] = bool(next(bits, 0)) ^ ((x + y) % 2 == 0)
    return grid


def _square(reach: int) -> Iterator[tuple[int, int]]:
    return ((dx, dy) for dx in range(-reach, reach + 1) for dy in range(-reach, reach + 1))


def _path(size: int) -> Iterator[tuple[int, int]]:
    """Yield the places of data, in pairs of columns from the right, up and down in turn."""
    for turn, right in enumerate(one if one > 6 else one - 1 for one in range(size - 1, 0, -2)):
        for step in range(size):
            for x in (right, right - 1):
                yield x, size - 1 - step if turn % 2 == 0 else step
