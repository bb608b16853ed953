"""The use cases of releases and aliases. Each is one transaction: decided on the state, written and audited."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ashore.control.releases.inherited import adapters_of, check_kept
from ashore.control.releases.rights import Move, opened_by, resources_of
from ashore.control.releases.words import needs_override
from ashore.core.errors import Conflict
from ashore.core.visible import check_line
from ashore.data.authority import INFER, Actor, Acts
from ashore.data.releases import EVERYTHING, Finding, Pair, ReleasePolicy, changes, look, moves, sql, step_slice
from ashore.data.releases.allowed import check_adapters, check_options, kind_named
from ashore.data.releases.burn import Burning, Slo, burn_rates
from ashore.data.releases.changes import By, Way
from ashore.data.releases.model import HOSTED, Alias, Book, Course, Event, Moved, Release, Sticky, content_of_parts
from ashore.data.releases.ports import EvaluationGate, GateVerdict, NoGate, ReleaseWish, Workshop
from ashore.data.releases.rules import MemoryFigures, check_memory, check_name, next_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.authority.acts import Desk
    from ashore.data.engines import ModelPlan

RELEASE_READ: Final = "release:read"
RELEASE_WRITE: Final = "release:write"
RELEASE_PAIRS: Final = "release:pairs"
MOST_REASON_CHARS: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A release with its state."""

    release: Release
    course: Course
    weights: Mapping[str, int]
    """By alias: the thousandths that it answers."""
    gate: GateVerdict | None = None
    """How the evaluation of its model stands now, where somebody looked."""


@dataclass(frozen=True, slots=True)
class _Open:
    """An open transaction on the book."""

    desk: Desk
    book: Book
    by: By

    def require(self, resources: Iterable[str]) -> None:
        """Check that the actor may write all of these resources.

        Raises:
            PermissionDenied: it may not; the message names the first one.
        """
        for resource in resources:
            self.desk.require(RELEASE_WRITE, resource)

    def require_models(self, release: Release) -> None:
        """Check that the actor may make a release answer under its alias: that it may use the models that become
        available there, and may write the aliases under which they answer now.

        Raises:
            PermissionDenied: it may not; or a rule denies it the model by the name that the store has for it.
        """
        for alias in opened_by(self.book, release):
            self.desk.require(INFER, f"model/{alias}")
            self.desk.require(RELEASE_WRITE, f"alias/{alias}")
        for name in sorted(release.models):
            if self.desk.denies(INFER, f"model/{name}"):
                self.desk.require(INFER, f"model/{name}")

    def write(self, moved: Moved) -> Book:
        """Write a move and its audit record, and return the new book."""
        sql.write_moved(self.desk.connection, moved)
        for event in moved.events:
            self.desk.detail[f"{event.verb} {event.release}"] = event.state
        return changes.applied(self.book, moved)


