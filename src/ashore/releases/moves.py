"""What each move changes, as pure functions from a `Book` to a `Moved`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from ashore.core import did_you_mean
from ashore.errors import Conflict, InvalidRequest, NotFound
from ashore.releases.model import (
    HOSTED,
    STANDBY_S,
    WARM,
    WHOLE,
    Alias,
    Book,
    Course,
    Event,
    Goal,
    Moved,
    Release,
    Sticky,
)
from ashore.releases.rules import Verb, after, check_share, check_steps, check_weights, with_share

_VERB: Final[Mapping[Goal, Verb]] = {"shadow": "shadow", "canary": "canary", "live": "promote", "standby": "standby"}


@dataclass(frozen=True, slots=True, kw_only=True)
class By:
    """Who moves, when, and why."""

    actor: str
    now_s: int
    why: str = ""
    evidence: Mapping[str, str | int | float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a release is to be rolled out."""

    goal: Goal
    share: int = 0
    steps: tuple[int, ...] = ()
    step_s: int = 0
    then_promote: bool = False
    automatic: bool = True
    cold: bool = False
    standby_s: int = STANDBY_S


def release_of(book: Book, name: str) -> Release:
    """Return the release of this name.

    Raises:
        NotFound: there is none; the nearest names are offered.
    """
    found = book.releases.get(name)
    if found is None:
        raise NotFound(f"there is no release {name[:100]!r}", hint=did_you_mean(name, book.releases), param="release")
    return found


def alias_of(book: Book, name: str) -> Alias:
    """Return the alias of this name.

    Raises:
        NotFound: there is none; the nearest names are offered.
    """
    found = book.aliases.get(name)
    if found is None:
        raise NotFound(f"there is no alias {name[:100]!r}", hint=did_you_mean(name, book.aliases), param="alias")
    return found


def check_version(alias: Alias, seen: int | None) -> None:
    """Return when an alias is as whoever moves it saw it.

    Raises:
        Conflict: somebody moved it since.
    """
    if seen is not None and seen != alias.version:
        raise Conflict(
            f"{alias.name} was changed by {alias.changed_by or 'somebody'} since you looked: it is at version "
            f"{alias.version}, you saw {seen}",
            hint=f"look at it again: `ashore release status {alias.name}`",
        )


def create(book: Book, release: Release, by: By) -> Moved:
    """Add a release.

    Raises:
        Conflict: there is one of this name, and releases do not change.
    """
    if release.name in book.releases:
        raise Conflict(
            f"there is a release {release.name} already, and releases do not change", hint="choose another name"
        )
    course = Course(release=release.name, since_s=by.now_s, why=by.why)
    detail = {"content": release.content, "model": release.plan.reference, "gate": release.gate}
    return Moved(courses=(course,), events=(_event(release.alias, course, "create", by, detail),))


def roll_out(book: Book, name: str, way: Way, by: By, *, seen: int | None = None) -> Moved:
    """Send a release towards `way.goal`: there at once where its hosts are warm, else by way of `warming`.

    Raises:
        Conflict: another release is on its way to the alias, the alias was moved since, or there is no such move.
        InvalidRequest: a share makes no sense.
    """
    release, course = release_of(book, name), book.courses[name]
    alias = alias_of(book, release.alias)
    check_version(alias, seen)
    other = book.candidate_of(alias.name)
    if other is not None and other.release != name:
        raise Conflict(
            f"{other.release} is on its way to {alias.name}: it is {other.state} ({other.why or 'no reason given'})",
            hint=f"end that first: `ashore release rollback {alias.name}`, or promote it",
        )
    way = _checked(way)
    asked = replace(
        course,
        share=way.share,
        steps=way.steps,
        step_s=way.step_s,
        then_promote=way.then_promote,
        automatic=way.automatic,
        cold=way.cold,
        standby_s=way.standby_s,
        goal=way.goal,
        why=by.why,
    )
    if course.state == "warming":  # on its way already; it goes elsewhere once it is there
        return Moved(courses=(asked,), events=(_event(alias.name, asked, "warm", by),))
    if course.state in WARM:
        return _arrive(book, alias, asked, by)
    warming = replace(asked, state=after(name, course.state, "warm"), since_s=by.now_s, until_s=0)
    return Moved(courses=(warming,), events=(_event(alias.name, warming, "warm", by),))


