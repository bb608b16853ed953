"""`ashore doctor`: what is wrong with the server of this home, or of another machine, why, and what to do."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.backends import BackendShown, backends_of
from ashore.cli.calls import AtHome, Errand, command_of, noun_of, refuse_elsewhere
from ashore.cli.columns import prose, say
from ashore.cli.said import padded, said
from ashore.cli.whichtoml import which_toml
from ashore.control.doctor.calls import (
    APPLY,
    CALLS,
    UNDO,
    Applied,
    ApplyIn,
    DoctorDesk,
    FindingsIn,
    Found,
    RuleShown,
    UndoIn,
    found_of,
)
from ashore.control.doctor.journal import Journal
from ashore.core.counted import counted
from ashore.core.errors import AshoreError, Conflict, InvalidRequest, RemoteRefused
from ashore.core.timespan import human_moment, human_seconds, parse_seconds
from ashore.core.visible import on_a_screen
from ashore.kit.call import Items, call_named
from ashore.kit.processes import ask
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Settings, read_settings

if TYPE_CHECKING:
    from ashore.control.doctor import Diagnosis, Finding, Readings
    from ashore.control.doctor.examine import Doctor, Scene
    from ashore.control.doctor.journal import Entry
    from ashore.control.doctor.look import Look
    from ashore.control.doctor.readings import Configuration
    from ashore.control.doctor.topology import ServedPart

EXIT: Final[Mapping[str | None, int]] = {"critical": 4, "warning": 3}
SPAN: Final = "2s"
EVERY_S: Final = 60.0
COMPARE_S: Final = 3.0
"""Longest wait for the supervisor to read ashore.toml."""
_MARKS: Final = {"critical": "✗", "warning": "!", "advice": "·"}
_COLOURS: Final = {"critical": "\033[31m", "warning": "\033[33m", "advice": "\033[2m"}

Span = Annotated[str, Parameter(name="--for", help="Time between the two looks at this home: 2s, 1m.")]
Since = Annotated[
    str,
    Parameter(help="Judge the time since then, `1h`, by the looks that earlier runs and --watch kept here."),
]
Listed = Annotated[bool, Parameter(name="--list", negative=(), help="List the rules, and look at nothing.")]
Applying = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Make the safe changes that findings carry, and those that are not safe by themselves where --only names "
        "the rule by its id. `ashore doctor undo` undoes them.",
    ),
]
Trying = Annotated[bool, Parameter(negative=(), help="With --apply, show what would be changed.")]
Watch = Annotated[bool, Parameter(negative=(), help="Look again every minute; print what appears and what is gone.")]


class HomeLook:
    """Looks at this home twice, or once where an earlier look was kept. One look serves a command, unless it watches:
    then each looks once more."""

    def __init__(self, settings: Settings, *, span: str = SPAN, since: str = "", watches: bool = False) -> None:
        self.settings = settings
        self._span_s = parse_seconds(span)
        self._since = since
        self._watches = watches
        self._doctor: Doctor | None = None
        self._last: Look | None = None
        self._found: Found | None = None

    async def __call__(self, *, fresh: bool) -> Found:
        if self._found is None or self._watches:
            self._found = await asyncio.to_thread(self._look)
        return self._found

    def _look(self) -> Found:
        self._doctor = self._doctor or _doctor(self.settings)
        readings, _, self._last = examine(
            self._doctor, self.settings, span_s=self._span_s, since=self._since, before=self._last
        )
        return found_of(diagnosed(readings), running=readings.server.running)


def _find(
    errand: Errand,
    asked: FindingsIn,
    *,
    span: Span = SPAN,
    since: Since = "",
    watch: Watch = False,
    apply: Applying = False,
    dry_run: Trying = False,
    list_: Listed = False,
) -> int:
    _refuse_pairs({"--list": list_, "--watch": watch, "--apply": apply}, dry_run=dry_run)
    refuse_elsewhere(errand.server, {"--for": span != SPAN, "--since": since})
    look = HomeLook(read_settings(), span=span, since=since, watches=watch)
    errand.at_home = _home(look)
    if list_:
        errand = replace(errand, call=call_named("rules", CALLS), view=_show_rules)
        errand.tell(errand.ask_here_first(asked))
        return 0
    if watch:
        return _watch(errand, asked)
    found: Found = errand.ask_here_first(asked)
    if not errand.as_json:
        show(found, errand.server.url or "")
    elif not apply:
        errand.tell(found)
    if apply:
        wanted = ApplyIn(rules=asked.only, ignore=asked.ignore, dry_run=dry_run)
        _apply(replace(errand, call=call_named("apply", CALLS), view=_show_applied), wanted, look)
    return EXIT.get(found.worst, 0)


def _refuse_pairs(ways: Mapping[str, bool], *, dry_run: bool) -> None:
    """Refuse options that exclude each other."""
    given = [option for option, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise InvalidRequest(f"{given[0]} and {given[1]} cannot be given together", hint="leave one of them out")
    if dry_run and not ways["--apply"]:
        raise InvalidRequest(
            "--dry-run shows what --apply would change, and --apply is not given", hint="give --apply --dry-run"
        )


def _apply(errand: Errand, asked: ApplyIn, look: HomeLook | None = None) -> None:
    look = look or HomeLook(read_settings())
    errand.at_home = _home(look)
    if not errand.server.url and not asked.dry_run:
        planned: Applied = errand.ask_here_first(msgspec.structs.replace(asked, dry_run=True))
        if planned.would_change:  # the audit log is opened, and created, only if there is something to write
            errand.at_home = _home(look, APPLY)
    done: Applied = errand.ask_here_first(asked)
    errand.tell(done)
    failed = [one for one in done.items if one.stage != "made"]
    if failed:
        raise Conflict(f"{counted(len(failed), 'change')} could not be made: {failed[0].note}")


def _undo(errand: Errand, asked: UndoIn) -> None:
    settings = read_settings()
    changes_home = not errand.server.url and Journal(settings.home.root).entries()
    errand.at_home = _home(HomeLook(settings), UNDO if changes_home else "")
    done: Items[Entry] = errand.ask_here_first(asked)
    errand.tell(done)
    left = [one for one in done.items if one.stage in ("begun", "made")]
    if left:
        raise Conflict(f"{counted(len(left), 'change')} could not be undone: {left[0].note}")


def _read(errand: Errand, asked: msgspec.Struct) -> None:
    errand.at_home = _home(HomeLook(read_settings()))
    errand.tell(errand.ask_here_first(asked))


def _home(look: HomeLook, act: str = "") -> AtHome:
    """Return what opens the desk of this home for its owner. `act`: the act to record; empty: nothing is changed."""
    from ashore.cli.recorded import Owned, acting

    @contextmanager
    def opened() -> Iterator[DoctorDesk]:
        _refuse_foreign(look.settings)
        with acting(act, "doctor/*") if act else nullcontext(MemoryRecorder()) as recorder:
            yield DoctorDesk(rights=Owned(), recorder=recorder, look=look, home=look.settings.home.root)

    return opened


def show(found: Found, url: str = "") -> None:
    """Print what was found. `url`: the server that was asked; empty: this home."""
    is_terminal = sys.stdout.isatty()
    plain = "\033[0m" if is_terminal else ""
    for one in found.items:
        colour = _COLOURS[one.severity] if is_terminal else ""
        inset = "    " if one.because_of else ""
        mark = f"{inset}{_MARKS[one.severity]} {said(one.severity)}"
        told = [prose(said(one.what), first=f"{mark}  {one.rule}  ").removeprefix(mark)]

        def cue(word: str, text: str, inset: str = inset) -> str:
            return prose(text, first=f"{inset}    {word} ").removeprefix(inset)

        why, seen, do, never = (padded(said(word), 6) for word in ("why", "seen", "do", "not"))
        if one.severity == "advice":
            told += [cue(do, said(one.remedy)), *(f"           {command}" for command in one.commands[:1])]
        else:
            told += [f"    {said(f'follows from {one.because_of}')}"] if one.because_of else []
            told += [cue(why, f"{said(one.cause)} ({said(one.sure)})")]
            for figure in one.evidence:
                limit = f"  {said(f'(right: {said(figure.limit)})')}" if figure.limit else ""
                told.append(cue(seen, f"{said(figure.name)}: {said(figure.seen)}{limit}"))
            told += [cue(do, said(one.remedy)), *(f"           {command}" for command in one.commands)]
            if one.change is not None:
                how = "" if one.change.safe else f" --rules {one.rule}"
                there = f" --url {url}" if url else ""
                told.append(f"           ashore doctor apply{how}{there}  # does it, with an undo")
            told += [cue(never, said(one.wrong_remedy))] if one.wrong_remedy else []
            told += [""]
        print(f"{colour}{mark}{plain}", end="")
        print(on_a_screen(f"\n{inset}".join(told)).rstrip(" "))
    worst = {"critical": "something critical", "warning": "a warning"}.get(found.worst or "", "nothing is wrong")
    names_it = not url and any("ashore.toml" in " ".join((one.remedy, *one.commands)) for one in found.items)
    if names_it and (file := which_toml(read_settings())):
        say(file)
    span = f" over {human_seconds(found.span_s)}" if found.span_s else ""
    state = "" if found.running else "; no server runs from this home"
    print(said(f"{worst}: {counted(found.rules, 'rule')} asked{span}, {len(found.unknown)} could not be judged{state}"))
    from ashore.control.doctor.survey import LATE

    reasons = collections.Counter(one.missing.partition(": ")[2] or one.missing for one in found.unknown)
    for reason, number in reasons.most_common():
        longer = "; look for longer: --for 10s" if reason == LATE and not url else ""
        say(on_a_screen(f"  {said(f'{number} not judged: {reason}')}{longer}"))


def _show_rules(found: Items[RuleShown]) -> None:
    for one in found.items:
        say(said(one.question), first=f"{one.rule}  {one.area:<13}  ")


def _show_changes(found: Items[Entry]) -> None:
    for one in found.items:
        print(_line_of(one))
    if not found.items:
        print("no change is there")


def _show_applied(done: Applied) -> None:
    for line in done.would_change:
        print(f"would change  {line}")
    for one in done.items:
        print(_line_of(one))
    if not done.would_change and not done.items:
        print("nothing to change: no finding has a safe change")


app = noun_of(
    "doctor",
    "Find what is wrong, why, and what to do.",
    [call for call in CALLS if call.word != "findings"],
    {"rules": _show_rules, "changes": _show_changes, "apply": _show_applied, "undo": _show_changes},
    {"rules": _read, "changes": _read, "apply": _apply, "undo": _undo},
)
app.default(command_of(call_named("findings", CALLS), show, _find))


@app.command
def bundle(path: Path = Path("ashore-bundle.tar.gz"), /) -> int:
    """Write a support bundle: what was measured and found, versions, settings, metrics, ends of logs.

    It holds no prompt, no answer, no key and no address of a client. Read it before you send it.

    Args:
        path: The file to write.
    """
    from ashore.control.doctor.bundle import contents, write

    settings = read_settings()
    _refuse_foreign(settings)
    if path.exists():
        raise Conflict(f"{path} is there already", hint="name another file, or delete it")
    readings, scene, look = examine(_doctor(settings), settings, span_s=parse_seconds(SPAN))
    listening: Any = scene.told.get("listening") or {}
    files = contents(settings.home, readings, diagnosed(readings), listening, look.page)
    size = write(path, files)
    print(f"{path}: {counted(len(files), 'file')}, {size / 1024:.0f} KiB")
    return 0


def examine(
    one: Doctor, settings: Settings, *, span_s: float, since: str = "", before: Look | None = None
) -> tuple[Readings, Scene, Look]:
    """Look twice, or once where there is an earlier look, `before` or the one that `since` names; keep the later one.

    Raises:
        InvalidRequest: `since` is not a duration, or no look is kept.
    """
    from ashore.control.doctor.history import History

    history = History(settings.home.root)
    since_s = before.at_s if before is not None else 0.0
    if since and before is None:
        since_s = time.time() - parse_seconds(since)
        before = history.at(since_s)
        if before is None:
            raise InvalidRequest(
                f"no look of {since} ago is kept",
                hint="`ashore doctor --watch` keeps one each minute; leave --since out",
            )
    if before is None:
        readings, scene, look = one.examine(span_s)
    else:
        look, scene = one.look()
        readings = one.readings(before, look, scene, since_s=since_s)
    try:
        history.keep(look)
    except OSError as fault:
        print(f"note: this look is not kept for --since: {fault.strerror or fault}", file=sys.stderr)
    return readings, scene, look


def examine_here(settings: Settings, *, span_s: float) -> Readings:
    """Look twice at a home, and keep nothing."""
    readings, _, _ = _doctor(settings).examine(span_s)
    return readings


def examine_once(settings: Settings, backends: Sequence[BackendShown]) -> tuple[Readings, str]:
    """Look once, and return what was measured and the server's page of metrics. What only grows is not judged."""
    from ashore.cli.bootstrap.doctor import open_doctor

    one = open_doctor(settings, lambda: configuration_of(settings), lambda served: backends)
    readings, _, look = one.examine(0)
    return readings, look.page


