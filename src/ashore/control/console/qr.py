"""A QR code of a short text, as the path of an SVG."""

from __future__ import annotations

from typing import Final

QUIET: Final = 4
"""Light modules around it."""


def qr_path(text: str) -> tuple[str, int]:
    """Return the dark modules as the path of an SVG, and how wide the picture is with its light rim, in modules.

    Source: ISO/IEC 18004, error correction M; the modules are those of `segno`.
    """
    import segno

    modules = segno.make_qr(text, error="m", boost_error=False).matrix
    dark = ((x, y) for y, row in enumerate(modules) for x, is_dark in enumerate(row) if is_dark)
    return "".join(f"M{x + QUIET} {y + QUIET}h1v1h-1z" for x, y in dark), len(modules) + 2 * QUIET
