"""The picture for authenticators: all dark modules of the code, in a rim that is light enough to be read."""

from __future__ import annotations

import re

import segno

from ashore.control.console.qr import QUIET, qr_path

URI = "otpauth://totp/ashore:alice?secret=" + "A" * 32 + "&issuer=ashore"


def test_the_picture_has_every_dark_module_and_a_light_rim() -> None:
    path, wide = qr_path(URI)
    code = segno.make_qr(URI, error="m", boost_error=False)
    assert wide == len(code.matrix) + 2 * QUIET == code.symbol_size(border=4)[0]
    drawn = {(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path)}
    dark = {(x + 4, y + 4) for y, row in enumerate(code.matrix) for x, is_dark in enumerate(row) if is_dark}
    assert drawn == dark and min(min(one) for one in drawn) == QUIET