def warmed(book: Book, name: str, by: By) -> Moved:
    """Have a release arrive where it was sent, now that its hosts have loaded. May be called twice."""
    course = book.courses[name]
    if course.state != "warming":
        return Moved()
    return _arrive(book, alias_of(book, book.releases[name].alias), course, by)


def end_candidate(book: Book, alias_name: str, by: By, *, failed: bool, seen: int | None = None) -> Moved:
    """Take the release that is on its way off its alias.

    Raises:
        NotFound: none is on its way.
    """
    alias = alias_of(book, alias_name)
    check_version(alias, seen)
    course = book.candidate_of(alias_name)
    if course is None:
        raise NotFound(f"no release is on its way to {alias_name}", hint=f"`ashore release status {alias_name}`")
    verb: Verb = "fail" if failed else "retire"
    ended = _ended(course, verb, by)
    aliases = _without(book, course.release, alias, by)
    return Moved(courses=(ended,), aliases=aliases, events=(_event(alias_name, ended, "rollback", by),))


def release_before(book: Book, alias_name: str, to: str = "") -> Course:
    """Return what one goes back to: the release asked for, else the standby, else what answered before, loaded again.

    Raises:
        NotFound: there is none.
        Conflict: it is a release of another alias.
    """
    alias = alias_of(book, alias_name)
    if to:
        target: Course | None = book.courses[release_of(book, to).name]
    else:
        target = book.standby_of(alias_name)
        before = book.courses.get(alias.before)
        if target is None and before is not None and before.state != "failed" and not alias.weight(alias.before):
            target = before
    if target is None:
        raise NotFound(
            f"{alias_name} has no release to go back to",
            hint="`--to RELEASE` names an earlier one, which is loaded first; `ashore release list` shows them",
        )
    if book.releases[target.release].alias != alias_name:
        raise Conflict(
            f"{target.release} is a release of {book.releases[target.release].alias}, not of {alias_name}",
            hint=f"`ashore release list --alias {alias_name}`",
        )
    return target


def roll_back(
    book: Book, alias_name: str, by: By, *, to: str = "", failed: bool = False, seen: int | None = None
) -> Moved:
    """Go back: from a candidate to what is live, or from what is live to the release before, at once where it is warm;
    else that loads first, in place of what is live where that was loaded so itself.

    Args:
        book: As it is.
        alias_name: What is moved.
        by: Who, and why.
        to: An earlier release; empty: a candidate's end, or the release before.
        failed: Whether what is left is at fault; else it stays warm as standby.
        seen: Version of the alias that the operator saw.

    Raises:
        NotFound: there is nothing to go back to.
        Conflict: what was asked for failed, or the alias was moved since.
    """
    alias = alias_of(book, alias_name)
    check_version(alias, seen)
    candidate = book.candidate_of(alias_name)
    if candidate is not None and not to:
        return end_candidate(book, alias_name, by, failed=failed)
    target = release_before(book, alias_name, to)
    if target.state == "live" and alias.weight(target.release) == WHOLE:
        raise Conflict(f"{alias_name} is at {target.release} already", hint=f"`ashore release status {alias_name}`")
    first = end_candidate(book, alias_name, by, failed=False) if candidate is not None else Moved()
    book = applied(book, first)
    alias = book.aliases[alias_name]
    if target.state not in WARM:
        cold = any(course.cold for course in book.live_of(alias_name))
        sent = roll_out(book, target.release, Way(goal="live", automatic=False, cold=cold), by)
        return _joined(first, replace(sent, events=(_event(alias_name, sent.courses[0], "rollback", by),)))
    back = _go_live(book, alias, replace(target, goal=None), by, verb="rollback", failed=failed)
    return _joined(first, back)


