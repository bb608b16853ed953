"""Recipes of variants and derived models, exact enough to rebuild them.

`StoredModel.recipe` is a flat table of texts, which every manifest can carry and everybody can read; this is its form.
The parent is not in it: the manifest names that by digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from ashore.core.errors import InvalidRequest
from ashore.core.ids import Digest

_PARAMETER: Final = "parameter."
_VERSION: Final = "version."
_DATA: Final = "data."
_CHUNK_BYTES: Final = 1 << 20
DATA_SUFFIXES: Final = (".jsonl", ".ndjson", ".tar", ".tgz", ".parquet", ".txt", ".jsonl.gz", ".txt.gz", ".tar.gz")
"""Of the files of a folder, those that are data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataUsed:
    """A file of the user's that something was made with."""

    role: str
    """What it was for: `calibration`, `train`, `heldout`… One word."""
    digest: Digest
    """SHA-256 of the whole file; of a set of files, see `set_digest`."""
    num_bytes: int
    name: str
    """Its name without folders, for people; the digest is what counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRecipe:
    """Maker, inputs and parameters of a variant. Equal recipes of one parent give equal bytes."""

    maker: str
    """Name of the use case that makes it again: `quantize`, `prune`, `distill`, `sft`, `merge`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """All that the maker must be told, as texts; defaults written out, so that a later default changes nothing."""
    data: tuple[DataUsed, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """By tool: ashore itself and every library that the bytes depend on."""
    seed: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    """What came out of it and is worth reading: `precision`, counts. A rebuild does not need them."""

    def to_notes(self) -> dict[str, str]:
        """Return the table that the store keeps.

        Raises:
            InvalidRequest: a fact has the name of something else, or a role is not one word.
        """
        notes = {"maker": self.maker, "seed": str(self.seed)}
        notes |= {_PARAMETER + name: value for name, value in self.parameters.items()}
        notes |= {_VERSION + name: value for name, value in self.versions.items()}
        for number, used in enumerate(self.data, start=1):
            if len(used.role.split()) != 1:
                raise InvalidRequest(f"the role {used.role!r} of {used.name} is not one word")
            notes[f"{_DATA}{number}"] = f"{used.role} {used.digest} {used.num_bytes} {used.name}"
        for name, value in self.facts.items():
            if name in notes or "." in name:
                raise InvalidRequest(
                    f"{name!r} is not a valid name for a recipe entry", hint="choose a name without dots"
                )
            notes[name] = value
        return notes


def data_used(path: Path, role: str) -> DataUsed:
    """Return digest and size of a file, or of a folder's data files, before use.

    Raises:
        InvalidRequest: it is not a file that can be read.
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.name.endswith(DATA_SUFFIXES) and one.name[0] != ".")
        parts = [data_used(one, role) for one in files]
        sums = [(part.name, part.digest.removeprefix("sha256:")) for part in parts]
        num_bytes = sum(part.num_bytes for part in parts)
        return DataUsed(role=role, digest=Digest(f"sha256:{set_digest(sums)}"), num_bytes=num_bytes, name=path.name)
    sha = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sha.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise InvalidRequest(
            f"the {role} file {path} cannot be read: {error.strerror}", hint="check its path"
        ) from error
    return DataUsed(role=role, digest=Digest(f"sha256:{sha.hexdigest()}"), num_bytes=size, name=path.name)


def set_digest(sums: Iterable[tuple[str, str]]) -> str:
    """Return the SHA-256, in hexadecimal digits, of files by name and SHA-256: of one file its own, of several that of
    what `sha256sum` writes for them, in the order of their names."""
    found = sorted(sums)
    if len(found) == 1:
        return found[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in found).encode()).hexdigest()


def versions_of(*packages: str) -> dict[str, str]:
    """Return the versions of ashore and of `packages`, which are installed, for `VariantRecipe.versions`."""
    return {name: version(name) for name in ("ashore", *packages)}
