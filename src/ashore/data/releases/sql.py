"""Releases, aliases and their history in the state, on SQLite and Postgres."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.core.errors import Conflict
from ashore.data.engines import MADE_UP, EngineOptions, ModelPlan
from ashore.data.releases.betting import Tally
from ashore.data.releases.burn import Count
from ashore.data.releases.model import (
    FORGOTTEN_S,
    WHOLE,
    Alias,
    Book,
    Course,
    Event,
    GivenLevel,
    Moved,
    Release,
    ReleaseState,
)
from ashore.data.releases.pairs import Pair, most_different, pair_id_of
from ashore.kit.decode import UNDECODABLE
from ashore.kit.state import Event as Told
from ashore.kit.state import bump, execute, insert, keep_event, upsert

if TYPE_CHECKING:
    from sqlalchemy import Connection

READ: Final = "release:read"
"""The action that lets a caller read of what became of a release."""
ALIASES_EPOCH: Final = "aliases"
"""Bumped whenever an alias leads elsewhere, or a release stands elsewhere."""

_json = msgspec.json.Encoder().encode
_release = msgspec.json.Decoder(Release).decode
_course = msgspec.json.Decoder(Course).decode
_alias = msgspec.json.Decoder(Alias).decode
_tally = msgspec.json.Decoder(Tally).decode
_pair = msgspec.json.Decoder(Pair).decode
_given = msgspec.json.Decoder(GivenLevel).decode
_evidence = msgspec.json.Decoder(dict[str, str | int | float]).decode


def load_book(connection: Connection) -> Book:
    """Return all releases and aliases.

    An unreadable row does not affect others: such a release counts as failed, with the reason, and such an alias leads
    to its live release, as if ashore.toml had not named it yet.
    """
    rows = execute(connection, "SELECT name, alias, document, course FROM release ORDER BY name").mappings()
    releases, courses = {}, {}
    for row in rows:
        try:
            release, course = _release(row["document"]), _course(row["course"])
        except UNDECODABLE as fault:
            release, course = _unreadable(str(row["name"]), str(row["alias"]), fault)
        releases[release.name], courses[release.name] = release, course
    aliases = {}
    for row in execute(connection, "SELECT name, document, version FROM release_alias ORDER BY name").mappings():
        try:
            alias = _alias(row["document"])
        except UNDECODABLE:
            led = _led(str(row["name"]), releases, courses)
            if not led:
                continue
            alias = Alias(name=str(row["name"]), weights=((led, WHOLE),), version=int(row["version"]))
        aliases[alias.name] = alias
    return Book(releases=releases, courses=courses, aliases=aliases)


def _unreadable(name: str, alias: str, fault: Exception) -> tuple[Release, Course]:
    """Return a failed release for a row that cannot be read."""
    plan = ModelPlan(
        alias=alias,
        release=name,
        name="unreadable",
        variant="",
        options=EngineOptions(kind=MADE_UP.kind),
        replicas=1,
        embedder=False,
        in_store=False,
    )
    why = f"its entry in the state database cannot be read: {fault}"
    return Release(name=name, alias=alias, plan=plan, parts={}, content=""), Course(
        release=name, state="failed", why=why
    )


def _led(alias: str, releases: Mapping[str, Release], courses: Mapping[str, Course]) -> str:
    """Return the live release of an alias, else any of its own; empty if it has none."""
    own = [name for name, release in releases.items() if release.alias == alias]
    return next((name for name in own if courses[name].state == "live"), next(reversed(own), ""))


def insert_release(connection: Connection, release: Release, course: Course) -> None:
    """Store a new release.

    Raises:
        Conflict: a release of this name exists.
    """
    row = {
        "name": release.name,
        "alias": release.alias,
        "document": _json(release).decode(),
        "course": _json(course).decode(),
    }
    if not insert(connection, "release", row, once=True):
        raise Conflict(f"the release {release.name} already exists", hint="choose another name")


def replan_release(connection: Connection, release: Release) -> None:
    """Store how much memory a release takes by the present plan. What it answers is the same."""
    execute(
        connection,
        "UPDATE release SET document = :document WHERE name = :name",
        name=release.name,
        document=_json(release).decode(),
    )


def write_moved(connection: Connection, moved: Moved) -> None:
    """Write the changes of a move, and notify every process on commit. No-op if nothing changed.

    Raises:
        Conflict: an alias has changed since the move started.
    """
    for course in moved.courses:
        execute(
            connection,
            "UPDATE release SET course = :course WHERE name = :name",
            name=course.release,
            course=_json(course).decode(),
        )
    for alias in moved.aliases:
        values = {"name": alias.name, "document": _json(alias).decode(), "version": alias.version}
        if alias.version == 1:
            done = insert(connection, "release_alias", values, once=True)
        else:
            later = "document = :document, version = :version WHERE name = :name AND version < :version"
            done = execute(connection, f"UPDATE release_alias SET {later}", **values).rowcount
        if not done:
            raise Conflict(f"{alias.name} was changed at the same moment", hint="check it again")
    for name in moved.removed:
        execute(connection, "DELETE FROM release_alias WHERE name = :name", name=name)
    for event in moved.events:
        _append(connection, event)
    if moved.courses or moved.aliases or moved.removed:
        bump(connection, ALIASES_EPOCH)


def load_history(connection: Connection, *, alias: str = "", release: str = "", limit: int = 100) -> tuple[Event, ...]:
    """Return events, newest first; only those of an alias or release if one is named."""
    where = [f"{column} = :{column}" for column, value in (("alias", alias), ("release", release)) if value]
    statement = "SELECT * FROM release_event " + (f"WHERE {' AND '.join(where)} " if where else "")
    rows = execute(
        connection, statement + "ORDER BY seq DESC LIMIT :most", alias=alias, release=release, most=limit
    ).mappings()
    return tuple(_event(row) for row in rows)


def has_been(connection: Connection, release: str, *states: ReleaseState) -> bool:
    """Return whether a release was ever in one of these states."""
    found = execute(connection, "SELECT DISTINCT state FROM release_event WHERE release = :release", release=release)
    return any(state in states for state in found.scalars())


def add_evidence(
    connection: Connection, release: str, stage: str, pending: Mapping[tuple[str, str], Tally]
) -> dict[tuple[str, str], Tally]:
    """Add a worker's observations, and return all evidence of a release in this stage."""
    known = load_evidence(connection, release, stage)
    last = max((tally.place for tally in known.values()), default=0)
    for key, more in pending.items():
        known[key] = known.get(key, Tally()) + more
        if not known[key].place:
            last += 1
            known[key] = replace(known[key], place=last)
        tally = _json(known[key]).decode()
        row = {"release": release, "stage": stage, "name": key[0], "slice": key[1], "tally": tally}
        upsert(connection, "release_evidence", row, key="release, stage, name, slice")
    return known


