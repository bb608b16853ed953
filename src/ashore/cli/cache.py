"""`ashore cache`: stats, purge, import."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from cyclopts import App, Parameter

from ashore.cli.calls import HERE, Server
from ashore.cli.columns import table
from ashore.cli.recorded import MAX_TARGET_CHARS, Owned, acting, note_owner, owner
from ashore.cli.sure import AsJson, DryRun, Yes, go_ahead
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.errors import InvalidRequest, NotFound, NotReady, SourceUnreachable
from ashore.data.cache.calls import (
    CALLS,
    CacheDesk,
    CacheIn,
    CacheList,
    Purged,
    PurgeIn,
    import_pairs,
    purge_answers,
    remove_curated,
)
from ashore.data.cache.report import CacheItem, EntryOut, ShareOut
from ashore.kit.settings import read_settings

if TYPE_CHECKING:
    from ashore.data.cache import Pair

STATS, PURGE = CALLS
app = App(name="cache", help="Show, purge and fill the answer cache.")

MOST_ROWS: Final = 20
"""Of the table of tenants and models."""

Where = Annotated[Server, Parameter(name="*")]


@app.command
def stats(*, tenant: str = "", model: str = "", entry: str = "", server: Where = HERE, as_json: AsJson = False) -> None:
    """Show the entries and hits of a running server's cache, by worker, and by tenant and model.

    Args:
        tenant: Only this tenant; * for the answers of public routes.
        model: Only this alias.
        entry: Show one entry, by its name in x-ashore-cache-entry: its tenant, age, size and worker.
    """
    told: CacheList = server.ask(STATS, CacheIn(tenant=tenant, model=model, entry=entry))
    if entry and not told.held:
        raise NotFound(
            f"no worker holds an entry called {entry[:40]!r}",
            hint="it was purged, expired or evicted, or only the shared tier has it",
        )
    if as_json:
        print(msgspec.json.encode(told).decode())
        return
    if entry:
        _show_entries(told.held)
        return
    for item in told.items:
        _show_worker(item)
    _show_shares(told.shares)


def _show_worker(item: CacheItem) -> None:
    hits = sum(item.hits.values()) + item.ready_hits
    asked = item.lookups + item.ready_hits
    share = f"{hits / asked:.1%}" if asked else "no"
    print(f"worker {item.worker}: {asked:,} asked, {share} hits")
    by_tier = {"repeated bytes": item.ready_hits, **item.hits}
    print("  " + (", ".join(f"{tier} {count:,}" for tier, count in by_tier.items() if count) or "no hits yet"))
    print(
        f"  {counted(item.entries, 'entry', 'entries')}, "
        f"{human_bytes(item.num_bytes)} of {human_bytes(item.max_bytes)}, "
        f"{item.evictions:,} evicted; shared tier: {item.shared}"
    )


def _show_shares(shares: list[ShareOut]) -> None:
    """Print a table of tenants and models, the largest first."""
    if not shares:
        return
    head = ("tenant", "model", "entries", "bytes", "exact", "reworded", "misses", "evicted")
    rows = [
        (
            one.tenant,
            one.model,
            f"{one.entries:,}",
            human_bytes(one.num_bytes),
            f"{one.hits_exact:,}",
            f"{one.hits_reworded:,}",
            f"{one.misses:,}",
            f"{one.evictions:,}",
        )
        for one in shares[:MOST_ROWS]
    ]
    table(head, rows, names=2)
    if len(shares) > MOST_ROWS:
        print(f"and {len(shares) - MOST_ROWS:,} more; --json shows all, --tenant and --model select some")


def _show_entries(held: list[EntryOut]) -> None:
    for one in held:
        left_s = max(0, int(one.expires_at_s - time.time()))
        print(
            f"{one.entry} in worker {one.worker}: tenant {one.tenant}, model {one.model}, release "
            f"{one.release}, {human_bytes(one.num_bytes)}, {one.age_s:,} s old, expires in {left_s:,} s"
        )


@app.command(name="purge")
def purge_(
    *,
    tenant: str = "",
    model: str = "",
    entry: str = "",
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    curated: Annotated[bool, Parameter(negative=())] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    server: Where = HERE,
    as_json: AsJson = False,
) -> None:
    """Purge cached answers on every worker and machine that shares this state. Takes effect within 200 ms.

    With --url, --key or ASHORE_API_KEY, a running server purges with the rights of that key. Otherwise you purge as the
    owner of this home, whether or not a server is running. The audit log records what was purged. --all asks first.

    Args:
        tenant: Only answers of this tenant.
        model: Only answers of this alias.
        entry: Only this entry, by its name in x-ashore-cache-entry.
        everything: All cached answers.
        curated: Remove curated pairs instead: those of --tenant, or all with --all.
    """
    asked = PurgeIn(tenant=tenant, model=model, entry=entry, all=everything)
    chosen = [f"{name} {value}" for name, value in asked.named().items() if name != "all"]
    if curated and (model or entry or server != HERE):
        raise InvalidRequest(
            "curated pairs can be removed only by --tenant or --all, from the state of this home",
            hint="leave out --model, --entry, --url and --key",
        )
    what = f"{'remove curated pairs' if curated else 'purge cached answers'} of {', '.join(chosen) or 'every tenant'}"
    if not go_ahead(what, yes=yes or not everything, dry_run=dry_run, as_json=as_json):
        return
    if curated:
        with _at_home("cache:purge", "cache") as desk:
            removed = remove_curated(desk, owner(), asked)
        print(json.dumps({"removed": removed}) if as_json else f"{_pairs(removed)} removed")
        return
    done = _purged_there(server, asked)
    if done is None:
        with _at_home("cache:purge", "cache") as desk:
            done = purge_answers(desk, owner(), asked)
    print(msgspec.json.encode(done).decode() if as_json else f"purged: {', '.join(chosen) or 'everything'}")


def _purged_there(server: Server, asked: PurgeIn) -> Purged | None:
    """Have a server purge with the named key; return None if that is up to the home's owner."""
    if server == HERE and not read_settings().api_key:
        return None
    try:
        done: Purged = server.ask(PURGE, asked)
    except (NotReady, SourceUnreachable):
        if server != HERE:
            raise
        return None  # no server runs from this home: a purge in its state takes effect at the next start
    return done


