"""Every target by its name."""

from __future__ import annotations

from typing import Final

from tests.fuzz import application, files, texts, wire
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for target in (
        *(wire.HTTP, wire.FRAMES, wire.MULTIPART, wire.JWT),
        *(files.GGUF, files.SAFETENSORS, files.MODEL, files.MANIFEST, files.ARCHIVE, files.SPEC),
        *(texts.TEMPLATE, texts.GRAMMAR, texts.MASKING, texts.POLICY, texts.BATCH),
        application.REQUESTS,
    )
}
