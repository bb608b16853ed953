"""Budgets and curated pairs that a centre sets at its sites: rows of the state, beside the site's own.

Tenants and models are not looked up: one want goes to many sites, and binds a tenant from the day that a site has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.authority import Actor, budgets
from ashore.data.authority.budgets.calls import WRITE, BudgetIn
from ashore.data.cache import Pair, load_pairs, plain, read_pairs, remove_pairs, save_pairs
from ashore.kit.decode import UNDECODABLE
from ashore.kit.recorder import Recorder
from ashore.kit.state import Database
from ashore.kit.textfile import parse_toml

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROWS: Final = frozenset({"budgets", "pairs"})
"""The parts that are no sections of ashore.toml."""
SITE: Final = Actor(principal=Principal(id="site", kind="internal", tenant=TenantId("")))
"""Who acts here for the centre, in the audit log."""

Question = tuple[str, str, str]
"""Tenant, alias and normalised question."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What parts of a centre say."""

    rules: Mapping[str, budgets.BudgetRule]
    """By name of the rule."""
    pairs: Mapping[Question, Pair]


def rows_of(parts: Mapping[str, str]) -> Rows:
    """Return the rows of parts.

    Raises:
        InvalidSpec: a budget or a pair cannot be read.
    """
    where = "the centre's part [budgets]"
    try:
        rules = [one.rule() for one in msgspec.convert(_tables(parts, "budgets", "budget"), list[BudgetIn])]
        where = "the centre's part [pairs]"
        lines = msgspec.convert(_tables(parts, "pairs", "pair"), list[dict[str, Any]])
        pairs = read_pairs(map(msgspec.json.encode, lines), now_s=0)
    except InvalidRequest as fault:
        raise InvalidSpec(f"{where}: {fault.message}", hint=fault.hint) from fault
    except UNDECODABLE as fault:
        raise InvalidSpec(f"{where}: {str(fault)[:200]}", hint="correct it at the centre") from fault
    return Rows({one.rule_id: one for one in rules}, {_question(one): one for one in pairs})


@dataclass(frozen=True, slots=True)
class SiteRows:
    """The rows in the state of one site. Methods block."""

    database: Database
    recorder: Recorder
    clock: Clock

    def check(self, parts: Mapping[str, str], *ours: Mapping[str, str]) -> None:
        """Return when these parts replace no row of the site's own; rows of `ours` came from the centre.

        Raises:
            InvalidSpec: they would.
        """
        asked, known = rows_of(parts), [rows_of(one) for one in ours]
        for rule in budgets.SqlAuthority(self.database).rules():
            if rule.rule_id in asked.rules and not any(rule.rule_id in one.rules for one in known):
                raise InvalidSpec(
                    f"this site has a budget of its own for {rule.about()}: {rule.kind}, {rule.window}",
                    hint=f"remove it here with `ashore access budget remove {rule.rule_id}`, or leave it out there",
                )
        for question, pair in self._pairs().items():
            if question in asked.pairs and not any(question in one.pairs for one in known):
                raise InvalidSpec(
                    f"this site has an answer of its own to {pair.question[:100]!r}", hint="leave it out at the centre"
                )

    def apply(self, parts: Mapping[str, str], *ours: Mapping[str, str]) -> None:
        """Put the rows of these parts in place of `ours`. What is there already is left alone, so that a repeated call
        changes and records nothing."""
        asked, known = rows_of(parts), [rows_of(one) for one in ours]
        authority = budgets.SqlAuthority(self.database)
        now = {one.rule_id: one for one in authority.rules()}
        for name, rule in asked.rules.items():
            if now.get(name) != rule:
                authority.put_rule(rule, partial(self._say, rule.rule_id, rule))
        for name in {name for one in known for name in one.rules} - asked.rules.keys():
            authority.remove_rule(name, partial(self._say, name, None))
        held = self._pairs()
        fresh = [one for question, one in asked.pairs.items() if held.get(question) != one]
        stale = {question for one in known for question in one.pairs} & (held.keys() - asked.pairs.keys())
        if fresh or stale:
            with self.database.write() as on:
                for pair in (held[question] for question in stale):
                    remove_pairs(on, tenant=pair.tenant, alias=pair.alias, question=pair.question)
                save_pairs(on, [replace(one, created_s=int(self.clock.now_s())) for one in fresh])
                detail = {"curated": len(fresh), "removed": len(stale)}
                SITE.record(self.recorder, "cache:import", "cache/centre", detail=detail, on=on)

    def _say(self, name: str, rule: budgets.BudgetRule | None, on: Connection, _is_new: bool = False) -> None:
        detail: dict[str, str | int] = {}
        if rule is not None:
            detail = {"kind": rule.kind, "window": rule.window, "limit": rule.cap, "about": rule.about()}
        reason = "set for the centre" if rule else "removed for the centre"
        SITE.record(self.recorder, WRITE, f"budget/{name}", reason=reason, detail=detail, on=on)

    def _pairs(self) -> dict[Question, Pair]:
        with self.database.read() as connection:
            return {_question(one): replace(one, created_s=0) for one in load_pairs(connection)}


def _tables(parts: Mapping[str, str], section: str, key: str) -> Any:
    return parse_toml(parts.get(section, ""), f"the centre's part [{section}]").get(key, [])


def _question(pair: Pair) -> Question:
    return pair.tenant, pair.alias, plain(pair.question)
