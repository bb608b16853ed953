"""`ashore alias`: the names that clients ask for, and the releases that answer."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import App, Parameter

from ashore.cli.release import number_of

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
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    known = [one for one in _ask("GET", "/admin/v1/aliases", url, key)["items"] if one["name"] == name]
    body = {
        "weights_percent": weights_of(releases),
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
    weights = ", ".join(f"{release} {percent:g} %" for release, percent in one["weights_percent"].items())
    return f"{one['name']}  {weights}  (version {one['version']}, sticky by {one['sticky']})"


def _ask(method: str, path: str, url: str | None, key: str | None, body: object = None) -> Any:
    from ashore.cli.target import ask_server, find_target

    sent = None if body is None else json.dumps(body).encode()
    return json.loads(ask_server(find_target(url, key=key), method, path, body=sent))