def retire(book: Book, name: str, by: By) -> Moved:
    """End a release that answers for nobody; its hosts end once their streams have.

    Raises:
        Conflict: an alias leads to it.
    """
    release, course = release_of(book, name), book.courses[name]
    if names := book.named_by(name):
        raise Conflict(
            f"{name} answers for {', '.join(names)}",
            hint=f"`ashore release rollback {names[0]}`, or promote another one, first",
        )
    ended = _ended(course, "retire", by)
    return Moved(courses=(ended,), events=(_event(release.alias, ended, "retire", by),))


def fell(book: Book, name: str, by: By) -> Moved:
    """Take back a release whose hosts do not load or do not stay up. May be called twice.

    A candidate ends. What is live gives way to a warm standby and stands by itself while its hosts are started again;
    where there is none, it stays live. A standby has failed.
    """
    course = book.courses.get(name)
    if course is None or course.state not in HOSTED:
        return Moved()
    if not course.automatic and course.state != "warming":  # its operator takes it back by hand
        return Moved()
    alias = book.releases[name].alias
    if course.state in ("warming", "shadow", "canary"):
        return end_candidate(book, alias, by, failed=True)
    standby = book.standby_of(alias)
    if course.state == "live" and standby is not None and len(book.live_of(alias)) == 1:
        return roll_back(book, alias, by, to=standby.release)
    if course.state == "standby":
        ended = _ended(course, "fail", by)
        return Moved(courses=(ended,), events=(_event(alias, ended, "fail", by),))
    return Moved()


def on_time(book: Book, by: By, *, no_worse: Mapping[str, bool]) -> Moved:
    """Do what the time has come for: standbys whose time is over retire, canaries take their next step.

    `no_worse` tells of candidates whether the test has found them so; only then one goes live by itself.
    """
    moved = Moved()
    for course in sorted(book.courses.values(), key=lambda c: c.release):
        now = applied(book, moved)
        if not course.until_s or course.until_s > by.now_s:
            continue
        alias = now.aliases.get(now.releases[course.release].alias)
        if course.state == "standby" and not now.named_by(course.release):
            why = replace(by, why=f"its time as standby of {course.standby_s} s is over")
            ended = _ended(course, "retire", why)
            event = _event(now.releases[course.release].alias, ended, "retire", why)
            moved = _joined(moved, Moved(courses=(ended,), events=(event,)))
        elif course.state == "canary" and alias is not None and course.steps:
            why = replace(by, why=f"the schedule: {course.steps[0] / 10:g} %")
            next_one = replace(course, goal="canary", share=course.steps[0], steps=course.steps[1:], why=why.why)
            moved = _joined(moved, _arrive(now, alias, next_one, why))
        elif course.state == "canary" and alias is not None and course.then_promote and no_worse.get(course.release):
            why = replace(by, why="the schedule: found no worse after the last step")
            moved = _joined(moved, _arrive(now, alias, replace(course, goal="live"), why))
    return moved


def set_alias(
    book: Book,
    name: str,
    weights: Mapping[str, int],
    by: By,
    *,
    sticky: Sticky | None = None,
    seen: int | None = None,
) -> Moved:
    """Lead an alias to releases by hand; one that does not exist is made. Releases that nobody leads to any more stay
    warm as standby.

    Raises:
        Conflict: a release is not warm, or the alias was moved since.
        NotFound: there is no such release.
    """
    found = book.aliases.get(name)
    if found is not None:
        check_version(found, seen)
    wanted = check_weights(name, weights)
    for release, _ in wanted:
        state = book.courses[release_of(book, release).name].state
        if state not in ("live", "standby"):
            raise Conflict(
                f"release {release} is {state}; an alias leads to releases that are live or standby",
                hint=f"`ashore release promote {release}` loads it first",
            )
    candidate = book.candidate_of(name)
    if candidate is not None and candidate.state == "canary":
        raise Conflict(
            f"{candidate.release} is a canary of {name} at {candidate.share / 10:g} %",
            hint=f"`ashore release canary {candidate.release} --share N` moves its weight, `ashore release rollback "
            f"{name}` ends it",
        )
    base = found or Alias(name=name, weights=wanted, version=0)
    alias = replace(
        base,
        weights=wanted,
        sticky=sticky or base.sticky,
        version=base.version + 1,
        changed_s=by.now_s,
        changed_by=by.actor,
    )
    courses = [
        replace(book.courses[release], state="live", until_s=0, since_s=by.now_s, why=by.why)
        for release, _ in wanted
        if book.courses[release].state == "standby"
    ]
    gone = [] if found is None else [r for r in found.releases if not alias.weight(r)]
    for release in gone:
        if not book.named_by(release, but=name):
            courses.append(_rested(book.courses[release], STANDBY_S, by))
    event = Event(
        alias=name,
        release=" ".join(f"{release}={weight / 10:g}" for release, weight in wanted),
        verb="alias",
        state="",
        actor=by.actor,
        why=by.why,
        at_ms=by.now_s * 1000,
    )
    return Moved(courses=tuple(courses), aliases=(alias,), events=(event,))


