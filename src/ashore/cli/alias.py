"""`ashore alias`: the names that clients ask for, and the releases that answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import App, Parameter

from ashore.cli.release import number_of
from ashore.cli.sure import DryRun, say_only
from ashore.core import did_you_mean
from ashore.errors import NotFound

app = App(name="alias", help="List, show, set and remove the names that clients ask for.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]


@app.command(name="list")
def list_(*, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """List aliases with the releases that they lead to.

    Args:
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    found = _ask("GET", "/admin/v1/aliases", url, key)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found["items"]:
        print(_line(one))


@app.command
def show(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Show one alias.

    Args:
        name: Of the alias.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    one = _ask("GET", f"/admin/v1/aliases/{quote(name, safe='')}", url, key)
    print(json.dumps(one, ensure_ascii=False) if as_json else _line(one))


@app.command(name="set")
def set_(
    name: str,
    /,
    *releases: str,
    sticky: Literal["conversation", "key"] | None = None,
    why: str = "",
    dry_run: DryRun = False,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Lead an alias to warm releases, by hand; one that does not exist is made. In force everywhere within 200 ms.

    Args:
        name: Of the alias.
        releases: RELEASE, or several as RELEASE=PERCENT, which come to 100.
        sticky: What always gets the same release: conversation, or key.
        why: Kept with the history.
        dry_run: Say what would change, and do nothing.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    known = [one for one in _ask("GET", "/admin/v1/aliases", url, key)["items"] if one["name"] == name]
    weights = weights_of(releases)
    if dry_run:
        _refuse_unknown(tuple(weights), _ask("GET", "/admin/v1/releases", url, key)["items"])
        before = _shares(known[0]["weights_percent"]) if known else "nothing"
        say_only(f"change {name}: {before} -> {_shares(weights)}", as_json=as_json)
        return
    body = {
        "weights_percent": weights,
        "sticky": sticky,
        "why": why,
        "version": known[0]["version"] if known else None,
    }
    one = _ask("PUT", f"/admin/v1/aliases/{quote(name, safe='')}", url, key, body)
    print(json.dumps(one, ensure_ascii=False) if as_json else _line(one))


@app.command
def remove(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Remove an alias that was set by hand; whoever names it is refused from then on.

    Args:
        name: Of the alias.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    gone = _ask("DELETE", f"/admin/v1/aliases/{quote(name, safe='')}", url, key)
    print(json.dumps(gone, ensure_ascii=False) if as_json else f"{name} is removed")


def weights_of(releases: tuple[str, ...]) -> dict[str, float]:
    """Return releases with percents: one alone has everything."""
    weights = {}
    for word in releases:
        release, equals, percent = word.rpartition("=")
        weights[release if equals else word] = number_of("RELEASE=PERCENT", percent) if equals else 100.0
    return weights


def _line(one: dict[str, Any]) -> str:
    return f"{one['name']}  {_shares(one['weights_percent'])}  (version {one['version']}, sticky by {one['sticky']})"


def _shares(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{release} {percent:g} %" for release, percent in weights.items())


def _refuse_unknown(releases: Sequence[str], known: Sequence[Mapping[str, Any]]) -> None:
    """Raise `NotFound` for a release that is not there; without `--dry-run` the server says so."""
    names = [one["name"] for one in known]
    for name in releases:
        if name not in names:
            raise NotFound(f"there is no release {name!r}", hint=did_you_mean(name, names))


def _ask(method: str, path: str, url: str | None, key: str | None, body: object = None) -> Any:
    from ashore.cli.target import ask_server, find_target

    sent = None if body is None else json.dumps(body).encode()
    return json.loads(ask_server(find_target(url, key=key), method, path, body=sent))