@app.command(name="import")
def import_(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> None:
    """Import curated pairs of question and answer. Running servers use them within one second.

    Each line is a JSON object: question, answer, and optionally tenant (default `"*"`, all), model (`"*"`), pinned
    (true), expires (a date). A pair replaces an older one with the same question. If a line is wrong, the error names
    it and nothing is imported.

    Args:
        file: File with the pairs; - reads standard input.
        dry_run: Check the file, its tenants and models, and import nothing.
    """
    source = str(file)[:MAX_TARGET_CHARS]
    with _at_home("cache:import", f"cache/{source}") as desk:
        pairs = _read(file)
        import_pairs(desk, owner(), pairs, source, dry_run=dry_run)
    told = {"pairs": len(pairs), "imported": not dry_run}
    print(
        json.dumps(told)
        if as_json
        else f"{_pairs(len(pairs))}: {'valid; nothing was imported' if dry_run else 'imported'}"
    )


def _pairs(count: int) -> str:
    return counted(count, "curated pair")


def _read(file: Path) -> list[Pair]:
    from ashore.data.cache import read_pairs

    try:
        lines = sys.stdin.buffer.readlines() if str(file) == "-" else file.read_bytes().splitlines()
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="give an existing file, or -") from fault
    return read_pairs(lines, now_s=time.time())


@contextmanager
def _at_home(action: str, resource: str) -> Iterator[CacheDesk]:
    """Yield the desk of this home to its owner; an error inside is recorded."""
    from ashore.cli.bootstrap import open_state
    from ashore.data.authority import SqlNames
    from ashore.data.releases import load_book

    def aliases() -> set[str]:
        with state.read() as connection:
            return {*load_book(connection).aliases}

    note_owner()
    with (
        acting(action, resource) as recorder,
        closing(open_state(read_settings(), say=lambda line: print(line, file=sys.stderr))) as state,
    ):
        yield CacheDesk(rights=Owned(), recorder=recorder, database=state, names=SqlNames(state, aliases))