def load_evidence(connection: Connection, release: str, stage: str) -> dict[tuple[str, str], Tally]:
    """Return the evidence of a release in a stage, by measure and slice."""
    rows = execute(
        connection,
        "SELECT name, slice, tally FROM release_evidence WHERE release = :release AND stage = :stage "
        "ORDER BY slice, name",
        release=release,
        stage=stage,
    ).mappings()
    return {(row["name"], row["slice"]): _tally(row["tally"]) for row in rows}


def keep_pairs(connection: Connection, release: str, pairs: Iterable[Pair], *, most: int) -> None:
    """Store pairs of a release, and keep only its `most` most different ones. May be called twice."""
    for pair in pairs:
        row = {"pair_id": pair.pair_id, "distance": pair.distance, "document": _json(pair).decode()}
        insert(connection, "release_pair", {"release": release, **row}, once=True)
    kept = {pair.pair_id for pair in most_different(load_pairs(connection, release), most)}
    names = execute(connection, "SELECT pair_id FROM release_pair WHERE release = :release", release=release).scalars()
    for gone in [str(name) for name in names if name not in kept]:
        execute(
            connection,
            "DELETE FROM release_pair WHERE release = :release AND pair_id = :pair_id",
            release=release,
            pair_id=gone,
        )


def load_pairs(connection: Connection, release: str) -> tuple[Pair, ...]:
    """Return the stored pairs of a release, most different first."""
    rows = execute(
        connection,
        "SELECT document FROM release_pair WHERE release = :release ORDER BY distance DESC, pair_id DESC",
        release=release,
    ).scalars()
    return tuple(_pair(row) for row in rows)


