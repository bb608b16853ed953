"""The picture for authenticators: drawn as the standard has it, and light enough to be read in every colour."""

from __future__ import annotations

import hashlib

import pytest

from ashore.console.qr import qr_modules, qr_path

TEXT = b"otpauth://totp/" + bytes(range(65, 91)) * 9


@pytest.mark.parametrize(
    ("size", "wide", "digest"),
    [(14, 21, "0b37520c0449c271"), (62, 33, "0160968f2c1d23c9"), (122, 45, "6302d63f165d839b"),
        (213, 57, "37700ff2cecff6e1")],
)  # fmt: skip
def test_a_code_has_the_modules_that_other_encoders_give(size: int, wide: int, digest: str) -> None:
    """The digests are those of segno's codes of the same version, correction and mask; zxing-cpp read each of them."""
    grid = qr_modules(TEXT[:size])
    assert len(grid) == wide and all(len(row) == wide for row in grid)
    assert hashlib.sha256(bytes(one for row in grid for one in row)).hexdigest()[:16] == digest


def test_the_picture_has_a_light_rim_and_says_nothing_where_the_text_is_too_long() -> None:
    path, wide = qr_path("otpauth://totp/ashore")
    assert wide == 25 + 8 and path.startswith("M4 4h1v1h-1z")
    assert qr_path("x" * 214) == ("", 0)
    for size in range(1, 214):
        assert (len(qr_modules(TEXT[:size])) - 17) % 4 == 0
