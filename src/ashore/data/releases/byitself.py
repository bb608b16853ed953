"""Automatic moves: hosts load or fail, a time is reached, or ashore.toml changed. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ashore.core.errors import Conflict
from ashore.data.releases.changes import (
    By,
    alias_of,
    applied,
    arrive,
    end_of,
    event_of,
    joined,
    moved_alias,
    removal,
    with_home,
)
from ashore.data.releases.model import HOSTED, WHOLE, Alias, Book, Moved, Release
from ashore.data.releases.moves import create, end_candidate, roll_back


def warmed(book: Book, name: str, by: By) -> Moved:
    """Move a release to its goal, now that its hosts have loaded. May be called twice."""
    course = book.courses[name]
    if course.state != "warming":
        return Moved()
    return arrive(book, alias_of(book, book.releases[name].alias), course, by)


def fell(book: Book, name: str, by: By) -> Moved:
    """Roll back a release whose hosts do not load or keep failing. May be called twice.

    A candidate ends. A live release is replaced by a warm standby and becomes standby while its hosts restart; without
    a standby it stays live. A standby fails.
    """
    course = book.courses.get(name)
    if course is None or course.state not in HOSTED:
        return Moved()
    if not course.automatic and course.state != "warming":  # its operator rolls back by hand
        return Moved()
    alias = book.releases[name].alias
    if course.state in ("warming", "shadow", "canary"):
        return end_candidate(book, alias, by, failed=True)
    standby = book.standby_of(alias)
    if course.state == "live" and standby is not None and len(book.live_of(alias)) == 1:
        return roll_back(book, alias, by, to=standby.release)
    if course.state == "standby":
        ended = end_of(course, "fail", by)
        return Moved(courses=(ended,), events=(event_of(alias, ended, "fail", by),))
    return Moved()


def regressed(book: Book, name: str, by: By) -> Moved:
    """Roll the live release back to the one before because of its answers. May be called twice.

    It fails, as a candidate would; the one before is live again and is not rolled back in turn. Nothing happens if that
    one is no longer warm, or if the release did not go live by a promotion.
    """
    release = book.releases.get(name)
    guarded = None if release is None else book.guarded_of(release.alias)
    if release is None or guarded is None or guarded.release != name:
        return Moved()
    return roll_back(book, release.alias, by, to=guarded.replaced, failed=True)


def on_time(book: Book, by: By, *, no_worse: Mapping[str, bool]) -> Moved:
    """Run timed moves: expired standbys retire, canaries take their next step.

    `no_worse` returns whether the test found a candidate no worse; only then is it promoted automatically.
    """
    moved = Moved()
    for course in sorted(book.courses.values(), key=lambda c: c.release):
        now = applied(book, moved)
        if not course.until_s or course.until_s > by.now_s:
            continue
        alias = now.aliases.get(now.releases[course.release].alias)
        if course.state == "standby" and not now.named_by(course.release):
            why = replace(by, why=f"its {course.standby_s} s as standby are over")
            ended = end_of(course, "retire", why)
            event = event_of(now.releases[course.release].alias, ended, "retire", why)
            moved = joined(moved, Moved(courses=(ended,), events=(event,)))
        elif course.state == "canary" and alias is not None and course.steps:
            why = replace(by, why=f"the schedule: {course.steps[0] / 10:g} %")
            next_one = replace(course, goal="canary", share=course.steps[0], steps=course.steps[1:], why=why.why)
            moved = joined(moved, arrive(now, alias, next_one, why))
        elif course.state == "canary" and alias is not None and course.then_promote and no_worse.get(course.release):
            why = replace(by, why="the schedule: found no worse after the last step")
            moved = joined(moved, arrive(now, alias, replace(course, goal="live"), why))
    return moved


def adopt(
    book: Book, release: Release, by: By, *, spec_content: str, home: str = "", failed: Mapping[str, str] | None = None
) -> Moved:
    """Make a release of ashore.toml live for its alias: the alias is new, its entry changed, or the release that should
    answer has `failed` (reason by name).
    """
    failed = failed or {}
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
        homes=with_home(base, home),
        version=base.version + 1,
        changed_s=by.now_s,
        changed_by=by.actor,
    )
    over = [
        c
        for c in book.courses.values()
        if book.releases[c.release].alias == release.alias
        and c.state in HOSTED
        and not book.named_by(c.release, but=release.alias)
    ]
    led = f"{by.why} sets {release.name}"
    ended = [
        end_of(c, "fail" if c.release in failed else "retire", replace(by, why=failed.get(c.release, led)))
        for c in over
    ]
    events = (
        *made.events,
        *(
            event_of(release.alias, c, "fail", replace(by, why=c.why))
            if c.release in failed
            else event_of(release.alias, c, "retire", by)
            for c in ended
        ),
        event_of(release.alias, live, "promote", by),
    )
    return Moved(courses=(*ended, live), aliases=(alias,), events=events)


def declare(book: Book, name: str, by: By, *, home: str, spec_content: str = "") -> Moved:
    """Record that a home declares an alias, with its entry in ashore.toml. No-op if recorded already."""
    alias = book.aliases[name]
    noted = replace(alias, homes=with_home(alias, home), spec_content=spec_content or alias.spec_content)
    return Moved() if noted == alias else Moved(aliases=(replace(noted, version=alias.version + 1),))


def undeclared(book: Book, declared: Collection[str], *, home: str = "") -> tuple[str, ...]:
    """Return the aliases that were removed from ashore.toml, by name; aliases created by command are never among them.

    `home` names the file's home if several share a state; aliases of other homes are ignored.
    """
    return tuple(
        sorted(
            alias.name
            for alias in book.aliases.values()
            if alias.spec_content and alias.name not in declared and (not home or home in alias.homes)
        )
    )


def check_undeclared(book: Book, names: Collection[str], *, home: str = "") -> None:
    """Check that aliases can be removed without affecting others.

    Raises:
        Conflict: an alias created by command leads to one of their releases.
    """
    going = {name for name in names if book.aliases[name].homes in ((), (home,))}
    for alias in book.aliases.values():
        led = [release for release in alias.releases if book.releases[release].alias in going]
        if led and alias.name not in names:
            raise Conflict(
                f"{alias.name} still points to {', '.join(led)}, but ashore.toml no longer has a [[model]] for it",
                hint=f"first run `ashore alias set {alias.name} OTHER` or `ashore alias remove {alias.name}`",
            )


def undeclare(book: Book, name: str, by: By, *, home: str = "") -> Moved:
    """Remove an alias that is no longer in ashore.toml, and end its releases. It stays if another home declares it.

    Aliases that were pointed there by hand keep their other releases, or are removed if they have none.
    """
    alias = alias_of(book, name)
    others = tuple(one for one in alias.homes if one != home)
    if home and others:
        return Moved(aliases=(replace(alias, homes=others, version=alias.version + 1),))
    ended = [c for c in book.courses.values() if book.releases[c.release].alias == name and c.state in HOSTED]
    moved = Moved(removed=(name,), events=(removal(alias, by),))
    for course in ended:
        over = end_of(course, "retire", by)
        moved = joined(moved, Moved(courses=(over,), events=(event_of(name, over, "retire", by),)))
    for led in book.aliases.values():
        kept = [(release, weight) for release, weight in led.weights if book.releases[release].alias != name]
        if led.name == name or len(kept) == len(led.weights):
            continue
        if not kept:
            moved = joined(moved, Moved(removed=(led.name,), events=(removal(led, by),)))
            continue
        total = sum(weight for _, weight in kept)
        first, *rest = [(release, weight * WHOLE // total) for release, weight in kept]
        weights = ((first[0], WHOLE - sum(weight for _, weight in rest)), *rest)
        moved = joined(moved, Moved(aliases=(moved_alias(led, weights, by),)))
    return moved
