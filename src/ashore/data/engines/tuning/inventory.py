"""Lists engines and their missing requirements. Reads package metadata; loads no library."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from ashore import __version__
from ashore.core.kinds import EngineKind
from ashore.data.engines.card import EngineCard
from ashore.data.engines.cards import CARDS, loaded
from ashore.data.engines.model import Feature
from ashore.data.engines.processor import is_masked
from ashore.kit.copied import copied
from ashore.kit.extras import how_to_install


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHere:
    """One engine kind as `ashore engine list` shows it."""

    kind: EngineKind
    installed: bool
    version: str
    """Of the library behind it; empty where it is not installed."""
    what: str
    takes: tuple[str, ...]
    """Formats of models."""
    architectures: str
    features: tuple[Feature, ...]
    """What it can do with a model that generates; a loaded host says what it can do with its model."""
    missing: str = ""
    """What to do to use it; empty where nothing is missing."""


def engines_here() -> tuple[EngineHere, ...]:
    """Return the availability of each engine kind on this machine, the default first."""
    return tuple(_here(card) for card in CARDS)


def built_here() -> frozenset[EngineKind]:
    """Return the engines with a library that was built for this machine's processor, unless it stands for an older
    one."""
    if is_masked():
        return frozenset()
    return frozenset(card.kind for card in CARDS if card.tuning.built and loaded(card.tuning.built)())


def _here(card: EngineCard) -> EngineHere:
    absent = [module for module in card.modules if find_spec(module) is None]
    return copied(
        EngineHere,
        card,
        installed=not absent,
        version=_version(card),
        takes=card.formats,
        missing=f"{', '.join(absent)} is not installed: {_install(card)}" if absent else _outside(card),
    )


def _version(card: EngineCard) -> str:
    if card.prefix:
        return __version__
    try:
        return version(card.packages[0]) if card.packages else ""
    except PackageNotFoundError:
        return ""


def _install(card: EngineCard) -> str:
    return how_to_install(card.extra) if card.extra else ""


def _outside(card: EngineCard) -> str:
    return "" if card.program is None or shutil.which(card.program.name) else card.program.outside
