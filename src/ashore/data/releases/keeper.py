"""The supervisor's view of releases: which have engine hosts on this machine, and how those are doing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ashore.core.errors import Conflict
from ashore.data.authority import SYSTEM, Acts
from ashore.data.engines import ModelPlan, Plan
from ashore.data.releases import byitself, sql
from ashore.data.releases.betting import look, step_slice
from ashore.data.releases.changes import By
from ashore.data.releases.judge import Judge, in_one_line
from ashore.data.releases.model import HOSTED, Book, Course, Moved, Release, content_of_parts, spec_content
from ashore.data.releases.pairs import KEPT_S
from ashore.data.releases.ports import Workshop
from ashore.data.releases.rules import next_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.authority.acts import Desk

JUST_NOW_S: Final = 1
"""A release that moved so lately did so after a jump of the clock, and its times are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A release that should have engine hosts."""

    plan: ModelPlan
    course: Course
    needed_bytes: int = 0
    """Memory that its hosts need."""


class ReleaseKeeper(Judge):
    """Brings ashore.toml and the releases together. Each call is one transaction; the supervisor's thread makes it."""

    def __init__(self, acts: Acts, workshop: Workshop, *, home: str = "") -> None:
        """Create it. `home` names this home among several that share a state; empty: the state is not shared."""
        super().__init__(acts)
        self._workshop = workshop
        self._home = home

    def propose(self, plan: Plan, *, replaced: Collection[str] = ()) -> Plan:
        """Return the plan with the release that should answer for each alias now. Changes nothing.

        A new alias gets a release of the plan, and so does one whose entry in ashore.toml changed or that is in
        `replaced`. Every other alias keeps the release promoted last: a restart does not undo a promotion. If that
        release has failed, the plan's answers.
        """
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        models = []
        for model in plan.models:
            alias, asked = book.aliases.get(model.alias), spec_content(model)
            stands = None
            if alias is not None and alias.spec_content == asked and model.alias not in replaced:
                stands = self._standing_plan(book, alias.releases, model, asked)
            if stands is not None:
                models.append(stands)
            else:
                models.append(replace(model, release=next_name(model.alias, book.releases)))
        return replace(plan, models=tuple(models))

    def standing(self) -> Mapping[str, ModelPlan]:
        """Return the plan of each alias whose live release differs from the last ashore.toml: a reload leaves it."""
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        found = {}
        for alias in book.aliases.values():
            live = next((name for name in alias.releases if book.courses[name].state == "live"), None)
            if live is not None and alias.spec_content and spec_content(book.releases[live].plan) != alias.spec_content:
                found[alias.name] = replace(book.releases[live].plan, alias=alias.name, release=live)
        return found

    def check_reload(self, plan: Plan) -> None:
        """Check that no alias set by hand depends on something that a plan removes.

        Raises:
            Conflict: an alias that was made by command leads to a release of an alias that is gone from ashore.toml.
        """
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        declared = {model.alias for model in plan.models}
        byitself.check_undeclared(book, byitself.undeclared(book, declared, home=self._home), home=self._home)

    def adopt(
        self,
        plan: Plan,
        *,
        asked: Plan | None = None,
        said_in: str = "ashore.toml",
        failed: Mapping[str, str] | None = None,
        new_names_alone: bool = False,
    ) -> tuple[str, ...]:
        """Make every release of a proposed plan live for its alias, and remove what is no longer in ashore.toml. May be
        called twice.

        Args:
            plan: From `propose`.
            asked: The plan of ashore.toml, recorded for aliases with an override. Default: as recorded.
            said_in: Source that names the models; the reason in the history.
            failed: Releases in whose place others of the plan answer, with why those could not.
            new_names_alone: Leave existing aliases unchanged: no worker has answered for the plan yet, and a failed
                start must not roll anything back.

        Returns the removed aliases, including those set by hand that led only to their releases.

        Raises:
            Conflict: a different release of one of these names was created meanwhile.
        """
        declared = {model.alias for model in plan.models}
        failed = {release: in_one_line(said) for release, said in (failed or {}).items()}
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        if new_names_alone:
            plan = replace(plan, models=tuple(model for model in plan.models if model.alias not in book.aliases))
        for model in plan.models:
            _check_same(book, model)
        fresh = [model for model in plan.models if model.release not in book.releases]
        alone = not new_names_alone and not self._home  # where homes share a state, each plans its own memory
        replanned = [model for model in plan.models if alone and _is_replanned(book, model)]
        said = {model.alias: spec_content(model) for model in asked.models} if asked is not None else {}
        known = [alias for name, alias in book.aliases.items() if name in declared]
        noted = not self._home or all(self._home in alias.homes for alias in known)
        noted = noted and all(said.get(alias.name, alias.spec_content) == alias.spec_content for alias in known)
        if new_names_alone and not fresh:
            return ()
        if not fresh and not replanned and noted and not byitself.undeclared(book, declared, home=self._home):
            return ()
        described = {model.release: self._workshop.describe_plan(model) for model in (*fresh, *replanned)}
        with self._acts.write(SYSTEM, "release:adopt", "deployment") as desk:
            by = By(actor="system", now_s=desk.now_s, why=said_in)
            for model in fresh:
                book = sql.load_book(desk.connection)
                _check_same(book, model)
                if model.release in book.releases:  # another machine was first
                    continue
                made = described[model.release]
                release = Release(
                    name=model.release,
                    alias=model.alias,
                    plan=model,
                    parts=made.parts,
                    content=content_of_parts(made.parts),
                    origins=made.origins,
                    needed_bytes=made.needed_bytes,
                    gate=f"not asked: {said_in}",
                    created_s=desk.now_s,
                    created_by="system",
                )
                moved = byitself.adopt(
                    book, release, by, spec_content=spec_content(model), home=self._home, failed=failed
                )
                sql.insert_release(desk.connection, release, moved.courses[-1])
                sql.write_moved(desk.connection, moved)
                desk.detail[model.release] = model.reference
            if new_names_alone:
                return ()
            for model in replanned:
                known_as = sql.load_book(desk.connection).releases[model.release]
                needed_bytes = described[model.release].needed_bytes
                sql.replan_release(desk.connection, replace(known_as, plan=model, needed_bytes=needed_bytes))
            by = By(actor="system", now_s=desk.now_s, why=f"not among the models of {said_in}")
            return self._declare(desk, declared, said, by)

    def _declare(self, desk: Desk, declared: Set[str], said: Mapping[str, str], by: By) -> tuple[str, ...]:
        """Record what this home declares, remove what it no longer declares, and return that."""
        book = sql.load_book(desk.connection)
        for name in sorted(declared & book.aliases.keys()):
            noted = byitself.declare(book, name, by, home=self._home, spec_content=said.get(name, ""))
            sql.write_moved(desk.connection, noted)
        forgotten: list[str] = []
        for name in byitself.undeclared(book, declared, home=self._home):
            moved = byitself.undeclare(sql.load_book(desk.connection), name, by, home=self._home)
            sql.write_moved(desk.connection, moved)
            forgotten += moved.removed
        if forgotten:
            desk.detail["forgotten"] = ", ".join(forgotten)
        return tuple(forgotten)

    def _standing_plan(self, book: Book, releases: tuple[str, ...], model: ModelPlan, asked: str) -> ModelPlan | None:
        """Return the plan of the release that answers; None if none can. For the one of ashore.toml, memory is planned
        again.
        """
        known = [name for name in releases if name in book.releases and book.courses[name].state != "failed"]
        live = next((name for name in known if book.courses[name].state == "live"), next(iter(known), None))
        if live is None:
            return None
        release = book.releases[live]
        if spec_content(release.plan) == asked:
            return replace(model, release=live)
        return replace(release.plan, alias=model.alias, release=live)

    def wanted(self, aliases: Collection[str]) -> tuple[Wanted, ...]:
        """Return every release of these aliases that should have engine hosts, by name."""
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        return tuple(
            Wanted(plan=book.releases[name].plan, course=course, needed_bytes=book.releases[name].needed_bytes)
            for name, course in sorted(book.courses.items())
            if course.state in HOSTED and book.releases[name].alias in aliases
        )

    def next_time(self, *, after_s: int) -> int:
        """Return the first second after `after_s` at which a timed move is due; 0 if none is.

        Considers every release, also those with hosts on another machine, which may be down.
        """
        with self._acts.look(SYSTEM) as desk:
            courses = sql.load_book(desk.connection).courses.values()
        return min((course.until_s for course in courses if course.until_s > after_s), default=0)

    def warmed(self, name: str) -> None:
        """Record that the hosts of a release have loaded and that every worker knows them. May be called twice."""
        self._move("release:warmed", name, byitself.warmed, "its hosts have loaded", {})

    def loaded(self, name: str, took_s: float) -> None:
        """Store how long the hosts of a release took to load; shown when an operator rolls back to it. Not an audited
        act.

        Ignores a release that the state does not know.
        """
        with self._acts.quiet_write(SYSTEM) as desk:
            course = sql.load_book(desk.connection).courses.get(name)
            if course is not None:
                sql.write_moved(desk.connection, Moved(courses=(replace(course, load_s=round(took_s, 1)),)))

    def clock_jumped(self, by_s: float) -> None:
        """Shift the times of releases by a jump of this machine's clock, so that nothing ends or begins because of it.

        Where several homes share a state other clocks set the times too, so they stay unchanged.
        """
        if self._home:
            return
        now_s = self._acts.now_s
        with self._acts.write(SYSTEM, "release:clock-jumped", "releases") as desk:
            courses = sql.load_book(desk.connection).courses.values()
            meant = [c for c in courses if c.until_s and abs(c.since_s - now_s) > JUST_NOW_S]
            moved = tuple(replace(c, until_s=max(1, c.until_s + round(by_s))) for c in meant)
            sql.write_moved(desk.connection, Moved(courses=moved))
            desk.detail.update(by_s=round(by_s), releases=", ".join(c.release for c in moved))

    def on_time(self) -> None:
        """Run timed moves: standbys retire, canaries take their next step, old pairs are deleted. May be called at any
        time.
        """
        by = By(actor="system", now_s=self._acts.now_s)
        with self._acts.look(SYSTEM) as desk:
            old = sql.has_pairs(desk.connection, before_s=by.now_s - KEPT_S)
            due = bool(self._due(desk.connection, by).courses)
        if old:
            with self._acts.quiet_write(SYSTEM) as desk:
                sql.forget_pairs(desk.connection, before_s=by.now_s - KEPT_S)
        if not due:
            return
        with self._acts.write(SYSTEM, "release:on-time", "releases") as desk:
            moved = self._due(desk.connection, by)
            sql.write_moved(desk.connection, moved)
            for event in moved.events:
                desk.detail[f"{event.verb} {event.release}"] = event.state

    def _due(self, connection: Connection, by: By) -> Moved:
        book = sql.load_book(connection)
        waiting = [c.release for c in book.courses.values() if c.state == "canary" and c.then_promote]
        found = {
            name: look(
                sql.load_evidence(connection, name, "canary"), within=step_slice(book.courses[name].share)
            ).verdict
            for name in waiting
        }
        return byitself.on_time(book, by, no_worse={name: verdict == "no worse" for name, verdict in found.items()})


def _is_replanned(book: Book, model: ModelPlan) -> bool:
    """Return whether the book has a release of the plan with another cache or other threads than are planned now."""
    known = book.releases.get(model.release)
    return known is not None and known.plan != model and spec_content(known.plan) == spec_content(model)


def _check_same(book: Book, model: ModelPlan) -> None:
    made = book.releases.get(model.release)
    if made is not None and spec_content(made.plan) != spec_content(model):
        raise Conflict(
            f"someone created a release {model.release} of {made.plan.reference} while {model.reference} was loading "
            "under that name",
            hint="run the same command again; it uses the next free name",
        )
