"""`ashore cache`: stats, purge, import."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode

from cyclopts import App, Parameter

from ashore.cli.columns import table
from ashore.cli.sure import DryRun, Yes, go_ahead
from ashore.core import counted, human_bytes
from ashore.errors import InvalidRequest, NotFound
from ashore.settings import read_settings

if TYPE_CHECKING:
    from ashore.state import Database

app = App(name="cache", help="See, purge and fill the cache of answers.")

MOST_ROWS: Final = 20
"""Of the table of tenants and models."""

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@app.command
def stats(
    *,
    tenant: str = "",
    model: str = "",
    entry: str = "",
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Show what the cache of a running server holds and did, by worker, and by tenant and model.

    Args:
        tenant: Only what one tenant has of it; * for the answers of public routes.
        model: Only what one alias has of it.
        entry: One entry, by the name in x-ashore-cache-entry: whose it is, how old, how large, in which worker.
        url: Address of the server; default: the one that runs from this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    from ashore.cli.target import ask_server, operator_target

    target = operator_target(url, key=key)
    asked = {name: value for name, value in (("tenant", tenant), ("model", model), ("entry", entry)) if value}
    path = "/admin/v1/cache" + (f"?{urlencode(asked)}" if asked else "")
    told: dict[str, Any] = json.loads(ask_server(target, "GET", path))
    if entry and not told["held"]:
        raise NotFound(
            f"no worker holds an entry called {entry[:40]!r}",
            hint="it was purged, expired or evicted, or only the shared tier has it",
        )
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
        return
    if entry:
        _show_entries(told["held"])
        return
    for item in told["items"]:
        _show_worker(item)
    _show_shares(told["shares"])


def _show_worker(item: dict[str, Any]) -> None:
    hits = sum(item["hits"].values()) + item["ready_hits"]
    asked = item["lookups"] + item["ready_hits"]
    share = f"{hits / asked:.1%}" if asked else "no"
    print(f"worker {item['worker']}: {asked:,} asked, {share} hits")
    by_tier = {"repeated bytes": item["ready_hits"], **item["hits"]}
    print("  " + (", ".join(f"{tier} {count:,}" for tier, count in by_tier.items() if count) or "no hits yet"))
    print(
        f"  {counted(item['entries'], 'entry', 'entries')}, "
        f"{human_bytes(item['num_bytes'])} of {human_bytes(item['max_bytes'])}, "
        f"{item['evictions']:,} evicted; shared tier: {item['shared']}"
    )


def _show_shares(shares: list[dict[str, Any]]) -> None:
    """Print a table of tenants and models, the largest first."""
    if not shares:
        return
    head = ("tenant", "model", "entries", "bytes", "exact", "reworded", "misses", "evicted")
    rows = [
        (
            one["tenant"],
            one["model"],
            f"{one['entries']:,}",
            human_bytes(one["num_bytes"]),
            f"{one['hits_exact']:,}",
            f"{one['hits_reworded']:,}",
            f"{one['misses']:,}",
            f"{one['evictions']:,}",
        )
        for one in shares[:MOST_ROWS]
    ]
    table(head, rows, names=2)
    if len(shares) > MOST_ROWS:
        print(f"and {len(shares) - MOST_ROWS:,} more; --json shows all, --tenant and --model some")


def _show_entries(held: list[dict[str, Any]]) -> None:
    for one in held:
        left_s = max(0, int(one["expires_at_s"] - time.time()))
        print(
            f"{one['entry']} in worker {one['worker']}: tenant {one['tenant']}, model {one['model']}, release "
            f"{one['release']}, {human_bytes(one['num_bytes'])}, {one['age_s']:,} s old, good for {left_s:,} s"
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
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Purge cached answers on every worker and machine that shares this state. Takes effect within 200 ms.

    With --all it asks first, or wants --yes where there is no terminal.

    Args:
        tenant: Those of one tenant.
        model: Those of one alias.
        entry: One entry, by the name in x-ashore-cache-entry.
        everything: All of them.
        curated: Remove curated pairs instead: those of --tenant, or all with --all.
        yes: Do not ask. Needed with --all where there is no terminal.
        dry_run: Say what would be done, and do nothing.
        url: Ask the server at this address to do it; default: in the state of this home.
        key: API key for it; default: ASHORE_API_KEY.
        as_json: Print JSON.
    """
    from ashore.cache import purge, remove_pairs

    chosen = [f"{name} {value}" for name, value in (("tenant", tenant), ("model", model), ("entry", entry)) if value]
    if everything == bool(chosen):
        raise InvalidRequest(
            "purge wants --all, or at least one of --tenant, --model and --entry", hint="ashore cache purge --all"
        )
    if curated and (model or entry or url):
        raise InvalidRequest(
            "curated pairs are removed by --tenant or --all, in the state of this home",
            hint="leave out --model, --entry and --url",
        )
    what = f"{'remove curated pairs' if curated else 'purge cached answers'} of {', '.join(chosen) or 'every tenant'}"
    if not go_ahead(what, yes=yes or not everything, dry_run=dry_run, as_json=as_json):
        return
    if url:
        raised = _purge_there(url, key, {"tenant": tenant, "model": model, "entry": entry, "all": everything})
    else:
        with _state() as state, state.write() as connection:
            if curated:
                removed = remove_pairs(connection, tenant=tenant)
                print(json.dumps({"removed": removed}) if as_json else f"{_pairs(removed)} removed")
                return
            raised = list(purge(connection, tenant=tenant, alias=model, entry_id=entry))
    print(json.dumps({"purged": raised}) if as_json else f"purged: {', '.join(chosen) or 'everything'}")


def _purge_there(url: str, key: str | None, asked: dict[str, object]) -> list[str]:
    from ashore.cli.target import ask_server, find_target

    answer = ask_server(find_target(url, key=key), "POST", "/admin/v1/cache/purge", body=json.dumps(asked).encode())
    purged: list[str] = json.loads(answer)["purged"]
    return purged


@app.command(name="import")
def import_(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> None:
    """Import curated pairs of question and answer; running servers give them within a second.

    Each line is a JSON object: question, answer, and optionally tenant (default `"*"`, all), model (`"*"`), pinned
    (true), expires (a date). A pair takes the place of an older one with the same question. A wrong line is named, and
    nothing is imported then.

    Args:
        file: The pairs; - reads standard input.
        dry_run: Only check the file.
        as_json: Print JSON.
    """
    from ashore.cache import read_pairs, save_pairs

    try:
        lines = sys.stdin.buffer.readlines() if str(file) == "-" else file.read_bytes().splitlines()
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="give an existing file, or -") from fault
    pairs = read_pairs(lines, now_s=time.time())
    if not dry_run:
        with _state() as state, state.write() as connection:
            save_pairs(connection, pairs)
    told = {"pairs": len(pairs), "imported": not dry_run}
    print(
        json.dumps(told)
        if as_json
        else f"{_pairs(len(pairs))}: {'fine, nothing was imported' if dry_run else 'imported'}"
    )


def _pairs(count: int) -> str:
    return counted(count, "curated pair")


@contextmanager
def _state() -> Iterator[Database]:
    from ashore.bootstrap import open_state

    state = open_state(read_settings(), say=lambda line: print(line, file=sys.stderr))
    try:
        yield state
    finally:
        state.close()
