"""Models: what answers, what is on disk, what can be added, and one model with all that is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.calling import STORED as CALLS_ON_STORED
from ashore.control.console.kit import (
    NONE,
    Act,
    Cell,
    Row,
    Table,
    Tone,
    bar,
    code,
    figure,
    number,
    state,
    text,
    when,
)
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.rows import STORED
from ashore.control.console.tabs import tab_page
from ashore.control.console.working import about, acts_on, pace_of, progress_of, seconds_of
from ashore.core.errors import AshoreError, NotFound
from ashore.core.timespan import human_seconds
from ashore.kit.call import Call

PARTS: Final = (("models", "model ps"), ("models/stored", "model list"), ("models/catalogue", "model catalog"))
"""Address of each part of the page, and the call that it needs."""
DERIVED: Final = ("engine", "fleet")
"""Nouns whose derived pages stand beside."""
MOST_JOBS: Final = 100
MOST_ENDED: Final = 5
LIVE_MS: Final = 2_000
HOSTED: Final = ("live", "canary", "shadow", "standby", "warming")
FITS: Final[Mapping[str, Tone]] = {"here": "ok", "elsewhere": "info", "too-large": "warn", "no": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An operation on a model, as a card."""

    job: Any
    """As `job list` has it."""
    call: Call
    """Gives the words of what it does."""
    subject: str
    """The model, empty as long as it waits."""
    state: Cell
    progress: Cell
    pace: list[tuple[str, str]]
    """How much is done, how fast, how long still."""
    ended_s: float | None
    acts: tuple[Act, ...]

    @property
    def runs(self) -> bool:
        return self.job.finished is None

    @property
    def model(self) -> str:
        return self.subject.partition("@")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A model that can be added, as a card."""

    name: str
    entry: Any = None
    """As `model catalog` has it; None: the catalogue has not."""
    facts: tuple[str, ...] = ()
    tone: Tone = ""
    by: str = ""
    """What would serve it; of one that is too large: how much memory it needs at least."""
    stored: str = ""
    """Its name in the store; empty: it is not there."""


async def models_page(reader: Reader) -> Answer:
    """Return the models that answer; with `model=NAME` or `job=ID` one model, with `add=SOURCE` what a download of it
    takes."""
    query = dict(reader.asked.query)
    if "models" not in reader.acts.navigation(reader.session):
        return await tab_page(reader, BY_NAME["models"])
    if query.get("add"):
        return await _add_page(reader, query["add"])
    if query.get("model") or query.get("job"):
        return await _one_page(reader, query)
    resident, works = await asyncio.gather(reader.ask("model ps"), _works(reader))
    table = served_table(reader, getattr(resident, "items", ()))
    return await _part(
        reader, "models", "models.html", works, table=table, stored=False, broken=(),
        memory=None if resident is None else bar(resident.taken_bytes, resident.memory_bytes, "B"),
    )  # fmt: skip


async def stored_page(reader: Reader) -> Answer:
    """Return the models on disk."""
    found, works, releases = await asyncio.gather(reader.ask("model list"), _works(reader), reader.ask("release list"))
    if found is None:
        return await tab_page(reader, BY_NAME["models"])
    table = _stored_table(reader, found.items, _serving(releases))
    return await _part(
        reader, "models/stored", "models.html", works, table=table, stored=True, broken=found.broken, memory=None
    )


async def catalogue_page(reader: Reader) -> Answer:
    """Return the models that ashore knows by name, narrowed by a text, by what fits, and by licence."""
    found, stored, works = await asyncio.gather(reader.ask("model catalog"), reader.ask("model list"), _works(reader))
    if found is None:
        return await tab_page(reader, BY_NAME["models"])
    query = dict(reader.asked.query)
    said, fits, licence = (query.get(name, "")[:200] for name in ("q", "fits", "licence"))
    names = {unpinned(one.source): one.name for one in getattr(stored, "items", ())}
    names |= {one.name: one.name for one in getattr(stored, "items", ())}
    offers = [
        offer(one, names)
        for one in found.items
        if _matches(one, said) and fits in ("", one.fits) and licence in ("", one.licence)
    ]
    if said and (":" in said or "/" in said) and not offers:
        offers = [Offer(name=said)]
    return await _part(
        reader, "models/catalogue", "catalogue.html", works, offers=offers, said=said, total=len(found.items),
        chips=[("fits", one, fits == one) for one in ("here", "elsewhere")],
        licences=sorted({one.licence for one in found.items}), licence=licence,
    )  # fmt: skip


async def _part(reader: Reader, address: str, template: str, works: Sequence[Work], **content: Any) -> Answer:
    """Return one of the parts, with the way to the others."""
    atlas = reader.acts.atlas
    ways = [where for where, key in PARTS if reader.may(key)]
    nouns = [noun for noun in DERIVED if any(reader.offers(one) for one in atlas.on("models", noun))]
    adds = reader.may("model pull", "models.by-source")
    if address != "models/catalogue":
        adds = tuple(Act(address="models/catalogue", word="models.add-a-model") for _ in adds)
    call = atlas.by_key.get(dict(PARTS)[address])
    return reader.page(
        template, "models", part=address, ways_of=ways, nouns=nouns, works=[one for one in works if one.runs],
        acts=adds, may_add=bool(adds), live_ms=_pace(works),
        words=f"ashore {call.key}" if call is not None else "", **content,
    )  # fmt: skip


def served_table(reader: Reader, resident: Iterable[Any], *, columns: Sequence[str] = ()) -> Table:
    """Return the models that answer, and those that load on demand, with what the reader may do with each. `columns`:
    only these of its columns."""
    serving = reader.acts.serving
    mine = {one.alias for one in serving.models(reader.session.principal)}
    memory = {one.alias: one for one in resident}
    known = {one.alias: one for one in serving.models()}
    rows = []
    for alias in sorted({*known, *memory}):
        model, seen = known.get(alias), memory.get(alias)
        acts: list[Act] = []
        if model is not None and alias in mine:
            if model.chats:
                acts.append(Act(address=f"chat?{urlencode({'left': alias})}", word="page.chat"))
            acts.append(Act(address=f"connect?{urlencode({'model': alias})}", word="page.connect"))
        name = "" if seen is None else seen.model
        is_ready = model is not None and model.ready
        shown = "ready" if is_ready else model.state if model is not None else getattr(seen, "state", "")
        stored = name.partition("@")[0]
        opens = f"models?{urlencode({'model': stored})}" if stored and ":" not in stored else ""
        rows.append(
            Row(
                cells=(
                    text(alias, link=opens, note=name or (model.release if model and model.release != alias else "")),
                    state(shown),
                    number((seen.resident_bytes or seen.memory_bytes or None) if seen is not None else None, "B"),
                    number(getattr(seen, "rate_per_min", 0.0) or None, "/min"),
                    number(getattr(seen, "load_s", 0.0) or None, "s"),
                    number((model.context_tokens if model is not None else 0) or None),
                    _kept(seen),
                ),
                acts=(*acts, *(_moves(reader, seen) if seen is not None else ())),
            )
        )
    every = ("model", "state", "memory", "rate_per_min", "load_s", "context_tokens", "kept")
    found = Table(name="served", columns=every, rows=tuple(rows), total=len(rows), minor=frozenset({"load_s"}))
    return found.trimmed(columns)


def _kept(seen: Any) -> Cell:
    if seen is None:
        return NONE
    return text("pinned" if seen.pin else "at start" if seen.load == "start" else "on demand", note=seen.why[:120])


def _moves(reader: Reader, seen: Any) -> Iterator[Act]:
    """Yield what may be done with a model in memory as it stands."""
    if seen.load != "demand":
        return
    words = ("unpin",) if seen.pin else ("cool", "pin") if seen.state in ("loaded", "asleep") else ("warm", "pin")
    for word in words:
        yield from reader.may(f"model {word}", alias=seen.alias)


def _serving(releases: Any) -> dict[str, list[Any]]:
    """Return the releases that have hosts, by the reference of their model."""
    found: dict[str, list[Any]] = {}
    for one in getattr(releases, "items", ()):
        if one.state in HOSTED:
            found.setdefault(one.model, []).append(one)
    return found


def _stored_table(reader: Reader, items: Iterable[Any], serving: Mapping[str, Any]) -> Table:
    by_name: dict[str, list[Any]] = {}
    for one in items:
        by_name.setdefault(one.name, []).append(one)
    rows = tuple(
        Row(
            cells=(
                text(name, link=f"models?{urlencode({'model': name})}", note=found[0].source),
                state("live" if any(one.reference in serving for one in found) else "on disk"),
                Cell(kind="list", items=tuple(text(one.variant or one.precision or one.format) for one in found)),
                number(sum(one.num_bytes for one in found), "B"),
                _gate(found),
                text(found[0].licence),
                Cell(kind="yes") if any(one.sealed for one in found) else NONE,
                when(max(one.created_at for one in found)),
            ),
            acts=_acts_on(reader, name),
        )
        for name, found in by_name.items()
    )
    columns = ("model", "state", "variants", "num_bytes", "gate", "licence", "sealed", "created_at")
    return Table(
        name="stored", columns=columns, rows=rows, total=len(rows), minor=frozenset({"sealed", "created_at"})
    ).trimmed()


def _gate(found: Iterable[Any]) -> Cell:
    said = {one.gate for one in found if one.gate}
    return state("failed" if "failed" in said else "passed" if said else "")


def _acts_on(reader: Reader, ref: str) -> tuple[Act, ...]:
    """Return what may be done with a stored model or variant, what destroys last."""
    keys = dict.fromkeys(("release create", "optimize evaluate", "optimize quantize", *STORED))
    refs = {"model seal": ref.partition("@")[0]}
    words = {"release create": "releases.new"}
    found = [one for key in keys for one in reader.may(key, words.get(key, ""), **{STORED[key]: refs.get(key, ref)})]
    return tuple(sorted(found, key=lambda one: one.danger))


def _matches(entry: Any, said: str) -> bool:
    """Return whether every word of a text is in what is known of a model."""
    where = " ".join((entry.name, entry.summary, entry.source, entry.licence, *entry.engines)).casefold()
    return all(word in where for word in said.casefold().split())


def unpinned(source: str) -> str:
    """Return a source without its version or revision."""
    return source.partition("==")[0].partition("@")[0]


def offer(entry: Any, stored: Mapping[str, str]) -> Offer:
    """Return a model of the catalogue as a card. `stored`: names in the store, by themselves and by source."""
    needs = entry.weight_bytes or 2 * (entry.num_parameters or 0)
    about = "~" if "weight_bytes" in entry.unverified or not entry.weight_bytes else ""
    return Offer(
        name=entry.name,
        entry=entry,
        facts=(*([f"{about}{figure(needs, 'B')}"] if needs else ()), entry.licence),
        tone=FITS[entry.fits],
        by=figure(needs, "B") if entry.fits == "too-large" else entry.here.removeprefix("with "),
        stored=stored.get(entry.name, stored.get(unpinned(entry.source), "")),
    )


async def _add_page(reader: Reader, source: str) -> Answer:
    """Return what a download takes, and the button that begins it."""
    pull = reader.acts.atlas.by_key.get("model pull")
    if pull is None:
        return await tab_page(reader, BY_NAME["models"])
    if not reader.offers(pull):
        await reader.perform(pull, None)  # refuses, with the authority's message
    found, resident = await asyncio.gather(reader.ask("model catalog"), reader.ask("model ps"))
    entry = next((one for one in getattr(found, "items", ()) if one.name == source), None)
    chosen = Offer(name=source[:500]) if entry is None else offer(entry, {})
    facts = () if entry is None else (
        ("source", text(entry.source)),
        ("weight_bytes", number(entry.weight_bytes, "B")),
        ("num_parameters", number(entry.num_parameters)),
        ("context_tokens", number(entry.context_tokens)),
        ("licence", text(entry.licence)),
        ("memory", NONE if resident is None else bar(resident.taken_bytes, resident.memory_bytes, "B")),
    )  # fmt: skip
    return reader.page(
        "add.html", "models", offer=chosen, at_call=pull.address, facts=[one for one in facts if one[1].kind != "none"],
        words=f"ashore model pull {source[:500]}",
    )  # fmt: skip


async def _one_page(reader: Reader, query: Mapping[str, str]) -> Answer:
    """Return one model: variants, evaluation, where it is served, and what is done with it now."""
    works, releases, resident = await asyncio.gather(_works(reader), reader.ask("release list"), reader.ask("model ps"))
    job = next((one for one in works if one.job.id == query.get("job")), None)
    name = query.get("model", "") or (job.model if job is not None else "")
    own = [one for one in works if one is job or (name and one.model == name)]
    try:
        found = await reader.ask("model list", model=name) if name else None
    except NotFound:
        if not own:
            raise
        found = None
    if not name and job is None:
        raise NotFound(f"there is no job {query['job'][:60]!r} about a model", hint="see the page Jobs")
    items, serving = getattr(found, "items", []), _serving(releases)
    hosted = [one for item in items for one in serving.get(item.reference, ())]
    seen = [one for one in getattr(resident, "items", ()) if one.model.partition("@")[0] == name]
    return reader.page(
        "model.html", "models", name=name or (reader.words.act(job.call) if job is not None else ""),
        chip=state("live" if hosted else "on disk" if items else ""), facts=_facts(items, seen),
        works=[one for one in own if one.runs or one is job], live_ms=_pace(own),
        ended=[one for one in own if not one.runs and one is not job][:MOST_ENDED],
        acts=_acts_on(reader, name) if items else (), evaluate=reader.may("optimize evaluate", model=name),
        variants=_variants(reader, items, serving), checks=_checks(items), source=_source(items),
        served=[(one, state(one.state)) for one in hosted], recorded=query.get("recorded", ""),
        words=f"ashore model show {name}" if name else f"ashore job show {query.get('job', '')}",
    )  # fmt: skip


def _pace(works: Iterable[Work]) -> int | str:
    """Return after how many milliseconds a page looks again; empty: when something happens."""
    return LIVE_MS if any(one.runs for one in works) else ""


def _facts(items: Sequence[Any], seen: Sequence[Any]) -> list[tuple[str, str]]:
    """Return the figures of a model, by the key of their words."""
    memory = sum(one.resident_bytes or one.memory_bytes for one in seen)
    rate = sum(one.rate_per_min for one in seen)
    load = max((one.load_s for one in seen), default=0.0)
    found = (
        ("num_bytes", figure(sum(one.num_bytes for one in items), "B") if items else ""),
        ("variants", f"{len(items)}" if items else ""),
        ("memory", figure(memory, "B") if memory else ""),
        ("rate_per_min", figure(rate, "/min") if rate else ""),
        ("load_s", human_seconds(load) if load else ""),
    )
    return [one for one in found if one[1]]


def _source(items: Sequence[Any]) -> list[tuple[str, Cell]]:
    if not items:
        return []
    first = items[0]
    sealed = Cell(kind="yes" if any(one.sealed for one in items) else "no")
    return [("source", text(first.source)), ("licence", text(first.licence)), ("sealed", sealed)]


def _variants(reader: Reader, items: Iterable[Any], serving: Mapping[str, Any]) -> Table:
    rows = tuple(
        Row(
            cells=(
                text(one.reference, note="" if one.variant else reader.words("models.as-pulled")),
                text(one.format),
                text(one.precision),
                number(one.num_bytes, "B"),
                state(one.gate or ""),
                state(serving[one.reference][0].state if one.reference in serving else "on disk"),
                code(one.digest),
                when(one.created_at),
            ),
            acts=_acts_on(reader, one.reference),
        )
        for one in items
    )
    columns = ("variant", "format", "precision", "num_bytes", "gate", "state", "digest", "created_at")
    return Table(
        name="variants", columns=columns, rows=rows, total=len(rows), minor=frozenset({"format", "digest"})
    ).trimmed()


def _checks(items: Iterable[Any]) -> Table:
    rows = tuple(
        Row(
            cells=(
                text(line.metric, note=line.about),
                text(item.reference),
                number(line.seen),
                number(line.limit),
                state("passed" if line.passed else "failed"),
            )
        )
        for item in items
        for line in item.checks
    )
    columns = ("metric", "variant", "seen", "bound", "result")
    return Table(name="checks", columns=columns, rows=rows, total=len(rows)).trimmed()


async def _works(reader: Reader) -> list[Work]:
    """Return the operations on models that the reader may see, the newest first."""
    try:
        found = await reader.ask("job list", limit=MOST_JOBS)
    except AshoreError:
        return []  # the page stands without them
    known = ((one, reader.acts.atlas.by_key.get(one.kind)) for one in getattr(found, "items", ()))
    return [_work(reader, job, of.call) for job, of in known if of is not None and of.call.noun in CALLS_ON_STORED]


def _work(reader: Reader, job: Any, call: Call) -> Work:
    opens = Act(address=f"jobs/job?{urlencode({'job': job.id})}", word="models.log")
    return Work(
        job=job, call=call, subject=about(job), state=state(job.state), progress=progress_of(job),
        pace=pace_of(job.operation) if job.state == "running" else [], ended_s=seconds_of(job.finished),
        acts=(*acts_on(reader, job), opens),
    )  # fmt: skip
