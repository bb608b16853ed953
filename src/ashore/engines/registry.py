"""Which class runs which kind of engine: the only place that names adapters, and it imports one at a time."""

from __future__ import annotations

from importlib import import_module
from typing import Final, get_args

from ashore.core import EngineKind, did_you_mean
from ashore.engines.ports import Engine
from ashore.errors import InvalidSpec

_ADAPTERS: Final[dict[EngineKind, tuple[str, str]]] = {
    "fake": ("ashore.engines.fake", "FakeEngine"),
    "llamacpp": ("ashore.engines.llamacpp", "LlamaCppEngine"),
    "openvino": ("ashore.engines.openvino", "OpenVinoEngine"),
    "torch": ("ashore.engines.torch", "TorchEngine"),
    "vllm": ("ashore.engines.vllm", "VllmEngine"),
}


def engine_kinds() -> tuple[EngineKind, ...]:
    """Return every kind that `make_engine` takes, sorted."""
    return tuple(sorted(_ADAPTERS))


def make_engine(kind: EngineKind) -> Engine:
    """Return a new engine of `kind`, not loaded yet. Imports its module, and the library behind it at `load`.

    Raises:
        InvalidSpec: there is no such kind.
    """
    if kind not in _ADAPTERS:
        raise InvalidSpec(f"no engine is called {kind!r}", hint=did_you_mean(kind, get_args(EngineKind)))
    module, name = _ADAPTERS[kind]
    engine: Engine = getattr(import_module(module), name)()
    return engine
