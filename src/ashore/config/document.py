"""ashore.toml parsed. Unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ashore.config.access import AccessSpec, beside, read_access
from ashore.config.audit import AuditSpec, read_audit
from ashore.config.backup import BackupSpec, read_backup
from ashore.config.front import (
    CacheSpec,
    EdgeSpec,
    EgressSpec,
    JobsSpec,
    RedisSpec,
    read_cache,
    read_edge,
    read_egress,
    read_jobs,
    read_redis,
)
from ashore.config.intake import AdmissionSpec, HttpSpec, ListenSpec, read_admission, read_grpc, read_http
from ashore.config.models import ModelSpec, read_model
from ashore.config.privacy import read_privacy
from ashore.config.release import read_release, release_beside
from ashore.config.sealing import absolute_key_source, read_sealing
from ashore.config.table import Table
from ashore.core import foreign_errors
from ashore.errors import InvalidSpec
from ashore.privacy import PrivacyPolicy
from ashore.releases.policy import ReleasePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What the operator wants deployed."""

    models: tuple[ModelSpec, ...] = ()
    http: HttpSpec = field(default_factory=HttpSpec)
    grpc: ListenSpec = field(default_factory=lambda: ListenSpec(port=8081))
    admission: AdmissionSpec = field(default_factory=AdmissionSpec)
    edge: EdgeSpec = field(default_factory=EdgeSpec)
    cache: CacheSpec = field(default_factory=CacheSpec)
    redis: RedisSpec = field(default_factory=RedisSpec)
    jobs: JobsSpec = field(default_factory=JobsSpec)
    egress: EgressSpec = field(default_factory=EgressSpec)
    audit: AuditSpec = field(default_factory=AuditSpec)
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    release: ReleasePolicy = field(default_factory=ReleasePolicy)
    access: AccessSpec = field(default_factory=AccessSpec)
    backup: BackupSpec = field(default_factory=BackupSpec)
    settings: Mapping[str, object] = field(default_factory=dict)
    """`[settings]` as written, for `read_settings`; among them `[state] url` as `state_url` and `[sealing] key` as
    `sealing_key`."""


def read_spec(path: Path) -> Spec:
    """Return what the file says.

    Raises:
        InvalidSpec: it is missing, is not TOML, or says something that ashore does not know or cannot do yet.
    """
    try:
        with foreign_errors(f"{path} is not TOML", InvalidSpec, hint="give an ashore.toml to --config"):
            text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise InvalidSpec(f"{path}: {fault.strerror}", hint="give an existing file to --config") from fault
    return _beside(path, parse_spec(text, where=str(path)))


def parse_spec(text: str, *, where: str = "ashore.toml") -> Spec:
    """Return the spec in `text`; `where` stands in messages."""
    with foreign_errors(f"{where} is not TOML", InvalidSpec, hint="correct that line"):
        document = tomllib.loads(text)
    top = Table(document, where)
    top.known("model", "state", "sealing", *(name for name in Spec.__dataclass_fields__ if name != "models"))
    return Spec(
        models=_models(top, read_egress(top.table("egress")).allow),
        http=read_http(top.table("http")),
        grpc=read_grpc(top.table("grpc")),
        admission=read_admission(top.table("admission")),
        edge=read_edge(top.table("edge")),
        cache=read_cache(top.table("cache")),
        redis=read_redis(top.table("redis")),
        jobs=read_jobs(top.table("jobs")),
        egress=read_egress(top.table("egress")),
        audit=read_audit(top.table("audit")),
        privacy=read_privacy(top.table("privacy")),
        release=read_release(top.table("release")),
        access=read_access(top.table("access")),
        backup=read_backup(top.table("backup")),
        settings=_settings(top),
    )


def _beside(path: Path, spec: Spec) -> Spec:
    """Return the spec with folders of adapters, key files, judges and the key source as paths that hold anywhere:
    relative ones are beside the file."""
    folder = path.absolute().parent
    models = [
        replace(model, adapters={name: str(folder / Path(at).expanduser()) for name, at in model.adapters.items()})
        for model in spec.models
    ]
    settings = dict(spec.settings)
    if "sealing_key" in settings:
        settings["sealing_key"] = absolute_key_source(str(settings["sealing_key"]), folder)
    release = release_beside(spec.release, folder, adapters=[at for model in models for at in model.adapters.values()])
    return replace(spec, models=tuple(models), access=beside(spec.access, folder), release=release, settings=settings)


def _models(top: Table, allow: tuple[str, ...]) -> tuple[ModelSpec, ...]:
    models = tuple(read_model(table, allow) for table in top.tables("model"))
    aliases = [m.alias or m.name for m in models]
    aliases += [f"{m.alias or m.name}:{adapter}" for m in models for adapter in m.adapters]
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise InvalidSpec(f"{top.where} gives the alias {alias!r} to two models", hint="aliases must differ")
    return models


def _settings(top: Table) -> dict[str, object]:
    settings = dict(top.table("settings").values)
    state = top.table("state")
    state.known("url")
    if "url" in state.values:
        settings["state_url"] = state.get("url", str, "")
    settings |= read_sealing(top.table("sealing"), read_egress(top.table("egress")).allow)
    return settings
