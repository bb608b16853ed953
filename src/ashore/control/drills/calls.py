"""Drills over the API: what there is, what came of them, and the consent of a second officer.

None is run over the API. A drill breaks the server that would answer, workers and all, and must outlive it; and it is
run by who may sign in to the machine and mend it by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ashore.control.drills.book import Book
from ashore.control.drills.catalog import all_drills
from ashore.control.drills.model import Check, Drill, Phase, Report, Verdict
from ashore.control.drills.report import page
from ashore.core.clock import Clock
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.core.timespan import parse_seconds
from ashore.data.authority.offices import CONSENT_S
from ashore.data.authority.sql import save_consent
from ashore.kit.call import Actor, Call, Download, Nothing, Rights
from ashore.kit.consents import Consented
from ashore.kit.copied import copied
from ashore.kit.recorder import Recorder
from ashore.kit.settings import Home
from ashore.kit.state import Database

if TYPE_CHECKING:
    from ashore.control.audit import Follower

CONSENT_ACTION: Final = "drill:consent"
LOOK: Final = "drill:read"
REPORT_ACTION: Final = "drill:report"
Vouched = Literal["as recorded", "not as recorded", "not in the log", "in the archive"]
"""Whether a report is the one whose digest the audit log has. in the archive: its record may have left this machine:
`ashore audit search --archive PLACE --action drill:report` has its digest."""

DOUBTFUL: Final[frozenset[Vouched]] = frozenset({"not as recorded", "not in the log"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillShelf:
    """Where drills and their reports are read: files of the home, with or without a server."""

    clock: Clock
    home: Path
    acts: Follower
    """Reports in the audit log: each look reads what was written since the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillDesk(DrillShelf):
    """The shelf of a server, with who decides, who is told, and where consents are kept."""

    rights: Rights
    recorder: Recorder
    database: Database


class DrillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One drill, and how it went."""

    drill: str
    title: str
    runs_on: Literal["twin", "server, twin"]
    last: Annotated[Verdict | None, msgspec.Meta(extra={"absent": "never"})]
    """Verdict of its last run; null: there was none."""
    last_at_s: float | None
    """When that began, in seconds since 1970."""
    due_in_s: Annotated[float | None, msgspec.Meta(extra={"absent": "no schedule"})]
    """When it is due again; below 0: it is late. Null: it is on no schedule."""


class DrillRows(msgspec.Struct, frozen=True, kw_only=True):
    """Every drill."""

    items: tuple[DrillRow, ...]
    running: str
    """The drill that runs now; empty: none does."""


class DrillIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which drill."""

    drill: Annotated[str, msgspec.Meta(max_length=100, extra={"positional": True})]
    """Name of the drill, as `ashore drill list` shows it."""


