"""ashore.toml parsed. Unknown keys are errors that name the nearest known one; so are parts of a later version."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

from ashore.core import did_you_mean
from ashore.errors import InvalidSpec

EngineChoice = Literal["auto", "openvino", "llamacpp", "vllm", "torch", "fake"]
T = TypeVar("T")
OptionValue = str | int | float | bool

LATER = ("edge", "cache", "redis", "access", "audit", "privacy", "sealing", "backup", "egress")
"""Sections of the design that this version cannot honour. Accepting one silently would be a lie about safety."""


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
    engine: EngineSpec = field(default_factory=EngineSpec)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSpec:
    """`[http]` or `[grpc]`: where to listen. Port 0 switches gRPC off."""

    host: str = "127.0.0.1"
    port: int = 8080


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSpec:
    """`[admission]`: when a request is refused at once instead of waiting."""

    max_waiting: int = 256
    max_tokens_in_flight: int = 0
    """Prompt and answer tokens of admitted requests; 0: what the KV caches hold."""
    default_deadline_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the operator wants deployed."""

    models: tuple[ModelSpec, ...] = ()
    http: ListenSpec = field(default_factory=ListenSpec)
    grpc: ListenSpec = field(default_factory=lambda: ListenSpec(port=8081))
    admission: AdmissionSpec = field(default_factory=AdmissionSpec)
    settings: Mapping[str, object] = field(default_factory=dict)
    """`[settings]` as written, for `read_settings`; `[state] url` is among them as `state_url`."""


def read_spec(path: Path) -> Spec:
    """Return what the file says.

    Raises:
        InvalidSpec: it is missing, is not TOML, or says something that ashore does not know or cannot do yet.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise InvalidSpec(f"{path}: {fault.strerror}", hint="give an existing file to --config") from fault
    return parse_spec(text, where=str(path))


def parse_spec(text: str, *, where: str = "ashore.toml") -> Spec:
    """Return the spec in `text`; `where` stands in messages."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise InvalidSpec(f"{where} is not TOML: {fault}", hint="correct that line") from fault
    top = _Table(document, where)
    for name in LATER:
        if name in document:
            raise InvalidSpec(
                f"{where} has [{name}], which is not in this version", hint=f"remove [{name}]; nothing of it would hold"
            )
    top.known("model", "http", "grpc", "admission", "settings", "state")
    models = tuple(_model(table) for table in top.tables("model"))
    aliases = [m.alias or m.name for m in models]
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise InvalidSpec(f"{where} gives the alias {alias!r} to two models", hint="aliases must differ")
    settings = dict(top.table("settings").values)
    state = top.table("state")
    state.known("url")
    if "url" in state.values:
        settings["state_url"] = state.get("url", str, "")
    return Spec(
        models=models,
        http=_listen(top.table("http"), ListenSpec(), lowest_port=1),
        grpc=_listen(top.table("grpc"), ListenSpec(port=8081), lowest_port=0),
        admission=_admission(top.table("admission")),
        settings=settings,
    )


def _model(table: _Table) -> ModelSpec:
    table.known("name", "alias", "replicas", "engine")
    name = table.get("name", str, "")
    if not name:
        raise InvalidSpec(f"{table.where} has no name", hint='write name = "smollm2", a store name or a source')
    return ModelSpec(
        name=name,
        alias=table.get("alias", str, ""),
        replicas=table.number("replicas", 1, lowest=1, highest=64),
        engine=_engine(table.table("engine")),
    )


def _engine(table: _Table) -> EngineSpec:
    default = EngineSpec()
    table.known(*EngineSpec.__dataclass_fields__)
    kind = table.get("kind", str, default.kind)
    if kind not in get_args(EngineChoice):
        raise InvalidSpec(f"{table.where} kind = {kind!r}", hint=did_you_mean(kind, get_args(EngineChoice)))
    url = table.get("url", str, "")
    if url and not url.startswith(("http://", "https://")):
        raise InvalidSpec(f"{table.where} url = {url!r}; expected http:// or https://", hint="give vLLM's address")
    options = table.table("options").values
    for key, value in options.items():
        if not isinstance(value, str | int | float | bool):
            raise InvalidSpec(
                f"{table.where} options.{key} is a {type(value).__name__}; expected a text, number or flag"
            )
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


def _listen(table: _Table, default: ListenSpec, *, lowest_port: int) -> ListenSpec:
    table.known("host", "port")
    return ListenSpec(
        host=table.get("host", str, default.host),
        port=table.number("port", default.port, lowest=lowest_port, highest=65_535),
    )


def _admission(table: _Table) -> AdmissionSpec:
    default = AdmissionSpec()
    table.known(*AdmissionSpec.__dataclass_fields__)
    deadline_s = table.get("default_deadline_s", float, default.default_deadline_s)
    if not 0 < deadline_s <= 86_400:
        raise InvalidSpec(f"{table.where} default_deadline_s = {deadline_s}; expected seconds between 0 and 86400")
    return AdmissionSpec(
        max_waiting=table.number("max_waiting", default.max_waiting, lowest=0),
        max_tokens_in_flight=table.number("max_tokens_in_flight", default.max_tokens_in_flight, lowest=0),
        default_deadline_s=deadline_s,
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """One TOML table with the place it stands at, so that every message can name it."""

    values: Mapping[str, object]
    where: str

    def known(self, *names: str) -> None:
        for key in self.values:
            if key not in names:
                raise InvalidSpec(f"{self.where} has an unknown key {key!r}", hint=did_you_mean(key, names))

    def get(self, key: str, kind: type[T], default: T) -> T:
        value = self.values.get(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return cast(T, float(value))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(key, kind.__name__, value)
        return value

    def number(self, key: str, default: int, *, lowest: int, highest: int = 2**40) -> int:
        value = self.get(key, int, default)
        if not lowest <= value <= highest:
            raise InvalidSpec(f"{self.where} {key} = {value}; expected {lowest} to {highest}", hint="correct that line")
        return value

    def table(self, key: str) -> _Table:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "table", value)
        return _Table(value, f"{self.where} [{key}]")

    def tables(self, key: str) -> tuple[_Table, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InvalidSpec(f"{self.where} {key} is not a list of tables", hint=f"write [[{key}]] with two brackets")
        return tuple(_Table(item, f"{self.where} [[{key}]] number {i}") for i, item in enumerate(value, start=1))

    def _wrong(self, key: str, expected: str, value: object) -> InvalidSpec:
        return InvalidSpec(
            f"{self.where} {key} is {value!r}, a {type(value).__name__}; expected a {expected}",
            hint="correct that line",
        )
