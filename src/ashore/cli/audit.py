"""`ashore audit`: search, verify, export and archive the audit log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import msgspec
from cyclopts import App, Parameter

from ashore.cli.auditexport import receive_export
from ashore.cli.calls import (
    HERE,
    Errand,
    Server,
    cell,
    command_of,
    here_first,
    reads_home,
    refuse_elsewhere,
    reworded,
    show,
)
from ashore.cli.columns import say
from ashore.cli.recorded import owner
from ashore.cli.sure import AsJson, DryRun, Yes, go_ahead, say_only
from ashore.control.audit.calls import (
    CALLS,
    ExportIn,
    ProblemOut,
    RecordList,
    RecordsFound,
    RecordsIn,
    VerdictOut,
    VerifyIn,
    Which,
    search_records,
)
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest, NotFound, RemoteRefused
from ashore.core.foreign import foreign_errors
from ashore.core.visible import on_a_screen
from ashore.kit.call import call_named
from ashore.kit.decode import convert
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    from ashore.control.audit import AuditService, VerifyReport
    from ashore.control.audit.service import AuditStatus
    from ashore.control.audit.verify import Problem
    from ashore.data.audit import PublicKey
    from ashore.kit.state import Database

app = App(name="audit", help="Search, verify and export the audit log.")

EXIT_WRONG: Final = 4
"""The audit log was changed after it was written."""

OWN_FIELDS: Final = (
    "at", "actor", "action", "resource", "model", "outcome", "error", "release", "cache", "reason", "request_id",
)  # fmt: skip
"""Of the records of requests, what their sender is shown; `--json` has all."""

W = TypeVar("W", bound=Which)


def _digest(file: str) -> str:
    """Return this home's digest of a text; a newline at the end is ignored, since editors add it."""
    from ashore.cli.bootstrap import audit_opener
    from ashore.data.audit import Digester, digest_key
    from ashore.kit.sealing import SecretFolder

    try:
        text = Path(file).read_bytes()
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="give an existing file") from fault
    home = read_settings().home
    return Digester(digest_key(SecretFolder(home.audit_keys, audit_opener(home)))).digest(text.removesuffix(b"\n"))


TextFile = Annotated[
    str,
    Parameter(help="File with a text. Finds who sent it as a prompt or received it as an answer. In this home alone."),
]
Archive = Annotated[str, Parameter(help="Search the archive too: a folder or s3://BUCKET/PATH. In this home alone.")]


class ExportHere(Which, frozen=True, kw_only=True):
    """Which records to export."""

    into: Annotated[str, msgspec.Meta(extra={"positional": True})]
    """Folder to write; it must not exist yet."""
    form: Literal["csv", "jsonl", "cef", "chains"] = "jsonl"
    """csv, jsonl or cef; chains copies the audit log of this home itself, for `verify --path` elsewhere."""


def _search(errand: Errand, asked: RecordsIn, *, text_file: TextFile = "", archive: Archive = "") -> None:
    refuse_elsewhere(errand.server, {"--text-file": text_file, "--archive": archive})
    found: RecordsFound
    if reads_home(errand.server):
        asked = _with_text(asked, text_file)
        with _service() as service:
            found = search_records(service, owner(), asked, archive=archive)
    else:
        found = errand.ask(asked)
    for line in found.notes:
        print(on_a_screen(f"note: {line}"), file=sys.stderr)
    errand.tell(found)
    if not errand.as_json:
        reached = f"; --limit {asked.limit} was reached" if len(found.items) == asked.limit else ""
        print(counted(len(found.items), "record") + reached, file=sys.stderr)


def _show_found(found: RecordsFound) -> None:
    from ashore.control.audit import hit_line

    for one in found.items:
        with foreign_errors("the server sent what is no record", RemoteRefused, hint=""):
            at, _, rest = hit_line(one).partition(" ")
            say(rest, first=f"{at} ")


def _with_text(asked: W, text_file: str) -> W:
    return msgspec.structs.replace(asked, digest=_digest(text_file)) if text_file else asked


