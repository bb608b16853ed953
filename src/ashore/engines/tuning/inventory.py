"""Which engines there are, and what is missing to use them. Looks at package metadata; loads no library."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

from ashore import __version__
from ashore.core import EngineKind
from ashore.engines.features import ENCODER_ARCHITECTURES, FEATURES, OPENVINO_ARCHITECTURES
from ashore.engines.llamacpp.library import built_library
from ashore.engines.model import Feature
from ashore.extras import how_to_install


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCard:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    kind: EngineKind
    what: str
    takes: tuple[str, ...]
    architectures: str
    packages: tuple[str, ...] = ()
    """Distributions it needs, the one whose version is shown first."""
    modules: tuple[str, ...] = ()
    install: str = ""


_KINDS: Final[tuple[_Kind, ...]] = (
    _Kind(
        kind="openvino",
        what="CPU, the default: OpenVINO's runtime under ashore's own scheduler and sampler",
        takes=("gguf", "safetensors", "openvino"),
        architectures=", ".join((*sorted(OPENVINO_ARCHITECTURES), *sorted(ENCODER_ARCHITECTURES))),
        packages=("openvino", "nncf"),
        modules=("openvino", "nncf"),
        install="pip install openvino nncf",
    ),
    _Kind(
        kind="llamacpp",
        what="CPU: llama.cpp in process (xllamacpp)",
        takes=("gguf",),
        architectures="every GGUF, DeepSeek V2 and V3 included",
        packages=("xllamacpp",),
        modules=("xllamacpp",),
        install="pip install xllamacpp",
    ),
    _Kind(
        kind="torch",
        what="PyTorch and transformers: the reference for correctness, slow",
        takes=("safetensors",),
        architectures="what transformers takes without remote code",
        packages=("torch", "transformers"),
        modules=("torch", "transformers"),
        install=how_to_install("train"),
    ),
    _Kind(
        kind="vllm",
        what="GPU: an external vLLM server, spoken to over HTTP",
        takes=("safetensors", "remote"),
        architectures="what that server takes",
    ),
    _Kind(
        kind="fake",
        what="no model: fake:echo and fake:random, for load tests and for trying ashore",
        takes=("fake",),
        architectures="none",
    ),
)


def engine_cards() -> tuple[EngineCard, ...]:
    """Return one card for each engine kind, the default first."""
    return tuple(_card(kind) for kind in _KINDS)


def has_built_llamacpp() -> bool:
    """Tell whether llama-cpp-python is there, whose llama.cpp was built for this processor as a rule."""
    return bool(built_library())


def _card(kind: _Kind) -> EngineCard:
    absent = [module for module in kind.modules if find_spec(module) is None]
    return EngineCard(
        kind=kind.kind,
        installed=not absent,
        version=_version(kind),
        what=kind.what,
        takes=kind.takes,
        architectures=kind.architectures,
        features=FEATURES[kind.kind],
        missing=f"{', '.join(absent)} is not installed: {kind.install}" if absent else _outside(kind.kind),
    )


def _version(kind: _Kind) -> str:
    if kind.kind == "fake":
        return __version__
    try:
        return version(kind.packages[0]) if kind.packages else ""
    except PackageNotFoundError:
        return ""


def _outside(kind: EngineKind) -> str:
    if kind != "vllm" or shutil.which("vllm"):
        return ""
    return "give the address of a server in [model.engine] url, or install vllm on a machine with a GPU"
