"""The changes of each move that people make, as pure functions from a `Book` to a `Moved`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ashore.core.errors import Conflict, NotFound
from ashore.data.releases.changes import (
    By,
    Way,
    alias_of,
    applied,
    arrive,
    check_version,
    checked,
    declared_of,
    end_of,
    event_of,
    go_live,
    joined,
    release_of,
    removal,
    rested,
    without,
)
from ashore.data.releases.model import (
    HOSTED,
    STANDBY_S,
    WARM,
    WHOLE,
    Alias,
    Book,
    Course,
    Event,
    Moved,
    Release,
    Sticky,
)
from ashore.data.releases.rules import Verb, after, check_weights


def create(book: Book, release: Release, by: By) -> Moved:
    """Add a release.

    Raises:
        Conflict: a release of this name exists, and releases are immutable.
    """
    if release.name in book.releases:
        raise Conflict(
            f"the release {release.name} already exists, and releases never change", hint="choose another name"
        )
    course = Course(release=release.name, since_s=by.now_s, why=by.why)
    detail = {"content": release.content, "model": release.plan.reference, "gate": release.gate}
    return Moved(courses=(course,), events=(event_of(release.alias, course, "create", by, detail),))


def roll_out(book: Book, name: str, way: Way, by: By, *, seen: int | None = None) -> Moved:
    """Send a release to `way.goal`: at once if its hosts are warm, else by way of `warming`.

    Raises:
        Conflict: another release is on its way to the alias, the alias was moved since or set by hand, or the move is
            not allowed.
        InvalidRequest: a share is invalid.
    """
    release, course = release_of(book, name), book.courses[name]
    alias = declared_of(book, release.alias)
    check_version(alias, seen)
    other = book.candidate_of(alias.name)
    if other is not None and other.release != name:
        raise Conflict(
            f"{alias.name} already has a candidate, {other.release}, which is {other.state} "
            f"({other.why or 'no reason given'})",
            hint=f"end it first (`ashore release rollback {alias.name}`), or promote it",
        )
    way = checked(way)
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
    if course.state == "warming":  # already warming; it goes to the new goal once warm
        return Moved(courses=(asked,), events=(event_of(alias.name, asked, "warm", by),))
    if course.state in WARM:
        return arrive(book, alias, asked, by)
    warming = replace(asked, state=after(name, course.state, "warm"), since_s=by.now_s, until_s=0)
    return Moved(courses=(warming,), events=(event_of(alias.name, warming, "warm", by),))


def end_candidate(book: Book, alias_name: str, by: By, *, failed: bool) -> Moved:
    """Remove the candidate from its alias.

    Raises:
        NotFound: there is no candidate.
    """
    alias = alias_of(book, alias_name)
    course = book.candidate_of(alias_name)
    if course is None:
        raise NotFound(f"{alias_name} has no candidate", hint=f"`ashore release status {alias_name}`")
    verb: Verb = "fail" if failed else "retire"
    ended = end_of(course, verb, by)
    aliases = without(book, course.release, alias, by)
    return Moved(courses=(ended,), aliases=aliases, events=(event_of(alias_name, ended, "rollback", by),))


def release_before(book: Book, alias_name: str, to: str = "") -> Course:
    """Return the release to roll back to: the requested one, else the standby, else the one that answered before, which
    loads again.

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
            f"{alias_name} has no previous release to roll back to",
            hint="name an earlier release with `--to RELEASE`; it is loaded first. `ashore release list` shows them",
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
    """Roll back: from a candidate to the live release, or from the live release to the one before. At once if that is
    warm; else it loads first, in place of the live release if that was loaded the same way.

    Args:
        book: The current book.
        alias_name: The alias to move.
        by: Actor and reason.
        to: An earlier release; empty: a candidate's end, or the release before.
        failed: Whether the release that is left has failed; else it stays warm as standby.
        seen: Version of the alias that the operator saw.

    Raises:
        NotFound: there is nothing to go back to.
        Conflict: the requested release has failed, or the alias was changed since.
    """
    alias = alias_of(book, alias_name)
    check_version(alias, seen)
    candidate = book.candidate_of(alias_name)
    if candidate is not None and not to:
        return end_candidate(book, alias_name, by, failed=failed)
    target = release_before(book, alias_name, to)
    if target.state == "live" and alias.weight(target.release) == WHOLE:
        raise Conflict(f"{alias_name} already points to {target.release}", hint=f"`ashore release status {alias_name}`")
    first = end_candidate(book, alias_name, by, failed=False) if candidate is not None else Moved()
    book = applied(book, first)
    alias = book.aliases[alias_name]
    if target.state not in WARM:
        cold = any(course.cold for course in book.live_of(alias_name))
        sent = roll_out(book, target.release, Way(goal="live", automatic=False, cold=cold), by)
        return joined(first, replace(sent, events=(event_of(alias_name, sent.courses[0], "rollback", by),)))
    back = go_live(book, alias, replace(target, goal=None), by, verb="rollback", failed=failed)
    return joined(first, back)


def retire(book: Book, name: str, by: By) -> Moved:
    """End a release that no alias leads to; its hosts end once their streams have.

    Raises:
        Conflict: an alias leads to it.
    """
    release, course = release_of(book, name), book.courses[name]
    if names := book.named_by(name):
        raise Conflict(
            f"{name} answers for {', '.join(names)}",
            hint=f"first run `ashore release rollback {names[0]}`, or promote another release",
        )
    ended = end_of(course, "retire", by)
    return Moved(courses=(ended,), events=(event_of(release.alias, ended, "retire", by),))


def set_alias(
    book: Book,
    name: str,
    weights: Mapping[str, int],
    by: By,
    *,
    sticky: Sticky | None = None,
    seen: int | None = None,
) -> Moved:
    """Point an alias at releases by hand; create it if it does not exist. Releases that no alias leads to any more stay
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
                f"release {release} is {state}; an alias can point only to releases that are live or standby",
                hint=f"load it first: `ashore release promote {release}`",
            )
    candidate = book.candidate_of(name)
    if candidate is not None and candidate.state == "canary":
        raise Conflict(
            f"{candidate.release} is a canary of {name} at {candidate.share / 10:g} %",
            hint=f"change its weight with `ashore release canary {candidate.release} --share N`, "
            f"or end it with `ashore release rollback {name}`",
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
        replace(book.courses[release], state="live", replaced="", until_s=0, since_s=by.now_s, why=by.why)
        for release, _ in wanted
        if book.courses[release].state == "standby"
    ]
    gone = [] if found is None else [r for r in found.releases if not alias.weight(r)]
    for release in gone:
        if not book.named_by(release, but=name):
            courses.append(rested(book.courses[release], STANDBY_S, by))
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
    """Remove an alias that was set by hand.

    Raises:
        Conflict: it has hosted releases of its own.
    """
    alias = alias_of(book, name)
    own = [r.name for r in book.releases.values() if r.alias == name and book.courses[r.name].state in HOSTED]
    if own:
        raise Conflict(
            f"{name} is the alias of {', '.join(sorted(own))}, which still has engine hosts",
            hint="remove its [[model]] from ashore.toml and run `ashore reload`; only hand-set aliases can be removed",
        )
    return Moved(removed=(name,), events=(removal(alias, by),))
