"""`ashore release`: make a release, roll it out, take it back."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from cyclopts import App, Parameter

from ashore.cli.releasehere import HERE, ask_or_do, one_of, only_alias
from ashore.errors import InvalidRequest, RemoteRefused

app = App(name="release", help="Ship a new release beside the old one, and go back in a second.")

AsJson = Annotated[bool, Parameter(name="--json", negative=())]
Flag = Annotated[bool, Parameter(negative=())]
Options = Annotated[tuple[str, ...], Parameter(name="--engine-option", consume_multiple=False)]
Adapters = Annotated[tuple[str, ...], Parameter(name="--adapter", consume_multiple=False)]
Drops = Annotated[tuple[str, ...], Parameter(name="--drop-adapters", consume_multiple=False)]

LOOK_EVERY_S = 0.3
WATCH_EVERY_S = 1.0
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command
def create(
    name: str = "",
    /,
    *,
    model: str,
    alias: str = "",
    engine: str = "",
    engine_option: Options = (),
    adapter: Adapters = (),
    drop_adapters: Drops = (),
    replicas: int = 0,
    override: str = "",
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Make a release: exactly these weights, tokenizer, template, engine and options, for ever. Nothing is loaded yet.

    A model whose evaluation gate failed is refused, unless --override says why it is made all the same; so is one that
    was never evaluated, where ashore.toml says [release] gate = "required".

    Args:
        name: Default: the alias and the next number, chat-2.
        model: Name in the store, smollm2@int4.
        alias: What it is meant to answer for; default: the only alias there is.
        engine: Kind of engine; default: what suits the model.
        engine_option: NAME=VALUE of an option that tunes the engine, or a limit of [model.engine] such as
            context_tokens=4096; may be repeated. Others need [release] allow_options in ashore.toml.
        adapter: NAME=FOLDER of a LoRA adapter beside those of what is live; may be repeated. The folder is one of
            [model.adapters], in the home's adapters/, or in [release] adapter_folders of ashore.toml.
        drop_adapters: NAME,NAME of adapters of what is live that it is to lack.
        replicas: Default: as many as what is live has.
        override: Why it is made although its evaluation failed or is missing; recorded.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    body = {
        "name": name,
        "model": model,
        "alias": alias or _only_alias(url, key),
        "engine": engine,
        "options": {option: value_of(text) for option, text in name_values("--engine-option", engine_option)},
        "adapters": dict(name_values("--adapter", adapter)),
        "drop_adapters": names_of(drop_adapters),
        "replicas": replicas,
        "override": override,
    }
    made = _ask("POST", "/admin/v1/releases", url, key, body)
    print(json.dumps(made, ensure_ascii=False) if as_json else line_of(made))


@app.command(name="list")
def list_(*, alias: str = "", url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """List releases, the newest first.

    Args:
        alias: Those of one alias.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    found = _ask(
        "GET", f"/admin/v1/releases?{urlencode({'alias': alias})}" if alias else "/admin/v1/releases", url, key
    )
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for one in found["items"]:
        print(line_of(one))