def _show_records(found: RecordList) -> None:
    for one in found.items:
        words = [cell(name, one[name]) for name in OWN_FIELDS if one.get(name)]
        print("  ".join(words))
    if not found.items:
        print("no requests in the last seven days", file=sys.stderr)


@app.command
def verify(
    *,
    path: Path | None = None,
    public_key: Path | None = None,
    anchor: str = "",
    archive: str = "",
    as_json: AsJson = False,
    server: Annotated[Server, Parameter(name="*")] = HERE,
) -> int:
    """Verify that the audit log is as it was written. Needs no server; with --path and --public-key, no home either.

    With --url a server verifies its own log, and says so itself. To be sure, verify a copy with a key of your own.

    Args:
        path: Folder of an audit log, a copy of one, or an export; default: the audit log of this home.
        public_key: File with a public key that you obtained separately; default: the keys of this home, never one in
            --path.
        anchor: Where copies of the checkpoints are: a folder, s3://BUCKET/PATH, or a file from a syslog server. With
            --url: `configured`, the first anchor of the server's ashore.toml.
        archive: Verify the archive too: a folder or s3://BUCKET/PATH.
        server: The server that verifies; default: none, this command does.
    """
    from ashore.control.audit import verify_folder
    from ashore.data.audit import PUBLIC_KEYS, read_public_keys

    refuse_elsewhere(server, {"--path": path, "--public-key": public_key, "--archive": archive})
    if not reads_home(server, hint="the public key is --public-key; --key goes with --url"):
        return _verify_there(server, anchor, as_json=as_json)
    trusted = read_public_keys(public_key or read_settings().home.audit_keys / PUBLIC_KEYS)
    if path is not None and (path / "manifest.json").is_file():
        return _verify_export(path, trusted, as_json=as_json)
    if path is None:
        with _service() as service:
            report = service.verify(owner(), trusted=trusted, anchor=anchor, archive=archive, told=_reading)
    else:
        if not path.is_dir():
            raise NotFound(f"{path} is not a directory", hint="give the one with `chains` and `checkpoints.log` in it")
        report = verify_folder(path, trusted=trusted, anchor=anchor, told=_reading)
    if as_json:
        told = {"ok": report.ok, "records": report.num_records, **msgspec.to_builtins(report)}
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print_report(report)
    return 0 if report.ok else EXIT_WRONG


def _verify_there(server: Server, anchor: str, *, as_json: bool) -> int:
    found: VerdictOut = server.ask(call_named("verify", CALLS), convert({"anchor": anchor}, VerifyIn))
    if as_json:
        print(msgspec.json.encode(found).decode())
    else:
        lines = [_problem_line(one) for one in found.problems]
        lines += [
            _checkpoints_line(found.checkpoints, found.anchored, bool(anchor)),
            _verdict_line(found.records, found.ok),
        ]
        print(on_a_screen("\n".join(lines)))
    return 0 if found.ok else EXIT_WRONG


def _verify_export(path: Path, trusted: tuple[PublicKey, ...], *, as_json: bool) -> int:
    from ashore.control.audit import verify_export

    manifest, problem = verify_export(path, trusted)
    if as_json:
        told = {"ok": problem is None, "problem": problem, "manifest": manifest}
        print(json.dumps(msgspec.to_builtins(told), ensure_ascii=False))
    elif problem is not None:
        print(f"WRONG: {problem.file}: {problem.what}")
    elif manifest is not None:
        records = counted(manifest.records, "record")
        print(f"{records} in {manifest.file}, unchanged since the export; signed by {manifest.key_id}")
    return 0 if problem is None else EXIT_WRONG


def _as_call(asked: ExportHere) -> ExportIn:
    """Export records into a new folder, oldest first, with a manifest that the home's key signs."""
    given = msgspec.structs.asdict(asked)
    given.pop("into")
    return convert(given, ExportIn)


