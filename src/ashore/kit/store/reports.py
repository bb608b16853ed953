"""Results of the store's use cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ashore.core.ids import Digest
from ashore.core.kinds import ModelFormat
from ashore.kit.sealing.clearfiles import SealedFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFilesOnDisk:
    """A verified model as an engine reads it: a folder with one link for each file."""

    reference: str
    digest: Digest
    directory: Path
    """Of a sealed model, only the files that are not weights, and only while the process lives that opened it."""
    format: ModelFormat
    weights: str
    sealed: SealedFiles | None = None
    """How another process opens a sealed model; None where the files are clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFile:
    """One altered file."""

    reference: str
    path: str
    digest: Digest
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Result of hashing everything again."""

    num_models: int
    num_files: int
    num_bytes: int
    bad: tuple[BadFile, ...]
    closed: tuple[str, ...] = ()
    """Sealed models of which only the sealed bytes were checked, for their key is not at hand."""
    outdated: tuple[str, ...] = ()
    """Embedders that are served with the mean of all tokens, which their makers do not say: pull them again."""

    @property
    def ok(self) -> bool:
        return not self.bad


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """Deleted data."""

    models: tuple[Digest, ...]
    num_blobs: int
    freed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealReport:
    """What sealing or unsealing changed."""

    models: tuple[str, ...]
    """References that changed their form; empty where all had it already."""
    num_bytes: int
    """Of the files that were written anew."""
    freed_bytes: int
    """Of the old form; what another model needs was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RekeyReport:
    """What rewrapping changed."""

    rewrapped: tuple[str, ...]
    """Data keys that are under the newest key now."""
    current: tuple[str, ...]
    """Data keys that were already."""