@app.command
def show(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Show a release: what it is made of, and where it stands.

    Args:
        name: Of the release.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    one = _ask("GET", f"/admin/v1/releases/{quote(name, safe='')}", url, key)
    found = _ask("GET", f"/admin/v1/releases/{quote(name, safe='')}/evidence", url, key)["items"]
    burns = _ask("GET", f"/admin/v1/releases/{quote(name, safe='')}/burn", url, key)["items"]
    if as_json:
        print(json.dumps({**one, "evidence": found, "burn_rates": burns}, ensure_ascii=False))
        return
    print(line_of(one))
    for look in found:
        print(f"  as {look['stage']}: {look['summary']}")
        print(f"    e-value {look['e_value']:.3g}")
        for name_, value in look["details"].items():
            print(f"    {name_} {value}")
        if look["stage"] == "shadow":
            print(f"    the most different pairs of answers: `ashore release pairs {name}`")
    for burn in burns:
        print("  " + burn_line(burn))
    for part, digest in one["parts"].items():
        print(f"  {part:<12} {digest}")
    print(f"  {'gate':<12} {one['gate_verdict']}; when the release was made: {one['gate']}")
    if one["why"]:
        print(f"  {'why':<12} {one['why']}")


@app.command
def pairs(name: str, /, *, url: str | None = None, key: str | None = None, as_json: AsJson = False) -> None:
    """Show the most different answers of a release as shadow and of what was live, side by side and masked.

    Args:
        name: Of the release.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    found = _ask("GET", f"/admin/v1/releases/{quote(name, safe='')}/pairs", url, key)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    if not found["items"]:
        print(f"no pair is kept of {name}: it was not shadowed, or its answers do not differ", file=sys.stderr)
    for one in found["items"]:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["at"]))
        turns = f", after {one['turns'] - 1} turns" if one["turns"] > 1 else ""
        meaning = "" if one["meaning"] is None else f", in meaning {one['meaning']:.3f}"
        print(f"{one['distance']:.2f}{meaning}  {moment}  tenant {one['tenant']} {one['route']}{turns}")
        print(f"  asked      {_indented(one['prompt'])}")
        print(f"  live       {_indented(one['live'])}")
        print(f"  candidate  {'failed' if one['candidate_failed'] else _indented(one['candidate'])}")


@app.command
def shadow(
    name: str,
    /,
    *,
    share: float = 10.0,
    automatic: bool = True,
    why: str = "",
    wait: bool = True,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Load a release beside what is live, for copies of live requests; no client sees an answer of it.

    Args:
        name: Of the release.
        share: Percent of the live requests that are copied.
        automatic: End it by itself where it is found worse, or does not stay up.
        why: Kept with the history.
        wait: Return when it has loaded.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    body = {"share_percent": share, "automatic": automatic, "why": why}
    _roll_out(name, "shadow", body, wait, url, key, as_json)


@app.command
def canary(
    name: str,
    /,
    *,
    share: float = 5.0,
    steps: str = "",
    every: str = "",
    then_promote: Flag = False,
    automatic: bool = True,
    drop_adapters: Drops = (),
    why: str = "",
    wait: bool = True,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Let a release answer some of the requests: always the same conversations, or those of the same keys.

    Args:
        name: Of the release.
        share: Percent of the requests.
        steps: Shares that follow, 20,50; each comes when --every is over.
        every: Time of one step, 10m.
        then_promote: Let it go live after the last step, once it is found no worse.
        automatic: End it by itself where it is found worse, or does not stay up.
        drop_adapters: With --then-promote: NAME,NAME of adapters that answer now and may be refused once it is live.
        why: Kept with the history.
        wait: Return when it answers.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    body = {
        "share_percent": share,
        "steps_percent": [number_of("--steps", step) for step in steps.split(",") if step.strip()],
        "every_s": seconds_of("--every", every) if every else 0,
        "then_promote": then_promote,
        "automatic": automatic,
        "drop_adapters": names_of(drop_adapters),
        "why": why,
    }
    _roll_out(name, "canary", body, wait, url, key, as_json)


@app.command
def promote(
    name: str,
    /,
    *,
    standby: str = "1h",
    cold_standby: Flag = False,
    automatic: bool = True,
    override: str = "",
    drop_adapters: Drops = (),
    why: str = "",
    wait: bool = True,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Let a release answer all requests from one moment on; what has begun ends where it is.

    A release that was found worse, or never compared with what is live (release shadow, release canary), is refused,
    unless --override says why it is promoted all the same. So is one without an adapter that answers now, unless
    --drop-adapters names it.

    Args:
        name: Of the release.
        standby: How long the one before stays warm, so that the way back takes no loading; 0s for not at all.
        cold_standby: End what is live first, where there is no memory for two: requests wait while this one loads, and
            so they do on the way back.
        automatic: Take it back by itself where its hosts do not stay up.
        override: Why it is promoted although it was found worse, or never compared; recorded.
        drop_adapters: NAME,NAME of adapters that answer now and may be refused from then on.
        why: Kept with the history.
        wait: Return when it answers.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    body = {
        "standby_s": seconds_of("--standby", standby),
        "cold_standby": cold_standby,
        "automatic": automatic,
        "override": override,
        "drop_adapters": names_of(drop_adapters),
        "why": why,
    }
    found = _ask("GET", f"/admin/v1/releases/{quote(name, safe='')}/evidence", url, key)["items"]
    for look in found:
        if look["verdict"] != "no worse":
            print(f"{name} as {look['stage']}: {look['summary']}", file=sys.stderr)
    _roll_out(name, "promote", body, wait, url, key, as_json)


@app.command
def rollback(
    alias: str = "",
    /,
    *,
    to: str = "",
    cold_standby: Flag = False,
    why: str = "",
    wait: bool = True,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Go back: end what is on its way to an alias, or else let the release before answer again. Where that is not warm,
    it is told how long it took to load the last time, and it loads first; requests go on, or wait with --cold-standby.
    Works with the server down, too: it answers from the next start on.

    Args:
        alias: Default: the only alias there is.
        to: An earlier release than the one before.
        cold_standby: Where it has to load and there is no memory for two: end what is live first. Meant by itself where
            what is live was promoted so.
        why: Kept with the history.
        wait: Return when it answers.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """

    def ask() -> list[dict[str, Any]]:
        path = f"/admin/v1/aliases/{quote(alias or _only_alias(url, key), safe='')}"
        seen = _ask("GET", path, url, key)["version"]
        body = {"to": to, "cold_standby": cold_standby, "why": why, "version": seen}
        items: list[dict[str, Any]] = _ask("POST", f"{path}/rollback", url, key, body)["items"]
        return items

    found, is_served = ask_or_do(
        url,
        ask,
        lambda office: office.roll_back(HERE, alias or only_alias(office), to=to, why=why, cold=cold_standby),
    )
    for one in found:
        if one["state"] == "warming":
            print(f"{one['name']} has to load first; {load_time(one)}", file=sys.stderr)
            if wait and is_served:
                found = [_warmed(one, url, key)]
    if as_json:
        print(json.dumps({"items": found}, ensure_ascii=False))
    else:
        for one in found:
            print(line_of(one))
    for one in found:
        _check_not_taken_back(one, one["alias"])


@app.command
def retire(
    name: str, /, *, why: str = "", url: str | None = None, key: str | None = None, as_json: AsJson = False
) -> None:
    """End a release that answers for nobody, and give its memory back. Works with the server down, too.

    Args:
        name: Of the release.
        why: Kept with the history.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    path = f"/admin/v1/releases/{quote(name, safe='')}/retire"
    (one,), _ = ask_or_do(
        url,
        lambda: [_ask("POST", path, url, key, {"why": why})],
        lambda office: (office.retire(HERE, name, why=why),),
    )
    print(json.dumps(one, ensure_ascii=False) if as_json else line_of(one))


@app.command
def status(
    alias: str = "",
    /,
    *,
    watch: Flag = False,
    url: str | None = None,
    key: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Show where an alias leads, the releases that have engine hosts, and what happened last.

    Args:
        alias: Default: the only alias there is.
        watch: Draw it again every second until Ctrl-C.
        url: Address of the server; default: the one that runs from this home.
        key: API key of whoever asks; default: ASHORE_API_KEY, or the home's first key.
        as_json: Print JSON.
    """
    alias = alias or _only_alias(url, key)
    path = f"/admin/v1/aliases/{quote(alias, safe='')}"
    while True:
        found = _ask("GET", f"{path}/status", url, key)
        events = _ask("GET", f"{path}/history?limit=5", url, key)["items"]
        if as_json:
            print(json.dumps({**found, "history": events}, ensure_ascii=False), flush=True)
        else:
            clear = "\033[2J\033[H" if watch and sys.stdout.isatty() else ""
            print(clear + show_status(found, events), flush=True)
        if not watch:
            return
        time.sleep(WATCH_EVERY_S)


def show_status(found: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """Return a status as text for people: bars for what answers, then what happened last."""
    alias = found["alias"]
    lines = [f"{alias['name']}  version {alias['version']}, sticky by {alias['sticky']}"]
    for one in found["releases"]:
        percent = one["weights_percent"].get(alias["name"], 0.0)
        bar = "█" * round(percent / 5)
        goal = f" -> {one['goal']}" if one["goal"] else ""
        left = f", {max(0, one['until'] - int(time.time()))} s left" if one["until"] else ""
        lines.append(f"  {one['name']:<24} {one['state'] + goal:<18} {percent:5.1f} % {bar:<20} {one['model']}{left}")
    if alias["before"] and alias["before"] not in {one["name"] for one in found["releases"]}:
        lines.append(f"  {alias['before']} answered before, and has to load on the way back")
    for event in events:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"]))
        why = f": {event['why']}" if event["why"] else ""
        lines.append(f"  {moment}  {event['verb']} {event['release']} by {event['actor']}{why}")
    return "\n".join(lines)


def burn_line(burn: dict[str, Any]) -> str:
    """Return how fast an objective is used up, in one line."""
    whose = " by its own fault" if burn["alone"] else ""
    return (
        f"burns {burn['objective']}{whose} {burn['long_rate']:g} times over {burn['long_window_s']} s, "
        f"{burn['short_rate']:g} times over {burn['short_window_s']} s (taken back from {burn['taken_back_from']:g} on "
        f"in both; {burn['bad']} of {burn['requests']} requests, {burn['allowed_percent']:g} % allowed)"
    )


def line_of(one: dict[str, Any]) -> str:
    """Return a release in one line."""
    weights = " ".join(f"{alias} {percent:g} %" for alias, percent in one["weights_percent"].items())
    goal = f" (to be {one['goal']})" if one["goal"] else ""
    return f"{one['name']}  {one['state']}{goal}  {one['model']} on {one['engine']}" + (
        f"  {weights}" if weights else ""
    )


def name_values(option: str, given: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return `NAME=VALUE` words as pairs.

    Raises:
        InvalidRequest: one is none.
    """
    for word in given:
        if not all(word.partition("=")[::2]):
            raise InvalidRequest(f"{option} {word!r} is no NAME=VALUE")
    return [(word.partition("=")[0], word.partition("=")[2]) for word in given]


def names_of(given: tuple[str, ...]) -> list[str]:
    """Return names that were given one by one or with commas between them."""
    return [name.strip() for word in given for name in word.split(",") if name.strip()]


def value_of(text: str) -> str | int | float | bool:
    """Return the value of an engine option as TOML would have it; what is no number and no flag is a text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def number_of(option: str, text: str) -> float:
    """Return a number.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return float(text)
    except ValueError as fault:
        raise InvalidRequest(f"{option}: {text!r} is no number") from fault


def seconds_of(option: str, text: str) -> int:
    """Return a time such as `90s`, `10m`, `1h` in seconds.

    Raises:
        InvalidRequest: it is none.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "s")
    if not number.isdecimal():
        raise InvalidRequest(f"{option} {text!r} is no time", hint="write it as 90s, 10m, 1h or 2d")
    return int(number) * UNITS[unit]


def _roll_out(
    name: str, verb: str, body: dict[str, Any], wait: bool, url: str | None, key: str | None, as_json: bool
) -> None:
    path = f"/admin/v1/releases/{quote(name, safe='')}"
    alias = _ask("GET", path, url, key)["alias"]
    seen = _ask("GET", f"/admin/v1/aliases/{quote(alias, safe='')}", url, key)["version"]
    one = _ask("POST", f"{path}/{verb}", url, key, {**body, "version": seen})
    if wait:
        one = _warmed(one, url, key)
    print(json.dumps(one, ensure_ascii=False) if as_json else line_of(one))
    _check_not_taken_back(one, alias)
    if body.get("cold_standby") and one["state"] == "live":
        before = _ask("GET", f"/admin/v1/aliases/{quote(alias, safe='')}", url, key)["before"]
        found = _ask("GET", f"/admin/v1/releases/{quote(before, safe='')}", url, key) if before else None
        if found is not None and found["state"] == "retired":
            print(f"the way back loads {before} again; {load_time(found)}", file=sys.stderr)


def _warmed(one: dict[str, Any], url: str | None, key: str | None) -> dict[str, Any]:
    """Return a release once it has loaded, or was taken back."""
    while one["state"] == "warming":
        time.sleep(LOOK_EVERY_S)
        one = _ask("GET", f"/admin/v1/releases/{quote(one['name'], safe='')}", url, key)
    return one


def _check_not_taken_back(one: dict[str, Any], alias: str) -> None:
    if one["state"] in ("failed", "retired"):
        raise RemoteRefused(
            f"release {one['name']} is {one['state']}: {one['why']}", hint=f"`ashore release status {alias}`"
        )


def load_time(one: dict[str, Any]) -> str:
    """Return in words how long a release takes to load."""
    return f"the last time that took {one['load_s']:.0f} s" if one["load_s"] else "how long that takes is not known yet"


def _indented(text: str) -> str:
    """Return a text of somebody else's for a terminal: its lines under each other, and nothing that moves a cursor."""
    lines = text.splitlines() or [""]
    return ("\n" + " " * 13).join("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)


def _only_alias(url: str | None, key: str | None) -> str:
    return one_of([one["name"] for one in _ask("GET", "/admin/v1/aliases", url, key)["items"]])


def _ask(method: str, path: str, url: str | None, key: str | None, body: object = None) -> Any:
    from ashore.cli.target import ask_server, find_target

    sent = None if body is None else json.dumps(body).encode()
    return json.loads(ask_server(find_target(url, key=key), method, path, body=sent))
