"""What the API workers are told: the running models, where to listen and how much to admit, in one record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ashore.deployment.hosts import Running
from ashore.deployment.listening import Listening, audit_link, worker_listen
from ashore.jobs import JobLimits
from ashore.serving import (
    AdmissionLimits,
    BudgetsLink,
    EdgeAddress,
    Limits,
    PriceLink,
    ServedModel,
    StateLink,
    Topology,
)
from ashore.settings import Home, Settings

BOARD: Final = "board"
"""File in `run` on which API workers tell each other their load."""
BUDGETS: Final = "budgets"
"""Folder in `run` with the ledger in which API workers count what is used."""
MAX_DEADLINE_S: Final = 3600.0
"""Longest deadline that a client may ask for, unless the operator's default is longer."""


def topology_of(
    running: Iterable[Running], beside: Iterable[Running] = (), *, listening: Listening, home: Home, settings: Settings
) -> Topology:
    """Return what the API workers are to know of what runs: one release for each alias, and others `beside` them."""
    workers = tuple(worker_listen(listening, home, index) for index in range(listening.http.workers))
    return Topology(
        models=tuple(_served(one) for one in running),
        beside=tuple(_served(one) for one in beside),
        http=workers[0].http,
        grpc=workers[0].grpc,
        workers=workers,
        board=str(home.run / BOARD) if len(workers) > 1 else "",
        edge=EdgeAddress(
            url=listening.address,
            ca_file=listening.authority(home),
            trusted_proxies=listening.edge.trusted_proxies,
        )
        if listening.has_edge
        else None,
        admission=AdmissionLimits(
            max_waiting=listening.admission.max_waiting,
            max_tokens_in_flight=listening.admission.max_tokens_in_flight,
            default_deadline_s=listening.admission.default_deadline_s,
            max_deadline_s=max(MAX_DEADLINE_S, listening.admission.default_deadline_s),
        ),
        limits=Limits(
            max_connections_per_address=listening.http.connections_per_address,
            bodies_bytes=listening.http.bodies_bytes,
            tenant_bodies_bytes=listening.http.tenant_bodies_bytes,
        ),
        cache=listening.cache,
        privacy=listening.privacy,
        release=listening.release,
        issuers=listening.access.issuers,
        redis=listening.redis,
        state=StateLink(
            url=settings.state_url,
            path=str(home.state_db),
            snapshots=str(home.snapshots),
            secrets_key=str(home.secrets_key),
        ),
        audit=audit_link(listening.audit, home),
        jobs=JobLimits(
            max_attempts=listening.jobs.max_attempts,
            result_ttl_ms=int(listening.jobs.result_ttl_s * 1000),
            max_file_bytes=listening.jobs.max_file_bytes,
            egress=listening.egress.allow,
        ),
        budgets=BudgetsLink(
            folder=str(home.run / BUDGETS),
            charge_hits=listening.access.charge_hits,
            prices={
                alias: PriceLink(
                    per_million_prompt_tokens=price.per_million_prompt_tokens,
                    per_million_completion_tokens=price.per_million_completion_tokens,
                    currency=price.currency,
                )
                for alias, price in listening.access.prices.items()
            },
        ),
        internal_token_file=str(home.internal_token),
        first_key_file=str(home.first_key),
        home=str(home.root),
        drain_timeout_s=settings.drain_timeout_s,
        start_timeout_s=settings.start_timeout_s,
    )


def _served(one: Running) -> ServedModel:
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
    )
