"""The served models: looked up by alias, described for `/v1/models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ashore.core.errors import NotReady, UnknownModel
from ashore.core.nearest import did_you_mean
from ashore.data.engines import EngineInfo, EngineKind
from ashore.data.path.admission import Gate
from ashore.data.path.ports import ServedText
from ashore.data.path.replicas import ReplicaSet
from ashore.data.path.topology import ServedModel

if TYPE_CHECKING:
    from ashore.data.path.bycost import ByCostRoute

NO_SERVER: Final = "no server"
"""State of a model whose hosts are there, and none of the servers behind them."""
ServingState = Literal["ready", "loading", "draining", "not-recording"]
"""Whether a worker can answer now, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Public description of a served model."""

    alias: str
    release: str
    kind: EngineKind
    created_s: int
    ready: bool
    """Whether a request is answered: now, or once the model has loaded for it."""
    embedder: bool
    precision: str = ""
    """Empty until a replica was ready."""
    context_tokens: int = 0
    embedding_size: int = 0
    features: tuple[str, ...] = ()
    on_demand: bool = False
    state: str = "loaded"
    """State of a model on demand: `cold`, `loading`, `failed`…; see `data/residency/model.py`. `NO_SERVER` of any."""
    load_s: float = 0.0
    """Duration of the last load of a model on demand; 0: not known, or it is not on demand."""
    recommended: Mapping[str, float] = field(default_factory=dict)
    """Sampling where a request leaves it out; empty: nothing is changed."""
    recommended_by: str = ""
    """`generation_config.json` of the model, or ashore's `catalogue`; empty where nothing is recommended."""
    content: str = ""
    """Content name that decides its answers; empty if unknown."""
    knows_tools: bool = False
    """Whether its template supports tools."""
    thinks: bool = False
    """Whether its template knows `<think>`."""
    fills_gaps: bool = False
    """Whether it supports fill in the middle."""

    @property
    def chats(self) -> bool:
        """Whether it writes text; an encoder and a head do not."""
        return not self.embedder and self.kind != "tabular"


@dataclass(slots=True, kw_only=True)
class LoadedModel:
    """One alias with everything that serves it."""

    served: ServedModel
    text: ServedText
    replicas: ReplicaSet
    gate: Gate
    recommended: Mapping[str, float] = field(default_factory=dict)
    """Default sampling."""
    unserved: bool = False
    """Whether no server of another machine answers behind its hosts, as seen a second ago."""
    by_cost: ByCostRoute | None = None
    """Set where other models answer for it, too, and each request goes where it costs least."""

    @property
    def as_kept(self) -> ServedModel:
        """Identity of the answering models, for the address of a cached answer."""
        if self.by_cost is None:
            return self.served
        return msgspec.structs.replace(self.served, content=self.by_cost.content)

    @property
    def info(self) -> EngineInfo:
        """Nature and features of its engine.

        Raises:
            NotReady: no replica was ready yet.
        """
        info = self.replicas.info
        if info is None:
            raise NotReady(
                f"{self.served.alias!r} is still loading", hint="ask /readyz, or send it again", retry_after_s=2
            )
        return info

    @property
    def may_load(self) -> bool:
        """Whether it is loaded on demand."""
        residence = self.replicas.residence
        return residence is not None and not residence.is_hopeless

    def card(self) -> ModelCard:
        """Return its current description."""
        served, info, residence = self.served, self.replicas.info, self.replicas.residence
        ready = self.replicas.ready and not self.unserved
        return ModelCard(
            alias=served.alias,
            release=served.release,
            kind=served.kind,
            created_s=served.created_s,
            ready=ready or (residence is not None and not residence.is_hopeless),
            on_demand=residence is not None,
            state="loaded" if ready else self._waits_for,
            load_s=residence.load_s if residence is not None else 0.0,
            embedder=served.embedder,
            precision=info.precision if info else "",
            context_tokens=info.context_tokens if info else 0,
            embedding_size=info.embedding_size if info else 0,
            features=tuple(info.features) if info else (),
            recommended=self.recommended,
            recommended_by=self.text.sampling_defaults_from,
            content=served.content,
            knows_tools=self.text.knows_tools,
            thinks=self.text.thinks,
            fills_gaps=bool(self.text.gap_stop_ids),
        )

    @property
    def _waits_for(self) -> str:
        if self.unserved and self.replicas.ready:
            return NO_SERVER
        return "loading" if self.replicas.residence is None else self.replicas.residence.state


def not_found(alias: str, known: Iterable[str]) -> UnknownModel:
    """Return the error for an unknown name; its hint suggests the nearest ones."""
    shown = alias if len(alias) <= 100 else alias[:100] + "…"
    return UnknownModel(f"no model is called {shown!r} here", hint=did_you_mean(shown, known), param="model")
