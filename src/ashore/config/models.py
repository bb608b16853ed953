"""`[[model]]` and `[model.engine]`: what is served, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from ashore.config.table import Table
from ashore.core import EngineKind, check_adapter_name
from ashore.errors import InvalidRequest, InvalidSpec, PermissionDenied

EngineChoice = Literal["auto", EngineKind]
OptionValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """`[model.engine]`: how the operator wants a model run. Zero and empty mean: let the plan choose."""

    kind: EngineChoice = "auto"
    url: str = ""
    """Address of an external vLLM server."""
    context_tokens: int = 0
    kv_tokens: int = 0
    max_sequences: int = 0
    threads: int = 0
    prefix_cache: bool = True
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Go to the engine unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """`[[model]]`: one model to serve."""

    name: str
    alias: str = ""
    """What clients ask for; empty: the name."""
    replicas: int = 1
    adapters: Mapping[str, str] = field(default_factory=dict)
    """`[model.adapters]`: LoRA folders by name, as peft saves them. Clients ask for `ALIAS:NAME`."""
    engine: EngineSpec = field(default_factory=EngineSpec)


def read_model(table: Table, allow: tuple[str, ...]) -> ModelSpec:
    """Return one `[[model]]`. `allow` is `[egress] allow`: an engine elsewhere is used only where it is named there."""
    table.known("name", "alias", "replicas", "adapters", "engine")
    name = table.get("name", str, "")
    if not name:
        raise InvalidSpec(f"{table.where} has no name", hint='write name = "smollm2", a store name or a source')
    return ModelSpec(
        name=name,
        alias=table.get("alias", str, ""),
        replicas=table.number("replicas", 1, lowest=1, highest=64),
        adapters=_adapters(table.table("adapters")),
        engine=_engine(table.table("engine"), allow),
    )


def _adapters(table: Table) -> dict[str, str]:
    for name in table.values:
        try:
            check_adapter_name(name)
        except InvalidRequest as fault:
            raise InvalidSpec(f"{table.where}: {fault.message}", hint=fault.hint) from fault
    return {name: table.get(name, str, "") for name in table.values}


def _engine(table: Table, allow: tuple[str, ...]) -> EngineSpec:
    default = EngineSpec()
    table.known(*EngineSpec.__dataclass_fields__)
    kind = table.choice("kind", default.kind, get_args(EngineChoice))
    url = table.get("url", str, "")
    if url and not url.startswith(("http://", "https://")):
        raise InvalidSpec(f"{table.where} url = {url!r}; expected http:// or https://", hint="give vLLM's address")
    if url:
        _refuse_elsewhere(url, allow, table.where)
    options = table.table("options").values
    for key, value in options.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidSpec(
                f"{table.where} options.{key} is a {type(value).__name__}; expected a text, number or flag"
            )
    if "url" in options:
        raise InvalidSpec(f"{table.where} options has a url", hint="write url beside options: it is no option")
    return EngineSpec(
        kind=cast(EngineChoice, kind),
        url=url,
        context_tokens=table.number("context_tokens", 0, lowest=0),
        kv_tokens=table.number("kv_tokens", 0, lowest=0),
        max_sequences=table.number("max_sequences", 0, lowest=0),
        threads=table.number("threads", 0, lowest=0, highest=4096),
        prefix_cache=table.get("prefix_cache", bool, True),
        options=cast("dict[str, OptionValue]", options),
    )


def _refuse_elsewhere(url: str, allow: tuple[str, ...], where: str) -> None:
    from ashore.jobs.egress import LOOPBACK, check_url, parse_allow

    try:
        check_url(url, parse_allow([*LOOPBACK, *allow]))
    except PermissionDenied as fault:
        raise InvalidSpec(
            f"{where} url is at a server that ashore may not call: {fault.message}",
            hint="name its host in [egress] allow",
        ) from fault
