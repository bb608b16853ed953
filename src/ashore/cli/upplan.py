"""Builds a plan from arguments and ashore.toml, for `up` and `reload`, and prints it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Final, cast, get_args

import msgspec
from cyclopts import Parameter
from msgspec import structs

from ashore.cli.bootstrap import (
    build_store,
    find_programs,
    gather_facts,
    refuse_half_backups,
    server_command_lines,
    text_of,
    tuned_choices,
)
from ashore.cli.columns import prose
from ashore.cli.sure import json_text
from ashore.control.backup import BackupSection
from ashore.control.releases import KeptVerdicts
from ashore.control.sites import ROWS, SETTABLE, Parts, SitesSection, checked, merged, read_parts
from ashore.core.bytesize import human_bytes
from ashore.core.errors import AshoreError, Conflict, InvalidSpec, SourceUnreachable, UnknownModel, UnknownVariant
from ashore.data.cache import check_shared_url
from ashore.data.engines import (
    DEFAULT,
    RESERVED_BYTES,
    RUNGS,
    Change,
    Choice,
    Inventory,
    ModelPlan,
    OnDemand,
    Plan,
    Promise,
    Wish,
    card_by_name,
    card_of,
    read_inventory,
    reads_store,
    refuse_uninstalled,
)
from ashore.data.path import GrpcSection
from ashore.kit.processes import python_command
from ashore.kit.settings import Settings, read_settings
from ashore.kit.store import ModelStore, changed_since, check_local, is_path, is_source, name_of_source
from ashore.machine.config import Listening, Spec, read_spec
from ashore.machine.edge import EdgeKind, EdgeSection, edge_choices
from ashore.machine.planning import (
    LadderSection,
    ModelSection,
    ShareSection,
    make_plan,
    plan_beside,
    refuse_without_program,
    what_fits,
)
from ashore.machine.residency import TiersSection

DEFAULT_MODELS = ("smollm2", "minilm")
"""What `ashore up` serves when no models are named: the demo decoder and an embedder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What the operator says of a server, beside its models; words win over the file.

    Args:
        config: Path of an ashore.toml. The other options override it.
        host: Address to listen on; default 127.0.0.1.
        port: Port of the HTTP API; default 8080.
        grpc_port: Port of the gRPC API; default 8081; 0 disables it.
        offline: Download nothing. A model that is not in the store is an error.
        redis: Share cached answers between workers: embedded starts a Valkey server; or give a redis://, rediss:// or
            redis+sentinel:// URL.
        edge: envoy: run Envoy in front, with TLS, and with HTTP/1.1, HTTP/2 and gRPC on one port (default 8443). --host
            and --port then set its address. Default: as in the file, else none.
        workers: API workers behind the edge; default 1.
    """

    config: Path | None = None
    host: str = ""
    port: int = 0
    grpc_port: int = -1
    offline: bool = False
    redis: str = ""
    edge: str = ""
    workers: int = 0

    def request(self, models: tuple[str, ...]) -> Request:
        """Return them as the server keeps them."""
        words = {each.name: getattr(self, each.name) for each in fields(self)}
        return Request(models=models, **{**words, "config": self.config.absolute() if self.config else None})


Asked = Annotated[Words, Parameter(name="*")]
NOTHING_ASKED: Final = Words()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Words):
    """What the operator asked `up` for; kept by the running server, so that `reload` can ask again."""

    models: tuple[str, ...] = ()
    """Given on the command line; they win over the file's list only by being the only ones."""

    def words(self) -> list[str]:
        """Return the command line of `ashore up` that asks for the same, with paths that hold in any folder."""
        options = {
            "--config": self.config or "",
            "--host": self.host,
            "--port": self.port or "",
            "--grpc-port": self.grpc_port if self.grpc_port >= 0 else "",
            "--redis": self.redis,
            "--edge": self.edge,
            "--workers": self.workers or "",
        }
        given = [word for name, value in options.items() if value != "" for word in (name, str(value))]
        return [*self.models, *given, *(["--offline"] if self.offline else [])]

    def settings(self) -> Settings:
        """Return the settings that hold for this request."""
        found = read_settings(table=self.spec().settings)
        return replace(found, offline=True) if self.offline else found

    def spec(self) -> Spec:
        """Read the file again, and lay the command line's words over it; at a site, also the parts that its centre set.

        Raises:
            InvalidSpec: the file is wrong, or models are named in both places.
        """
        return self.spec_with(None)

    def spec_with(self, parts: Parts | None) -> Spec:
        """Return `spec()` as it would be with other parts of the centre."""
        spec = read_spec(self.config) if self.config else Spec()
        if self.config and spec.section("sites", SitesSection).role == "site":
            if parts is None:
                parts = read_parts(read_settings(table=spec.settings).home.sites)
            spec = read_spec(self.config, partial(merged, parts=parts))
        if spec.models and self.models:
            raise InvalidSpec(
                f"models are named on the command line and in {self.config}", hint="name them in one place only"
            )
        names = self.models or (() if spec.models else DEFAULT_MODELS)
        if len(set(names)) != len(names):
            raise InvalidSpec("a model is named twice", hint="for more replicas, set [[model]] replicas in ashore.toml")
        http = structs.replace(
            spec.http,
            host=self.host or spec.http.host,
            port=self.port or spec.http.port,
            workers=self.workers or spec.http.workers,
        )
        grpc_port = self.grpc_port if self.grpc_port >= 0 else spec.grpc.port
        grpc = GrpcSection(host=self.host or spec.grpc.host, port=grpc_port)
        models = tuple(map(_with_alias, spec.models or (ModelSection(name=name) for name in names)))
        twice = {one.alias for one in models if one.alias and [each.alias for each in models].count(one.alias) > 1}
        if twice:
            raise InvalidSpec(
                f"two models would have the alias {', '.join(sorted(twice))}",
                hint="give each model its own [[model]] alias",
            )
        if self.redis:
            check_shared_url(self.redis, "--redis url")
        redis = structs.replace(spec.redis, url=self.redis or spec.redis.url)
        edge = self._edge(spec.edge)
        if http.workers > 1 and edge.kind == "none":
            raise InvalidSpec(
                f"{http.workers} API workers need an edge to distribute requests",
                hint='add --edge envoy, or [edge] kind = "envoy"',
            )
        return structs.replace(spec, models=models, http=http, grpc=grpc, redis=redis, edge=edge)

    def _edge(self, found: EdgeSection) -> EdgeSection:
        """Merge command-line options into `[edge]`: behind an edge, --host and --port are its address."""
        if self.edge not in ("", *get_args(EdgeKind)):
            raise InvalidSpec(f"--edge is {self.edge!r}; expected envoy or none", hint="Envoy is the only edge")
        found = structs.replace(found, kind=cast(EdgeKind, self.edge)) if self.edge else found
        if found.kind == "none":
            return found
        return structs.replace(found, host=self.host or found.host, port=self.port or found.port)


