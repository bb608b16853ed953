"""Static files of the pages: styles, script, icon. Public, and cached by browsers indefinitely."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Final

from ashore.control.console.model import Answer
from ashore.control.console.rendering import static_files, static_name

TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}
YEAR: Final = b"public, max-age=31536000, immutable"
SHORT: Final = b"public, max-age=300"
"""For the address of another version: a page opened before an upgrade still finds its style."""


def static_answer(path: str, *, gzip: bool) -> Answer | None:
    """Return a file; None: there is none of that name.

    Args:
        path: Behind `/console/static/`, `0a1b2c3d4e5f/console.css`.
        gzip: Whether the browser accepts gzip.
    """
    name = path.rpartition("/")[2]
    content = static_files().get(name)
    if content is None:
        return None
    headers = [
        (b"content-type", TYPES[name.rpartition(".")[2]]),
        (b"cache-control", YEAR if f"static/{path}" == static_name(name) else SHORT),
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'"),
        (b"vary", b"accept-encoding"),
    ]
    if gzip:
        content = _packed(name)
        headers.append((b"content-encoding", b"gzip"))
    return Answer(headers=tuple(headers), body=content)


@cache
def _packed(name: str) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(static_files()[name]) + packer.flush()
