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
def verify(*, path: Path | None = None, key: Path | None = None, anchor: str = "", as_json: AsJson = False) -> int:
    """Read every record and tell whether it is what was written. Needs no server; with --path and --key no home.

    Args:
        path: Folder of the audit, or a copy of it; default: that of this home.
        key: File with the public key that you have from elsewhere; default: the keys of this home, never one in --path.
        anchor: Where copies of the checkpoints are: a folder, s3://BUCKET/PATH, or a file that a syslog server kept.
        as_json: Print JSON.
    """
    from ashore.audit import PUBLIC_KEYS, read_public_keys, verify_folder

    trusted = read_public_keys(key or read_settings().home.audit_keys / PUBLIC_KEYS)
    if path is None:
        with _service() as service:
            report = service.verify(_reader(), trusted=trusted, anchor=anchor, told=_reading)
    else:
        if not path.is_dir():
            raise NotFound(f"{path} is no folder", hint="give the folder that has `chains` and `checkpoints.log` in it")
        report = verify_folder(path, trusted=trusted, anchor=anchor, told=_reading)
    if as_json:
        import msgspec

        told = {"ok": report.ok, "records": report.num_records, **msgspec.to_builtins(report)}
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print_report(report)
    return 0 if report.ok else 4


@app.command(name="rotate-key")
def rotate_key() -> None:
    """Let a new key sign the checkpoints from now on; the old one signs that it does."""
    from ashore.audit import Checkpoints
    from ashore.bootstrap import command_recorder
    from ashore.core import Act

    home = read_settings().home
    with command_recorder(home) as recorder:
        public, _ = Checkpoints(home.audit, home.audit_keys).rotate(time.time_ns() // 1000)
        recorder.record(Act(action="audit:rotate-key", actor=_reader().actor, resource=f"key/{public.key_id}"))
    print(f"key {public.key_id} signs from now on; give {home.audit / 'public-key.pem'} to your auditors")


def _print_report(report: VerifyReport) -> None:
    for chain in report.chains:
        print(f"{chain.chain}: {chain.records:,} records in {chain.segments} segments, up to number {chain.last_seq:,}")
        if chain.torn_bytes:
            print(f"  {chain.torn_bytes} bytes behind them are of a line that is being written, or was cut off")
        if chain.last_seq > chain.vouched_seq:
            print(f"  signed up to number {chain.vouched_seq:,}; nothing signed speaks of those behind it yet")
    for problem in report.problems:
        line = f", line {problem.line}" if problem.line else ""
        number = f", number {problem.seq}" if problem.seq else ""
        print(f"WRONG: {problem.file}{line}{number}: {problem.what}")
    signed = report.checkpoints
    if report.anchor:
        behind = signed.count - signed.anchored
        print(f"{signed.anchored:,} checkpoints are anchored" + (f"; {behind} more are not yet" if behind else ""))
    else:
        print(f"{signed.count:,} checkpoints; no anchor was asked, so a tail that was cut off would not show")
    print(f"{report.num_records:,} records: {'as they were written' if report.ok else 'NOT as they were written'}")


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