def diagnosed(readings: Readings) -> Diagnosis:
    """Return what the rules find."""
    from ashore.control.doctor import diagnose, load_rules

    return diagnose(readings, load_rules())


def _doctor(settings: Settings) -> Doctor:
    from ashore.cli.bootstrap.doctor import open_doctor

    def backends(served: Sequence[ServedPart]) -> list[BackendShown]:
        return asyncio.run(backends_of(served))

    return open_doctor(settings, lambda: configuration_of(settings), backends)


def _refuse_foreign(settings: Settings) -> None:
    """Refuse a user who may not read the home: all measurements there would be missing."""
    if settings.home.root.exists():
        os.listdir(settings.home.root)


def configuration_of(settings: Settings) -> Configuration:
    """Return how ashore.toml stands to what the supervisor runs. It says so itself: it has read every section.

    Raises:
        NotReady: the supervisor is gone.
        RemoteRefused: it cannot say it.
    """
    from ashore.control.doctor.readings import Configuration

    *_, said = ask(settings.home.control_socket, {"op": "compare"}, timeout_s=COMPARE_S)
    if "error" in said:
        raise RemoteRefused(f"the supervisor cannot compare ashore.toml: {said['error']}")
    return msgspec.convert(said["configuration"], Configuration)


def _watch(errand: Errand, asked: FindingsIn) -> int:
    """Check every minute until Ctrl-C. Prints new and resolved findings."""
    known: dict[tuple[str, str], Finding] = {}
    for look in _looks(errand, asked):
        found = {(each.rule, _subject(each)): each for each in look.items if each.severity != "advice"}
        for what, ones, others in (("appeared", found, known), ("gone", known, found)):
            for key, finding in ones.items():
                if key not in others:
                    _tell(finding, what, look.at_s, as_json=errand.as_json)
        known = found
    return 0


