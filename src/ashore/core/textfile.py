"""Plain text that users hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.errors import InvalidRequest

MOST_TEXT_BYTES: Final = 64 << 20


def read_text_file(path: Path, what: str, *, hint: str) -> str:
    """Return the text of a file in UTF-8.

    Args:
        path: Where it is.
        what: What it is, such as `the calibration text`.
        hint: Told where it cannot be used: what to give instead.

    Raises:
        InvalidRequest: it cannot be read, is empty, is no text in UTF-8, or is far too large.
    """
    try:
        size = path.stat().st_size
        if size > MOST_TEXT_BYTES:
            most = human_bytes(MOST_TEXT_BYTES)
            raise InvalidRequest(f"{what} {path} has {human_bytes(size)}; at most {most} are allowed", hint=hint)
        data = path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            f"{what} {path} cannot be read: {error.strerror or error}", hint="check its path"
        ) from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        seen = f"byte {error.start} is 0x{data[error.start]:02x}"
        raise InvalidRequest(f"{what} {path} is not UTF-8: {seen}", hint=hint) from error
    if "\0" in text:
        raise InvalidRequest(f"{what} {path} is binary: it has a zero byte", hint=hint)
    if not text.strip():
        raise InvalidRequest(f"{what} {path} is empty", hint=hint)
    return text
