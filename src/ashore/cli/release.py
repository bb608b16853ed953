"""`ashore release`: make a release, roll it out, roll it back."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Annotated

from cyclopts import Parameter
from msgspec import structs

from ashore.cli.bootstrap import releases_of_home
from ashore.cli.calls import Errand, noun_of
from ashore.cli.columns import table
from ashore.control.releases.answers import (
    AliasStatus,
    BurnOut,
    EventOut,
    FindingOut,
    PairOut,
    ReleaseOut,
)
from ashore.control.releases.calls import (
    CALLS,
    LIST_ALIASES,
    SHOW_ALIAS,
    SHOW_BURN,
    SHOW_EVIDENCE,
    SHOW_HISTORY,
    SHOW_RELEASE,
    AliasIn,
    CanaryIn,
    HistoryIn,
    PromoteIn,
    ReleaseDesk,
    ReleaseIn,
    RollbackIn,
    ShadowIn,
    StatusIn,
    only_alias,
)
from ashore.core.errors import RemoteRefused
from ashore.core.timespan import human_moment
from ashore.kit.call import Items, Nothing
from ashore.kit.settings import read_settings

LOOK_EVERY_S = 0.3
WATCH_EVERY_S = 1.0

Wait = Annotated[bool, Parameter(help="Wait until the release has loaded and answers.")]
Watch = Annotated[bool, Parameter(negative=(), help="Refresh every second until Ctrl-C.")]


class Shown(ReleaseOut, frozen=True, kw_only=True):
    """A release with what is known of its answers."""

    evidence: list[FindingOut]
    burn_rates: list[BurnOut]


class Status(AliasStatus, frozen=True, kw_only=True):
    """An alias with its releases and what happened last."""

    history: list[EventOut]


# --- how commands go about their calls


def _show(errand: Errand, asked: ReleaseIn) -> None:
    found = structs.asdict(errand.ask(asked))
    evidence, burns = errand.ask(asked, SHOW_EVIDENCE).items, errand.ask(asked, SHOW_BURN).items
    errand.tell(Shown(**found, evidence=evidence, burn_rates=burns))


def _roll_out(errand: Errand, asked: ShadowIn | CanaryIn | PromoteIn, *, wait: Wait = True) -> None:
    release = ReleaseIn(release=asked.release)
    alias = AliasIn(alias=errand.ask(release, SHOW_RELEASE).alias)
    seen = errand.ask(alias, SHOW_ALIAS).version
    if isinstance(asked, PromoteIn):
        for look in errand.ask(release, SHOW_EVIDENCE).items:
            if look.verdict != "no worse":
                print(f"{asked.release} as {look.stage}: {look.summary}", file=sys.stderr)
    one = errand.ask(structs.replace(asked, version=seen))
    if wait:
        one = _warmed(errand, one)
    errand.tell(one)
    _check_not_rolled_back(one)
    if isinstance(asked, PromoteIn) and asked.cold_standby and one.state == "live":
        before = errand.ask(alias, SHOW_ALIAS).before
        found = errand.ask(ReleaseIn(release=before), SHOW_RELEASE) if before else None
        if found is not None and found.state == "retired":
            print(f"a rollback would load {before} again; {load_time(found)}", file=sys.stderr)


def _roll_back(errand: Errand, asked: RollbackIn, *, wait: Wait = True) -> None:
    alias = _alias(errand, asked.alias)
    seen = errand.ask(AliasIn(alias=alias), SHOW_ALIAS).version
    found: Items[ReleaseOut] = errand.ask(structs.replace(asked, alias=alias, version=seen))
    for one in found.items:
        if one.state == "warming":
            print(f"{one.name} must load first; {load_time(one)}", file=sys.stderr)
            if wait and not errand.is_home:
                found = Items(items=[_warmed(errand, one)])
    errand.tell(found)
    for one in found.items:
        _check_not_rolled_back(one)


def _status(errand: Errand, asked: StatusIn, *, watch: Watch = False) -> None:
    alias = _alias(errand, asked.alias)
    while True:
        found = structs.asdict(errand.ask(StatusIn(alias=alias)))
        status = Status(**found, history=errand.ask(HistoryIn(alias=alias, limit=5), SHOW_HISTORY).items)
        if watch and not errand.as_json and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        errand.tell(status)
        if not watch:
            return
        time.sleep(WATCH_EVERY_S)


def _alias(errand: Errand, given: str) -> str:
    return given or only_alias([one.name for one in errand.ask(Nothing(), LIST_ALIASES).items])


def _warmed(errand: Errand, one: ReleaseOut) -> ReleaseOut:
    """Return a release once it has loaded, or was rolled back."""
    while one.state == "warming":
        time.sleep(LOOK_EVERY_S)
        one = errand.ask(ReleaseIn(release=one.name), SHOW_RELEASE)
    return one


def _check_not_rolled_back(one: ReleaseOut) -> None:
    if one.state in ("failed", "retired"):
        raise RemoteRefused(
            f"release {one.name} is {one.state}: {one.why}", hint=f"`ashore release status {one.alias}`"
        )


def at_home() -> AbstractContextManager[ReleaseDesk]:
    """Open what does the calls on the state of this home."""
    return releases_of_home(read_settings())


# --- output


def _tell_line(one: ReleaseOut) -> None:
    print(line_of(one))


def _tell_list(found: Items[ReleaseOut]) -> None:
    rows = [
        (one.name, f"{one.state} -> {one.goal}" if one.goal else one.state, one.model, one.engine, _answers(one))
        for one in found.items
    ]
    if rows:
        table(("release", "state", "model", "engine", "answers"), rows)
    else:
        print("no releases yet: `ashore up` makes one of each model", file=sys.stderr)


def _tell_lines(found: Items[ReleaseOut]) -> None:
    for one in found.items:
        print(line_of(one))


def _answers(one: ReleaseOut) -> str:
    return ", ".join(f"{percent:g} % of {alias}" for alias, percent in one.weights_percent.items()) or "-"


def _tell_shown(one: Shown) -> None:
    print(line_of(one))
    _tell_evidence(Items(items=one.evidence))
    if any(look.stage == "shadow" for look in one.evidence):
        print(f"    to see the pairs of answers that differ most: `ashore release pairs {one.name}`")
    _tell_burn(Items(items=one.burn_rates))
    for part, digest in one.parts.items():
        print(f"  {part:<12} {digest}")
    print(f"  {'gate':<12} {one.gate_verdict}; when the release was created: {one.gate}")
    if one.why:
        print(f"  {'why':<12} {one.why}")


def _tell_evidence(found: Items[FindingOut]) -> None:
    for look in found.items:
        print(f"  as {look.stage}: {look.summary}\n    e-value {look.e_value:.3g}")
        for name, value in look.details.items():
            print(f"    {name} {value}")


def _tell_burn(found: Items[BurnOut]) -> None:
    for burn in found.items:
        whose = ", own faults only" if burn.alone else ""
        print(
            f"  burn rate of {burn.objective}{whose}: {burn.long_rate:g} over {burn.long_window_s} s, "
            f"{burn.short_rate:g} over {burn.short_window_s} s (rolled back when both reach {burn.taken_back_from:g}; "
            f"{burn.bad} of {burn.requests} requests bad, {burn.allowed_percent:g} % allowed)"
        )


def _tell_pairs(found: Items[PairOut]) -> None:
    if not found.items:
        print("no pairs are stored: the release was not shadowed, or its answers do not differ", file=sys.stderr)
    for one in found.items:
        turns = f", after {one.turns - 1} turns" if one.turns > 1 else ""
        print(f"{one.distance:.2f}  {human_moment(one.at)}  tenant {one.tenant} {one.route}{turns}")
        print(f"  asked      {_indented(one.prompt)}")
        print(f"  live       {_indented(one.live)}")
        print(f"  candidate  {'failed' if one.candidate_failed else _indented(one.candidate)}")


def _tell_status(found: Status) -> None:
    """Print bars of the answering releases, then the last events."""
    alias = found.alias
    print(f"{alias.name}  version {alias.version}, sticky by {alias.sticky}")
    for one in found.releases:
        percent = one.weights_percent.get(alias.name, 0.0)
        bar = "█" * round(percent / 5)
        goal = f" -> {one.goal}" if one.goal else ""
        left = f", {max(0, one.until - int(time.time()))} s left" if one.until else ""
        print(f"  {one.name:<24} {one.state + goal:<18} {percent:5.1f} % {bar:<20} {one.model}{left}")
    if alias.before and alias.before not in {one.name for one in found.releases}:
        print(f"  {alias.before} was live before; a rollback must load it first")
    for event in found.history:
        print(event_line(event))


def event_line(event: EventOut) -> str:
    """Return one step of a history in one line."""
    why = f": {event.why}" if event.why else ""
    return f"  {human_moment(event.at)}  {event.verb} {event.release} by {event.actor}{why}"


def line_of(one: ReleaseOut) -> str:
    """Return a release in one line."""
    weights = " ".join(f"{alias} {percent:g} %" for alias, percent in one.weights_percent.items())
    goal = f" (to be {one.goal})" if one.goal else ""
    return f"{one.name}  {one.state}{goal}  {one.model} on {one.engine}  {weights}".rstrip()


def load_time(one: ReleaseOut) -> str:
    """Return in words how long a release takes to load."""
    return f"the last load took {one.load_s:.0f} s" if one.load_s else "its load time is not known yet"


def _indented(text: str) -> str:
    """Return a foreign text for a terminal: indented lines, without control characters."""
    lines = text.splitlines() or [""]
    return ("\n" + " " * 13).join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)


app = noun_of(
    "release",
    "Roll out a release beside the live one; roll back within a second.",
    CALLS,
    dict.fromkeys(("create", "shadow", "canary", "promote", "retire"), _tell_line)
    | {
        "list": _tell_list,
        "rollback": _tell_lines,
        "show": _tell_shown,
        "evidence": _tell_evidence,
        "burn": _tell_burn,
        "pairs": _tell_pairs,
        "status": _tell_status,
    },
    {
        "show": _show,
        "shadow": _roll_out,
        "canary": _roll_out,
        "promote": _roll_out,
        "rollback": _roll_back,
        "status": _status,
    },
    at_home,
)