def _export(errand: Errand, asked: ExportHere, *, text_file: TextFile = "") -> None:
    refuse_elsewhere(errand.server, {"--text-file": text_file, "--form chains": asked.form == "chains"})
    into = Path(asked.into)
    if not reads_home(errand.server):
        manifest = receive_export(errand, asked, into)
    else:
        with _service() as service:
            if asked.form == "chains":
                num = service.copy(into, owner())
                told = f"{counted(num, 'file')} in {into}; verify them with --path {into} --public-key FILE"
                print(json.dumps({"files": num}) if errand.as_json else told)
                return
            manifest = service.export(into, _with_text(asked, text_file).query(), asked.form, owner())
    if errand.as_json:
        print(msgspec.json.encode(manifest).decode())
        return
    records = counted(manifest.records, "record")
    print(on_a_screen(f"{records} in {into / manifest.file}; the signature is in {into / 'manifest.sig'}"))


@app.command
def archive(
    *,
    place: str = "",
    config: Path | None = None,
    after_days: int = 0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy closed segments to the archive, read them back, and remove the old ones from this machine.

    Args:
        place: The archive: a folder or s3://BUCKET/PATH; default: [audit] archive of --config.
        config: Path of an ashore.toml.
        after_days: Days that a segment stays on this machine; default: [audit] archive_after_days, at least 1.
    """
    import msgspec

    from ashore.data.audit import AuditSection

    spec = AuditSection()
    if config is not None:
        from ashore.machine.config import read_spec

        spec = read_spec(config).audit
    place, days = place or spec.archive, after_days or spec.archive_after_days
    if not place or days < 1:
        raise InvalidRequest(
            "no archive was given" if not place else f"--after-days is {days}; expected 1 or more",
            hint="give --place, or --config with [audit] archive",
        )
    if dry_run:
        with _service() as service:
            closed, old = service.archivable(after_days=days)
        copied = f"copy {counted(closed, 'closed segment')} to {place}, unless they are there already"
        removed_here = f"remove {old:,} of them, older than {counted(days, 'day')}, from this machine"
        say_only(f"{copied}, and {removed_here}", as_json=as_json)
        return
    with _service() as service:
        done = service.archive(place, after_days=days, reader=owner())
    if as_json:
        print(json.dumps({"items": msgspec.to_builtins(done)}))
        return
    removed = [one for one in done if one.removed]
    are = "is" if len(done) == 1 else "are"
    print(f"{counted(len(done), 'segment')} {are} in {place}; {len(removed)} of them removed from this machine")


@app.command
def content(place: str, /, *, as_json: AsJson = False) -> None:
    """Show the sealed prompt and answer of a record. The access itself is recorded.

    Args:
        place: CHAIN#NUMBER, as search shows it.
    """
    from ashore.data.audit import ContentSealer, SqlSubjectKeys

    with _service() as service, _state() as state:
        record, prompt, answer = service.content(place, ContentSealer(SqlSubjectKeys(state)), owner())
    told = {"request_id": record.request_id, "prompt": prompt.decode("utf-8", "replace")}
    told["answer"] = answer.decode("utf-8", "replace")
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    print("\n".join(f"{name}: {value}" for name, value in told.items()))


@app.command
def erase(person: str, /, *, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Destroy the keys of a person's sealed prompts and answers, so that nobody can read them. This cannot be undone.

    The records stay, and their chain stays valid.

    Args:
        person: Name of the principal, as search shows it.
    """
    from ashore.data.audit import SqlSubjectKeys

    with _service() as service, _state() as state:
        keys = SqlSubjectKeys(state)
        count = counted(service.erasable(person, keys), "key")
        if not go_ahead(f"permanently destroy {count} of {person}", yes=yes, dry_run=dry_run, as_json=as_json):
            return
        gone = service.erase(person, keys, owner())
    print(json.dumps({"destroyed": gone}) if as_json else f"destroyed {counted(gone, 'key')} of {person}")


def _show_status(found: AuditStatus) -> None:
    from ashore.core.bytesize import human_bytes
    from ashore.data.audit import shown_moment

    print(f"home {found.home}: {human_bytes(found.num_bytes)} of records on this machine")
    last = f"the last at {shown_moment(found.signed_at_us)} by key {found.key_id}"
    print(f"{counted(found.checkpoints, 'checkpoint')}, {last}")
    for chain, seq in found.chains.items():
        print(f"  {chain}: signed up to number {seq:,}")
    for one in found.anchors:
        if one.failures:
            print(f"anchor {one.place}: FAILING since {shown_moment(one.silent_us)}: {one.error}")
        else:
            print(f"anchor {one.place}: has every checkpoint up to {one.number:,}, as of {shown_moment(one.good_us)}")
    archive = found.archive
    if archive is not None:
        when = f"complete at {shown_moment(archive.good_us)}" if archive.good_us else "no round has completed yet"
        print(f"archive {archive.place}: {when}; not there yet: {counted(found.unarchived, 'closed segment')}")
        if archive.error:
            print(f"  {archive.failures} rounds failed, the last at {shown_moment(archive.failed_us)}: {archive.error}")


@app.command(name="rotate-key")
def rotate_key() -> None:
    """Sign checkpoints with a new key from now on. The old key signs the change."""
    from ashore.cli.bootstrap import audit_opener, command_recorder
    from ashore.data.audit import Checkpoints

    home = read_settings().home
    with command_recorder(home) as recorder:
        public, _ = Checkpoints(home.audit, home.audit_keys, audit_opener(home)).rotate(time.time_ns() // 1000)
        owner().record(recorder, "audit:rotate-key", f"key/{public.key_id}")
    print(f"key {public.key_id} signs checkpoints from now on; give {home.audit / 'public-key.pem'} to your auditors")


def _print_report(report: VerifyReport) -> None:
    for chain in report.chains:
        records, segments = counted(chain.records, "record"), counted(chain.segments, "segment")
        print(f"{chain.chain}: {records} in {segments}, up to number {chain.last_seq:,}")
        if chain.torn_bytes:
            print(f"  then {chain.torn_bytes} bytes of an incomplete line, which is being written or was cut off")
        if chain.last_seq > chain.vouched_seq:
            print(f"  signed up to number {chain.vouched_seq:,}; later records are not signed yet")
    for problem in report.problems:
        print(_problem_line(problem))
    print(_checkpoints_line(report.checkpoints.count, report.checkpoints.anchored, bool(report.anchor)))
    print(_verdict_line(report.num_records, report.ok))


def _problem_line(problem: Problem | ProblemOut) -> str:
    line = f", line {problem.line}" if problem.line else ""
    number = f", number {problem.seq}" if problem.seq else ""
    return f"WRONG: {problem.file}{line}{number}: {problem.what}"


def _checkpoints_line(count: int, anchored: int, has_anchor: bool) -> str:
    if not has_anchor:
        return f"{counted(count, 'checkpoint')}; no anchor was checked, so a truncated log would go unnoticed"
    missing = f"; {count - anchored} more are not anchored yet" if count > anchored else ""
    return f"anchored: {counted(anchored, 'checkpoint')}{missing}"


def _verdict_line(records: int, ok: bool) -> str:
    return f"{counted(records, 'record')}: {'as they were written' if ok else 'NOT as they were written'}"


def _reading(chain: str) -> None:
    if sys.stderr.isatty():
        print(f"reading {chain}", file=sys.stderr)


@contextmanager
def _state() -> Iterator[Database]:
    from ashore.cli.bootstrap import open_state

    with closing(open_state(read_settings(), say=lambda line: print(line, file=sys.stderr))) as state:
        yield state


@contextmanager
def _service() -> Iterator[AuditService]:
    from ashore.cli.bootstrap import audit_opener, command_recorder
    from ashore.control.audit import AuditService

    home = read_settings().home
    if not home.audit.is_dir():
        raise NotFound(f"{home.root} has no audit log yet", hint="`ashore up` creates it; or give --path DIR")
    with command_recorder(home) as recorder:
        yield AuditService(home.audit, home.audit_keys, recorder, opener=audit_opener(home))


for _call in CALLS:
    match _call.word:
        case "search":
            app.command(command_of(_call, _show_found, _search), name=_call.word)
        case "mine" | "request":
            app.command(command_of(_call, _show_records), name=_call.word)
        case "status":
            app.command(command_of(_call, _show_status, here_first, _service), name=_call.word)
        case "export":
            app.command(command_of(reworded(_call, make=_as_call), show, _export), name=_call.word)