class ReleaseOffice:
    """Moves releases and aliases for authorised callers. Each call is one transaction; not for an event loop.

    A change is known to every process within 200 ms after the call (epoch `aliases`). When the machine dies in the
    middle of a call, either all of it happened or nothing.
    """

    def __init__(
        self,
        acts: Acts,
        workshop: Workshop,
        gate: EvaluationGate | None = None,
        policy: Callable[[], ReleasePolicy] = ReleasePolicy,
    ) -> None:
        """Create it. `gate` returns evaluation results; default: nothing was evaluated. `policy` returns the operator's
        current policy.
        """
        self._acts = acts
        self._workshop = workshop
        self._gate = gate or NoGate()
        self._policy = policy

    # --- looking

    def book(self, actor: Actor, resource: str = "release/*") -> Book:
        """Return the book, if the actor may read `resource`."""
        with self._acts.read(actor, RELEASE_READ, resource) as desk:
            return sql.load_book(desk.connection)

    def standings(self, actor: Actor, *, alias: str = "") -> tuple[Standing, ...]:
        """Return every release that the actor may read, or those of one alias, newest first."""
        with self._acts.read(actor, RELEASE_READ, "release/*") as desk:
            book = sql.load_book(desk.connection)
            if alias:
                changes.alias_of(book, alias)
            of_alias = [r for r in book.releases.values() if not alias or r.alias == alias]
            chosen = [r for r in of_alias if desk.allows(RELEASE_READ, f"release/{r.name}")]
        chosen.sort(key=lambda r: (r.created_s, r.name), reverse=True)
        return tuple(_standing(book, release.name) for release in chosen)

    def standing(self, actor: Actor, name: str) -> Standing:
        """Return one release, with the current result of its model's evaluation.

        Raises:
            NotFound: there is none of this name.
        """
        with self._acts.read(actor, RELEASE_READ, f"release/{name}") as desk:
            found = _standing(sql.load_book(desk.connection), name)
        weights = found.release.parts.get("weights", "")
        return replace(found, gate=self._gate.verdict(found.release.plan.reference, digest=weights))

    def history(self, actor: Actor, *, alias: str = "", release: str = "", limit: int = 100) -> tuple[Event, ...]:
        """Return the history of releases that the actor may read, newest first. History is never deleted."""
        with self._acts.read(actor, RELEASE_READ, "release/*") as desk:
            events = sql.load_history(desk.connection, alias=alias, release=release, limit=max(1, min(limit, 1000)))
            return tuple(
                event
                for event in events
                if desk.allows(RELEASE_READ, f"release/{event.release}")
                and not desk.denies(RELEASE_READ, f"alias/{event.alias}")
            )

    def evidence(self, actor: Actor, name: str) -> tuple[tuple[str, Finding], ...]:
        """Return the findings of a release's comparison with the live one, by stage.

        Raises:
            NotFound: there is no such release.
        """
        with self._acts.read(actor, RELEASE_READ, f"release/{name}") as desk:
            book = sql.load_book(desk.connection)
            changes.release_of(book, name)
            return _findings(desk.connection, book.courses[name])

    def burn_rates(self, actor: Actor, name: str, slo: Slo) -> tuple[tuple[bool, Burning], ...]:
        """Return the current burn rates of a release, by both rules; with True, only those for its own faults.

        Raises:
            NotFound: there is no such release.
        """
        with self._acts.read(actor, RELEASE_READ, f"release/{name}") as desk:
            changes.release_of(sql.load_book(desk.connection), name)
            counts = sql.load_counts(desk.connection, name)
        now_s = self._acts.now_s
        return tuple((alone, one) for alone in (False, True) for one in burn_rates(slo, counts, now_s, alone=alone))

    def pairs(self, actor: Actor, name: str) -> tuple[Pair, ...]:
        """Return the most different answers of a release as shadow and of the live release, masked. The audit log
        records the reader.

        Covers the actor's own tenant, and each tenant whose `tenant/NAME` it may read.

        Raises:
            NotFound: there is no such release.
        """
        with self._acts.read(actor, RELEASE_PAIRS, f"release/{name}") as desk:
            changes.release_of(sql.load_book(desk.connection), name)
            own = actor.principal.tenant
            found = tuple(
                pair
                for pair in sql.load_pairs(desk.connection, name)
                if pair.tenant == own or desk.allows(RELEASE_PAIRS, f"tenant/{pair.tenant}")
            )
        self._acts.tell(actor, RELEASE_PAIRS, f"release/{name}", {"pairs": len(found)}, on=None)
        return found

    # --- releases

    def create(self, actor: Actor, wish: ReleaseWish, *, name: str = "", override: str = "") -> Standing:
        """Create a release. Nothing is loaded, and it answers no requests yet.

        Args:
            actor: The caller.
            wish: Its parts and its alias.
            name: Default: the alias and the next number.
            override: Why it is created although its evaluation failed or a required one is missing; stored with the
                release and in the audit log.

        Raises:
            Conflict: there is a release of this name, or the alias was set by hand, or its evaluation failed or is
                required, and nothing overrides that.
            NotFound: there is no such alias or model.
            InvalidRequest: the engine has no such option.
            PermissionDenied: the actor may not, or may not use the model, or sets what only ashore.toml may set: what
                runs and where it is loaded from.
        """
        override = check_reason(override)
        if name:
            check_name(name, "a release")
        with self._acts.look(actor) as looking:
            looking.require(RELEASE_WRITE, f"alias/{wish.alias}")
            seen = sql.load_book(looking.connection)
            looking.require(RELEASE_WRITE, f"release/{name or next_name(wish.alias, seen.releases)}")
        live = _live_plan(seen, wish.alias)
        policy = self._policy()
        kind = kind_named(wish.engine)
        check_options(wish.options, kind, policy.allow_options)  # before anything is looked for by them
        named = check_adapters(wish.adapters, policy.adapter_folders)
        wish = replace(wish, adapters=adapters_of(live.adapters, named, wish.drop_adapters))
        described = self._workshop.describe(wish, live=live)  # reads the store
        check_options(wish.options, described.plan.options.kind, policy.allow_options)
        gate = self._check_gate(described.plan.reference, override)
        with self._act(actor, "release:create", f"release/{name}" if name else f"alias/{wish.alias}") as act:
            chosen = name or next_name(wish.alias, act.book.releases)
            act.require(resources_of("create", act.book, alias=wish.alias, release=chosen))
            release = Release(
                name=chosen,
                alias=wish.alias,
                plan=replace(described.plan, alias=wish.alias, release=chosen),
                parts=described.parts,
                origins=described.origins,
                content=content_of_parts(described.parts),
                needed_bytes=described.needed_bytes,
                gate=gate,
                created_s=act.by.now_s,
                created_by=act.by.actor,
            )
            act.require_models(release)
            act.desk.detail.update(release=chosen, content=release.content, model=release.plan.reference, gate=gate)
            moved = moves.create(act.book, release, act.by)
            sql.insert_release(act.desk.connection, release, moved.courses[0])
            sql.write_moved(act.desk.connection, moved)
            return Standing(release=release, course=moved.courses[0], weights={})

    def roll_out(
        self,
        actor: Actor,
        name: str,
        way: Way,
        *,
        why: str = "",
        seen: int | None = None,
        override: str = "",
        drop_adapters: Collection[str] = (),
    ) -> Standing:
        """Send a release into shadow, canary or live; it warms up first if its hosts do not run.

        Args:
            actor: The caller.
            name: The release.
            way: Goal and options.
            why: Stored in the history.
            seen: Version of the alias that the operator looked at.
            override: Why it goes live although it was found worse, or was never compared with the live release; stored
                in the history and the audit log.
            drop_adapters: Names of adapters that answer now and may stop answering once it is live.

        Raises:
            NotFound: there is no such release.
            Conflict: the move is not allowed, another release is on its way, or the alias was moved meanwhile; it has
                no verdict and no override; or it would remove an adapter.
            MemoryFull: there is no memory for two; the message has both figures.
        """
        move: Move = "promote" if way.goal == "live" else way.goal
        with self._act(actor, f"release:{move}", f"release/{name}", why=why) as act:
            act.require(resources_of(move, act.book, release=name))
            moved = moves.roll_out(act.book, name, way, act.by, seen=seen)
            act.require_models(act.book.releases[name])
            if act.book.courses[name].state not in HOSTED:
                self._check_memory(act.book, name, cold=way.cold)
            if way.goal == "live" or way.then_promote:
                check_kept(act.book, act.book.releases[name].alias, name, drop_adapters)
            if way.goal == "live":
                by = self._judged(act, name, check_reason(override))
                moved = moves.roll_out(act.book, name, way, by, seen=seen)
            return _standing(act.write(moved), name)

    def roll_back(
        self, actor: Actor, alias: str, *, to: str = "", why: str = "", seen: int | None = None, cold: bool = False
    ) -> tuple[Standing, ...]:
        """Roll back: end a candidate, or point the alias at the release before. A warm release answers at once.

        Returns the releases that answer now; if the one before has to load first, that one, with the last load time in
        `load_s` of its course.

        Raises:
            NotFound: there is nothing to go back to.
            Conflict: the requested release has failed or never answered; or the alias was changed meanwhile; or its
                last change was a rollback, which another one would undo.
            MemoryFull: an earlier release has to load, and there is no memory for two.
        """
        with self._act(actor, "release:rollback", f"alias/{alias}", why=why) as act:
            act.require(resources_of("rollback", act.book, alias=alias, release=to))
            if to and not sql.has_been(act.desk.connection, to, "live", "canary"):
                raise Conflict(
                    f"{to} has never answered for {alias}, so a rollback to it is not possible",
                    hint=f"try it as a canary, or promote it: `ashore release promote {to}`",
                )
            if not to and act.book.candidate_of(alias) is None:
                _refuse_forward(act, alias)
            moved = moves.roll_back(act.book, alias, act.by, to=to, seen=seen)
            loads = next((course for course in moved.courses if course.state == "warming"), None)
            if loads is not None and act.book.courses[loads.release].state not in HOSTED:
                loads = replace(loads, cold=cold or loads.cold)
                self._check_memory(act.book, loads.release, cold=loads.cold)
                rest = (course for course in moved.courses if course.release != loads.release)
                moved = replace(moved, courses=(*rest, loads))
            book = act.write(moved)
            if loads is not None:
                return (_standing(book, loads.release),)
            return tuple(_standing(book, name) for name in book.aliases[alias].releases)

    def retire(self, actor: Actor, name: str, *, why: str = "") -> Standing:
        """End a release that no alias leads to.

        Raises:
            Conflict: an alias leads to it, or it has ended.
        """
        with self._act(actor, "release:retire", f"release/{name}", why=why) as act:
            act.require(resources_of("retire", act.book, release=name))
            return _standing(act.write(moves.retire(act.book, name, act.by)), name)

    # --- aliases

    def aliases(self, actor: Actor) -> tuple[Alias, ...]:
        """Return every alias that no rule denies to the actor, by name."""
        with self._acts.read(actor, RELEASE_READ, "release/*") as desk:
            found = sorted(sql.load_book(desk.connection).aliases.items())
            return tuple(alias for name, alias in found if not desk.denies(RELEASE_READ, f"alias/{name}"))

    def alias(self, actor: Actor, name: str) -> Alias:
        """Return one alias.

        Raises:
            NotFound: there is none of this name.
        """
        with self._acts.read(actor, RELEASE_READ, "release/*") as desk:
            if desk.denies(RELEASE_READ, f"alias/{name}"):
                desk.require(RELEASE_READ, f"alias/{name}")
            return changes.alias_of(sql.load_book(desk.connection), name)

    def set_alias(
        self,
        actor: Actor,
        name: str,
        weights: Mapping[str, int],
        *,
        sticky: Sticky | None = None,
        why: str = "",
        seen: int | None = None,
    ) -> Alias:
        """Point an alias at releases, in thousandths; create it if needed.

        Raises:
            InvalidRequest: the weights do not come to 1000, or the name is invalid.
            NotFound: there is no such release.
            Conflict: a release is not warm, a canary runs, the alias was moved meanwhile; or, without a reason, a
                release was found worse or never compared.
        """
        check_name(name, "an alias")
        with self._act(actor, "alias:set", f"alias/{name}", why=why) as act:
            act.require(resources_of("set", act.book, alias=name, releases=weights))
            self._check_compared(act, name, weights)
            return act.write(moves.set_alias(act.book, name, weights, act.by, sticky=sticky, seen=seen)).aliases[name]

    def remove_alias(self, actor: Actor, name: str, *, why: str = "") -> None:
        """Remove an alias that was set by hand; requests for it are refused from then on.

        Raises:
            NotFound: there is none of this name.
            Conflict: it belongs to a model that is served.
        """
        with self._act(actor, "alias:remove", f"alias/{name}", why=why) as act:
            act.require(resources_of("remove", act.book, alias=name))
            act.write(moves.remove_alias(act.book, name, act.by))

    # --- pieces

    @contextmanager
    def _act(self, actor: Actor, what: str, resource: str, *, why: str = "") -> Iterator[_Open]:
        with self._acts.write(actor, what, resource) as desk:
            desk.require(RELEASE_WRITE, resource)
            if why := check_reason(why):
                desk.detail["why"] = why
            by = By(actor=actor.principal.id, now_s=desk.now_s, why=why)
            yield _Open(desk, sql.load_book(desk.connection), by)

    def _check_gate(self, reference: str, override: str) -> str:
        verdict = self._gate.verdict(reference)
        is_missing = not verdict.outcome and self._policy().gate == "required"
        if verdict.outcome != "failed" and not is_missing:
            return verdict.outcome or "not evaluated"
        if not override and is_missing:
            raise Conflict(
                f'{reference} was never evaluated against a gate, and [release] gate = "required"',
                hint=f"`ashore optimize evaluate {reference} --gate gate.toml` and the options of the evaluation; "
                "--override 'WHY' creates the release anyway, and is recorded",
            )
        if not override:
            raise Conflict(
                f"the evaluation of {reference} failed: {verdict.why}",
                hint="--override 'WHY' creates the release anyway, and is recorded",
            )
        return f"overridden: {override}"

    def _judged(self, act: _Open, name: str, override: str) -> By:
        """Return who promotes a release, with the reason for overriding a verdict if one is needed."""
        connection = act.desk.connection
        found = _findings(connection, act.book.courses[name])
        reason = needs_override(name, found, answered=sql.has_been(connection, name, "live"))
        if not reason:
            return act.by
        if not override:
            raise Conflict(
                reason,
                hint="--override 'WHY' promotes it anyway, and is recorded; `ashore release shadow` or `canary` "
                "compares it first",
            )
        act.desk.detail.update(override=override, overridden=reason)
        return replace(act.by, evidence={"override": override, "overridden": reason})

    def _check_compared(self, act: _Open, alias: str, weights: Mapping[str, int]) -> None:
        """Refuse to point an alias by hand, without a reason, at a release that `promote` would need an override
        for.
        """
        if act.by.why:
            return
        connection, now = act.desk.connection, act.book.aliases.get(alias)
        joining = [release for release, weight in weights.items() if weight and not (now and now.weight(release))]
        for release in joining:
            found = _findings(connection, act.book.courses[changes.release_of(act.book, release).name])
            if reason := needs_override(release, found, answered=sql.has_been(connection, release, "live")):
                raise Conflict(reason, hint="--why 'WHY' points the alias there anyway, and is recorded")

    def _check_memory(self, book: Book, name: str, *, cold: bool) -> None:
        release = book.releases[name]
        warm = [one for one in book.releases.values() if one.alias == release.alias and one.name != name]
        gives_back = sum(one.needed_bytes for one in warm if book.courses[one.name].state in HOSTED)
        figures = MemoryFigures(needed_bytes=release.needed_bytes, free_bytes=self._workshop.free_bytes())
        check_memory(name, figures, cold=cold, gives_back_bytes=gives_back)


