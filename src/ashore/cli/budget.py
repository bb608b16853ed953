"""`ashore access budget` and `ashore access usage`: what anybody may use, and what was used."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from cyclopts import App, Parameter

from ashore.core import counted
from ashore.errors import InvalidRequest

budget = App(name="budget", help="List, set, remove and show budgets.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
WindowWord = Literal["minute", "hour", "day", "month", "total"]
KindWord = Literal["tokens", "requests", "concurrency", "queued_jobs", "stored_bytes"]
NOW_KINDS = ("concurrency", "queued_jobs", "stored_bytes")


@budget.command(name="list")
def list_(*, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """List every budget of the running server.

    Args:
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    items: list[dict[str, Any]] = json.loads(_ask("GET", "/admin/v1/budgets", url, key))["items"]
    if as_json:
        print(json.dumps({"items": items}, ensure_ascii=False))
        return
    for one in items:
        print(_line(one))
    if not items:
        print("no budgets: everybody may use what there is")


@budget.command(name="set")
def set_(
    kind: KindWord,
    cap: int,
    /,
    *,
    per: WindowWord = "total",
    of_key: str = "",
    user: str = "",
    tenant: str = "",
    model: str = "",
    utc_offset: str = "+00:00",
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Set a budget; the same one with another cap is changed. In force everywhere within 200 ms.

    With nothing but a cap it is for everybody together. A name bounds that one; * bounds each one apart, so
    --tenant acme --user '*' gives every user of acme as much. A request must
    fit all budgets that it is under.

    Args:
        kind: tokens (of prompt and answer), requests, or concurrency (requests that run or wait at one moment); of a
            tenant also queued_jobs (that have not ended) and stored_bytes (of files).
        cap: The most of them.
        per: Window after which it begins anew, for tokens and requests.
        of_key: Name of an API key, ash_0a1b2c3d.
        user: Name of a user or service account.
        tenant: Name of a tenant.
        model: Alias of a model.
        utc_offset: Local time by which hours, days and months begin, +08:00 for China.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    body = {
        "kind": kind,
        "cap": cap,
        "window": "now" if kind in NOW_KINDS else per,
        "key": of_key,
        "user": user,
        "tenant": tenant,
        "model": model,
        "offset_min": minutes_of(utc_offset),
    }
    answer = _ask("PUT", "/admin/v1/budgets", url, key, json.dumps(body).encode())
    print(answer.decode() if as_json else _line(json.loads(answer)))


@budget.command(name="remove")
def remove_(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Remove a budget; nothing is bounded by it any more within 200 ms.

    Args:
        name: As `list` shows it, b-0a1b2c3d4e5f.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    answer = _ask("DELETE", f"/admin/v1/budgets/{quote(name, safe='')}", url, key)
    print(answer.decode() if as_json else f"{name} is removed")


@budget.command(name="show")
def show_(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Show a budget and what is left of it, for everybody it counts.

    Args:
        name: As `list` shows it.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    answer = _ask("GET", f"/admin/v1/budgets/{quote(name, safe='')}", url, key)
    if as_json:
        print(answer.decode())
        return
    found = json.loads(answer)
    print(_line(found["budget"]))
    for one in found["items"]:
        who = " ".join(one[name] for name in ("tenant", "user", "key", "model") if one[name]) or "everybody"
        reset = f", resets at {one['resets_at']}" if one["resets_at"] else ""
        print(f"  {who}: {one['settled']:,} used, {one['open']:,} set aside, {one['left']:,} left{reset}")


def usage(
    *,
    by: str = "tenant,user,model,day",
    since: str = "",
    until: str = "",
    tenant: str = "",
    csv: Annotated[bool, Parameter(negative=())] = False,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Show what was used, by tenant, user, model and day, with what it costs where ashore.toml names a price.

    Args:
        by: Columns to add up by.
        since: First day, 2026-11-01; default: the first of this month.
        until: Last day; default: today (UTC).
        tenant: Of one tenant.
        csv: Print a table with commas, safe to open in a spreadsheet.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    asked = {"by": by, "first_day": since, "last_day": until, "tenant": tenant, "format": "csv" if csv else ""}
    query = urlencode({name: value for name, value in asked.items() if value})
    answer = _ask("GET", f"/admin/v1/usage?{query}", url, key)
    if csv or as_json:
        sys.stdout.write(answer.decode() + ("" if csv else "\n"))
        return
    items: list[dict[str, Any]] = json.loads(answer)["items"]
    for one in items:
        who = " ".join(one[name] for name in ("day", "tenant", "user", "model") if one[name])
        cost = f", {one['cost']} {one['currency']}" if one["cost"] is not None else ""
        refused = f", {one['refused']:,} refused" if one["refused"] else ""
        print(
            f"{who}: {counted(one['requests'], 'request')} ({one['hits']:,} from the cache), "
            f"{one['prompt_tokens']:,} + {one['completion_tokens']:,} tokens{refused}{cost}"
        )
    if not items:
        print("nothing was used in that time")


def minutes_of(offset: str) -> int:
    """Return an offset from UTC, `+08:00`, in minutes.

    Raises:
        InvalidRequest: it is none.
    """
    sign, hours, colon, minutes = offset[:1], offset[1:3], offset[3:4], offset[4:]
    if sign not in ("+", "-") or colon != ":" or not (hours + minutes).isdecimal() or len(minutes) != 2:
        raise InvalidRequest(f"{offset!r} is no offset from UTC", hint="write it as +08:00")
    return (int(hours) * 60 + int(minutes)) * (-1 if sign == "-" else 1)


def _line(one: dict[str, Any]) -> str:
    per = {"now": "at once", "total": "in total"}.get(one["window"], f"per {one['window']}")
    return f"{one['id']}  {one['cap']:,} {one['kind']} {per} for {one['about']}"


def _ask(method: str, path: str, url: str | None, key: str | None, body: bytes | None = None) -> bytes:
    from ashore.cli.target import ask_server, find_target

    return ask_server(find_target(url, key=key), method, path, body=body)
