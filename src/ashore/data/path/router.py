"""Routes a name to the releases that answer under it, by weight and sticky per conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ashore.data.authority import Principal
from ashore.data.path.model import GenerationRequest
from ashore.data.path.models import LoadedModel
from ashore.data.releases import AliasRoute, Sticky, choose

OPENING_CHARS = 512
"""Length of the beginning of a raw prompt that identifies its conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Route of one name. All its models have that name as their alias."""

    models: tuple[tuple[LoadedModel, int], ...]
    """With thousandths; the heaviest first."""
    sticky: Sticky = "conversation"
    standby: LoadedModel | None = None
    behind: tuple[str, ...] = field(init=False)
    """The models that these are releases of, where the name is an alias of others."""

    def __post_init__(self) -> None:
        behind = sorted({model.served.stands_for for model in self.all_models} - {""})
        object.__setattr__(self, "behind", tuple(behind))

    @property
    def first(self) -> LoadedModel:
        """The representative model: for lists, and for checks before the body is read."""
        return self.models[0][0]

    def pick(self, principal: Principal, request: GenerationRequest | None = None) -> LoadedModel:
        """Return the release that answers: by weight if there are several, the warm standby while it has no host."""
        model = self.first
        if len(self.models) > 1:
            chosen = choose(
                [(one.served.release, weight) for one, weight in self.models],
                sticky_key(self.sticky, principal, request),
            )
            model = next(one for one, _ in self.models if one.served.release == chosen)
        elif self.standby is None:
            return model
        if model.replicas.ready or model.may_load:
            return model
        return next((one for one in self.all_models if one.replicas.ready), model)

    @property
    def all_models(self) -> tuple[LoadedModel, ...]:
        """Every release that may answer, the standby last."""
        return (*(model for model, _ in self.models), *(() if self.standby is None else (self.standby,)))

    def leads_to(self, model: LoadedModel) -> bool:
        """Return whether a model still answers under this name."""
        release = model.served.release
        return any(one.served.release == release for one, _ in self.models)

    @property
    def shape(self) -> tuple[object, ...]:
        """Everything that a repeated request depends on."""
        return (*((id(one.replicas), weight) for one, weight in self.models), self.sticky)


def sticky_key(sticky: Sticky, principal: Principal, request: GenerationRequest | None) -> bytes:
    """Return the stickiness key: of a conversation by its beginning, or the API key.

    A conversation is identified by its principal and its turns up to the first of the user, which stay as it grows.
    """
    who = f"{principal.tenant}\0{principal.id}\0{principal.key_id}".encode("utf-8", "surrogatepass")
    if sticky == "key" or request is None:
        return who
    opening = ""
    if request.prompt is not None:
        opening = str(request.prompt[:OPENING_CHARS])
    for message in request.messages:
        opening += f"\0{message.role}\0{message.content}"
        if message.role == "user":
            break
    return who + opening.encode("utf-8", "surrogatepass")


def make_leads(
    loaded: Mapping[tuple[str, str], LoadedModel], primary: Mapping[str, str], routes: Mapping[str, AliasRoute]
) -> dict[str, Lead]:
    """Return the route of every name: aliases, and `ALIAS:ADAPTER` for adapters.

    Releases that were never ready are left out; if none was, the topology's own answers.

    Args:
        loaded: Models of the topology, by alias and release.
        primary: The release of the topology for each of its aliases.
        routes: Routes of the state; an alias without one leads to the topology's release.
    """
    by_release = {release: model for (_, release), model in loaded.items()}
    leads: dict[str, Lead] = {}
    for name in (*primary, *(name for name in routes if name not in primary)):
        route = routes.get(name)
        found: list[tuple[LoadedModel, int]] = []
        standby = None
        if route is not None:
            known = [(by_release.get(release), weight) for release, weight in route.weights]
            found = [
                (model, weight)
                for model, weight in known
                if model is not None and (model.replicas.info is not None or model.may_load)
            ]
            standby = by_release.get(route.standby)
        if not found and name in primary:
            found = [(loaded[name, primary[name]], 1)]
        if not found:
            continue
        found.sort(key=lambda pair: (-pair[1], pair[0].served.release))
        lead = Lead(
            models=tuple((named(model, name), weight) for model, weight in found),
            sticky="conversation" if route is None else route.sticky,
            standby=None if standby is None else named(standby, name),
        )
        leads[name] = lead
        every = dict.fromkeys(adapter for model, _ in lead.models for adapter in model.served.adapters)
        for adapter in every:  # if the heavier release lacks an adapter, the other one serves it
            leads[f"{name}:{adapter}"] = Lead(
                models=tuple(
                    (adapted(model, name, adapter), weight)
                    for model, weight in lead.models
                    if adapter in model.served.adapters
                ),
                sticky=lead.sticky,
                standby=adapted(lead.standby, name, adapter)
                if lead.standby is not None and adapter in lead.standby.served.adapters
                else None,
            )
    return leads


def named(model: LoadedModel, alias: str) -> LoadedModel:
    """Return a model under another alias, with the same replicas and admission."""
    if model.served.alias == alias:
        return model
    own = model.served.alias
    return replace(model, served=msgspec.structs.replace(model.served, alias=alias, stands_for=own))


def adapted(model: LoadedModel, alias: str, adapter: str) -> LoadedModel:
    """Return one of a model's adapters as a model, with the same replicas and admission.

    Cached answers are by alias, so each adapter has its own.
    """
    own = model.served.stands_for
    served = msgspec.structs.replace(
        model.served,
        alias=f"{alias}:{adapter}",
        stands_for=f"{own}:{adapter}" if own else "",
        adapter=adapter,
        adapters=(),
    )
    return replace(model, served=served)
