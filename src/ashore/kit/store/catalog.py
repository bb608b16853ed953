"""The models that ashore knows by name: sources, properties, costs and engines."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, fields
from importlib.resources import files
from typing import Any, get_args

from ashore.core.errors import Bug, UnknownModel
from ashore.core.kinds import EngineKind, ModelFormat
from ashore.core.nearest import did_you_mean
from ashore.core.sampling import RECOMMENDABLE
from ashore.core.shapes import ModelShape
from ashore.kit.store.meant import meant
from ashore.kit.store.refs import unpinned


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """One model of the catalogue. A number without a public source is None: unknown, never guessed."""

    name: str
    summary: str
    source: str
    """First choice; `mirrors` are the same model elsewhere."""
    mirrors: tuple[str, ...] = ()
    licence: str
    licence_url: str = ""
    accept_licence: bool = False
    """True where the licence binds whoever downloads, so that it must be accepted by name."""
    format: ModelFormat
    weight_bytes: int | None = None
    sha256: str = ""
    """Of the one file that the source gives, where it is one (a wheel)."""
    hosts: tuple[str, ...] = ()
    """Where a public index has the file of this model, as entries of `[egress] allow`. A pull of this model may call
    them; of any other package only what `[egress]` names."""
    to_f16: bool = False
    """Dequantise at pull, so that every engine starts from plain weights."""
    engines: tuple[str, ...] = ()
    architecture: str = ""
    shape: ModelShape | None = None
    """None where any of its numbers is unknown; `known` has the others."""
    known: tuple[tuple[str, int], ...] = ()
    recommended: tuple[tuple[str, float], ...] = ()
    """Sampling that the makers recommend where the source's own files say none; names of `RECOMMENDABLE`."""
    facts: str = ""
    """Where the numbers come from, and which are missing."""
    unverified: tuple[str, ...] = ()
    """Numbers that no public copy of the repository's own files confirms: `shape` (all of it), one of its numbers, or
    `weight_bytes`."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """All entries, in the order of the file."""

    entries: tuple[CatalogEntry, ...]

    @classmethod
    def load(cls) -> Catalog:
        """Return the catalogue that ships with ashore."""
        document = tomllib.loads((files("ashore.kit.store") / "catalog.toml").read_text(encoding="utf-8"))
        return cls(tuple(_entry(name, table) for name, table in document["models"].items()))

    @property
    def sources(self) -> dict[str, str]:
        """The source of each entry, by name."""
        return {entry.name: entry.source for entry in self.entries}

    def get(self, name: str) -> CatalogEntry:
        """Return the entry of that name. Raises `UnknownModel` with the nearest names."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise UnknownModel(
            f"the catalogue has no model {name!r}",
            hint=meant(name, self.sources)
            or "of a model that is not in it, name the source: hf:ORG/NAME, ms:ORG/NAME, a directory or a .gguf; "
            + did_you_mean(name, [e.name for e in self.entries]),
        )

    def find_source(self, source: str) -> CatalogEntry | None:
        """Return the entry whose source or mirror this is, ignoring pinned versions and revisions."""
        for entry in self.entries:
            if any(unpinned(s) == unpinned(source) for s in (entry.source, *entry.mirrors)):
                return entry
        return None


def _entry(name: str, table: dict[str, Any]) -> CatalogEntry:
    table = dict(table)
    numbers: dict[str, int] = table.pop("shape", {})
    architecture = str(table.get("architecture", ""))
    wanted = {f.name for f in fields(ModelShape) if f.default is MISSING} - {"architecture"}
    names = {f.name for f in fields(ModelShape)}
    unknown = set(numbers) - names | set(table.get("unverified", ())) - names - {"shape", "weight_bytes"}
    recommended: dict[str, float] = table.pop("recommended", {})
    unknown |= set(recommended) - set(RECOMMENDABLE)
    foreign = set(table.get("engines", ())) - set(get_args(EngineKind))
    if unknown or foreign or table["format"] not in get_args(ModelFormat):
        raise Bug(f"catalog.toml: {name} has an unknown field, engine or format")
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    rest["shape"] = ModelShape(architecture=architecture, **numbers) if wanted <= set(numbers) else None
    return CatalogEntry(name=name, known=tuple(sorted(numbers.items())), recommended=tuple(recommended.items()), **rest)
