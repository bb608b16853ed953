"""`ashore audit`: search and verify the record."""

from __future__ import annotations

import getpass
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from ashore.errors import NotFound
from ashore.settings import read_settings

if TYPE_CHECKING:
    from ashore.audit import AuditService, Hit, Reader, VerifyReport

app = App(name="audit", help="Search and verify the record of who did what.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@app.command(name="search")
def search_(
    *words: str,
    actor: str = "",
    tenant: str = "",
    action: str = "",
    resource: str = "",
    model: str = "",
    outcome: str = "",
    error: str = "",
    request: str = "",
    origin: str = "",
    key_name: str = "",
    kind: str = "",
    chain: str = "",
    since: str = "",
    until: str = "",
    limit: int = 100,
    as_json: AsJson = False,
) -> None:
    """Find records of this home, newest first. Everything given must hold; that you looked is recorded.

    Args:
        words: Words that an act must contain.
        actor: Who did it.
        tenant: Of whom.
        action: What, as noun:verb; key:* for every verb.
        resource: On what, as kind/name; role/* for every name.
        model: Alias that was asked.
        outcome: answered, failed, cancelled; allowed, denied, done.
        error: Code of the error.
        request: Id of the request.
        origin: Address that it came from.
        key_name: Name of the API key.
        kind: request, act or chain.
        chain: One writing process.
        since: A moment such as 2026-11-24T08:00:00+08:00, or 3h for three hours ago.
        until: The moment before which.
        limit: Most records.
        as_json: Print JSON.
    """
    from ashore.audit import Query, read_moment

    now_s = time.time()
    query = Query(
        actor=actor,
        tenant=tenant,
        action=action,
        resource=resource,
        model=model,
        outcome=outcome,
        error=error,
        request_id=request,
        origin=origin,
        key=key_name,
        kind=kind,
        chain=chain,
        since_us=read_moment(since, now_s=now_s) if since else 0,
        until_us=read_moment(until, now_s=now_s) if until else 0,
        text=" ".join(words),
        limit=limit,
    )
    with _service() as service:
        hits = service.search(query, _reader())
    if as_json:
        from ashore.audit import hit_json

        print(json.dumps({"items": [hit_json(hit) for hit in hits]}, ensure_ascii=False))
        return
    for hit in hits:
        print(_shown(hit))
    print(f"{len(hits)} records" + (f"; --limit {limit} was reached" if len(hits) == limit else ""), file=sys.stderr)


@app.command
def verify(*, path: Path | None = None, as_json: AsJson = False) -> int:
    """Read every record and tell whether it is what was written. Needs no server, and with --path no home.

    Args:
        path: Folder of the audit; default: that of this home.
        as_json: Print JSON.
    """
    from ashore.audit import verify_folder

    if path is None:
        with _service() as service:
            report = service.verify(_reader(), told=_reading)
    else:
        if not (path / "chains").is_dir():
            raise NotFound(f"{path} holds no audit", hint="give the folder that has `chains` in it")
        report = verify_folder(path, told=_reading)
    if as_json:
        import msgspec

        told = {"ok": report.ok, "records": report.num_records, **msgspec.to_builtins(report)}
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print_report(report)
    return 0 if report.ok else 4


def _print_report(report: VerifyReport) -> None:
    for chain in report.chains:
        print(f"{chain.chain}: {chain.records:,} records in {chain.segments} segments, up to number {chain.last_seq:,}")
        if chain.torn_bytes:
            print(f"  {chain.torn_bytes} bytes behind them are of a line that is being written, or was cut off")
    for problem in report.problems:
        line = f", line {problem.line}" if problem.line else ""
        print(f"WRONG: {problem.file}{line}, record {problem.seq}: {problem.what}")
    print(f"{report.num_records:,} records: {'unbroken' if report.ok else 'NOT what was written'}")


def _shown(hit: Hit) -> str:
    from ashore.audit import hit_line

    return hit_line(hit)


def _reading(chain: str) -> None:
    if sys.stderr.isatty():
        print(f"reading {chain}", file=sys.stderr)


def _reader() -> Reader:
    from ashore.audit import Reader

    return Reader(actor=f"os:{getpass.getuser()}")


@contextmanager
def _service() -> Iterator[AuditService]:
    from ashore.audit import AuditService
    from ashore.bootstrap import command_recorder

    settings = read_settings()
    if not settings.home.audit.is_dir():
        raise NotFound(f"{settings.home.root} has no audit yet", hint="`ashore up` begins it; or give --path DIR")
    with command_recorder(settings.home) as recorder:
        yield AuditService(settings.home.audit, recorder)
