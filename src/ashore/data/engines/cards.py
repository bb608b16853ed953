"""The table of engines. A new engine is a folder with a `CARD`, a line here and its kind in `core/kinds.py`.

Loads no engine's library: a card is data, and a `module:name` in it is imported when it is called.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import InvalidSpec
from ashore.core.kinds import EngineKind, ServedFormat
from ashore.core.nearest import did_you_mean
from ashore.data.engines.card import EngineCard
from ashore.data.engines.fake.card import CARD as _FAKE
from ashore.data.engines.llamacpp.card import CARD as _LLAMACPP
from ashore.data.engines.model import EngineOptions, ModelFiles
from ashore.data.engines.openvino.card import CARD as _OPENVINO
from ashore.data.engines.ports import Engine
from ashore.data.engines.tabular.card import CARD as _HEAD
from ashore.data.engines.textonly.card import CARD as _TEXTONLY
from ashore.data.engines.torch.card import CARD as _TORCH
from ashore.data.engines.vllm.card import CARD as _VLLM
from ashore.kit.extras import require

CARDS: Final[tuple[EngineCard, ...]] = (_OPENVINO, _LLAMACPP, _TORCH, _VLLM, _TEXTONLY, _HEAD, _FAKE)
"""Every engine, the default first."""
DEFAULT: Final = CARDS[0]
"""The engine that `up` prepares models for."""
MADE_UP: Final = _FAKE
"""The engine of models that are only a name."""


def engine_kinds() -> tuple[EngineKind, ...]:
    """Return every kind that `make_engine` takes, sorted."""
    return tuple(sorted(card.kind for card in CARDS))


def card_of(kind: str) -> EngineCard:
    """Return the card of a kind.

    Raises:
        InvalidSpec: there is no such kind.
    """
    for card in CARDS:
        if card.kind == kind:
            return card
    raise InvalidSpec(f"there is no engine {kind!r}", hint=did_you_mean(kind, engine_kinds()))


def card_by_name(name: str) -> EngineCard | None:
    """Return the engine that generates this model itself, by its name (`fake:echo`); None: the model is in a store."""
    return next((card for card in CARDS if card.prefix and name.startswith(card.prefix)), None)


def refuse_uninstalled(card: EngineCard, name: str) -> None:
    """Check that the packages of the engine that a model needs are installed. The plain installation has none: it
    fronts engines elsewhere.

    Raises:
        MissingExtra: one is not.
    """
    if card.extra:
        require(card.modules, card.extra, name)


def needed_bytes_of(name: str) -> int:
    """Return the memory estimate of a model that is only a name; 0 for any other."""
    card = card_by_name(name)
    return 0 if card is None or not card.needed_bytes else int(loaded(card.needed_bytes)(name))


def check_name(name: str) -> None:
    """Check the name of a model that an engine generates itself; any other name passes.

    Raises:
        InvalidSpec: the name has a wrong option.
    """
    if (card := card_by_name(name)) is not None:
        loaded(card.check_name)(name)


def card_reading(form: ServedFormat) -> EngineCard:
    """Return the default engine that reads a format directly.

    Raises:
        InvalidSpec: none does.
    """
    for card in CARDS:
        if form == card.native:
            return card
    for card in CARDS:
        if card.native is None and form in card.formats:
            return card
    raise InvalidSpec(f"no engine reads the format {form!r}")


def reads_store(options: EngineOptions) -> bool:
    """Return whether a replica reads files of the store: its model is neither only a name nor on another machine."""
    return not card_of(options.kind).prefix and "fleet" not in options.extra


def files_by_name(name: str, folder: Path) -> ModelFiles | None:
    """Write the files of a model that is only a name below `folder` and return them; None if it is in a store.

    Raises:
        InvalidSpec: the name has a wrong option.
    """
    card = card_by_name(name)
    if card is None:
        return None
    files: ModelFiles = loaded(card.files)(name, folder / card.kind)
    return files


def make_engine(kind: EngineKind) -> Engine:
    """Return a new engine of `kind`, not loaded yet. Imports its module, and the library behind it at `load`.

    Raises:
        InvalidSpec: there is no such kind.
    """
    engine: Engine = loaded(card_of(kind).adapter)()
    return engine


def loaded(target: str) -> Any:
    """Return the object named by `module:name`. Imports the module."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
