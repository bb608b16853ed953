"""What the supervisor asks and tells: which releases have engine hosts on this machine, and how those do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ashore.access import SYSTEM, Acts
from ashore.errors import Conflict
from ashore.planning import ModelPlan, Plan
from ashore.releases import byitself, changes, moves, sql
from ashore.releases.betting import Finding, Tally, look, step_slice
from ashore.releases.burn import Burning, Count, Slo, burning, rate_of
from ashore.releases.changes import By
from ashore.releases.digests import content_of_parts, spec_content
from ashore.releases.given import GivenLevel
from ashore.releases.model import HOSTED, Book, Course, Moved, Release
from ashore.releases.pairs import KEPT_S, Pair
from ashore.releases.ports import Workshop
from ashore.releases.rules import next_name
from ashore.releases.standing import moved_by_hand

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.access.acts import Desk

JUST_NOW_S: Final = 1
"""A release that moved so lately did so after a jump of the clock, and its times are right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A release that is to have engine hosts."""

    plan: ModelPlan
    course: Course
    needed_bytes: int = 0
    """Memory that its hosts need."""


class ReleaseKeeper:
    """Brings ashore.toml and the releases together. Each call is one transaction; the supervisor's thread makes it."""

    def __init__(self, acts: Acts, workshop: Workshop, *, home: str = "") -> None:
        """Make it. `home` names this one among several that share a state; empty: it has its state alone."""
        self._acts = acts
        self._workshop = workshop
        self._home = home

    def propose(self, plan: Plan, *, replaced: Collection[str] = ()) -> Plan:
        """Return the plan with what is to answer for each alias now. Changes nothing.

        An alias that nobody knows gets a release of what the plan says, and so does one for which ashore.toml says
        something else than the last time, or that is in `replaced`. For every other the release stands that was
        promoted last, whatever ashore.toml says: a restart undoes no promotion. Where that has failed, what the plan
        says answers.
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
        """Return the plan of what answers, by alias, where operators had something answer that ashore.toml did not say.
        No reload takes it back by itself."""
        with self._acts.look(SYSTEM) as desk:
            return moved_by_hand(sql.load_book(desk.connection))

    def check_reload(self, plan: Plan) -> None:
        """Return when nothing that was led by hand depends on what a plan has no more.

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
        """Have every release of a proposed plan answer for its alias that does not do so yet, and forget what
        ashore.toml has no more. May be called twice.

        Args:
            plan: From `propose`.
            asked: What ashore.toml says; noted of aliases for which something else stands. Default: what was noted.
            said_in: What names the models; kept with the history as the reason.
            failed: Releases in whose place others of the plan answer, with why those could not.
            new_names_alone: Leave every alias that there is as it is: no worker has answered for the plan yet, and a
                start that fails must not have taken anything back.

        Returns the aliases that were forgotten, those with them that were led by hand to their releases alone.

        Raises:
            Conflict: somebody else made a release of one of these names meanwhile, of something else.
        """
        declared = {model.alias for model in plan.models}
        failed = {release: _in_one_line(said) for release, said in (failed or {}).items()}
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        if new_names_alone:
            plan = replace(plan, models=tuple(model for model in plan.models if model.alias not in book.aliases))
        for model in plan.models:
            _check_same(book, model)
        fresh = [model for model in plan.models if model.release not in book.releases]
        said = {model.alias: spec_content(model) for model in asked.models} if asked is not None else {}
        known = [alias for name, alias in book.aliases.items() if name in declared]
        noted = not self._home or all(self._home in alias.homes for alias in known)
        noted = noted and all(said.get(alias.name, alias.spec_content) == alias.spec_content for alias in known)
        if new_names_alone and not fresh:
            return ()
        if not fresh and noted and not byitself.undeclared(book, declared, home=self._home):
            return ()
        described = {model.release: self._workshop.describe_plan(model) for model in fresh}
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
            by = By(actor="system", now_s=desk.now_s, why=f"not among the models of {said_in}")
            return self._declare(desk, declared, said, by)

    def _declare(self, desk: Desk, declared: Set[str], said: Mapping[str, str], by: By) -> tuple[str, ...]:
        """Note what this home declares and what it says of it, forget what it does no more, and return that."""
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
        """Return the plan of the release that answers; None where none can. Where it is the one of ashore.toml, memory
        is planned anew."""
        known = [name for name in releases if name in book.releases and book.courses[name].state != "failed"]
        live = next((name for name in known if book.courses[name].state == "live"), next(iter(known), None))
        if live is None:
            return None
        release = book.releases[live]
        if spec_content(release.plan) == asked:
            return replace(model, release=live)
        return replace(release.plan, alias=model.alias, release=live)

    def wanted(self, aliases: Collection[str]) -> tuple[Wanted, ...]:
        """Return every release of these aliases that is to have engine hosts, by name."""
        with self._acts.look(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
        return tuple(
            Wanted(plan=book.releases[name].plan, course=course, needed_bytes=book.releases[name].needed_bytes)
            for name, course in sorted(book.courses.items())
            if course.state in HOSTED and book.releases[name].alias in aliases
        )

    def next_time(self, *, after_s: int) -> int:
        """Return the first second after `after_s` at which the time of a release comes; 0 where none has one.

        Of every release, those with it that have hosts on another machine, which may be down.
        """
        with self._acts.look(SYSTEM) as desk:
            courses = sql.load_book(desk.connection).courses.values()
        return min((course.until_s for course in courses if course.until_s > after_s), default=0)

    def warmed(self, name: str) -> None:
        """Tell that the hosts of a release have loaded, and that every worker knows them. May be called twice."""
        self._move("release:warmed", name, byitself.warmed, "its hosts have loaded", {})

    def loaded(self, name: str, took_s: float) -> None:
        """Keep how long the hosts of a release took to load; whoever goes back to it one day is told. No act by itself.

        A release that the state does not know is let be.
        """
        with self._acts.quiet_write(SYSTEM) as desk:
            course = sql.load_book(desk.connection).courses.get(name)
            if course is not None:
                sql.write_moved(desk.connection, Moved(courses=(replace(course, load_s=round(took_s, 1)),)))

    def fell(self, name: str, why: str, evidence: Mapping[str, str | int | float]) -> None:
        """Tell that a release cannot be prepared or read, or that its hosts do not load, or do not stay up: it is taken
        back where that can be. `why` may hold names of files as they are on the disk."""
        self._move("release:fell", name, byitself.fell, _in_one_line(why), evidence)

    def clock_jumped(self, by_s: float) -> None:
        """Move the times of releases by what the clock of this machine jumped: nothing ends or begins for that.

        Where several homes share a state the times are not this clock's alone, and stay.
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
        """Do what the time has come for: standbys retire, canaries take their next step, old pairs are forgotten. May
        be called at any time."""
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

    def judge(self, name: str, stage: str, pending: Mapping[tuple[str, str], Tally]) -> Finding:
        """Add what was observed of a release, and return what all of it says. One that is found worse is taken back: a
        candidate, or what is live while the one before it is warm.

        Evidence of a stage that is over is kept, and moves nothing.
        """
        with self._acts.look(SYSTEM) as desk:
            database_knows = name in sql.load_book(desk.connection).courses
        if not database_knows:
            return look(pending)
        taken_back = Moved()
        with self._acts.quiet_write(SYSTEM) as desk:
            found = look(sql.add_evidence(desk.connection, name, stage, pending))
            book = sql.load_book(desk.connection)
            course = book.courses[name]
            if found.verdict == "worse" and course.state == stage and course.automatic:
                part = f" in {found.slice}" if found.slice else ""
                why = f"found worse after {found.count} requests: {found.measure}{part}"
                evidence = {"e_value": round(found.e_value, 1), "measure": found.measure, **found.details}
                by = By(actor="system", now_s=desk.now_s, why=why, evidence=evidence)
                taken_back = self._taken_back(book, course, by)
                sql.write_moved(desk.connection, taken_back)
                self._tell_taken_back(desk, name, taken_back)
        return found

    def guard(self, slo: Slo, counted: Mapping[str, Sequence[Count]]) -> tuple[str, ...]:
        """Add how requests of releases kept to the objective. A canary that burns too fast is taken back, and so is
        what is live where that is its own fault and the one before it is warm; return those.

        Where its operator takes it back by hand (`--no-automatic`), nothing moves.
        """
        taken_back: dict[str, Moved] = {}
        with self._acts.quiet_write(SYSTEM) as desk:
            book = sql.load_book(desk.connection)
            for name, counts in counted.items():
                if name in book.releases:
                    oldest = desk.now_s - slo.longest_s - slo.bucket_s
                    sql.add_counts(desk.connection, name, counts, forget_before_s=oldest)
            for name in counted:
                course = book.courses.get(name)
                if course is None or not course.automatic or course.state not in ("canary", "live"):
                    continue
                alias, is_live = book.releases[name].alias, course.state == "live"
                if is_live and book.guarded_of(alias) != course:
                    continue
                found = burning(slo, sql.load_counts(desk.connection, name), desk.now_s, alone=is_live)
                if found is None:
                    continue
                why = (
                    f"burns its objective of {found.objective} {found.short_rate:.1f} times too fast over "
                    f"{found.short_s} s, {found.long_rate:.1f} times over {found.long_s} s"
                )
                evidence = found.evidence | self._beside(desk.connection, book, course, slo, found)
                by = By(actor="system", now_s=desk.now_s, why=why, evidence=evidence)
                taken_back[name] = self._taken_back(book, course, by)
                sql.write_moved(desk.connection, taken_back[name])
                self._tell_taken_back(desk, name, taken_back[name])
                book = changes.applied(book, taken_back[name])
        return tuple(taken_back)

    def _taken_back(self, book: Book, course: Course, by: By) -> Moved:
        """Return a candidate's end, or the way back to the release before what is live; nothing where that is cold."""
        if course.state == "live":
            return byitself.regressed(book, course.release, by)
        return moves.end_candidate(book, book.releases[course.release].alias, by, failed=True)

    def _beside(
        self, connection: Connection, book: Book, course: Course, slo: Slo, found: Burning
    ) -> dict[str, str | int | float]:
        """Return how fast what is live burnt the same objective meanwhile, or the one before it while its counts are
        kept, for whoever looks for the cause."""
        if course.state == "live":
            before = rate_of(slo, sql.load_counts(connection, course.replaced), found.objective, 0)
            return {"burn_rate_of_the_one_before": round(before, 2)}
        since_s = self._acts.now_s - found.long_s
        live = [c.release for c in book.live_of(book.releases[course.release].alias)]
        rates = [rate_of(slo, sql.load_counts(connection, name), found.objective, since_s) for name in live]
        return {"burn_rate_of_live": round(max(rates), 2)} if rates else {}

    def _tell_taken_back(self, desk: Desk, name: str, moved: Moved) -> None:
        if not moved.events:
            return
        event = moved.events[0]
        detail = {"why": event.why, **{key: _told(value) for key, value in event.evidence.items()}}
        self._acts.tell(SYSTEM, "release:automatic-rollback", f"release/{name}", detail, on=desk.connection)

    def keep_pairs(self, name: str, pairs: Sequence[Pair], *, most: int) -> None:
        """Keep what of these pairs is among the `most` most different ones of a release. They are masked."""
        with self._acts.quiet_write(SYSTEM) as desk:
            if name in sql.load_book(desk.connection).releases:
                sql.keep_pairs(desk.connection, name, pairs, most=most)

    def keep_given(self, given: Mapping[str, Sequence[GivenLevel]]) -> None:
        """Keep what releases gave, for workers that begin later."""
        with self._acts.quiet_write(SYSTEM) as desk:
            for name, levels in given.items():
                sql.keep_given(desk.connection, name, levels, now_s=desk.now_s)

    def given(self, name: str) -> tuple[GivenLevel, ...]:
        """Return what a release gave while it answered."""
        with self._acts.look(SYSTEM) as desk:
            return sql.load_given(desk.connection, name)

    def _move(
        self,
        what: str,
        name: str,
        move: Callable[[Book, str, By], Moved],
        why: str,
        evidence: Mapping[str, str | int | float],
    ) -> None:
        by = By(actor="system", now_s=self._acts.now_s, why=why, evidence=evidence)
        with self._acts.look(SYSTEM) as desk:
            if not move(sql.load_book(desk.connection), name, by).courses:
                return
        with self._acts.write(SYSTEM, what, f"release/{name}") as desk:
            moved = move(sql.load_book(desk.connection), name, by)
            sql.write_moved(desk.connection, moved)
            desk.detail.update({"why": why, **{key: _told(value) for key, value in evidence.items()}})
            for event in moved.events:
                desk.detail[f"{event.verb} {event.release}"] = event.state


def _check_same(book: Book, model: ModelPlan) -> None:
    made = book.releases.get(model.release)
    if made is not None and spec_content(made.plan) != spec_content(model):
        raise Conflict(
            f"someone created a release {model.release} of {made.plan.reference} while {model.reference} was loading "
            "under that name",
            hint="run the same command again; it uses the next free name",
        )


def _in_one_line(text: str) -> str:
    """Return a text without what moves a cursor, or what the state cannot keep."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text.replace("\n", " "))


def _told(value: str | int | float) -> str | int:
    return f"{value:.6g}" if isinstance(value, float) else value
