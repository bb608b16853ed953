"""What the store's use cases answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ashore.core import Digest, ModelFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFilesOnDisk:
    """A checked model as an engine reads it: a folder with one link for each file."""

    reference: str
    digest: Digest
    directory: Path
    format: ModelFormat
    weights: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BadFile:
    """One file that is not what it was."""

    reference: str
    path: str
    digest: Digest
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What hashing everything again found."""

    num_models: int
    num_files: int
    num_bytes: int
    bad: tuple[BadFile, ...]

    @property
    def ok(self) -> bool:
        return not self.bad


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What was deleted."""

    models: tuple[Digest, ...]
    num_blobs: int
    freed_bytes: int
