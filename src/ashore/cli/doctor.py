"""`ashore doctor`: what is wrong with the server of this home, why, and what to do."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.backends import BackendShown, backends_of
from ashore.cli.calls import noun_of
from ashore.core import counted, did_you_mean, human_seconds, parse_seconds
from ashore.doctor.calls import CALLS, detail_of
from ashore.errors import Conflict, InvalidRequest, RemoteRefused
from ashore.processes import ask
from ashore.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.doctor import Diagnosis, Finding, Readings, Rule
    from ashore.doctor.examine import Doctor, Scene
    from ashore.doctor.journal import Entry
    from ashore.doctor.look import Look
    from ashore.doctor.readings import Configuration
    from ashore.doctor.topology import ServedPart

app = noun_of(
    "doctor",
    "Find what is wrong, why, and what to do.",
    CALLS,
)

EXIT: Final[Mapping[str | None, int]] = {"critical": 4, "warning": 3}
SPAN: Final = "2s"
EVERY_S: Final = 60.0
COMPARE_S: Final = 3.0
"""Longest wait for the supervisor to read ashore.toml."""
FORMAT: Final = "ashore.doctor/1"
AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
Several = Annotated[tuple[str, ...], Parameter(negative="")]
_MARKS: Final = {"critical": "✗", "warning": "!", "advice": "·"}
_COLOURS: Final = {"critical": "\033[31m", "warning": "\033[33m", "advice": "\033[2m"}


@app.default
def doctor(
    *,
    only: Several = (),
    ignore: Several = (),
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    span: Annotated[str, Parameter(name="--for")] = SPAN,
    since: str = "",
    watch: Flag = False,
    apply: Flag = False,
    dry_run: Flag = False,
    as_json: AsJson = False,
) -> int:
    """Measure the server of this home and its machine, and say what is wrong, why, and what to do. Needs no key, and no
    running server.

    Exits with 0 if there is nothing or advice alone, 3 after a warning, 4 after something critical.

    Args:
        only: Ask these rules alone: ids or areas, `D301`, `disk`. With --apply, also make their changes that are not
            safe by themselves, such as settings of the kernel.
        ignore: Leave these rules or areas out.
        list_: List the rules and end.
        span: Time between the two looks: 2s, 1m.
        since: Judge the time since then, `1h`, by the looks that earlier runs and --watch kept.
        watch: Look again every minute, and print what appears and what is gone.
        apply: Make the safe changes that findings carry. `ashore doctor undo` undoes them.
        dry_run: With --apply, show what would be changed.
        as_json: Print JSON.
    """
    from ashore.doctor import RULES

    rules = _chosen(RULES, only, ignore)
    if list_:
        return _list(rules, as_json=as_json)
    settings = read_settings()
    _refuse_foreign(settings)
    one = _doctor(settings)
    if watch:
        return _watch(one, settings, rules, as_json=as_json)
    readings, _, _ = examine(one, settings, span_s=parse_seconds(span), since=since)
    diagnosis = diagnosed(readings, rules)
    changes: tuple[Entry, ...] = ()
    planned: tuple[Finding, ...] = ()
    if apply:
        planned, changes = _apply(settings, diagnosis, only, dry_run=dry_run)
    if as_json:
        _print_json(diagnosis, changes)
    else:
        _show(diagnosis, readings)
        _show_changes(planned, changes, dry_run=dry_run)
    return EXIT.get(diagnosis.worst, 0)


@app.command
def undo(number: int | None = None, /, *, list_: Annotated[bool, Parameter(name="--list", negative=())] = False) -> int:
    """Undo the changes of `ashore doctor --apply`, the last one first.

    Args:
        number: Undo this change alone; default: all.
        list_: List the changes, and undo none.
    """
    from ashore.cli.recorded import acting, owner
    from ashore.doctor.changes import OwnHands, Remedies
    from ashore.doctor.journal import Journal

    home = read_settings().home
    journal = Journal(home.root)
    entries = journal.entries()
    if list_:
        for one in entries:
            print(_line_of(one))
        if not entries:
            print("no change was made")
        return 0
    if not [one for one in entries if one.stage in ("begun", "made")] and number is None:
        print("no change is left to undo")
        return 0
    with acting("doctor:undo", "doctor/*") as recorder:

        def say(entry: Entry) -> None:
            owner().record(recorder, "doctor:undo", f"doctor/{entry.rule}", detail=detail_of(entry))

        done = Remedies(journal, OwnHands(), say=say).undo(number)
    for one in done:
        print(_line_of(one))
    left = [one for one in done if one.stage in ("begun", "made")]
    if left:
        raise Conflict(f"{counted(len(left), 'change')} could not be undone: {left[0].note}")
    return 0


@app.command
def bundle(path: Path = Path("ashore-bundle.tar.gz"), /) -> int:
    """Write a support bundle: what was measured and found, versions, settings, metrics, ends of logs.

    It holds no prompt, no answer, no key and no address of a client. Read it before you send it.

    Args:
        path: The file to write.
    """
    from ashore.doctor import RULES
    from ashore.doctor.bundle import contents, write

    settings = read_settings()
    _refuse_foreign(settings)
    if path.exists():
        raise Conflict(f"{path} is there already", hint="name another file, or delete it")
    readings, scene, look = examine(_doctor(settings), settings, span_s=parse_seconds(SPAN), since="")
    listening: Any = scene.told.get("listening") or {}
    files = contents(settings.home, readings, diagnosed(readings, RULES), listening, look.page)
    size = write(path, files)
    print(f"{path}: {counted(len(files), 'file')}, {size / 1024:.0f} KiB")
    return 0


def examine(one: Doctor, settings: Settings, *, span_s: float, since: str) -> tuple[Readings, Scene, Look]:
    """Look twice, or once where `since` names an earlier look; keep the later one.

    Raises:
        InvalidRequest: `since` is not a duration, or no look is kept.
    """
    from ashore.doctor.history import History

    history = History(settings.home.root)
    if since:
        since_s = time.time() - parse_seconds(since)
        before = history.at(since_s)
        if before is None:
            raise InvalidRequest(
                f"no look of {since} ago is kept",
                hint="`ashore doctor --watch` keeps one each minute; leave --since out",
            )
        look, scene = one.look()
        readings = one.readings(before, look, scene, since_s=since_s)
    else:
        readings, scene, look = one.examine(span_s)
    _keep(history, look)
    return readings, scene, look


def examine_here(settings: Settings, *, span_s: float) -> Readings:
    """Look twice at a home, and keep nothing."""
    readings, _, _ = _doctor(settings).examine(span_s)
    return readings


def examine_once(settings: Settings, backends: Sequence[BackendShown]) -> tuple[Readings, str]:
    """Look once, and return what was measured and the server's page of metrics. What only grows is not judged."""
    from ashore.bootstrap.doctor import open_doctor

    one = open_doctor(settings, lambda: configuration_of(settings), lambda served: backends)
    readings, _, look = one.examine(0)
    return readings, look.page


