"""Releases: what answers each alias, and one release with its traffic, its evidence and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.kit import Act, Cell, Row, Table, Tone, code, figure, number, state, text, when
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page
from ashore.core.errors import NotFound
from ashore.data.releases import CHECK, measure_of

CANDIDATES: Final = ("canary", "shadow", "warming")
HOSTED: Final = ("live", *CANDIDATES, "standby")
MOVES: Final = {
    "created": ("shadow", "canary", "promote", "retire"),
    "warming": ("retire",),
    "shadow": ("canary", "promote"),
    "canary": ("canary", "promote"),
    "standby": ("promote", "retire"),
    "retired": ("shadow", "canary", "promote"),
}
"""What may be done with a release, by its state; an alias with a way back can also be rolled back."""
NEXT_SHARES: Final = (5, 25, 50)
MOST_STEPS: Final = 12
NODE: Final = 84
"""Height of a release in the picture, with the gap below it, in pixels: as `.ends` of the sheet has it."""
SHARES: Final = ("errors", "defects")
"""Measures that are shares of requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One release of the picture: how much of an alias it gets, and the line that leads to it."""

    release: str
    note: str
    state: Cell
    share: str
    copied: bool
    """Whether it gets copies, whose answers nobody reads."""
    path: str
    width: str
    look: str


async def releases_page(reader: Reader) -> Answer:
    """Return where aliases point and every release; with `alias=NAME` or `release=NAME` one of them."""
    query = dict(reader.asked.query)
    found, aliases = await asyncio.gather(reader.ask("release list"), reader.ask("alias list"))
    if found is None or aliases is None:
        return await tab_page(reader, BY_NAME["releases"])
    if query.get("alias") or query.get("release"):
        return await _one_page(reader, query, found.items, aliases.items)
    table = Table(
        columns=("release", "state", "alias", "model", "engine", "since"),
        rows=tuple(_row(reader, one) for one in found.items), total=len(found.items), minor=frozenset({"engine"}),
    )  # fmt: skip
    nouns = [
        noun for noun in ("alias", "learn") if any(reader.offers(one) for one in reader.acts.atlas.on("releases", noun))
    ]
    return reader.page(
        "releases.html", "releases", aliases=_aliases(reader, aliases.items, found.items), table=table.trimmed(),
        nouns=nouns, acts=reader.may("release create") + reader.may("alias set"), words="ashore release list",
    )  # fmt: skip


def _row(reader: Reader, one: Any) -> Row:
    return Row(
        cells=(
            text(one.name, link=f"releases?{urlencode({'release': one.name})}", note=one.why[:120]),
            state(one.state),
            text(one.alias),
            text(one.model),
            text(one.engine),
            when(one.since),
        ),
        acts=_moves(reader, one),
    )


def _aliases(reader: Reader, aliases: Iterable[Any], releases: Sequence[Any]) -> Table:
    rows = []
    for alias in aliases:
        shares = tuple(
            text(name if percent >= 100 else f"{name} {percent:g} %") for name, percent in alias.weights_percent.items()
        )
        candidate = next((one for one in releases if one.alias == alias.name and one.state in CANDIDATES), None)
        rows.append(
            Row(
                cells=(
                    text(alias.name, link=f"releases?{urlencode({'alias': alias.name})}"),
                    Cell(kind="list", items=shares) if shares else Cell(kind="none"),
                    state("") if candidate is None else state(candidate.state),
                    text(candidate.name if candidate is not None else ""),
                    when(alias.changed_at),
                ),
                acts=(
                    *(reader.may("release rollback", alias=alias.name) if alias.before or candidate else ()),
                    *reader.may("release create", "releases.new", alias=alias.name),
                    *reader.may("alias set", alias=alias.name),
                    *reader.may("alias history", alias=alias.name),
                    *reader.may("alias remove", alias=alias.name),
                ),
            )
        )
    columns = ("alias", "answers", "candidate_state", "candidate", "changed_at")
    return Table(name="aliases", columns=columns, rows=tuple(rows), total=len(rows)).trimmed()


def _moves(reader: Reader, one: Any) -> tuple[Act, ...]:
    """Return what may be done with a release as it stands, what ends it last."""
    found: list[Act] = []
    for word in MOVES.get(one.state, ()):
        fields = {"release": one.name}
        if one.state == "canary" and word == "canary":
            later = next((step for step in NEXT_SHARES if step > _share(one, one.alias)), None)
            if later is None:
                continue
            fields["share_percent"] = str(later)
        found += reader.may(f"release {word}", **fields)
    return tuple(found)


def _share(one: Any, alias: str) -> float:
    """Return the percentage of an alias that a release answers, or is to answer."""
    answers: float = one.weights_percent.get(alias, 0.0)
    return answers or (one.share_percent if one.state in CANDIDATES else 0.0)


async def _one_page(reader: Reader, query: dict[str, str], releases: Sequence[Any], aliases: Sequence[Any]) -> Answer:
    """Return a release, or the one of an alias that is on its way, else the live one."""
    wanted, name = query.get("release", ""), query.get("alias", "")
    one = next((each for each in releases if each.name == wanted), None)
    name = one.alias if one is not None else name
    own = [each for each in releases if each.alias == name or name in each.weights_percent]
    hosted = sorted((each for each in own if each.state in HOSTED), key=lambda each: HOSTED.index(each.state))
    candidates = [each for each in hosted if each.state in CANDIDATES]
    if one is None and not wanted:
        one = next(iter((*candidates, *hosted, *own)), None)
    if one is None:
        raise NotFound(f"there is no release {(wanted or name)[:60]!r}", hint="see the page Releases")
    alias = next((each for each in aliases if each.name == name), None)
    whole, evidence, burn, history = await asyncio.gather(
        reader.ask("release show", release=one.name),
        reader.ask("release evidence", release=one.name),
        reader.ask("release burn", release=one.name),
        reader.ask("alias history", alias=name, limit=MOST_STEPS) if alias is not None else asyncio.sleep(0),
    )
    acts = _moves(reader, one)
    if alias is not None and (alias.before or candidates):
        acts = (*acts[:2], *reader.may("release rollback", alias=name), *acts[2:])
    findings = getattr(evidence, "items", ())
    return reader.page(
        "release.html", "releases", alias=name, one=one, title=wanted or name,
        acts=(*acts, *reader.may("release create", "releases.new", alias=name)),
        chip=state(one.state), ways=picture(name, hosted), node=NODE, steps=[f"{step:g}" for step in one.steps_percent],
        findings=[(found, state(found.verdict)) for found in findings], measures=measures(findings),
        burns=_burns(getattr(burn, "items", ())), pairs=reader.may("release pairs", release=one.name),
        facts=_facts(one, gate_of(getattr(whole, "gate_verdict", None))), history=getattr(history, "items", ()),
        others=[(each, state(each.state)) for each in own if each.state not in HOSTED][:MOST_STEPS],
        recorded=query.get("recorded", ""), words=f"ashore release status {name}",
    )  # fmt: skip


def picture(alias: str, hosted: Sequence[Any]) -> list[Way]:
    """Return the releases that an alias leads to, with lines from the middle of its box, as thick as their shares."""
    found, middle = [], len(hosted) * NODE / 2
    for at, one in enumerate(hosted):
        share, copied = _share(one, alias), one.state == "shadow"
        end = at * NODE + (NODE - 12) / 2
        start = middle + (at - (len(hosted) - 1) / 2) * 8
        found.append(
            Way(
                release=one.name,
                note=one.model,
                state=state(one.state),
                share=f"{share:g} %" if share else "",
                copied=copied,
                path=f"M0 {start:.0f}C60 {start:.0f} 60 {end:.0f} 120 {end:.0f}",
                width=f"{max(1.5, share * 0.16):.1f}",
                look="sh" if copied or not share else "s2" if one.state in CANDIDATES else "",
            )
        )
    return found


def measures(findings: Iterable[Any]) -> Table:
    """Return what was compared with the live release, measure by measure."""
    rows = []
    for one in findings:
        for key, value in one.details.items():
            name = key.removesuffix(" mean")
            measure = measure_of(name)
            if not key.endswith(" mean") or measure is None:
                continue
            unit = "share" if name in SHARES or name.startswith(CHECK) else ""
            rows.append(
                Row(
                    cells=(
                        text(name),
                        state(one.stage),
                        number(float(value), unit),
                        Cell(kind="number", text=f"≤ {figure(measure.limit, unit)}"),
                        number(int(one.details.get(f"{name} count", 0)) or None),
                    )
                )
            )
    columns = ("measure", "stage", "difference", "bound", "requests")
    return Table(name="measures", columns=columns, rows=tuple(rows), total=len(rows)).trimmed()


def _burns(items: Iterable[Any]) -> Table:
    rows = tuple(
        Row(
            cells=(
                text(one.objective),
                number(one.short_rate),
                number(one.long_rate),
                Cell(kind="number", text=f"< {one.taken_back_from:g}"),
                number(one.bad),
                number(one.requests),
            )
        )
        for one in items
    )
    columns = ("objective", "short_rate", "long_rate", "bound", "bad", "requests")
    return Table(name="burn", columns=columns, rows=rows, total=len(rows))


def gate_of(verdict: str | None) -> Cell:
    """Return the verdict of the evaluation gate on the model of a release."""
    word, _, why = (verdict or "").partition(": ")
    tones: dict[str, Tone] = {"passed": "ok", "failed": "bad"}
    if not word:
        return Cell(kind="none")
    return Cell(kind="state", text="not evaluated" if word == "none" else word, tone=tones.get(word, ""), note=why)


def _facts(one: Any, gate: Cell) -> list[tuple[str, Cell]]:
    """Return what a release is made of, without what is not known."""
    model, _, _ = one.model.partition("@")
    options = [*one.options.items(), *(("adapter", name) for name in one.adapters)]
    found = (
        ("gate", gate),
        ("model", text(one.model, link=f"models?{urlencode({'model': model})}" if ":" not in model else "")),
        ("engine", text(one.engine)),
        ("replicas", number(one.replicas)),
        ("needed_bytes", number(one.needed_bytes or None, "B")),
        ("load_s", number(one.load_s, "s")),
        ("options", Cell(kind="list", items=tuple(text(f"{name} {value}") for name, value in options))),
        ("content", code(one.content)),
        ("created_at", when(one.created_at)),
        ("created_by", text(one.created_by)),
    )
    return [(name, cell) for name, cell in found if cell.kind != "none" and (cell.kind != "list" or cell.items)]