def remove_alias(book: Book, name: str, by: By) -> Moved:
    """Forget an alias that was set by hand.

    Raises:
        Conflict: releases of its own are hosted; clients of a model name it.
    """
    alias = alias_of(book, name)
    own = [r.name for r in book.releases.values() if r.alias == name and book.courses[r.name].state in HOSTED]
    if own:
        raise Conflict(
            f"{name} is what {', '.join(sorted(own))} is meant for, which has engine hosts",
            hint="take its [[model]] out of ashore.toml and `ashore reload`; aliases set by hand can be removed",
        )
    return Moved(removed=(name,), events=(_removed(alias, by),))


def adopt(book: Book, release: Release, by: By, *, spec_content: str, home: str = "") -> Moved:
    """Have a release of ashore.toml answer for its alias: the file is new, or says something else than before."""
    made = create(book, release, by)
    book = Book(
        releases={**book.releases, release.name: release},
        courses={**book.courses, release.name: made.courses[0]},
        aliases=book.aliases,
    )
    live = replace(made.courses[0], state="live", since_s=by.now_s)
    old = book.aliases.get(release.alias)
    base = old or Alias(name=release.alias, weights=((release.name, WHOLE),), version=0)
    alias = replace(
        base,
        weights=((release.name, WHOLE),),
        before="" if old is None else max((weight, name) for name, weight in old.weights)[1],
        spec_content=spec_content,
        homes=_with_home(base, home),
        version=base.version + 1,
        changed_s=by.now_s,
        changed_by=by.actor,
    )
    ended = [
        _ended(c, "retire", replace(by, why=f"ashore.toml leads to {release.name}"))
        for c in book.courses.values()
        if book.releases[c.release].alias == release.alias
        and c.state in HOSTED
        and not book.named_by(c.release, but=release.alias)
    ]
    events = (
        *made.events,
        *(_event(release.alias, c, "retire", by) for c in ended),
        _event(release.alias, live, "promote", by),
    )
    return Moved(courses=(*ended, live), aliases=(alias,), events=events)


def declare(book: Book, name: str, by: By, *, home: str) -> Moved:
    """Note that a home declares an alias. Where it is noted already, nothing changes."""
    alias = book.aliases[name]
    homes = _with_home(alias, home)
    return Moved() if homes == alias.homes else Moved(aliases=(replace(alias, homes=homes, version=alias.version + 1),))


def undeclared(book: Book, declared: Collection[str], *, home: str = "") -> tuple[str, ...]:
    """Return the aliases that ashore.toml once had and has no more, by name. Those made by command are none of them.

    `home` names whose file it is where several homes share a state: of the aliases of the others it says nothing.
    """
    return tuple(
        sorted(
            alias.name
            for alias in book.aliases.values()
            if alias.spec_content and alias.name not in declared and (not home or home in alias.homes)
        )
    )


def check_undeclared(book: Book, names: Collection[str], *, home: str = "") -> None:
    """Return when aliases can go without taking others with them.

    Raises:
        Conflict: one that was made by command leads to a release of theirs.
    """
    going = {name for name in names if book.aliases[name].homes in ((), (home,))}
    for alias in book.aliases.values():
        led = [release for release in alias.releases if book.releases[release].alias in going]
        if led and alias.name not in names:
            raise Conflict(
                f"{alias.name} leads to {', '.join(led)}, and ashore.toml has no [[model]] for it any more",
                hint=f"`ashore alias set {alias.name} OTHER` or `ashore alias remove {alias.name}` first",
            )


