"""What is published: the parts of a model, and what a site shall serve. Files of JSON, read from untrusted places.

A struct here says only what a document may look like, not whether it is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

SEGMENT_BYTES: Final = 4 << 20
"""Most clear bytes of a segment of a file."""
INDEX_BYTES: Final = 64 << 20
"""Most clear bytes of the list of steps of a delta: enough for a file of 1 TB."""
MAX_FILE_BYTES: Final = 1 << 44
NO_MODEL: Final = "sha256:" + "0" * 64
"""In place of a digest: nothing shall answer for an alias, or what answers is not of the centre."""

Hex = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A SHA-256, without a prefix."""
Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]
"""Digest of a model: that of its OCI manifest, as the store names it."""
SiteName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,62}\Z")]
_Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_FILE_BYTES)]
_Text = Annotated[str, msgspec.Meta(max_length=200)]


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One object of `segments/`: a zstd frame, named by its own SHA-256."""

    sha256: Hex
    """Of the frame as it is stored and sent."""
    stored: Annotated[int, msgspec.Meta(ge=1, le=INDEX_BYTES + (1 << 20))]
    """Bytes of the frame."""
    clear: Annotated[int, msgspec.Meta(ge=1, le=INDEX_BYTES)]
    """Bytes when it is unpacked."""

    @property
    def path(self) -> str:
        """Its place in the tree."""
        return f"segments/{self.sha256[:2]}/{self.sha256}"


class PartFile(msgspec.Struct, frozen=True, kw_only=True):
    """One blob of a model: its OCI manifest, its config, or a file."""

    path: _Text
    """Path inside the model; `/manifest` and `/config` for the first two. Never a path on a disk of ours."""
    size: _Size
    sha256: Hex
    """Of the whole file. The only word on what is right: segments and deltas are ways to get there."""
    segments: tuple[Segment, ...]
    """The whole file in order, without any base."""


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """A way to make the model out of another one."""

    base: Digest
    """Model that the site must have."""
    size: _Size
    """Stored bytes that are fetched for it, the list of steps included."""
    index: Segment
    """The list of steps: an `Index`."""


class ModelParts(msgspec.Struct, frozen=True, kw_only=True):
    """`models/<hex of the digest>.json`: everything that a site needs to have a model. Signed by `targets`."""

    format: Literal[1] = 1
    digest: Digest
    name: _Text
    """`name` or `name@variant` in the centre's store."""
    files: Annotated[tuple[PartFile, ...], msgspec.Meta(min_length=3, max_length=100_000)]
    """The OCI manifest, its config, then the files in the manifest's order."""
    deltas: Annotated[tuple[Delta, ...], msgspec.Meta(max_length=16)] = ()
    """Ways from earlier models; the smallest whose base the site has is taken."""

    @property
    def size(self) -> int:
        """Bytes of the model on a disk."""
        return sum(one.size for one in self.files)

    @property
    def stored(self) -> int:
        """Bytes that are fetched by a site that has nothing."""
        return sum({segment.sha256: segment.stored for one in self.files for segment in one.segments}.values())


class Serve(msgspec.Struct, frozen=True, kw_only=True):
    """One alias that a site shall answer."""

    alias: _Text
    model: Digest
    name: _Text
    """Name in the site's store, for people."""
    gate: Literal["smoke", "shadow", "none"] = "smoke"
    """What the new version must pass at the site before it answers."""
    deadline: float | None = None
    """Unix time after which the site no longer waits for its window of hours; None: it always waits."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """`wants/<site>/want.json`: what one site shall serve, and may do. Signed by `sites`."""

    format: Literal[1] = 1
    site: SiteName
    sequence: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    """Rises with every change, also when the centre goes back to an earlier model."""
    serve: Annotated[tuple[Serve, ...], msgspec.Meta(max_length=1000)] = ()
    policies: Mapping[str, str] = {}
    """Parts of ashore.toml that the centre sets, as TOML text by section."""
    frozen: bool = False
    """Nothing changes at the site until the centre says so."""
    offline_days: float | None = None
    """How long it serves without news; None: for ever."""
    escalate: Literal["never", "overflow", "quality"] = "never"
    certificate: Annotated[str, msgspec.Meta(max_length=8_000)] = ""
    """PEM of the site's next certificate, for its own key; empty: it keeps that of joining."""
    taken: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)] = 0
    """Highest sequence of a report that the centre had taken when this was signed, for links that only carry files."""
    votes: bool = False
    """Whether masked votes are handed in."""
    rate: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most bytes a second that the site fetches; 0: no limit."""
    hours: Annotated[str, msgspec.Meta(pattern=r"\A(\d\d:\d\d-\d\d:\d\d)?\Z")] = ""
    """Local times between which models are fetched, `22:00-06:00`; empty: always."""
