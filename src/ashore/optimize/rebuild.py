"""Rebuilds a variant or derived model from its recipe, and compares the bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ashore.core import Digest, did_you_mean
from ashore.engines import Told, quietly
from ashore.errors import InvalidRequest, UnknownModel, UnsupportedModel
from ashore.optimize.model import RebuildReport, RebuiltFile
from ashore.optimize.ports import Maker
from ashore.store import ModelStore, StoredModel, VariantRecipe, find_data

_CHUNK_BYTES = 1 << 20


class Rebuilder:
    """Rebuilds stored models beside the originals."""

    def __init__(self, store: ModelStore, makers: Mapping[str, Maker]) -> None:
        """Create the object; `makers` is by `VariantRecipe.maker`."""
        self._store = store
        self._makers = makers

    def rebuild(self, reference: str, data: Sequence[Path], *, told: Told = quietly) -> RebuildReport:
        """Rebuild `reference` in scratch and compare; the store is unchanged.

        Args:
            reference: `name@variant`, or the name of a derived model.
            data: Files of its recipe, in any order, under any name.
            told: Called with each step.

        Raises:
            UnknownModel, UnknownVariant: it or its parent is missing.
            InvalidRequest: it was pulled, or a file of its recipe is not among `data`.
            UnsupportedModel: its bytes are sealed, or this ashore does not know its maker.
        """
        model = self._store.resolve(reference)
        recipe = VariantRecipe.from_notes(model.recipe)
        if recipe is None:
            raise InvalidRequest(
                f"{reference} has no recipe: it was pulled from {model.source}, or made by an older ashore",
                hint="name a variant or a derived model; run `ashore model list` to see them",
            )
        if recipe.maker not in self._makers:
            raise UnsupportedModel(
                f"{reference} was made by {recipe.maker!r}, which this ashore does not know",
                hint=did_you_mean(recipe.maker, self._makers),
            )
        if model.sealed is not None:
            raise UnsupportedModel(
                f"{reference} is sealed: its files are encrypted under a fresh salt each time",
                hint=f"unseal it first: ashore model unseal {model.name}",
            )
        files = find_data(recipe, data)
        parent = find_parent(self._store, model)
        with self._store.scratch(parent) as scratch:
            self._makers[recipe.maker](parent, recipe, files, scratch, told=told)
            inherited = {file.digest for file in parent.files}
            compared = tuple(
                RebuiltFile(path=file.path, kept=file.digest, again=_digest(scratch / file.path))
                for file in model.files
                if (scratch / file.path).is_file() or file.digest not in inherited
            )
        return RebuildReport(
            reference=reference, recipe=recipe, files=compared, versions_changed=changed_versions(recipe.versions)
        )


def find_parent(store: ModelStore, model: StoredModel) -> StoredModel:
    """Return the exact model that `model` was made from.

    Raises:
        UnknownModel: it is no longer in the store, under any name.
    """
    for candidate in store.list():
        if candidate.digest == model.parent:
            return candidate
    raise UnknownModel(
        f"{model.reference} was made from {model.parent}, which is no longer in the store",
        hint=f"pull it again; {model.reference} came from {model.source}",
    )


def changed_versions(then: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return, by tool, the current versions that differ from a recipe's; an empty text if a tool is missing."""
    changed = {}
    for name, old in then.items():
        try:
            now = version(name)
        except PackageNotFoundError:
            now = ""
        if now != old:
            changed[name] = (old, now)
    return changed


def _digest(path: Path) -> Digest | None:
    if not path.is_file():
        return None
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha.update(chunk)
    return Digest(f"sha256:{sha.hexdigest()}")