class DrillShown(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill breaks, within which bounds, and what must hold."""

    drill: str
    title: str
    steady: str
    """What is measured before."""
    fault: str
    """What is broken."""
    expects: str
    """What must hold."""
    may_lose: str
    """Which requests may fail."""
    hold_s: float
    """How long the fault stays; 0: it is over at once."""
    most_s: float
    """Longest time that the fault may stay, whatever happens."""
    recovery_s: float
    """Longest time until the server is well again."""
    runs_on: Literal["twin", "server, twin"]
    needs: tuple[str, ...]
    """`root`, programs that the machine must have, `2 replicas` of a model."""


ReportsIn = Annotated[str, msgspec.Meta(max_length=20, description="Longest time ago, `90d`.")]


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a drill."""

    report: str
    drill: str
    verdict: Verdict
    why: str
    """What did not hold, or that everything did."""
    ran_on: str
    """`twin`, or the address of the server."""
    began_s: float
    """Seconds since 1970."""
    recovered_s: float | None
    """Until the server was well again; null: that was not seen."""
    vouched: Vouched
    """Whether it is the report whose digest is in the audit log."""


ReportIn = Annotated[
    str,
    msgspec.Meta(
        max_length=200,
        extra={"positional": True},
        description="Id of a report, or the name of a drill for its last one.",
    ),
]


class ReportShown(ReportRow, frozen=True, kw_only=True):
    """One report in full."""

    felt: str
    """How it was seen that the fault was there."""
    fault_for_s: float
    noticed: tuple[str, ...]
    """Rules of the doctor that fired while the fault was there."""
    checks: tuple[Check, ...]
    phases: dict[str, Phase]
    """Requests before, during and after the fault."""
    production: bool
    actor: str
    consent: str
    """Who consented, where users depend on the server."""
    sha256: str


class ConsentIn(DrillIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """To which drill."""


def subject_of(drill: str) -> str:
    """Return under which name consents to a drill are kept."""
    return f"drill/{drill}"


def consent(desk: DrillDesk, actor: Actor, asked: ConsentIn) -> Consented:
    """Consent to one run of a drill on the server that answers users, within 24 hours. Used up by that run."""
    resource = subject_of(asked.drill)
    desk.rights.require(actor.principal, CONSENT_ACTION, resource)
    drill_of(asked.drill)
    with desk.database.write() as connection:
        save_consent(connection, subject=resource, principal=actor.principal.id, now_s=int(desk.clock.now_s()))
        actor.record(desk.recorder, CONSENT_ACTION, resource, on=connection)
    return Consented(consented_to=resource, holds_for_s=CONSENT_S)


def list_drills(desk: DrillShelf, actor: Actor, asked: Nothing) -> DrillRows:
    """List the drills, where each may run, its last verdict, and when it is due."""
    book = Book(desk.home)
    last = {report.drill: report for report, _ in book.reports()}
    late = book.due(desk.clock.now_s())
    rows = [
        DrillRow(
            drill=one.name,
            title=one.title,
            runs_on=_where(one),
            last=last[one.name].verdict if one.name in last else None,
            last_at_s=last[one.name].began_s if one.name in last else None,
            due_in_s=-late[one.name] if one.name in late else None,
        )
        for one in all_drills().values()
    ]
    running = book.now_running()
    return DrillRows(items=tuple(rows), running=running[0] if running else "")


def show_drill(desk: DrillShelf, actor: Actor, asked: DrillIn) -> DrillShown:
    """Show what a drill breaks, within which bounds, and what must hold. It is run from the command line alone."""
    return shown(drill_of(asked.drill))


def drill_of(name: str) -> Drill:
    """Return a drill by its name.

    Raises:
        NotFound: there is none.
    """
    if name not in all_drills():
        near = did_you_mean(name, sorted(all_drills()))
        raise NotFound(f"there is no drill {name!r}", hint=f"`ashore drill list` lists them{near and '; ' + near}")
    return all_drills()[name]


def shown(one: Drill) -> DrillShown:
    """Return what people are told of a drill."""
    return copied(
        DrillShown,
        one,
        drill=one.name,
        may_lose=may_lose(one),
        runs_on=_where(one),
        needs=(*one.needs, *([f"{one.spare + 1} replicas"] if one.spare else ())),
    )


def list_reports(desk: DrillShelf, actor: Actor, since: ReportsIn = "90d") -> list[ReportRow]:
    """List the reports of drills, and whether each is the one whose digest is in the audit log."""
    book, since_s = Book(desk.home), desk.clock.now_s() - parse_seconds(since)
    ask = Vouching(desk.acts)
    found = [_row(report, digest, ask) for report, digest in book.reports(since_s)]
    return list(reversed(found))


def show_report(desk: DrillShelf, actor: Actor, report: ReportIn) -> ReportShown:
    """Show what came of one drill."""
    found, digest = _found(desk, report)
    row = msgspec.structs.asdict(_row(found, digest, Vouching(desk.acts)))
    return copied(ReportShown, found, **row, sha256=digest)


def download_report(desk: DrillShelf, actor: Actor, report: ReportIn) -> Download:
    """Download one report as an HTML page with a chart of what clients felt. The page loads nothing."""
    found, digest = _found(desk, report)
    content = page(found, all_drills().get(found.drill), digest).encode()
    return Download(content=content, content_type="text/html; charset=utf-8", file_name=f"{found.id}.html")


def _found(desk: DrillShelf, name: str) -> tuple[Report, str]:
    """Return a report by its id, or the last one of a drill."""
    found = [each for each in Book(desk.home).reports() if name in (each[0].id, each[0].drill)]
    if not found:
        raise NotFound(f"there is no report {name!r}", hint="`ashore drill reports` lists them")
    return found[-1]


def _row(report: Report, digest: str, ask: Vouching) -> ReportRow:
    return copied(ReportRow, report, report=report.id, ran_on=report.on, vouched=ask(report, digest))


def _where(one: Drill) -> Literal["twin", "server, twin"]:
    return "twin" if one.twin_only else "server, twin"


def may_lose(one: Drill) -> str:
    """Return in words which requests may fail in a drill."""
    return {
        "none": "no request may fail",
        "refused": "requests may be refused with a status that says so",
        "in-flight": f"at most {one.load} answers may be interrupted, each with an error",
        "begun": "answers that had begun may be interrupted, each with an error; no other request may fail",
        "any": "requests may fail, each with an error",
    }[one.loss]


def acts_of(home: Path) -> Follower:
    """Return what finds the reports of a home in its audit log."""
    from ashore.control.audit import Follower

    return Follower(Home(root=home).audit, REPORT_ACTION)


class Vouching:
    """What the audit log says of reports, as of now. Reads the log; not for an event loop."""

    def __init__(self, acts: Follower) -> None:
        self._recorded: dict[str, str] = {}
        for record in acts.records():
            self._recorded.setdefault(record.resource.partition("/")[2], str(record.detail.get("sha256", "")))
        self._since_s = acts.whole_since_s()

    def __call__(self, report: Report, digest: str) -> Vouched:
        """Return whether a report is the one that was recorded."""
        if report.id in self._recorded:
            return "as recorded" if self._recorded[report.id] == digest else "not as recorded"
        return "in the archive" if report.began_s < self._since_s else "not in the log"


CALLS: Final = (
    Call("drill", "list", "GET", "/drills", LOOK, list_drills, on_server=True, at_home=True),
    Call("drill", "show", "GET", "/drills/{drill}", LOOK, show_drill, on_server=True, at_home=True),
    Call("drill", "consent", "POST", "/drills/{drill}/consent", CONSENT_ACTION, consent),
    Call("drill", "reports", "GET", "/drill-reports", LOOK, list_reports, on_server=True, at_home=True),
    Call("drill", "report", "GET", "/drill-reports/{report}", LOOK, show_report, on_server=True, at_home=True),
    Call(
        "drill", "download", "GET", "/drill-reports/{report}/page", LOOK, download_report, on_server=True,
        content_type="text/html; charset=utf-8",
    ),
)  # fmt: skip
