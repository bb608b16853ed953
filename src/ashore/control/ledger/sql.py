"""SQL of the ledger: budgets, reservations and spends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ashore.control.ledger.model import Budget, Spend, Standing
from ashore.kit.state import among, execute, row_lock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

PAGE: Final = 500
_BUDGET = (
    "id, tenant, dataset, epsilon, delta, questions_epsilon, questions_delta, rdp_order, capacity, carried_epsilon, "
    "carried_delta, granted_by, granted_s, closed_s"
)
_SPEND = "id, budget, kind, state, units, delta, what, actor, began_s, ended_s, answer"


def open_budget(connection: Connection, tenant: str, dataset: str, *, held: bool = False) -> Standing | None:
    """Return the budget in force of a dataset; None if there is none. `held`: until the end of a writing
    transaction."""
    row = _open_row(connection, tenant, dataset, row_lock(connection)) if held else None
    if row is None and (row := _open_row(connection, tenant, dataset)) is not None and held:
        # Postgres waited for a row that was closed meanwhile, and did not see the one in its place.
        return open_budget(connection, tenant, dataset, held=True)
    return None if row is None else _standing(connection, _budget(row))


def _open_row(connection: Connection, tenant: str, dataset: str, lock: str = "") -> Mapping[Any, Any] | None:
    found = execute(
        connection,
        f"SELECT {_BUDGET} FROM dp_budget WHERE tenant = :tenant AND dataset = :dataset AND closed_s = 0{lock}",
        tenant=tenant,
        dataset=dataset,
    )
    return found.mappings().first()


def budgets(connection: Connection, tenant: str = "") -> list[Standing]:
    """Return the budgets in force, of one tenant if given."""
    rows = execute(
        connection,
        f"SELECT {_BUDGET} FROM dp_budget WHERE closed_s = 0 AND (:tenant = '' OR tenant = :tenant) "
        "ORDER BY tenant, dataset",
        tenant=tenant,
    ).mappings()
    return [_standing(connection, _budget(row)) for row in rows.all()]


def put_budget(connection: Connection, budget: Budget) -> None:
    """Save a new budget, replacing the one in force. Needs a writing transaction."""
    execute(
        connection,
        "UPDATE dp_budget SET closed_s = :now_s WHERE tenant = :tenant AND dataset = :dataset AND closed_s = 0",
        now_s=budget.granted_s,
        tenant=budget.tenant,
        dataset=budget.dataset,
    )
    execute(
        connection,
        f"INSERT INTO dp_budget ({_BUDGET}) VALUES (:id, :tenant, :dataset, :epsilon, :delta, :questions_epsilon, "
        ":questions_delta, :order, :capacity, :carried_epsilon, :carried_delta, :granted_by, :granted_s, 0)",
        **{name: getattr(budget, name) for name in Budget.__dataclass_fields__ if name != "closed_s"},
    )


def put_spend(connection: Connection, spend: Spend, question: str = "") -> None:
    """Save a new reservation. `question`: key for finding its answer again."""
    execute(
        connection,
        f"INSERT INTO dp_spend ({_SPEND}, question) VALUES (:id, :budget, :kind, :state, :units, :delta, :what, "
        ":actor, :began_s, :ended_s, :answer, :question)",
        question=question,
        **{name: getattr(spend, name) for name in Spend.__dataclass_fields__},
    )


def put_lost_budget(
    connection: Connection, budget: str, tenant: str, dataset: str, *, epsilon: int, delta: int, now_s: int
) -> None:
    """Save a budget known only from the audit log, as a replaced one. An existing one is not changed."""
    execute(
        connection,
        f"INSERT INTO dp_budget ({_BUDGET}) VALUES (:id, :tenant, :dataset, :epsilon, :delta, 0, 0, 2, 0, 0, 0, '', "
        ":now_s, :now_s) ON CONFLICT (id) DO NOTHING",
        id=budget,
        tenant=tenant,
        dataset=dataset,
        epsilon=epsilon,
        delta=delta,
        now_s=now_s,
    )


def known_spends(connection: Connection, spends: Sequence[str]) -> frozenset[str]:
    """Return which of these spends exist."""
    found: set[str] = set()
    for begin in range(0, len(spends), PAGE):
        places: dict[str, object] = {}
        known = among("id", spends[begin : begin + PAGE], places)
        rows = execute(connection, f"SELECT id FROM dp_spend WHERE {known}", **places)
        found |= {str(row.id) for row in rows}
    return frozenset(found)


def count_spends(connection: Connection, budget: str) -> int:
    """Return the number of all spends under a budget; none is ever deleted."""
    found = execute(connection, "SELECT COUNT(*) FROM dp_spend WHERE budget = :budget", budget=budget)
    return int(found.scalar_one())


def end_spend(connection: Connection, spend: str, state: str, *, now_s: int, answer: str = "") -> bool:
    """End a reservation; return whether it was open."""
    done = execute(
        connection,
        "UPDATE dp_spend SET state = :state, ended_s = :now_s, answer = :answer WHERE id = :id AND state = 'reserved'",
        id=spend,
        state=state,
        now_s=now_s,
        answer=answer,
    )
    return bool(done.rowcount)


def answered(connection: Connection, budget: str, question: str, units: int) -> Spend | None:
    """Return the newest answer to a question under a budget that cost at least so much, and so has no more noise."""
    row = (
        execute(
            connection,
            f"SELECT {_SPEND} FROM dp_spend WHERE budget = :budget AND question = :question AND state = 'spent' "
            "AND units >= :units ORDER BY began_s DESC LIMIT 1",
            budget=budget,
            question=question,
            units=units,
        )
        .mappings()
        .first()
    )
    return None if row is None else Spend(**row)


def spends(connection: Connection, tenant: str, dataset: str, limit: int) -> list[Spend]:
    """Return the reservations and spends of a dataset, newest first, under any of its budgets."""
    columns = ", ".join(f"s.{name.strip()}" for name in _SPEND.split(","))
    rows = execute(
        connection,
        f"SELECT {columns} FROM dp_spend s JOIN dp_budget b ON b.id = s.budget WHERE b.tenant = :tenant "
        "AND b.dataset = :dataset ORDER BY s.began_s DESC, s.id LIMIT :limit",
        tenant=tenant,
        dataset=dataset,
        limit=limit,
    ).mappings()
    return [Spend(**row) for row in rows.all()]


def _budget(row: Mapping[Any, Any]) -> Budget:
    values = {str(name): value for name, value in row.items()}
    return Budget(order=values.pop("rdp_order"), **values)


def _standing(connection: Connection, budget: Budget) -> Standing:
    rows = execute(
        connection,
        "SELECT kind, COUNT(*) AS num, COALESCE(SUM(units), 0) AS units, COALESCE(SUM(delta), 0) AS delta "
        "FROM dp_spend WHERE budget = :budget AND state <> 'released' GROUP BY kind",
        budget=budget.id,
    ).mappings()
    sums = {str(row["kind"]): (int(row["num"]), int(row["units"]), int(row["delta"])) for row in rows.all()}
    questions, question_units, _ = sums.get("question", (0, 0, 0))
    runs, training_epsilon, training_delta = sums.get("training", (0, 0, 0))
    return Standing(
        budget=budget,
        question_units=question_units,
        questions=questions,
        training_epsilon=training_epsilon,
        training_delta=training_delta,
        runs=runs,
    )
