"""Building blocks of moves, as pure functions: the actor, the rollout, and the changes of one release or alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.releases.model import STANDBY_S, WHOLE, Alias, Book, Course, Event, Goal, Moved, Release
from ashore.data.releases.rules import Verb, after, check_share, check_steps, with_share

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


def declared_of(book: Book, name: str) -> Alias:
    """Return the alias of this name, whose own releases get engine hosts.

    Raises:
        NotFound: there is none.
        Conflict: it was set by hand. No machine has hosts for it: a release of its own would wait for them for ever.
    """
    alias = alias_of(book, name)
    if not alias.spec_content:
        led = sorted({book.releases[one].alias for one in alias.releases})
        raise Conflict(
            f"the alias {name} was set by hand and points to releases of {', '.join(led)}; it has none of its own",
            hint=f"create the release for {led[0]} (`ashore release create MODEL --alias {led[0]}`), promote it, and "
            f"`ashore alias set {name} RELEASE`; or add a [[model]] with the alias {name} to ashore.toml",
        )
    return alias


def check_version(alias: Alias, seen: int | None) -> None:
    """Check that an alias has not changed since the actor saw it.

    Raises:
        Conflict: it was changed since.
    """
    if seen is not None and seen != alias.version:
        raise Conflict(
            f"{alias.name} was changed by {alias.changed_by or 'somebody'} since you read it: it is at version "
            f"{alias.version}, and you read version {seen}",
            hint=f"check it again: `ashore release status {alias.name}`",
        )


def applied(book: Book, moved: Moved) -> Book:
    """Return the book after a move."""
    aliases = {**book.aliases, **{a.name: a for a in moved.aliases}}
    return Book(
        releases=book.releases,
        courses={**book.courses, **{c.release: c for c in moved.courses}},
        aliases={name: alias for name, alias in aliases.items() if name not in moved.removed},
    )


def checked(way: Way) -> Way:
    if way.goal in ("shadow", "canary"):
        check_share(way.share, f"the share of a {way.goal}")
        if way.goal == "canary":
            check_steps(way.share, way.steps)
            if (way.steps or way.then_promote) and way.step_s < 1:
                raise InvalidRequest(
                    "a schedule needs a time between its steps", hint="give one, such as --every 10m", param="every"
                )
    if way.cold and way.goal != "live":
        raise InvalidRequest(
            f"a {way.goal} cannot use a cold standby, because the live release answers meanwhile",
            hint="`ashore release promote --cold-standby` ends the live release first",
            param="cold_standby",
        )
    if way.standby_s < 0:
        raise InvalidRequest(f"standby is {way.standby_s} s", hint="0 means no standby", param="standby")
    return way


def arrive(book: Book, alias: Alias, course: Course, by: By) -> Moved:
    """Move a release with warm hosts to its goal."""
    goal = course.goal or "standby"
    state = after(course.release, course.state, _VERB[goal])
    if goal == "live":
        return go_live(book, alias, replace(course, goal=None), by, verb="promote", failed=False)
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
            raise Conflict(
                f"{course.release} is the only release that answers for {alias.name}",
                hint="promote another release first",
            )
        if share >= WHOLE:
            raise InvalidRequest("a canary of 100 % is a promotion", hint="use `ashore release promote`", param="share")
        aliases = (moved_alias(alias, with_share(alias.weights, course.release, share), by),)
    return Moved(courses=(arrived,), aliases=aliases, events=(event_of(alias.name, arrived, _VERB[goal], by),))


def go_live(book: Book, alias: Alias, course: Course, by: By, *, verb: str, failed: bool) -> Moved:
    """Point an alias at one release. The release that answered before stays warm, ends, or fails."""
    others = [(weight, name) for name, weight in alias.weights if name != course.release]
    before = max(others)[1] if others else ""
    live = replace(
        course,
        state="live" if course.state == "live" else after(course.release, course.state, "promote"),
        share=0,
        steps=(),
        until_s=0,
        since_s=by.now_s,
        why=f"back from {before}: {by.why}" if before and verb == "rollback" else by.why,
        replaced=before if verb == "promote" else "",
    )
    courses, events = [live], [event_of(alias.name, live, verb, by)]
    for name in alias.releases:
        if name == course.release or book.named_by(name, but=alias.name):
            continue
        left = book.courses[name]
        if failed:
            courses.append(end_of(left, "fail", by))
        elif course.cold or not course.standby_s:
            courses.append(end_of(left, "retire", by))
        else:
            courses.append(rested(left, course.standby_s, by))
        events.append(event_of(alias.name, courses[-1], "fail" if failed else courses[-1].state, by))
    for earlier in book.courses.values():  # one standby is enough: the earlier one frees its memory
        was_standby = earlier.state == "standby" and book.releases[earlier.release].alias == alias.name
        if was_standby and earlier.release != course.release and not book.named_by(earlier.release, but=alias.name):
            courses.append(end_of(earlier, "retire", replace(by, why=f"{course.release} went live")))
            events.append(event_of(alias.name, courses[-1], "retire", by))
    led = replace(moved_alias(alias, ((course.release, WHOLE),), by), before=before or alias.before)
    return Moved(courses=tuple(courses), aliases=(led,), events=tuple(events))


def rested(course: Course, standby_s: int, by: By) -> Course:
    return replace(
        course,
        state=after(course.release, course.state, "standby"),
        share=0,
        steps=(),
        goal=None,
        replaced="",
        until_s=by.now_s + standby_s,
        since_s=by.now_s,
        standby_s=standby_s,
        why=by.why,
    )


def end_of(course: Course, verb: Verb, by: By) -> Course:
    return replace(
        course,
        state=after(course.release, course.state, verb),
        share=0,
        steps=(),
        goal=None,
        replaced="",
        until_s=0,
        since_s=by.now_s,
        why=by.why,
    )


def without(book: Book, release: str, alias: Alias, by: By) -> tuple[Alias, ...]:
    """Return every alias that led to a release, with that release removed."""
    changed = []
    for name in {alias.name, *book.named_by(release)}:
        found = book.aliases[name]
        if found.weight(release):
            if found.weight(release) == WHOLE:
                raise Conflict(
                    f"{release} is the only release that answers for {name}",
                    hint=f"point it to another release first: `ashore alias set {name} OTHER`",
                )
            changed.append(moved_alias(found, with_share(found.weights, release, 0), by))
    return tuple(changed)


def moved_alias(alias: Alias, weights: tuple[tuple[str, int], ...], by: By) -> Alias:
    return replace(alias, weights=weights, version=alias.version + 1, changed_s=by.now_s, changed_by=by.actor)


def with_home(alias: Alias, home: str) -> tuple[str, ...]:
    return tuple(sorted({*alias.homes, home})) if home else alias.homes


def removal(alias: Alias, by: By) -> Event:
    return Event(
        alias=alias.name,
        release=" ".join(alias.releases),
        verb="remove",
        state="",
        actor=by.actor,
        why=by.why,
        at_ms=by.now_s * 1000,
    )


def event_of(
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


def joined(first: Moved, second: Moved) -> Moved:
    """Return two moves as one; the later change wins."""
    courses = {c.release: c for c in (*first.courses, *second.courses)}
    aliases = {a.name: a for a in (*first.aliases, *second.aliases)}
    return Moved(
        courses=tuple(courses.values()),
        aliases=tuple(aliases.values()),
        removed=(*first.removed, *second.removed),
        events=(*first.events, *second.events),
    )
