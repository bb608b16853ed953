"""Home: what needs the reader, figures over time, the models, and what happened last."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.acts import who_may
from ashore.control.console.kit import Chart, Tone, chart
from ashore.control.console.model import Answer
from ashore.control.console.models import served_table
from ashore.control.console.ports import Model
from ashore.control.console.reader import Reader
from ashore.core.errors import AshoreError

log = logging.getLogger("ashore.console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that needs a person's attention."""

    name: str
    """Key of its words, `home.need.NAME`."""
    places: Mapping[str, object]
    link: str = ""
    """Where the act beside it leads, below `/console/`; its words are `home.act.NAME`."""
    tone: Tone = "warn"
    why: str = ""


TILES: Final[tuple[tuple[str, str, str], ...]] = (
    ("releases", "release list", "releases"),
    ("jobs", "job list", "jobs"),
    ("usage", "access usage", "usage"),
    ("keys", "access key list", "people"),
    ("audit", "audit status", "audit"),
)
"""Name, call, and the page with details."""
ASKED: Final[Mapping[str, Mapping[str, Any]]] = {"access usage": {"by": "model"}}
"""What a call is asked for."""


def figure(name: str, answer: Any) -> str:
    """Return a figure from the answer of a call; empty: there is none."""
    if answer is None:
        return ""
    if name == "releases":
        live = [one for one in answer.items if one.state in ("live", "canary", "shadow")]
        return f"{len(live):,}" if answer.items else ""
    if name == "jobs":
        running = sum(one.state in ("queued", "running") for one in answer.items)
        return f"{running:,}" if answer.items else ""
    if name == "usage":
        tokens = sum(one.prompt_tokens + one.completion_tokens for one in answer.items)
        return f"{tokens:,}" if answer.items else ""
    if name == "keys":
        valid = sum(one.revoked_at is None for one in answer.items)
        return f"{valid:,}" + ("+" if answer.next else "") if answer.items else ""
    if name == "audit":
        return f"{sum(answer.chains.values()):,}" if answer.chains else ""
    return ""


def needs(serving: str, models: Sequence[Model], answers: Mapping[str, Any], *, is_first_key: bool) -> Iterator[Need]:
    """Yield what needs attention, worst first.

    Args:
        serving: State of the request path.
        models: The names that clients may ask for.
        answers: Answers of the tiles' calls by tile name, without those that the reader may not see.
        is_first_key: Whether the reader logged in with the first key, which means that the three administrators are not
            set up.
    """
    if serving == "not-recording":
        yield Need(name="not-recording", places={}, link="audit", tone="bad")
    for model in models:
        if not model.ready:
            yield Need(name="not-ready", places={"name": model.alias, "state": model.state}, link="models", tone="bad")
    if not models:
        yield Need(name="no-model", places={}, link="models", tone="bad")
    yield from _of_releases(getattr(answers.get("releases"), "items", ()))
    failed = [one for one in getattr(answers.get("jobs"), "items", ()) if one.state in ("failed", "dead")]
    if failed:
        yield Need(name="jobs-failed", places={"count": len(failed)}, link="jobs?state=failed")
    yield from _of_audit(answers.get("audit"))
    if is_first_key:
        yield Need(name="administrators", places={}, link="call/access-user/create", tone="info")


def _of_releases(items: Iterable[Any]) -> Iterator[Need]:
    for one in items:
        if one.state == "failed":
            yield Need(name="release-failed", places={"name": one.name}, why=one.why, link="releases", tone="bad")
        elif one.state == "canary":
            link = f"call/release/evidence?{urlencode({'release': one.name})}"
            yield Need(name="canary", places={"name": one.name, "share": _share(one)}, link=link, tone="info")


def _of_audit(status: Any) -> Iterator[Need]:
    for anchor in getattr(status, "anchors", ()) or ():
        if anchor.failures:
            yield Need(name="anchor", places={"place": anchor.place}, link="audit", tone="bad")
    archive = getattr(status, "archive", None)
    if archive is not None and archive.error:
        yield Need(name="archive", places={"place": archive.place}, link="audit", tone="bad")


def _share(release: Any) -> str:
    """Return the share of requests that a release gets; its weights say it by alias."""
    weights = getattr(release, "weights_percent", None) or {}
    return f"{next(iter(weights.values()), 0.0) or release.share_percent:g}"