def _looks(errand: Errand, asked: FindingsIn) -> Iterator[Found]:
    """Yield findings every minute, without end. A server that is down is retried; its loss and its return are each
    printed once.
    """
    server, is_gone = errand.server.url, False
    while True:
        try:
            look: Found = errand.ask_here_first(asked)
        except AshoreError as fault:
            if not server or not (fault.retryable or isinstance(fault, RemoteRefused)):
                raise
            if not is_gone:
                print(on_a_screen(f"{fault.message}; trying again every minute"), file=sys.stderr)
            is_gone = True
        else:
            if is_gone:
                print(f"{server} answers again", file=sys.stderr)
            is_gone = False
            yield look
        time.sleep(EVERY_S)


def _subject(finding: Finding) -> str:
    """Return the subject of a finding without its figures, which change with every check."""
    return "".join(letter for letter in finding.what if not letter.isdigit() and letter != ".")


def _tell(finding: Finding, what: str, at_s: float, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"at": int(at_s), "event": what, "finding": msgspec.to_builtins(finding)}), flush=True)
    else:
        line = f"{human_moment(at_s)}  {what:<8}  {finding.severity:<8}  {finding.rule}  {said(finding.what)}"
        print(on_a_screen(line), flush=True)


def _line_of(entry: Entry) -> str:
    was = f" (was {entry.before})" if entry.before else ""
    note = f": {entry.note}" if entry.note else ""
    return f"{entry.id}  {entry.stage}  {entry.rule}  {entry.kind} {entry.target} {entry.after}{was}{note}"
