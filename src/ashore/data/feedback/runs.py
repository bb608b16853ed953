"""Runs in SQL: their examples, the gate's verdict and their releases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ashore.core.errors import Conflict, NotFound
from ashore.kit.state import execute, insert, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.feedback.dataset import Dataset
    from ashore.kit.store import Verdict

RunState = Literal["running", "refused", "passed", "released", "stopped"]
"""running: it learns, or was killed and goes on when it is started again. refused: the gate said no. passed: the gate
said yes, and no server made a release of it yet. released: a release was made; `ashore release` says where it stands.
stopped: it ended for another reason, which `why` has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run."""

    run_id: str
    model: str
    """Alias whose answers were voted on."""
    base: str
    """Digest of the model that learned."""
    dataset: str
    state: RunState = "running"
    examples: Mapping[str, int] = field(default_factory=dict)
    """By kind."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Votes that were held, by filter."""
    verdict: Verdict | None = None
    candidate: str = ""
    """Name of what was made, in the store."""
    adapter: str = ""
    """Folder of the adapter."""
    release: str = ""
    why: str = ""
    erased: int = 0
    """People among its examples who were erased since: what was made of it still has what they taught."""
    started_ms: int = 0
    changed_ms: int = 0

    @property
    def words(self) -> str:
        """Its state, in one line."""
        return f"{self.run_id}: {self.state}" + (f" ({self.why})" if self.why else "")


_COLUMNS: Final = tuple(Run.__dataclass_fields__)


def save_run(connection: Connection, run: Run) -> None:
    """Store a run, replacing its earlier state."""
    values: dict[str, Any] = {name: getattr(run, name) for name in _COLUMNS}
    values["examples"], values["held"] = _text(run.examples), _text(run.held)
    values["verdict"] = "" if run.verdict is None else _text(run.verdict)
    upsert(connection, "learning_run", values, key="run_id", keep=("erased",))


def load_runs(connection: Connection, *, model: str = "", limit: int = 100) -> list[Run]:
    """Return runs, of one model or of all, the newest first."""
    where = " WHERE model = :model" if model else ""
    given: dict[str, object] = {"model": model} if model else {}
    rows = execute(
        connection,
        f"SELECT {', '.join(_COLUMNS)} FROM learning_run{where} ORDER BY started_ms DESC, run_id DESC LIMIT :most",
        **given,
        most=limit,
    ).mappings()
    return [_run(row) for row in rows]


def find_run(connection: Connection, run_id: str) -> Run:
    """Return a run.

    Raises:
        NotFound: there is none.
    """
    row = (
        execute(connection, f"SELECT {', '.join(_COLUMNS)} FROM learning_run WHERE run_id = :id", id=run_id)
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"there is no run {run_id[:60]!r}", hint="`ashore learn status` lists them")
    return _run(row)


def save_examples(connection: Connection, run_id: str, dataset: Dataset) -> None:
    """Store the provenance of a run's examples and why votes were held. Replaces an earlier one. Needs a write
    transaction.

    Raises:
        Conflict: a vote was erased since it was read. Nothing is stored then.
    """
    execute(connection, "DELETE FROM learning_example WHERE run_id = :id", id=run_id)
    insert(
        connection,
        "learning_example",
        *(_provenance(run_id, one.row, kind=one.kind, held="", why="") for one in dataset.examples),
        *(_provenance(run_id, one.row, kind="", held=one.filter, why=one.why) for one in dataset.held),
    )
    if gone := num_gone(connection, run_id):
        raise Conflict(
            f"{gone} votes were erased, or their tenant withdrew its consent, since the run {run_id} read them",
            hint="run it again; it begins with the votes that are there",
        )


def weights_of(connection: Connection, run_id: str) -> list[Mapping[str, Any]]:
    """Return, for each person, how many examples a run has from them and how many were held and why, most first."""
    rows = execute(
        connection,
        "SELECT tenant, voter, held, MIN(why) AS why, COUNT(*) AS votes FROM learning_example WHERE run_id = :id "
        "GROUP BY tenant, voter, held ORDER BY votes DESC, tenant, voter, held",
        id=run_id,
    ).mappings()
    return [dict(row) for row in rows]


def num_gone(connection: Connection, run_id: str) -> int:
    """Return how many examples of a run come from votes that are deleted or have no text any more; erased people count
    one each.
    """
    return int(
        execute(
            connection,
            "SELECT COUNT(*) + COALESCE((SELECT erased FROM learning_run WHERE run_id = :id), 0) FROM learning_example "
            "e LEFT JOIN feedback f ON f.feedback_id = e.feedback_id "
            "WHERE e.run_id = :id AND e.held = '' AND (f.feedback_id IS NULL OR f.key_id = '')",
            id=run_id,
        ).scalar_one()
    )


def forget_examples(connection: Connection, tenant: str, person: str) -> list[Run]:
    """Delete the provenance of a person's votes; return and mark the runs that learned from them."""
    given = {"tenant": tenant, "person": person}
    where = "tenant = :tenant AND (account = :person OR voter = :person)"
    rows = execute(connection, f"SELECT DISTINCT run_id FROM learning_example WHERE held = '' AND {where}", **given)
    runs = [find_run(connection, str(row.run_id)) for row in rows.all()]
    for run in runs:
        execute(connection, "UPDATE learning_run SET erased = erased + 1 WHERE run_id = :id", id=run.run_id)
    execute(connection, f"DELETE FROM learning_example WHERE {where}", **given)
    return [replace(run, erased=run.erased + 1) for run in runs]


def set_pause(connection: Connection, model: str, *, why: str, paused_by: str, now_ms: int) -> None:
    """Start no further run of a model, and end an active one after its step."""
    row = {"model": model, "why": why, "paused_by": paused_by, "paused_ms": now_ms}
    upsert(connection, "learning_pause", row, key="model")


def end_pause(connection: Connection, model: str) -> bool:
    """Allow runs of a model again; return whether it was paused."""
    return bool(execute(connection, "DELETE FROM learning_pause WHERE model = :model", model=model).rowcount)


def pauses(connection: Connection) -> dict[str, str]:
    """Return why learning is paused, by model."""
    rows = execute(connection, "SELECT model, why, paused_by FROM learning_pause ORDER BY model")
    return {str(row.model): f"{row.why or 'no reason given'} ({row.paused_by})" for row in rows}


def _provenance(run_id: str, row: Any, *, kind: str, held: str, why: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "feedback_id": row.feedback_id,
        "tenant": row.tenant,
        "account": row.account,
        "voter": row.voter,
        "kind": kind,
        "held": held,
        "why": why,
    }


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _run(row: Mapping[Any, Any]) -> Run:
    values = {name: row[name] for name in _COLUMNS}
    values["examples"] = msgspec.json.decode(values["examples"], type=dict[str, int])
    values["held"] = msgspec.json.decode(values["held"], type=dict[str, int])
    values["verdict"] = _verdict(values["verdict"]) if values["verdict"] else None
    return Run(**values)


def _verdict(text: str) -> Verdict:
    from ashore.kit.store import Verdict  # which most that read a run do not need

    return msgspec.json.decode(text, type=Verdict)
