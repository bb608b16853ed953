"""The models that are served here: found by alias, described for `/v1/models`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ashore.core import did_you_mean
from ashore.engines import EngineInfo, EngineKind
from ashore.errors import NotReady, UnknownModel
from ashore.serving.admission import Gate
from ashore.serving.ports import ServedText
from ashore.serving.replicas import ReplicaSet
from ashore.serving.topology import ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What anybody may know about a served model."""

    alias: str
    release: str
    kind: EngineKind
    created_s: int
    ready: bool
    embedder: bool
    precision: str = ""
    """Empty until a replica was ready."""
    context_tokens: int = 0
    embedding_size: int = 0
    features: tuple[str, ...] = ()
    recommended: Mapping[str, float] = field(default_factory=dict)
    """Sampling where a request leaves it out; empty: nothing is changed."""


@dataclass(slots=True, kw_only=True)
class LoadedModel:
    """One alias with all that serves it."""

    served: ServedModel
    text: ServedText
    replicas: ReplicaSet
    gate: Gate
    recommended: Mapping[str, float] = field(default_factory=dict)
    """Sampling where a client says nothing."""

    @property
    def info(self) -> EngineInfo:
        """What its engine is and can do.

        Raises:
            NotReady: no replica was ready yet.
        """
        info = self.replicas.info
        if info is None:
            raise NotReady(
                f"{self.served.alias!r} is still loading", hint="ask /readyz, or send it again", retry_after_s=2
            )
        return info

    def card(self) -> ModelCard:
        """Describe it as it is now."""
        served, info = self.served, self.replicas.info
        return ModelCard(
            alias=served.alias,
            release=served.release,
            kind=served.kind,
            created_s=served.created_s,
            ready=self.replicas.ready,
            embedder=served.embedder,
            precision=info.precision if info else "",
            context_tokens=info.context_tokens if info else 0,
            embedding_size=info.embedding_size if info else 0,
            features=tuple(info.features) if info else (),
            recommended=self.recommended,
        )


def by_name(models: Mapping[str, LoadedModel]) -> dict[str, LoadedModel]:
    """Return the models by every name that clients may use: `chat`, and `chat:legal` for its adapter `legal`.

    A model and its adapters share replicas and admission. Kept answers are by alias, so that each has its own.
    """
    names = dict(models)
    for alias, model in models.items():
        for adapter in model.served.adapters:
            served = msgspec.structs.replace(model.served, alias=f"{alias}:{adapter}", adapter=adapter, adapters=())
            names[served.alias] = replace(model, served=served)
    return names


def find_model(models: Mapping[str, LoadedModel], alias: str) -> LoadedModel:
    """Return the model behind `alias`.

    Raises:
        UnknownModel: there is none; the hint offers the nearest names.
    """
    found = models.get(alias)
    if found is None:
        shown = alias if len(alias) <= 100 else alias[:100] + "…"
        raise UnknownModel(f"no model is called {shown!r} here", hint=did_you_mean(shown, models), param="model")
    return found
