"""What the topology says of the record and the budgets, as the guards of one worker."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from ashore.access.budgets import OpenBudgets, Price, open_budgets
from ashore.api.fittings import Fittings
from ashore.audit import SUBJECTS_EPOCH, AuditLog, AuditService, ContentSealer, SqlSubjectKeys, open_log
from ashore.core import Behind, Clock, Recorder
from ashore.errors import InvalidSpec
from ashore.releases import load_book
from ashore.serving import ServingService, Topology
from ashore.state import Database


def audit_of(topology: Topology, index: int) -> AuditLog | None:
    """Return the log of this worker, running; None where the topology names no audit.

    Raises:
        AuditUnavailable: it cannot be written; a worker without a record serves nobody.
    """
    return open_log(topology.audit, f"api-{index}") if topology.audit.path else None


def budgets_for(
    topology: Topology, fittings: Fittings, clock: Clock, recorder: Recorder, behind: Behind
) -> OpenBudgets | None:
    """Return the budgets of this worker; None where there is no state to keep them."""
    if not topology.budgets or fittings.database is None:
        return None
    return open_budgets(
        Path(topology.budgets),
        fittings.database,
        fittings.watch,
        clock,
        recorder,
        charge_hits=topology.access.charge_hits,
        behind=behind,
    )


def prices_of(topology: Topology) -> dict[str, Price]:
    """Return what tokens cost inside the enterprise, by alias."""
    return {
        alias: Price(
            per_million_prompt_tokens=Decimal(price.per_million_prompt_tokens),
            per_million_completion_tokens=Decimal(price.per_million_completion_tokens),
            currency=price.currency,
        )
        for alias, price in topology.access.prices.items()
    }


def names_of_models(serving: ServingService, database: Database) -> set[str]:
    """Return the names that clients may ask for; another home on the same state may serve what this one does not."""
    with database.read() as connection:
        return {*(card.alias for card in serving.models()), *load_book(connection).aliases}


def keep_content(log: AuditLog, fittings: Fittings) -> None:
    """Have prompts and answers sealed under keys of the state; when somebody is erased, keys in memory go too.

    Raises:
        InvalidSpec: there is no state.
    """
    if fittings.database is None or fittings.watch is None:
        raise InvalidSpec('[audit] content = "sealed" needs a state', hint="name one under [state]")
    sealer = ContentSealer(SqlSubjectKeys(fittings.database))
    fittings.watch.on_change(lambda kind, value: sealer.forget() if kind == SUBJECTS_EPOCH else None)
    log.seal_content_with(sealer)


def audit_desk(topology: Topology, recorder: Recorder) -> AuditService | None:
    """Return what reads the record of this home; None where the topology names none."""
    link = topology.audit
    if not link.path:
        return None
    return AuditService(Path(link.path), Path(link.keys), recorder, anchors=link.section.anchors, opener=link.opener)