def diagnosed(readings: Readings, rules: Sequence[Rule]) -> Diagnosis:
    """Return what these rules find."""
    from ashore.doctor import diagnose

    return diagnose(readings, rules)


def _keep(history: Any, look: Look) -> None:
    try:
        history.keep(look)
    except OSError as fault:
        print(f"note: this look is not kept for --since: {fault.strerror or fault}", file=sys.stderr)


def _doctor(settings: Settings) -> Doctor:
    from ashore.bootstrap.doctor import open_doctor

    def backends(served: Sequence[ServedPart]) -> list[BackendShown]:
        return asyncio.run(backends_of(served))

    return open_doctor(settings, lambda: configuration_of(settings), backends)


def _refuse_foreign(settings: Settings) -> None:
    """Raise where this user may not read the home: everything that is measured there would be missing."""
    if settings.home.root.exists():
        os.listdir(settings.home.root)


def configuration_of(settings: Settings) -> Configuration:
    """Return how ashore.toml stands to what the supervisor runs. It says so itself: it has read every section.

    Raises:
        NotReady: the supervisor is gone.
        RemoteRefused: it cannot say it.
    """
    from ashore.doctor.readings import Configuration

    *_, said = ask(settings.home.control_socket, {"op": "compare"}, timeout_s=COMPARE_S)
    if "error" in said:
        raise RemoteRefused(f"the supervisor cannot compare ashore.toml: {said['error']}")
    return msgspec.convert(said["configuration"], Configuration)