def check_reason(text: str) -> str:
    """Return a reason as one line.

    Raises:
        InvalidRequest: it is too long, or has invisible characters.
    """
    return check_line(text.strip(), "the reason", most=MOST_REASON_CHARS, param="why")


def _findings(connection: Connection, course: Course) -> tuple[tuple[str, Finding], ...]:
    """Return the findings of a release, by stage."""
    found = [(stage, sql.load_evidence(connection, course.release, stage)) for stage in ("shadow", "canary", "live")]
    step = step_slice(course.share) if course.state == "canary" else EVERYTHING
    return tuple(
        (stage, look(tallies, within=step if stage == "canary" else EVERYTHING)) for stage, tallies in found if tallies
    )


def _live_plan(book: Book, alias: str) -> ModelPlan:
    """Return the plan of the live release of an alias, without a canary."""
    releases = changes.declared_of(book, alias).releases
    return book.releases[next((course.release for course in book.live_of(alias)), releases[0])].plan


def _standing(book: Book, name: str) -> Standing:
    release = changes.release_of(book, name)
    weights = {alias.name: alias.weight(name) for alias in book.aliases.values() if alias.weight(name)}
    return Standing(release=release, course=book.courses[name], weights=weights)


def _refuse_forward(act: _Open, alias: str) -> None:
    """Refuse a second rollback without a release name: it would undo the first."""
    history = sql.load_history(act.desk.connection, alias=alias, limit=10)
    events = [one for one in history if one.verb in ("promote", "rollback", "alias")]
    if [one.verb for one in events[:2]] == ["promote", "rollback"] and events[0].release == events[1].release:
        del events[0]  # the rollback had to load it first
    if not events or events[0].verb != "rollback" or not act.book.aliases[alias].weight(events[0].release):
        return  # a rollback that ended a candidate changed no live release: the candidate answers nothing now
    now, left = events[0].release, next((one.release for one in events[1:] if one.release != events[0].release), "")
    raise Conflict(
        f"{alias} was already rolled back to {now}" + (f"; another rollback would return to {left}" if left else ""),
        hint=f"to do that, run `ashore release rollback {alias} --to {left or 'RELEASE'}`",
    )
