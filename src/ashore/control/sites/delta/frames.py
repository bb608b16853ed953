"""Segments on the wire: zstd frames with a bounded window, whose size is known before a byte is unpacked."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from ashore.control.sites.model import Segment
from ashore.control.sites.ports import WrongBytes
from ashore.kit.extras import require

LEVEL: Final = 1
"""Noise of few kinds: measured, level 3 finds matches that cost more than they save, at a third of the speed."""
MAX_WINDOW_BYTES: Final = 8 << 20
"""What a reader may have to keep while it unpacks."""


def pack(clear: bytes | bytearray | memoryview) -> tuple[Segment, bytes]:
    """Return the segment of these bytes, and its frame."""
    zstd = _zstandard()
    options = zstd.ZstdCompressionParameters.from_level(LEVEL, window_log=21, write_content_size=True)
    frame = zstd.ZstdCompressor(compression_params=options).compress(clear)
    return Segment(sha256=hashlib.sha256(frame).hexdigest(), stored=len(frame), clear=len(clear)), frame


def unpack(segment: Segment, frame: bytes) -> bytes:
    """Return the clear bytes of a segment. Nothing is unpacked before its digest and its announced sizes are checked.

    Raises:
        WrongBytes: the frame is not the one that the signed list names, or unpacks to another size.
    """
    zstd = _zstandard()
    seen = hashlib.sha256(frame).hexdigest()
    if seen != segment.sha256:
        raise WrongBytes(f"segment {segment.sha256[:16]} has the SHA-256 {seen[:16]}", hint="fetch it again")
    try:
        head = zstd.get_frame_parameters(frame)
        if head.content_size != segment.clear or head.window_size > MAX_WINDOW_BYTES:
            raise WrongBytes(
                f"segment {segment.sha256[:16]} announces {head.content_size} bytes and a window of "
                f"{head.window_size}, expected {segment.clear} and at most {MAX_WINDOW_BYTES}"
            )
        clear: bytes = zstd.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress(
            frame, max_output_size=segment.clear, allow_extra_data=False
        )
    except zstd.ZstdError as fault:
        raise WrongBytes(f"segment {segment.sha256[:16]} cannot be unpacked: {fault}") from fault
    if len(clear) != segment.clear:
        raise WrongBytes(f"segment {segment.sha256[:16]} has {len(clear)} bytes, expected {segment.clear}")
    return clear


def _zstandard() -> Any:
    require(("zstandard",), "site", "a centre or a site")
    import zstandard

    return zstandard
