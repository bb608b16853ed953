"""The topology for API workers: running models, listeners and limits, in one record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import to_builtins
from msgspec.structs import replace

from ashore.data.path import EdgeAddress, Intake, Limits, ServedModel, StateLink, Topology
from ashore.data.residency import Served
from ashore.kit.settings import Home, Settings
from ashore.machine.config import BROUGHT, Listening
from ashore.machine.deployment.hosts import Running
from ashore.machine.deployment.listening import audit_link, worker_listen

BOARD: Final = "board"
"""File in `run` where API workers share their load."""
BUDGETS: Final = "budgets"
"""Folder in `run` with the ledger of used budgets, shared by API workers."""


def topology_of(
    running: Iterable[Running],
    beside: Iterable[Running] = (),
    *,
    listening: Listening,
    home: Home,
    settings: Settings,
    on_demand: Callable[[str], Served | None] = lambda release: None,
) -> Topology:
    """Return the topology for API workers: one release for each alias, and others `beside` them. `on_demand` returns
    the state of an on-demand release.
    """
    workers = tuple(worker_listen(listening, home, index) for index in range(listening.http.workers))
    return Topology(
        models=tuple(served_model(one, on_demand(one.plan.release)) for one in running),
        beside=tuple(served_model(one, on_demand(one.plan.release)) for one in beside),
        http=workers[0].http,
        grpc=workers[0].grpc,
        workers=workers,
        control=str(home.admin_socket),
        board=str(home.run / BOARD) if len(workers) > 1 else "",
        edge=EdgeAddress(
            url=listening.address,
            ca_file=listening.authority(home),
            trusted_proxies=listening.edge.trusted_proxies,
        )
        if listening.has_edge
        else None,
        admission=listening.admission,
        dispatch=listening.dispatch,
        limits=_limits(listening),
        metrics=listening.metrics,
        cache=listening.cache,
        privacy=listening.privacy,
        release=listening.release,
        access=listening.access,
        redis=replace(listening.redis, url=f"unix://{home.valkey_socket}")
        if listening.redis.is_embedded
        else listening.redis,
        state=StateLink(
            url=settings.state_url,
            path=str(home.state_db),
            snapshots=str(home.snapshots),
            secrets_key=str(home.secrets_key),
        ),
        audit=audit_link(listening.audit, home),
        jobs=listening.jobs,
        egress=listening.egress,
        budgets=str(home.run / BUDGETS),
        internal_token_file=str(home.internal_token),
        first_key_file=str(home.first_key),
        home=str(home.root),
        drain_timeout_s=settings.drain_timeout_s,
        start_timeout_s=settings.start_timeout_s,
        sections={name: to_builtins(getattr(listening, name)) for name in BROUGHT},
    )


def _limits(listening: Listening) -> Limits:
    """Return the request limits: the edge and its workers accept bodies of the same length."""
    set_by_file = {name: getattr(listening.http, name) for name in Intake.__struct_fields__}
    most = listening.edge.max_body_bytes if listening.has_edge else Limits().max_body_bytes
    return Limits(max_body_bytes=most, **set_by_file)


def served_model(one: Running, residence: Served | None = None) -> ServedModel:
    """Return the entry of one model that runs or is loaded on demand."""
    plan = one.plan
    return ServedModel(
        alias=plan.alias,
        release=plan.release,
        kind=plan.options.kind,
        sockets=tuple(str(replica.socket) for replica in one.replicas),
        text_dir="" if one.files.plain_bytes else one.files.directory,
        adapters=tuple(name for name, _ in plan.adapters),
        embedder=plan.embedder,
        slot=one.slot,
        created_s=one.created_s,
        content=one.content,
        residence=residence or (None if one.replicas else Served(state="cold")),
    )
