"""The privacy policy: one table of what is done with each kind of personal data, for everybody and where it differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ashore.control.console.kit import NONE, Cell, Row, Table, text
from ashore.control.console.listing import Part, list_page
from ashore.control.console.model import Answer
from ashore.control.console.pages import BY_NAME
from ashore.control.console.reader import Reader
from ashore.control.console.tabs import tab_page
from ashore.data.privacy import EVERY, PrivacyPolicy, Rules, rules_for


async def masking_page(reader: Reader) -> Answer:
    """Return the policy in force, the kinds with which something is done first."""
    found = await reader.ask("privacy policy show")
    if found is None:
        return await tab_page(reader, BY_NAME["privacy"])
    hidden = sum(one != "allow" for one in found.in_prompts.values())
    lead = reader.words(
        "privacy.lead", count=len(found.kinds), hidden=hidden, source=reader.words(f"privacy.from.{found.source}")
    )
    policy = found.policy
    settings = (("label", policy.label), ("trace_content", policy.trace_content), ("detector", policy.detector))
    rows = tuple(Row(cells=(text(reader.words.label(name)), text(value))) for name, value in settings)
    return await list_page(
        reader, "privacy", "privacy", lambda: _table(reader, found), lambda one: (),
        lead=lead, acts=reader.may("privacy policy set") + reader.may("privacy detect") + reader.may("privacy query"),
        command="ashore privacy policy show", nouns=("privacy policy", "privacy"), icon="shield",
        below=(Part(name="settings", table=Table(columns=("setting", "value"), rows=rows, total=len(rows))),),
    )  # fmt: skip


def _table(reader: Reader, found: Any) -> Table:
    other = list(_others(found.policy, found.kinds))
    rows = [
        Row(
            cells=(
                text(reader.words.kind(kind), note=_own(reader, found.policy, kind)),
                _done(found.in_prompts[kind]),
                _done(found.in_answers[kind]),
                _exceptions(reader, found, other, kind),
            ),
            values={"item": kind},
        )
        for kind in sorted(found.kinds, key=lambda kind: found.in_prompts[kind] == found.in_answers[kind] == "allow")
    ]
    return Table(columns=("personal_data", "in_prompts", "in_answers", "exceptions"), rows=tuple(rows), total=len(rows))


def _others(policy: PrivacyPolicy, kinds: list[str]) -> Iterator[tuple[str, str, Rules]]:
    """Yield tenant, alias and rules of those of whom a route or a floor of their own is about."""
    named = dict.fromkeys((one.tenant, one.alias) for one in (*policy.routes, *policy.floors))
    for tenant, alias in named:
        if (tenant, alias) != (EVERY, EVERY):
            yield tenant, alias, rules_for(policy, tenant, alias, kinds)


def _done(action: str) -> Cell:
    return Cell(kind="absent", text="as it is") if action == "allow" else text(action)


def _exceptions(reader: Reader, found: Any, other: list[tuple[str, str, Rules]], kind: str) -> Cell:
    items = []
    for tenant, alias, rules in other:
        pairs: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
            ("in_prompts", rules.prompts, found.in_prompts), ("in_answers", rules.answers, found.in_answers),
        )  # fmt: skip
        said = [
            f"{reader.words.label(where).lower()} {reader.words.value(here[kind])}"
            for where, here, everywhere in pairs
            if here[kind] != everywhere[kind]
        ]
        if said:
            whom = " · ".join(one for one in (tenant, alias) if one != EVERY)
            items.append(text(f"{whom}: {reader.words('comma').join(said)}"))
    return Cell(kind="list", items=tuple(items)) if items else NONE


def _own(reader: Reader, policy: PrivacyPolicy, kind: str) -> str:
    """Return what finds a kind of the operator's own."""
    patterns = [one.pattern for one in policy.expressions if one.kind == kind]
    count = sum(len(one.words) for one in policy.dictionaries if one.kind == kind)
    return reader.words("comma").join([*patterns, *([reader.words("privacy.words", count=count)] if count else [])])