def forget_pairs(connection: Connection, *, before_s: int) -> int:
    """Delete pairs older than a moment; return how many."""
    return execute(
        connection, "DELETE FROM release_pair WHERE pair_id < :oldest", oldest=pair_id_of(before_s, "")
    ).rowcount


def has_pairs(connection: Connection, *, before_s: int) -> bool:
    """Return whether there are pairs older than a moment."""
    found = execute(
        connection, "SELECT 1 FROM release_pair WHERE pair_id < :oldest LIMIT 1", oldest=pair_id_of(before_s, "")
    )
    return found.first() is not None


def add_counts(connection: Connection, release: str, counts: Iterable[Count], *, forget_before_s: int) -> None:
    """Add a worker's counts of a release, and delete those that are too old."""
    for count in counts:
        execute(
            connection,
            "INSERT INTO release_burn (release, objective, at_s, total, bad) "
            "VALUES (:release, :objective, :at_s, :total, :bad) ON CONFLICT (release, objective, at_s) "
            "DO UPDATE SET total = release_burn.total + excluded.total, bad = release_burn.bad + excluded.bad",
            release=release,
            objective=count.objective,
            at_s=count.at_s,
            total=count.total,
            bad=count.bad,
        )
    execute(connection, "DELETE FROM release_burn WHERE at_s < :before", before=forget_before_s)


def load_counts(connection: Connection, release: str) -> tuple[Count, ...]:
    """Return the counts of a release, by objective and time."""
    rows = execute(
        connection,
        "SELECT objective, at_s, total, bad FROM release_burn WHERE release = :release ORDER BY objective, at_s",
        release=release,
    )
    return tuple(Count(objective=r.objective, at_s=int(r.at_s), total=int(r.total), bad=int(r.bad)) for r in rows)


def keep_given(connection: Connection, release: str, levels: Iterable[GivenLevel], *, now_s: int) -> None:
    """Store the answers of a release in place of earlier ones of the same levels, and delete those that are too old."""
    for one in levels:
        row = {"release": release, "level": one.level, "at_s": now_s, "document": _json(one).decode()}
        upsert(connection, "release_given", row, key="release, level")
    execute(connection, "DELETE FROM release_given WHERE at_s < :before", before=now_s - FORGOTTEN_S)


def load_given(connection: Connection, release: str) -> tuple[GivenLevel, ...]:
    """Return the stored answers of a release, by level of load."""
    rows = execute(
        connection, "SELECT document FROM release_given WHERE release = :release ORDER BY level", release=release
    ).scalars()
    return tuple(_given(row) for row in rows)


def _append(connection: Connection, event: Event) -> None:
    execute(
        connection,
        "INSERT INTO release_event (seq, at_ms, alias, release, verb, state, actor, why, evidence) "
        "SELECT COALESCE(MAX(seq), 0) + 1, :at_ms, :alias, :release, :verb, :state, :actor, :why, :evidence "
        "FROM release_event",
        at_ms=event.at_ms,
        alias=event.alias,
        release=event.release,
        verb=event.verb,
        state=event.state,
        actor=event.actor,
        why=event.why,
        evidence=_json(event.evidence).decode(),
    )
    about: dict[str, str | int | float | None] = {
        "release": event.release, "alias": event.alias, "state": event.state, "actor": event.actor, "why": event.why,
    }  # fmt: skip
    told = Told(
        kind=f"release.{event.verb}",
        resource=f"release/{event.release or event.alias}",
        reads=READ,
        about=about,
        at_ms=event.at_ms,
    )
    keep_event(connection, told)


def _event(row: Any) -> Event:
    return Event(
        alias=row["alias"],
        release=row["release"],
        verb=row["verb"],
        state=row["state"],
        actor=row["actor"],
        why=row["why"],
        at_ms=int(row["at_ms"]),
        evidence=_evidence(row["evidence"]),
    )
