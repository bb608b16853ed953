"""`ashore drill`: rehearse a failure, and report whether the server survived."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.calls import Errand, here_first, noun_of, refuse_elsewhere, show_consent
from ashore.cli.recorded import acting, owner
from ashore.cli.sure import OwnJson
from ashore.control.drills.book import Book
from ashore.control.drills.calls import (
    CALLS,
    DOUBTFUL,
    REPORT_ACTION,
    DrillRows,
    DrillShelf,
    DrillShown,
    ReportRow,
    ReportShown,
    acts_of,
    drill_of,
    shown,
    subject_of,
)
from ashore.control.drills.catalog import all_drills
from ashore.control.drills.model import EXIT, Report
from ashore.core.clock import SystemClock
from ashore.core.errors import Conflict, EnvironmentFault, InvalidRequest, NotReady
from ashore.core.timespan import human_moment, human_seconds, parse_seconds
from ashore.core.visible import on_a_screen
from ashore.kit.call import Items
from ashore.kit.settings import Home, Settings, read_settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.control.drills.load import Asked
    from ashore.control.drills.model import Drill
    from ashore.control.drills.section import DrillsSection

Flag = Annotated[bool, Parameter(negative=())]
Html = Annotated[bool, Parameter(negative=(), help="Print where its HTML file is, on this machine.")]
STOP_S: Final = 20.0
TWINS: Final = "on a twin"


def _show_drill(one: DrillShown) -> None:
    rows = (
        ("drill", f"{one.drill}: {one.title}"),
        ("steady state", one.steady),
        ("fault", one.fault),
        ("bounds", f"one process or folder, {one.hold_s:g} s, at most {one.most_s:g} s; then it is undone"),
        ("aborts", "when more fails than it allows, when its time is over, on `ashore drill stop`, when it is killed"),
        ("must hold", one.expects),
        ("loss", one.may_lose),
        ("recovery", f"five requests in a row succeed and every replica is ready, within {one.recovery_s:g} s"),
        ("runs on", one.runs_on),
        ("needs", ", ".join(one.needs) or "nothing"),
    )
    for name, text in rows:
        print(f"{name:<13} {text}")


def _show_list(found: DrillRows) -> None:
    from ashore.cli.columns import table

    rows = [
        (
            one.drill,
            one.title,
            one.runs_on,
            one.last or "-",
            "-" if one.due_in_s is None else "due" if one.due_in_s <= 0 else f"in {human_seconds(one.due_in_s)}",
        )
        for one in found.items
    ]
    table(("drill", "what", "runs on", "last", "due"), rows)
    if found.running:
        print(f"{found.running} runs now", file=sys.stderr)


def _show_reports(found: Items[ReportRow]) -> None:
    from ashore.cli.columns import table

    rows = [
        (
            human_moment(one.began_s),
            one.report,
            one.ran_on if one.ran_on == "twin" else "server",
            one.verdict,
            "-" if one.recovered_s is None else f"{one.recovered_s:.1f} s",
            one.vouched.upper() if one.vouched in DOUBTFUL else one.vouched,
        )
        for one in found.items
    ]
    if rows:
        table(("began", "report", "on", "verdict", "well after", "audit log"), rows)
    else:
        print("no drill was run in that time", file=sys.stderr)


def _show_report(one: ReportShown) -> None:
    from ashore.control.drills.report import markdown

    drill = all_drills().get(one.drill)
    fields = {**msgspec.structs.asdict(one), "id": one.report, "on": one.ran_on, "title": drill.title if drill else ""}
    print(markdown(msgspec.convert(fields, Report), drill))


def _reports(errand: Errand, asked: msgspec.Struct) -> None:
    """Exit with 4 if a report differs from the one in the audit log."""
    found: Items[ReportRow] = errand.ask_here_first(asked)
    errand.tell(found)
    _check_vouched(found.items)


def _report(errand: Errand, asked: msgspec.Struct, *, html: Html = False) -> None:
    """Exit with 4 if the report differs from the one in the audit log."""
    refuse_elsewhere(errand.server, {"--html": html})
    found: ReportShown = errand.ask_here_first(asked)
    if html:
        print(Book(read_settings().home.root).folder / "reports" / f"{Path(on_a_screen(found.report)).name}.html")
    else:
        errand.tell(found)
    _check_vouched((found,))


def _check_vouched(found: Sequence[ReportRow]) -> None:
    changed = [one.report for one in found if one.vouched in DOUBTFUL]
    if changed:
        raise EnvironmentFault(
            f"not as the audit log has it: {', '.join(changed)}", hint="ashore audit search --action drill:report"
        )


@contextmanager
def shelf_of_home() -> Iterator[DrillShelf]:
    """Open what reads the drills of this home and their reports."""
    root = read_settings().home.root
    yield DrillShelf(clock=SystemClock(), home=root, acts=acts_of(root))


app = noun_of(
    "drill",
    "Rehearse failures; report whether the server survived.",
    CALLS,
    {
        "consent": show_consent,
        "list": _show_list,
        "show": _show_drill,
        "reports": _show_reports,
        "report": _show_report,
    },
    {"list": here_first, "show": here_first, "reports": _reports, "report": _report},
    shelf_of_home,
)


@app.command
def run(
    *names: str,
    twin: Flag = False,
    due: Flag = False,
    reason: str = "",
    model: str = "",
    dry_run: Flag = False,
    as_json: OwnJson = False,
) -> int:
    """Run drills, one after the other, and keep a report of each in the audit log.

    On a server that users depend on, a drill needs a reason and the consent of a security officer (`ashore drill
    consent`). With --twin it runs on a server of its own with made-up models, in a folder that is thrown away. Exits
    with 0 if every drill passed, 3 if one failed, 4 if one said nothing (aborted, unfit, error).

    Args:
        names: Names of the drills; `all` for every one, with --twin.
        twin: Run on a twin.
        due: Run those that are due by their schedule.
        reason: Why it is run, for the audit log.
        model: Which model the load asks; default: the first with enough replicas.
        dry_run: Show what would be done, and whether it would be refused. Breaks nothing.
        as_json: Print one report a line.
    """
    from ashore.cli.bootstrap import as_served

    settings = as_served(read_settings())
    book = Book(settings.home.root)
    late = book.due(time.time())
    wanted = [name for name, seconds in late.items() if seconds >= 0] if due else list(names)
    if list(names) == ["all"]:
        wanted = list(all_drills())
    if not wanted:
        if due:
            print("no drill is due")
            return 0
        raise InvalidRequest("no drill was named", hint="`ashore drill list` lists them; --due runs those that are due")
    worst = 0
    for name in wanted:
        one = drill_of(name)
        code = _one(settings, book, one, twin=twin, reason=reason, model=model, dry_run=dry_run, as_json=as_json)
        worst = max(worst, code)
    return worst


@app.command
def stop() -> None:
    """End the drill that runs from this home, and undo what it broke. Also undoes what a drill that was killed left."""
    from ashore.control.drills import watcher

    book = Book(read_settings().home.root)
    told, end_s = book.now_running(), time.monotonic() + STOP_S
    if told is not None:
        book.ask_to_stop()
    while True:
        try:
            with book.running(""):  # once the drill has ended, and its watcher
                left = watcher.heal(book.journal)
            break
        except Conflict:
            if time.monotonic() > end_s:
                left = watcher.heal(book.journal)
                if told is not None and not left:
                    raise Conflict(
                        f"what {told[0]} broke was undone, but it did not end within {STOP_S:.0f} s",
                        hint=f"kill {told[1]}",
                    ) from None
                break
            time.sleep(0.1)
    if left:
        raise Conflict(f"what was broken could not be undone: {'; '.join(left)}", hint=f"see {book.journal}")
    print(f"stopped {told[0]}; nothing is left broken" if told else "no drill runs; nothing is left broken")


@app.command
def schedule(name: str, /, *, every: str = "", off: Flag = False) -> None:
    """Set how often a drill is due. ashore starts none by itself: let a timer run `ashore drill run --due`.

    Args:
        name: Name of the drill.
        every: Longest time between two runs, `30d`.
        off: Take it off the schedule.
    """
    one = drill_of(name)
    if off == bool(every):
        raise InvalidRequest("give either --every or --off", hint=f"ashore drill schedule {name} --every 30d")
    book = Book(read_settings().home.root)
    book.set_schedule(one.name, 0 if off else int(parse_seconds(every)))
    print(
        f"{one.name} is off the schedule" if off else f"{one.name} is due every {human_seconds(parse_seconds(every))}"
    )


def _one(
    settings: Settings,
    book: Any,
    one: Drill,
    *,
    twin: bool,
    reason: str,
    model: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    from ashore.control.drills import Stage, run_drill
    from ashore.control.drills.faults import lacking
    from ashore.control.drills.guard import refusal

    section = _section(settings)
    asked, situation = (None, _on_twin()) if twin else _on_server(settings, section, one, reason, model)
    why, do = refusal(one, section, situation)
    if dry_run:
        _show_drill(shown(one))
        print(f"{'would run on':<13} {TWINS if asked is None else asked.url}")
        print(f"{'refused':<13} {why or lacking(one.needs) or 'no'}")
        return 0 if not why else Conflict.exit_code
    if why:
        raise Conflict(why, hint=do)
    consent = ", ".join(situation.consents) if situation.production and not twin else ""

    def say(line: str) -> None:
        print(f"{one.name}: {line}", file=sys.stderr, flush=True)

    with book.running(one.name) as place, acting("drill:run", f"drill/{one.name}") as recorder:
        identity = book.new_id(one.name, time.time())
        if consent:
            _use_consent(settings, one.name)
        owner().record(
            recorder,
            "drill:run",
            f"drill/{one.name}",
            reason=reason,
            detail={"on": TWINS if asked is None else asked.url, "report": identity, "consent": consent},
        )
        done: Report = run_drill(
            one,
            Stage(
                home=settings.home,
                journal=book.journal,
                place=place,
                asked=asked,
                say=say,
                noticed=_noticed,
                stopped=book.is_stopped,
                id=identity,
                actor=owner().principal.id,
                consent=consent,
                production=situation.production and not twin,
            ),
        )
        base, digest = book.keep(done, one)
        owner().record(
            recorder,
            REPORT_ACTION,
            f"drill/{done.id}",
            reason=done.verdict,
            detail={"sha256": digest, "verdict": done.verdict, "on": done.on},
        )
    if as_json:
        print(json.dumps({**msgspec.to_builtins(done), "outcomes": len(done.outcomes), "sha256": digest}), flush=True)
    else:
        print(f"{done.verdict:<8} {one.name}: {done.why}")
        print(f"         {base}.html")
    return EXIT[done.verdict]


def _noticed(home: Home) -> tuple[str, ...]:
    """Return the rules of the doctor that fire now in a home."""
    from ashore.cli.doctor import examine_here
    from ashore.control.doctor import diagnose, load_rules

    found = diagnose(examine_here(Settings(home=home), span_s=0.5), load_rules()).findings
    return tuple(dict.fromkeys(one.rule for one in found if one.severity != "advice"))


def _section(settings: Settings) -> DrillsSection:
    """Return `[drills]` of the running server; without one, the defaults."""
    from ashore.control.drills.section import DrillsSection
    from ashore.data.path import read_topology

    if not settings.home.topology.is_file():
        return DrillsSection()
    return msgspec.convert(read_topology(settings.home.topology).told("drills") or {}, DrillsSection)


def _on_twin() -> Any:
    from ashore.control.drills.guard import Situation

    return Situation(on_twin=True, production=False, now_s=time.time())


def _on_server(settings: Settings, section: DrillsSection, one: Drill, reason: str, model: str) -> tuple[Asked, Any]:
    """Return the target of the load, and its properties."""
    from ashore.cli.bootstrap import open_state
    from ashore.cli.target import find_target
    from ashore.control.drills.guard import Situation, is_production
    from ashore.control.drills.load import Asked
    from ashore.data.authority.offices import missing_offices
    from ashore.data.path import read_topology
    from ashore.data.releases import load_book

    target = find_target(None)
    topology = read_topology(settings.home.topology)
    fitting = [each for each in topology.models if not each.embedder and (not model or each.alias == model)]
    enough = [each for each in fitting if len(each.sockets) > one.spare]
    if not fitting:
        raise InvalidRequest(f"this server has no model {model!r} that answers", hint="`ashore status` lists them")
    if not target.key:
        raise NotReady("no key is at hand for the load", hint="set ASHORE_API_KEY to a key that may ask the model")
    now_s = int(time.time())
    with closing(open_state(settings)) as state, state.read() as connection:
        lacking = missing_offices(connection, now_s)
        agreed = tuple(sorted(_consents(connection, one.name, now_s)))
        book = load_book(connection)
    chosen = (enough or fitting)[0]
    situation = Situation(
        on_twin=False,
        production=is_production(section, lacking),
        consents=agreed,
        reason=reason,
        candidates=tuple(
            each.release for each in book.courses.values() if each.state in ("warming", "shadow", "canary")
        ),
        replicas=len(chosen.sockets),
        now_s=now_s,
    )
    asked = Asked(url=target.url, key=target.key, model=chosen.alias, ca_file=target.ca_file, timeout_s=60.0)
    return asked, situation


def _consents(connection: Connection, drill: str, now_s: int) -> set[str]:
    """Return who consented to a drill, and still may."""
    from ashore.control.drills.calls import CONSENT_ACTION
    from ashore.data.authority import Compiled
    from ashore.data.authority.consents import counting
    from ashore.data.authority.sql import load_policy

    subject, compiled = subject_of(drill), Compiled(load_policy(connection))
    return counting(connection, compiled, subject, "", action=CONSENT_ACTION, resource=subject, now_s=now_s)


def _use_consent(settings: Settings, drill: str) -> None:
    """Consume the consents to a drill."""
    from ashore.cli.bootstrap import open_state
    from ashore.data.authority.sql import use_consents

    subject = subject_of(drill)
    with closing(open_state(settings)) as state, state.write() as connection:
        if not _consents(connection, drill, int(time.time())) or not use_consents(connection, subject):
            raise Conflict(
                f"the consent to {drill} was used up by another run",
                hint=f"ask for one: ashore drill consent {drill}",
            )