def _chosen(rules: Sequence[Rule], only: Sequence[str], ignore: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules that are asked.

    Raises:
        InvalidRequest: a word is neither a rule nor an area.
    """
    known = {one.id for one in rules} | {one.area for one in rules}
    wanted, unwanted = set(_words(only)), set(_words(ignore))
    for word in sorted(wanted | unwanted):
        if word not in known:
            raise InvalidRequest(
                f"{word!r} is neither a rule nor an area",
                hint=did_you_mean(word, sorted(known)) or "`ashore doctor --list`",
            )
    return tuple(
        one
        for one in rules
        if (not wanted or one.id in wanted or one.area in wanted)
        and one.id not in unwanted
        and one.area not in unwanted
    )


def _words(given: Iterable[str]) -> Iterator[str]:
    for word in given:
        yield from (part.strip() for part in word.split(",") if part.strip())


def _list(rules: Sequence[Rule], *, as_json: bool) -> int:
    if as_json:
        rows = [{"id": one.id, "area": one.area, "question": one.question, "source": one.source} for one in rules]
        print(json.dumps({"items": rows}))
        return 0
    for one in rules:
        print(f"{one.id}  {one.area:<13}  {one.question}")
    print(f"{counted(len(rules), 'rule')}", file=sys.stderr)
    return 0


def _watch(one: Doctor, settings: Settings, rules: Sequence[Rule], *, as_json: bool) -> int:
    """Look every minute until Ctrl-C. Prints what appears and what is gone."""
    from ashore.doctor.history import History

    history = History(settings.home.root)
    known: dict[tuple[str, str], Finding] = {}
    before: Look | None = None
    while True:
        look, scene = one.look()
        if before is not None:
            diagnosis = diagnosed(one.readings(before, look, scene, since_s=before.at_s), rules)
            found = {(each.rule, _subject(each)): each for each in diagnosis.findings if each.severity != "advice"}
            for key, finding in found.items():
                if key not in known:
                    _tell(finding, "appeared", look.at_s, as_json=as_json)
            for key, finding in known.items():
                if key not in found:
                    _tell(finding, "gone", look.at_s, as_json=as_json)
            known = found
        _keep(history, look)
        time.sleep(EVERY_S if before is not None else parse_seconds(SPAN))
        before = look


def _subject(finding: Finding) -> str:
    """Return what a finding is about, without its figures: those change with every look."""
    return "".join(letter for letter in finding.what if not letter.isdigit() and letter != ".")


def _tell(finding: Finding, what: str, at_s: float, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"at": int(at_s), "event": what, "finding": msgspec.to_builtins(finding)}), flush=True)
    else:
        when = time.strftime("%H:%M:%SZ", time.gmtime(at_s))
        print(f"{when}  {what:<8}  {finding.severity:<8}  {finding.rule}  {finding.what}", flush=True)


def _apply(
    settings: Settings, diagnosis: Diagnosis, only: Sequence[str], *, dry_run: bool
) -> tuple[tuple[Finding, ...], tuple[Entry, ...]]:
    from ashore.cli.recorded import acting, owner
    from ashore.doctor.changes import OwnHands, Remedies
    from ashore.doctor.journal import Journal

    named = [word for word in _words(only) if word[:1] == "D" and word[1:].isdigit()]
    journal = Journal(settings.home.root)
    planned = Remedies(journal, OwnHands()).planned(diagnosis.findings, named)
    if dry_run or not planned:
        return planned, ()
    with acting("doctor:apply", "doctor/*") as recorder:

        def say(entry: Entry) -> None:
            outcome = "done" if entry.stage == "made" else "failed"
            owner().record(
                recorder,
                "doctor:apply",
                f"doctor/{entry.rule}",
                outcome="done" if outcome == "done" else "failed",
                reason=entry.note,
                detail=detail_of(entry),
            )

        return planned, Remedies(journal, OwnHands(), say=say).apply(planned)


def _print_json(diagnosis: Diagnosis, changes: Sequence[Entry]) -> None:
    told = {"format": FORMAT, "worst": diagnosis.worst, **msgspec.to_builtins(diagnosis)}
    print(json.dumps({**told, "changes": msgspec.to_builtins(list(changes))}))


def _show(diagnosis: Diagnosis, readings: Readings) -> None:
    is_terminal = sys.stdout.isatty()
    plain = "\033[0m" if is_terminal else ""
    for one in diagnosis.findings:
        colour = _COLOURS[one.severity] if is_terminal else ""
        inset = "    " if one.because_of else ""
        print(f"{inset}{colour}{_MARKS[one.severity]} {one.severity}{plain}  {one.rule}  {one.what}")
        if one.severity == "advice":
            print(f"{inset}    do     {one.remedy}")
            for command in one.commands[:1]:
                print(f"{inset}           {command}")
            continue
        if one.because_of:
            print(f"{inset}    follows from {one.because_of}")
        print(f"{inset}    why    {one.cause} ({one.sure})")
        for figure in one.evidence:
            limit = f"  (right: {figure.limit})" if figure.limit else ""
            print(f"{inset}    seen   {figure.name}: {figure.seen}{limit}")
        print(f"{inset}    do     {one.remedy}")
        for command in one.commands:
            print(f"{inset}           {command}")
        if one.change is not None:
            how = "--apply" if one.change.safe else f"--apply --only {one.rule}"
            print(f"{inset}           ashore doctor {how}  # does it, with an undo")
        if one.wrong_remedy:
            print(f"{inset}    not    {one.wrong_remedy}")
        print()
    worst = {"critical": "something critical", "warning": "a warning"}.get(diagnosis.worst or "", "nothing is wrong")
    span = f" over {human_seconds(readings.span_s)}" if readings.span_s else ""
    state = "" if readings.server.running else "; no server runs from this home"
    print(
        f"{worst}: {counted(diagnosis.rules, 'rule')} asked{span}, {len(diagnosis.unknown)} could not be judged{state}"
    )
    from ashore.doctor.survey import LATE

    reasons = collections.Counter(one.missing.partition(": ")[2] or one.missing for one in diagnosis.unknown)
    for reason, number in reasons.most_common():
        print(f"  {number} not judged: {reason}{'; look for longer: --for 10s' if reason == LATE else ''}")


def _show_changes(planned: Sequence[Finding], changes: Sequence[Entry], *, dry_run: bool) -> None:
    if dry_run:
        if not planned:
            print("nothing would be changed: no finding has a safe change")
        for one in planned:
            if one.change is not None:
                print(f"would change  {one.rule}  {one.change.kind} {one.change.target} {one.change.value}".rstrip())
    for entry in changes:
        print(_line_of(entry))


def _line_of(entry: Entry) -> str:
    was = f" (was {entry.before})" if entry.before else ""
    note = f": {entry.note}" if entry.note else ""
    return f"{entry.id}  {entry.stage}  {entry.rule}  {entry.kind} {entry.target} {entry.after}{was}{note}"