def of_alerts(items: Iterable[Any], say: Callable[[str], str]) -> Iterator[Need]:
    """Yield what is wrong and nobody is on, the worst first. `say` gives the text of a finding."""
    open_ = [one for one in items if one.severity != "advice" and one.state in ("waiting", "sent", "escalated")]
    for one in open_[:MOST_ALERTS]:
        tone: Tone = "bad" if one.severity == "critical" else "warn"
        yield Need(name="alert", places={"what": say(one.what)}, why=one.remedy, link="alerts", tone=tone)
    if (rest := len(open_) - MOST_ALERTS) > 0:
        yield Need(name="alerts-more", places={"count": rest}, link="alerts")


RANGES: Final = {"1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800}
POINTS: Final = 72
ChartOf = tuple[str, str, dict[str, str]]
"""Name, unit, and by line the series that the server keeps."""
CHARTS: Final[tuple[ChartOf, ...]] = (
    ("requests", "/s", {"answered": "requests", "errors": "errors"}),
    ("tokens", "/s", {"written": "answer_tokens", "read": "prompt_tokens"}),
    ("first-token", "s", {"p50": "ttft_p50", "p95": "ttft_p95"}),
    ("memory", "share", {"kv": "kv_used", "memory": "memory_used"}),
)
MOST_EVENTS: Final = 7
MOST_ALERTS: Final = 3


async def home_page(reader: Reader) -> Answer:
    """Return Home as the reader may see it: what needs them, figures over time, models, last events. What they may not
    see is not there; one line says who may.
    """
    asks = [(name, key, link) for name, key, link in TILES if key in reader.acts.atlas.by_key]
    keys = [*(key for _, key, _ in asks), "alert list", "model ps"]
    found = await asyncio.gather(*(_ask(reader, key) for key in keys))
    answers = {name: one for (name, _, _), one in zip(asks, found, strict=False) if one is not None}
    tiles = [(name, value, link) for name, _, link in asks if (value := figure(name, answers.get(name)))]
    wanted = dict(reader.asked.query).get("_range", "")
    chosen = wanted if wanted in RANGES else "1h"
    charts = await charts_of(reader, RANGES[chosen], CHARTS)
    models = reader.acts.serving.models()
    is_first_key = reader.session.principal.kind == "first-key"
    sees = {"releases": "release list", "charts": "server history", **{name: key for name, key, _ in asks}}
    placed = [reader.acts.atlas.by_key[key] for key in sees.values() if key in reader.acts.atlas.by_key]
    others = {role for one in placed if not reader.offers(one) for role in who_may(one.call.action or "metrics:read")}
    pages = reader.acts.navigation(reader.session)
    waiting = [
        *needs(reader.acts.serving.state, models, answers, is_first_key=is_first_key),
        *of_alerts(getattr(found[-2], "items", ()), reader.words.sentence),
    ]
    return reader.page(
        "home.html",
        "home",
        needs=[
            one for one in waiting if not one.link or one.link.partition("?")[0].partition("/")[0] in (*pages, "call")
        ],
        acts=reader.may("model pull", "home.pull"),
        pull=reader.may("model pull", "home.pull"),
        models=models,
        served=served_table(
            reader, getattr(found[-1], "items", ()), columns=("model", "state", "memory", "context_tokens")
        ),
        charts=charts,
        ranges=tuple(RANGES),
        range=chosen,
        since=RANGES[chosen],
        tiles=tiles,
        events=await _events(reader),
        others=sorted(others),
        pages=pages,
    )


async def _ask(reader: Reader, key: str) -> Any:
    """Return the answer of a call; None where there is none: Home stays readable when one of its parts fails."""
    try:
        return await reader.ask(key, **ASKED.get(key, {}))
    except AshoreError as fault:
        log.warning("Home shows nothing of `%s`: %s", key, fault.message)
        return None


async def charts_of(reader: Reader, since_s: int, wanted: Sequence[ChartOf]) -> list[Chart]:
    """Return figures of the server over time; none where the reader may not see them."""
    series = ",".join(one for _, _, lines in wanted for one in lines.values())
    try:
        found = await reader.ask("server history", series=series, since_s=since_s, points=POINTS)
    except AshoreError as fault:
        log.warning("a page shows no charts: %s", fault.message)
        return []
    if found is None:
        return []
    values = {one.name: one.values for one in found.series}
    return [
        chart(name, {line: values[one] for line, one in lines.items() if one in values}, unit)
        for name, unit, lines in wanted
    ]


async def _events(reader: Reader) -> list[Any]:
    """Return what happened last to each thing, the newest first."""
    found = await _ask(reader, "events list")
    last = {one.resource: one for one in getattr(found, "items", ())}
    return sorted(last.values(), key=lambda one: -one.happened_at)[:MOST_EVENTS]
