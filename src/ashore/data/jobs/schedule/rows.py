"""The rows of the schedule: one for each operation that is queued by itself, with its last turn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from ashore.kit.state import Database, execute, insert, row_lock

if TYPE_CHECKING:
    from sqlalchemy import Connection

TurnState = Literal["never", "running", "done", "failed", "interrupted"]
MOST_CHARS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One row: when the next turn begins, and the last one."""

    name: str
    """`backup run`, `learn run chat`."""
    home: str = ""
    """Name of the home whose turns these are; empty: all homes of the state take turns together."""
    operation: str = ""
    plan: str = ""
    """When it begins, in words; empty: it does not begin by itself at present."""
    due_ms: int | None = None
    """None: not foreseen."""
    seen_ms: int = 0
    """When it was scheduled first: what came before was not missed."""
    began_ms: int = 0
    ended_ms: int = 0
    good_ms: int = 0
    """When the last one that did what it should ended."""
    state: TurnState = "never"
    tries: int = 0
    """Times that it was begun and cut off, in a row, this one included."""
    failures: int = 0
    """In a row."""
    job_id: str = ""
    says: str = ""
    """What came of it."""


_COLUMNS: Final = tuple(field.name for field in fields(Turn))
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM schedule"
_CHANGING: Final = tuple(name for name in _COLUMNS if name not in ("name", "home", "operation", "plan", "due_ms"))
_UPDATE: Final = (
    f"UPDATE schedule SET {', '.join(f'{name} = :{name}' for name in _CHANGING)} WHERE home = :home AND name = :name"
)


def turns(connection: Connection, home: str) -> list[Turn]:
    """Return the rows of a home, and those that all homes share, by name."""
    rows = execute(connection, f"{_SELECT} WHERE home = :home OR home = '' ORDER BY name", home=home).mappings()
    return [_turn(row) for row in rows]


def read_turns(database: Database, home: str) -> list[Turn]:
    """Return the same."""
    with database.read() as connection:
        return turns(connection, home)


def turn_of(connection: Connection, name: str, *, home: str = "") -> Turn | None:
    """Return a row; None if nothing of that name was scheduled yet."""
    where = f"{_SELECT} WHERE home = :home AND name = :name"
    row = execute(connection, where, home=home, name=name).mappings().first()
    return None if row is None else _turn(row)


def see(database: Database, turn: Turn) -> Turn:
    """Return the row of that name; `turn` is written if it is the first."""
    with database.read() as connection:
        found = turn_of(connection, turn.name, home=turn.home)
    if found is not None:
        return found
    with database.write() as connection:
        insert(connection, "schedule", asdict(turn), once=True)
        return turn_of(connection, turn.name, home=turn.home) or turn


def note_plan(database: Database, turn: Turn, plan: str, due_ms: int | None) -> None:
    """Write down when it begins next, for those who look."""
    if (turn.plan, turn.due_ms) == (plan, due_ms):
        return
    with database.write() as connection:
        statement = "UPDATE schedule SET plan = :plan, due_ms = :due WHERE home = :home AND name = :name"
        execute(connection, statement, plan=plan, due=due_ms, home=turn.home, name=turn.name)


def claim(database: Database, seen: Turn, begun: Turn) -> bool:
    """Begin the turn after the one seen; False if another process began it, or one of the same operation, meanwhile."""
    with database.write() as connection:
        statement = f"{_SELECT} WHERE home = :home AND operation = :operation{row_lock(connection)}"
        rows = execute(connection, statement, home=seen.home, operation=seen.operation).mappings()
        found = {turn.name: turn for turn in map(_turn, rows)}
        now = found.get(seen.name)
        if now is None or (now.began_ms, now.job_id) != (seen.began_ms, seen.job_id):
            return False
        if any(turn.state == "running" for turn in found.values()):
            return False
        execute(connection, _UPDATE, **_values(begun))
        return True


def end(database: Database, turn: Turn) -> None:
    """Write down how a turn ended, unless another one began meanwhile."""
    with database.write() as connection:
        execute(
            connection, f"{_UPDATE} AND job_id = :job_id AND state = 'running'",
            **_values(replace(turn, says=turn.says[:MOST_CHARS])),
        )  # fmt: skip


def _values(turn: Turn) -> dict[str, object]:
    return {name: getattr(turn, name) for name in ("name", "home", *_CHANGING)}


def _turn(row: Any) -> Turn:
    return Turn(**cast(Any, dict(row)))