def undeclare(book: Book, name: str, by: By, *, home: str = "") -> Moved:
    """Forget an alias that ashore.toml has no more, and end its releases. Another home that declares it keeps it.

    What was led there by hand leads to its other releases, or is gone too where it has none.
    """
    alias = alias_of(book, name)
    others = tuple(one for one in alias.homes if one != home)
    if home and others:
        return Moved(aliases=(replace(alias, homes=others, version=alias.version + 1),))
    ended = [c for c in book.courses.values() if book.releases[c.release].alias == name and c.state in HOSTED]
    moved = Moved(removed=(name,), events=(_removed(alias, by),))
    for course in ended:
        over = _ended(course, "retire", by)
        moved = _joined(moved, Moved(courses=(over,), events=(_event(name, over, "retire", by),)))
    for led in book.aliases.values():
        kept = [(release, weight) for release, weight in led.weights if book.releases[release].alias != name]
        if led.name == name or len(kept) == len(led.weights):
            continue
        if not kept:
            moved = _joined(moved, Moved(removed=(led.name,), events=(_removed(led, by),)))
            continue
        total = sum(weight for _, weight in kept)
        first, *rest = [(release, weight * WHOLE // total) for release, weight in kept]
        weights = ((first[0], WHOLE - sum(weight for _, weight in rest)), *rest)
        moved = _joined(moved, Moved(aliases=(_moved(led, weights, by),)))
    return moved


def applied(book: Book, moved: Moved) -> Book:
    """Return the book after a move."""
    aliases = {**book.aliases, **{a.name: a for a in moved.aliases}}
    return Book(
        releases=book.releases,
        courses={**book.courses, **{c.release: c for c in moved.courses}},
        aliases={name: alias for name, alias in aliases.items() if name not in moved.removed},
    )


# --- pieces


def _checked(way: Way) -> Way:
    if way.goal in ("shadow", "canary"):
        check_share(way.share, f"the share of a {way.goal}")
        if way.goal == "canary":
            check_steps(way.share, way.steps)
            if (way.steps or way.then_promote) and way.step_s < 1:
                raise InvalidRequest("a schedule needs a time between its steps", hint="--every 10m", param="every")
    if way.cold and way.goal != "live":
        raise InvalidRequest(
            f"there is no cold standby beside a {way.goal}: what is live answers meanwhile",
            hint="`ashore release promote --cold-standby` ends what is live first",
            param="cold_standby",
        )
    if way.standby_s < 0:
        raise InvalidRequest(f"a standby of {way.standby_s} s", hint="0 keeps none", param="standby")
    return way


def _arrive(book: Book, alias: Alias, course: Course, by: By) -> Moved:
    """Put a release whose hosts are warm where its goal says."""
    goal = course.goal or "standby"
    state = after(course.release, course.state, _VERB[goal])
    if goal == "live":
        return _go_live(book, alias, replace(course, goal=None), by, verb="promote", failed=False)
    timed = goal == "canary" and (course.steps or course.then_promote)
    arrived = replace(
        course,
        state=state,
        goal=None,
        since_s=by.now_s,
        until_s=by.now_s + course.step_s if timed else by.now_s + course.standby_s if goal == "standby" else 0,
    )
    share = course.share if goal == "canary" else 0
    aliases: tuple[Alias, ...] = ()
    if alias.weight(course.release) != share:
        if not share and alias.weight(course.release) == WHOLE:
            raise Conflict(f"{course.release} is all that answers for {alias.name}", hint="promote another one first")
        if share >= WHOLE:
            raise InvalidRequest("a canary of 100 % is a promotion", hint="promote it", param="share")
        aliases = (_moved(alias, with_share(alias.weights, course.release, share), by),)
    return Moved(courses=(arrived,), aliases=aliases, events=(_event(alias.name, arrived, _VERB[goal], by),))


def _go_live(book: Book, alias: Alias, course: Course, by: By, *, verb: str, failed: bool) -> Moved:
    """Lead an alias to one release alone. What answered before stays warm, ends, or has failed."""
    live = replace(
        course,
        state="live" if course.state == "live" else after(course.release, course.state, "promote"),
        share=0,
        steps=(),
        until_s=0,
        since_s=by.now_s,
        why=by.why,
    )
    courses, events = [live], [_event(alias.name, live, verb, by)]
    for name in alias.releases:
        if name == course.release or book.named_by(name, but=alias.name):
            continue
        left = book.courses[name]
        if failed:
            courses.append(_ended(left, "fail", by))
        elif course.cold or not course.standby_s:
            courses.append(_ended(left, "retire", by))
        else:
            courses.append(_rested(left, course.standby_s, by))
        events.append(_event(alias.name, courses[-1], "fail" if failed else courses[-1].state, by))
    for earlier in book.courses.values():  # one standby is enough: what was one before gives its memory back
        was_standby = earlier.state == "standby" and book.releases[earlier.release].alias == alias.name
        if was_standby and earlier.release != course.release and not book.named_by(earlier.release, but=alias.name):
            courses.append(_ended(earlier, "retire", replace(by, why=f"{course.release} went live")))
            events.append(_event(alias.name, courses[-1], "retire", by))
    others = [(weight, name) for name, weight in alias.weights if name != course.release]
    led = replace(_moved(alias, ((course.release, WHOLE),), by), before=max(others)[1] if others else alias.before)
    return Moved(courses=tuple(courses), aliases=(led,), events=tuple(events))


def _rested(course: Course, standby_s: int, by: By) -> Course:
    return replace(
        course,
        state=after(course.release, course.state, "standby"),
        share=0,
        steps=(),
        goal=None,
        until_s=by.now_s + standby_s,
        since_s=by.now_s,
        standby_s=standby_s,
        why=by.why,
    )


def _ended(course: Course, verb: Verb, by: By) -> Course:
    return replace(
        course,
        state=after(course.release, course.state, verb),
        share=0,
        steps=(),
        goal=None,
        until_s=0,
        since_s=by.now_s,
        why=by.why,
    )


def _without(book: Book, release: str, alias: Alias, by: By) -> tuple[Alias, ...]:
    """Return every alias that led to a release, without it."""
    changed = []
    for name in {alias.name, *book.named_by(release)}:
        found = book.aliases[name]
        if found.weight(release):
            if found.weight(release) == WHOLE:
                raise Conflict(f"{release} is all that answers for {name}", hint=f"`ashore alias set {name} OTHER`")
            changed.append(_moved(found, with_share(found.weights, release, 0), by))
    return tuple(changed)


def _moved(alias: Alias, weights: tuple[tuple[str, int], ...], by: By) -> Alias:
    return replace(alias, weights=weights, version=alias.version + 1, changed_s=by.now_s, changed_by=by.actor)


def _with_home(alias: Alias, home: str) -> tuple[str, ...]:
    return tuple(sorted({*alias.homes, home})) if home else alias.homes


def _removed(alias: Alias, by: By) -> Event:
    return Event(
        alias=alias.name,
        release=" ".join(alias.releases),
        verb="remove",
        state="",
        actor=by.actor,
        why=by.why,
        at_ms=by.now_s * 1000,
    )


def _event(
    alias: str, course: Course, verb: str, by: By, detail: Mapping[str, str | int | float] | None = None
) -> Event:
    shares = {"share_percent": course.share / 10} if course.share else {}
    return Event(
        alias=alias,
        release=course.release,
        verb=verb,
        state=course.state,
        actor=by.actor,
        why=by.why,
        at_ms=by.now_s * 1000,
        evidence={**shares, **(by.evidence or {}), **(detail or {})},
    )


def _joined(first: Moved, second: Moved) -> Moved:
    """Return two moves as one: of what both change, the later form."""
    courses = {c.release: c for c in (*first.courses, *second.courses)}
    aliases = {a.name: a for a in (*first.aliases, *second.aliases)}
    return Moved(
        courses=tuple(courses.values()),
        aliases=tuple(aliases.values()),
        removed=(*first.removed, *second.removed),
        events=(*first.events, *second.events),
    )