def told_of(request: Request) -> object:
    """Return a request as a message can hold it."""
    return msgspec.to_builtins(request, enc_hook=str)


def request_of(told: object) -> Request:
    """Return the request that `told_of` made a message of."""
    return msgspec.convert(told, Request, dec_hook=lambda kind, value: kind(value))


def _with_alias(model: ModelSection) -> ModelSection:
    """Return a model given by source with its default alias: `./my-llama` is `my-llama`."""
    if model.alias or not is_source(model.name):
        return model
    return structs.replace(model, alias=name_of_source(model.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadOrder:
    """What `reload` hands to the running server."""

    plan: Plan
    listening: Listening
    taken: tuple[str, ...] = ()
    """Aliases that are served as the plan says, although something else was promoted."""


def with_parts(serving: Listening, request: Request, question: Mapping[str, object]) -> Listening:
    """Return the configuration of a running server with the `parts` of its centre `instead_of` others.

    Only sections of either change, whatever else the file may say by now.

    Raises:
        PermissionDenied: `[sites] takes` does not allow one of them.
        InvalidSpec: the file with these parts cannot be used.
    """
    parts, before = (msgspec.convert(question.get(name, {}), dict[str, str]) for name in ("parts", "instead_of"))
    spec = request.spec_with(parts)
    checked(parts, spec.section("sites", SitesSection).takes)
    changed = {*parts, *before} & SETTABLE.keys() - ROWS
    return structs.replace(serving, **{name: getattr(spec, name) for name in changed})


def listening_of(spec: Spec, settings: Settings) -> Listening:
    """Return how the spec has requests taken in, and what stands beside the models.

    Raises:
        InvalidSpec: backups are to be made by themselves, of a state that is not in them.
    """
    refuse_half_backups(spec.section("backup", BackupSection), settings)
    return spec.listening


def inventory_of(spec: Spec) -> Inventory:
    """Return what this machine gives, of memory no more than `[tiers]` allows."""
    found = read_inventory()
    most = spec.tiers.memory_bytes
    return replace(found, memory_bytes=min(found.memory_bytes, most + RESERVED_BYTES)) if most else found


def wishes_of(spec: Spec) -> tuple[Wish, ...]:
    """Return what the spec asks of the plan."""
    return tuple(
        Wish(
            name=model.name,
            alias=model.alias,
            replicas=model.replicas,
            kind=model.engine.kind,
            fleet=model.engine.fleet,
            key=model.engine.key,
            ca_file=model.engine.ca_file,
            context_tokens=model.engine.context_tokens,
            kv_tokens=model.engine.kv_tokens,
            max_sequences=model.engine.max_sequences,
            threads=model.engine.threads,
            prefix_cache=model.engine.prefix_cache,
            adapters=tuple(sorted(model.adapters.items())),
            options=tuple(sorted((model.engine.options | _ladder_options(model.ladder)).items())),
            share=None
            if model.share == ShareSection()
            else Promise(alias=model.alias or model.name, cpus=model.share.cpus, memory_bytes=model.share.memory_bytes),
            demand=None
            if model.load == "start"
            else OnDemand(alias=model.alias or model.name, keep_alive_s=model.keep_alive_s, pin=model.pin),
        )
        for model in spec.models
    )


def _ladder_options(ladder: LadderSection) -> dict[str, str | int | float | bool]:
    """Return a ladder as engine options, which are part of a release."""
    if not ladder.rungs:
        return {}
    return {RUNGS: ".".join(ladder.rungs), "rung_ttft_ms": ladder.ttft_ms, "rung_tpot_ms": ladder.tpot_ms}


def _refuse_unproven(spec: Spec, plan: Plan, store: ModelStore) -> None:
    """Check that every rung may compute: its last evaluation passed a gate, or ashore.toml requires none."""
    needs = {one.alias or one.name for one in spec.models if one.ladder.needs_gate}
    verdicts = KeptVerdicts(lambda: store)
    for model in plan.models:
        for rung in model.rungs if model.alias in needs else ():
            found = verdicts.verdict(rung)
            if found.outcome != "passed":
                seen = "failed its gate: " + found.why if found.outcome == "failed" else "was never held to a gate"
                raise InvalidSpec(
                    f"{model.alias}: the rung {rung} {seen}",
                    hint=f"run `ashore optimize evaluate {rung} --against parent --gate gate.toml`, or set "
                    "needs_gate = false in [model.ladder]",
                )


def with_pulled(
    spec: Spec, settings: Settings, store: ModelStore, inventory: Inventory
) -> tuple[Spec, tuple[str, ...]]:
    """Return a spec with the models of the store that it does not name, on demand, where it says that these are served;
    and notes on those that no engine here takes."""
    if not spec.tiers.serve_pulled:
        return spec, ()
    taken = {name for model in spec.models for name in (model.alias, model.name, model.name.partition("@")[0])}
    more, notes = [], []
    for name in sorted({model.name for model in store.list() if not model.variant} - taken):
        section = ModelSection(name=name, alias=name, load="demand")
        try:
            plan_without_fetching(structs.replace(spec, models=(section,), tiers=TiersSection()), settings, inventory)
        except AshoreError as fault:
            notes.append(f"{name} is in the store and is not served: {fault.message}")
        else:
            more.append(section)
    return structs.replace(spec, models=(*spec.models, *more)), tuple(notes)


def by_what_is_stored(spec: Spec, store: ModelStore) -> Spec:
    """Return the spec with the prepared variant of each model whose original is not in the store: a stick brings the
    variant alone, at half the size. The name that clients use stays."""
    from ashore.cli.bootstrap.variants import is_prepared

    stored = [model for model in store.list() if model.variant and is_prepared(model.variant)]
    stored.sort(key=lambda model: (model.variant != DEFAULT.variant, model.variant))

    def named(section: ModelSection) -> ModelSection:
        name = section.name
        if section.engine.fleet or section.engine.kind not in ("auto", DEFAULT.kind) or is_source(name):
            return section
        form = next((model for model in stored if model.name == name), None)
        if form is None or not _is_absent(store, name):
            return section
        return structs.replace(section, name=form.reference, alias=section.alias or name)

    return structs.replace(spec, models=tuple(named(section) for section in spec.models))


def plan_without_fetching(
    spec: Spec, settings: Settings, inventory: Inventory, running: Plan | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan for what is known now, and notes for the operator. Changes nothing.

    Where `running` is served, what can stays as it runs.

    Raises:
        UnknownModel: a source must be pulled before anything is known of it.
        SourceUnreachable: a model is not in the store, and ashore is offline.
    """
    store = build_store(settings.home, settings)
    spec, more_notes = with_pulled(by_what_is_stored(spec, store), settings, store, inventory)
    wishes = wishes_of(spec)
    try:
        facts = gather_facts(store, wishes)
    except UnknownModel:
        for wish in wishes:
            check_local(wish.name, text_only=wish.fleet)  # reports what is wrong with a folder, as a start would
        raise
    _refuse_offline(settings, _absent(store, wishes))
    tuned, notes = tuned_choices(settings, store, facts, inventory)
    notes = (*notes, *more_notes)
    if running is not None:
        plan = plan_beside(running, wishes, facts, tuned)
    else:
        plan = make_plan(wishes, facts, inventory, tuned)
    _refuse_without_engine(wishes)
    _refuse_unproven(spec, plan, store)
    return plan, notes


def plan_and_fetch(
    spec: Spec, settings: Settings, inventory: Inventory, running: Plan | None = None
) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan, with everything that it needs brought into the store.

    May be called twice: what is there is left alone.

    Raises:
        UnknownModel, SourceUnreachable, MissingExtra: something is absent and cannot be had.
        SystemExit: fetching failed; its process has said why, and the code is its exit code.
    """
    store = build_store(settings.home, settings)
    spec = by_what_is_stored(spec, store)
    wishes = wishes_of(spec)
    _refuse_without_engine(wishes)  # before anything is fetched
    for wish in wishes:
        if wish.kind != "auto" and not wish.fleet:
            refuse_without_program(card_of(wish.kind), wish.name, find_programs(wish))
    absent = _absent(store, wishes)
    if absent:
        _refuse_offline(settings, absent)
        elsewhere = [wish.name for wish in wishes if wish.fleet]
        for verb, names in (
            ("pull", [name for name in absent if name not in elsewhere]),
            ("pull-text", [name for name in absent if name in elsewhere]),
        ):
            if names:
                _fetch(settings, verb, [name.partition("@")[0] if not is_source(name) else name for name in names])
    plan, notes = plan_without_fetching(spec, settings, inventory, running)
    away = [m.reference for m in plan.models if m.alias not in plan.on_demand and _is_away(store, m)]
    if away:
        _fetch(settings, "back", away)
    needed = [name for model in plan.models for name in (*([model.reference] if model.variant else []), *model.rungs)]
    missing = [name for name in needed if _is_absent(store, name)]
    if missing:
        _fetch(settings, "prepare", missing)
    return plan, notes


def _refuse_without_engine(wishes: Sequence[Wish]) -> None:
    """Check that the engines of the models that this machine computes itself are installed.

    Raises:
        MissingExtra: one is not.
    """
    for wish in wishes:
        if not wish.fleet and card_by_name(wish.name) is None:
            refuse_uninstalled(DEFAULT if wish.kind == "auto" else card_of(wish.kind), wish.name)


def _absent(store: ModelStore, wishes: Sequence[Wish]) -> list[str]:
    """Return the names of the models to fetch."""
    return [wish.name for wish in wishes if _must_be_brought(store, wish)]


def _must_be_brought(store: ModelStore, wish: Wish) -> bool:
    """Return whether a model must be fetched; for one on another server only its tokenizer and template are needed."""
    if not wish.fleet or card_by_name(wish.name) is not None:
        return _must_be_pulled(store, wish.name)
    try:
        text_of(store, wish.name)
    except UnknownModel:
        return True
    return False


def _must_be_pulled(store: ModelStore, name: str) -> bool:
    """Return whether a model must be pulled. A missing variant can be made from a stored parent."""
    return _is_absent(store, name) and (is_source(name) or not _has_parent(store, name))


def _is_absent(store: ModelStore, name: str) -> bool:
    """Return whether a model is missing, or only there as a variant of an earlier model of its name, or as its
    directory was before."""
    if card_by_name(name) is not None:
        return False
    try:
        model = store.resolve(name)
        has_changed = changed_since(name, model.created_s)
        if has_changed and model.sealed:
            raise Conflict(
                f"{name} changed after {model.name} was sealed from it",
                hint=f"start the sealed model with `ashore up {model.name}`, or store the new files as another model: "
                f"ashore model pull {name} --name NAME",
            )
        return has_changed or store.is_outdated(model)
    except UnknownModel:
        return True
    except AshoreError as error:
        if error.code == "variant_not_found":
            return not _has_parent(store, name) or "@" in name
        raise


def _is_away(store: ModelStore, model: ModelPlan) -> bool:
    """Return whether the weights of a model are in a bucket."""
    try:
        return reads_store(model.options) and store.is_away(model.reference)
    except (UnknownModel, UnknownVariant):
        return False


def _has_parent(store: ModelStore, name: str) -> bool:
    try:
        store.resolve(name.partition("@")[0])
    except UnknownModel:
        return False
    return True


def _refuse_offline(settings: Settings, absent: Sequence[str]) -> None:
    if settings.offline and (far := [name for name in absent if not is_path(name)]):
        raise SourceUnreachable(
            f"not in the store, and ashore is offline: {', '.join(far)}",
            hint="run once without --offline, or import the model with `ashore model import FILE.tar`",
        )


def _fetch(settings: Settings, verb: str, names: Sequence[str]) -> None:
    """Fetch in a separate process, on this terminal. It gets the key source, but no key."""
    env = {**os.environ, "ASHORE_SEALING_KEY": settings.sealing_key}
    code = subprocess.run(python_command("ashore.cli.fetch", verb, *names), env=env, check=False).returncode
    if code:
        raise SystemExit(code if code > 0 else 128 - code)


def commands_of(plan: Plan, settings: Settings) -> dict[str, str]:
    """Return, by alias, the command of each server that an engine of this plan starts."""
    return server_command_lines(build_store(settings.home, settings), settings.home, plan)


def edge_of(spec: Spec, cores: int, address: str) -> tuple[Choice, ...]:
    """Return what the edge will do, with reasons; nothing where there is none."""
    if spec.edge.kind == "none":
        return ()
    return edge_choices(spec.edge, num_workers=spec.http.workers, cores=cores, address=address)


def show_plan(
    plan: Plan,
    notes: Sequence[str],
    listening: str,
    commands: Mapping[str, str],
    edge: Sequence[Choice] = (),
    others: Sequence[Choice] = (),
) -> str:
    """Return a plan as text for people; `others` is what the sections beside the models come to."""
    inventory = plan.inventory
    lines = [
        f"machine   {inventory.cpu or 'unknown processor'}, {inventory.cores} cores, "
        f"{inventory.memory_bytes / (1 << 30):.1f} GiB of free memory",
        f"listens   {listening}",
    ]
    if edge:
        lines += ["", "edge", *(_chosen(c) for c in edge)]
    for model in plan.models:
        size = plan.sizes.get(model.alias, 0)
        needs = f"; weights and KV cache take {human_bytes(size)}" if size else ""
        absent = "" if model.in_store else f"  (not in the store; `ashore up` pulls it{needs})"
        lines += ["", f"{model.alias}{absent}"]
        lines += [_chosen(c) for c in model.choices]
        if model.alias in commands:
            lines.append(f"  {'command':<10}{commands[model.alias]}")
    fits = what_fits(plan)
    lines += ["", "memory", *(_chosen(c) for c in fits)] if fits else []
    lines += ["", *(_chosen(c, inset="") for c in others)] if others else []
    lines += ["", *(prose(note, first="note: ") for note in notes)] if notes else []
    return "\n".join(lines)


def _chosen(one: Choice, *, inset: str = "  ") -> str:
    """Return a choice with its reason in a column of its own; behind a long value the reason just follows."""
    first = f"{inset}{one.field:<10}"
    if len(first + one.value) > 36:
        return prose(f"{one.value} {one.why}", first=first)
    return prose(one.why, first=f"{first}{one.value:<{25 - len(inset)}} ")


def plan_json(
    plan: Plan,
    notes: Sequence[str],
    commands: Mapping[str, str],
    edge: Sequence[Choice] = (),
    others: Sequence[Choice] = (),
) -> str:
    """Return a plan as indented JSON."""
    document = {
        "plan": plan, "notes": tuple(notes), "commands": commands, "edge": tuple(edge), "sections": tuple(others),
    }  # fmt: skip
    return json_text(document)


def show_changes(changes: Sequence[Change], keys: Sequence[str]) -> str:
    """Return the difference of two plans, and the other keys that changed, as text for people."""
    signs = {"add": "+", "remove": "-", "replace": "~", "keep": "="}
    lines = [f"{signs[change.kind]} {change.alias}: {change.what}" for change in changes]
    return "\n".join([*lines, *(f"~ {key}" for key in keys)])
