"""`ashore cache`: stats, purge, import."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from ashore.core import human_bytes
from ashore.errors import InvalidRequest
from ashore.settings import read_settings

if TYPE_CHECKING:
    from ashore.state import Database

app = App(name="cache", help="See, purge and fill the cache of answers.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@app.command
def stats(*, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Show what the cache of a running server holds and did.

    Args:
        url: Address of the server; default: the one that runs from this home.
        key: API key; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    from ashore.cli.target import ask_server, find_target

    target = find_target(url, key=key)
    items: list[dict[str, Any]] = json.loads(ask_server(target, "GET", "/admin/v1/cache"))["items"]
    if as_json:
        print(json.dumps({"items": items}, ensure_ascii=False))
        return
    for item in items:
        hits = sum(item["hits"].values()) + item["ready_hits"]
        asked = item["lookups"] + item["ready_hits"]
        share = f"{hits / asked:.1%}" if asked else "no"
        print(f"worker {item['worker']}: {asked:,} asked, {share} hits")
        by_tier = {"repeated bytes": item["ready_hits"], **item["hits"]}
        print("  " + (", ".join(f"{tier} {count:,}" for tier, count in by_tier.items() if count) or "no hits yet"))
        print(
            f"  {item['entries']:,} entries, {human_bytes(item['num_bytes'])} of {human_bytes(item['max_bytes'])}, "
            f"{item['evictions']:,} evicted; shared tier: {item['shared']}"
        )
        if item["semantic_entries"]:
            print(f"  by meaning: {item['semantic_entries']:,} entries, {human_bytes(item['semantic_bytes'])}")


@app.command(name="purge")
def purge_(
    *,
    tenant: str = "",
    model: str = "",
    entry: str = "",
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    curated: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> None:
    """Let kept answers be found no more, in every worker and machine of this state, within 200 ms.

    Args:
        tenant: Those of one tenant.
        model: Those of one alias.
        entry: One entry, by the name in x-ashore-cache-entry.
        everything: All of them.
        curated: Remove curated pairs instead: those of --tenant, or all with --all.
        as_json: Print JSON.
    """
    from ashore.cache import purge, remove_pairs

    chosen = [name for name, value in (("--tenant", tenant), ("--model", model), ("--entry", entry)) if value]
    if everything == bool(chosen):
        raise InvalidRequest(
            "purge wants --all, or at least one of --tenant, --model and --entry", hint="ashore cache purge --all"
        )
    if curated and (model or entry):
        raise InvalidRequest("curated pairs are removed by --tenant or --all", hint="leave out --model and --entry")
    with _state() as state, state.write() as connection:
        if curated:
            removed = remove_pairs(connection, tenant=tenant)
            print(json.dumps({"removed": removed}) if as_json else f"{removed} curated pairs removed")
            return
        raised = purge(connection, tenant=tenant, alias=model, entry_id=entry)
    print(json.dumps({"purged": list(raised)}) if as_json else f"purged: {', '.join(chosen) or 'everything'}")


@app.command(name="import")
def import_(
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: AsJson = False,
) -> None:
    """Import curated pairs of question and answer; running servers give them within a second.

    Each line is a JSON object: question, answer, and optionally tenant ("*"), model ("*"), pinned (true), expires
    (a date). A pair takes the place of an older one with the same question. A wrong line is named, and nothing is
    imported then.

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
    print(json.dumps(told) if as_json else f"{len(pairs)} pairs {'are fine' if dry_run else 'imported'}")


@contextmanager
def _state() -> Iterator[Database]:
    from ashore.bootstrap import open_state

    state = open_state(read_settings(), say=lambda line: print(line, file=sys.stderr))
    try:
        yield state
    finally:
        state.close()
