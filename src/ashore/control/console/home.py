"""Home: a few figures, what runs, and what needs attention."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ashore.control.console.model import Answer
from ashore.control.console.pages import Placed
from ashore.control.console.ports import Model
from ashore.control.console.reader import Reader
from ashore.core.errors import AshoreError, NotReady, PermissionDenied
from ashore.core.outward import outward


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One figure."""

    name: str
    """Key of its words, `home.tile.NAME`."""
    value: str = ""
    """Empty: none yet."""
    denied: str = ""
    """The action that the reader lacks; then there is no value."""
    fault: str = ""
    """Why it could not be found out."""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something that needs a person's attention."""

    name: str
    """Key of its words, `home.need.NAME`."""
    places: Mapping[str, object]
    link: str = ""
    bad: bool = False


TILES: Final[tuple[tuple[str, str, str], ...]] = (
    ("releases", "release list", "releases"),
    ("jobs", "job list", "jobs"),
    ("usage", "access usage", "usage"),
    ("keys", "access key list", "people?_tab=access+key"),
    ("audit", "audit status", "audit"),
)
"""Name, call, and the page with details."""


def figure(name: str, answer: Any) -> str:
    """Return a tile's figure from the answer of its call; empty: none yet."""
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
        yield Need(name="not-recording", places={}, link="audit", bad=True)
    for model in models:
        if not model.ready:
            yield Need(name="not-ready", places={"name": model.alias, "state": model.state}, link="models", bad=True)
    if not models:
        yield Need(name="no-model", places={}, link="models", bad=True)
    yield from _of_releases(getattr(answers.get("releases"), "items", ()))
    failed = [one for one in getattr(answers.get("jobs"), "items", ()) if one.state in ("failed", "dead")]
    if failed:
        yield Need(name="jobs-failed", places={"count": len(failed)}, link="jobs?state=failed")
    yield from _of_audit(answers.get("audit"))
    if is_first_key:
        yield Need(name="administrators", places={}, link="call/access-user/create")


def _of_releases(items: Iterable[Any]) -> Iterator[Need]:
    for one in items:
        if one.state == "failed":
            yield Need(name="release-failed", places={"name": one.name, "why": one.why}, link="releases", bad=True)
        elif one.state == "canary":
            yield Need(name="canary", places={"name": one.name, "share": f"{one.share_percent:g}"}, link="releases")


def _of_audit(status: Any) -> Iterator[Need]:
    for anchor in getattr(status, "anchors", ()) or ():
        if anchor.failures:
            yield Need(name="anchor", places={"place": anchor.place}, link="audit", bad=True)
    archive = getattr(status, "archive", None)
    if archive is not None and archive.error:
        yield Need(name="archive", places={"place": archive.place}, link="audit", bad=True)


async def home_page(reader: Reader) -> Answer:
    """Return Home as the reader may see it."""
    known = [(name, placed, link) for name, key, link in TILES if (placed := reader.acts.atlas.by_key.get(key))]
    found = await asyncio.gather(*(_ask(reader, placed) for _, placed, _ in known))
    answers: dict[str, Any] = {}
    tiles: list[Tile] = []
    for (name, placed, link), answer in zip(known, found, strict=True):
        if isinstance(answer, PermissionDenied):
            tiles.append(Tile(name=name, denied=answer.action or placed.call.action))
        elif not isinstance(answer, AshoreError):
            answers[name] = answer
            tiles.append(Tile(name=name, value=figure(name, answer), link=link))
        elif not isinstance(answer, NotReady):  # no tile for what this server lacks
            tiles.append(Tile(name=name, fault=outward(answer)[0]))
    models = reader.acts.serving.models()
    asks = {one.alias for one in reader.acts.serving.models(reader.session.principal)}
    is_first_key = reader.session.principal.kind == "first-key"
    waiting = list(needs(reader.acts.serving.state, models, answers, is_first_key=is_first_key))
    return reader.page("home.html", "home", tiles=tiles, needs=waiting, models=models, asks=asks)


async def _ask(reader: Reader, placed: Placed) -> Any:
    """Return the answer of a call, or the reason why there is none."""
    if not reader.offers(placed):
        return PermissionDenied("", action=placed.call.action)
    try:
        return await reader.perform(placed, placed.call.takes())
    except AshoreError as fault:
        return fault
