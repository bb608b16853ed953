"""`[privacy]`: what is masked, for whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast, get_args

from ashore.config.table import Table
from ashore.privacy import (
    KINDS,
    Action,
    AnswerAction,
    DetectorName,
    Dictionary,
    Expression,
    LabelMode,
    PrivacyPolicy,
    PrivacyRoute,
    check_policy,
)

A = TypeVar("A", bound=str)


def read_privacy(table: Table) -> PrivacyPolicy:
    """Return `[privacy]`.

    Raises:
        InvalidSpec: a kind or an action is unknown, or an expression cannot be used.
    """
    table.known("detector", "prompts", "answers", "label", "route", "expression", "dictionary")
    expressions = tuple(_expression(one) for one in table.tables("expression"))
    dictionaries = tuple(_dictionary(one) for one in table.tables("dictionary"))
    kinds = (*KINDS, *(one.kind for one in expressions), *(one.kind for one in dictionaries))
    policy = PrivacyPolicy(
        detector=cast(DetectorName, table.choice("detector", "own", get_args(DetectorName))),
        prompts=_actions(table.table("prompts"), kinds, cast(tuple[Action, ...], get_args(Action))),
        answers=_actions(table.table("answers"), kinds, cast(tuple[AnswerAction, ...], get_args(AnswerAction))),
        label=cast(LabelMode, table.choice("label", "off", get_args(LabelMode))),
        routes=tuple(_route(one, kinds) for one in table.tables("route")),
        expressions=expressions,
        dictionaries=dictionaries,
    )
    check_policy(policy)
    return policy


def _route(table: Table, kinds: Iterable[str]) -> PrivacyRoute:
    table.known("tenant", "alias", "prompts", "answers", "label")
    return PrivacyRoute(
        tenant=table.get("tenant", str, "*"),
        alias=table.get("alias", str, "*"),
        prompts=_actions(table.table("prompts"), kinds, cast(tuple[Action, ...], get_args(Action))),
        answers=_actions(table.table("answers"), kinds, cast(tuple[AnswerAction, ...], get_args(AnswerAction))),
        label=cast(LabelMode, table.choice("label", "off", get_args(LabelMode))) if "label" in table.values else None,
    )


def _actions(table: Table, kinds: Iterable[str], allowed: tuple[A, ...]) -> dict[str, A]:
    table.known("*", *kinds)
    return {kind: cast(A, table.choice(kind, "", allowed)) for kind in table.values}


def _expression(table: Table) -> Expression:
    table.known("kind", "pattern", "ignore_case")
    return Expression(
        kind=table.get("kind", str, ""),
        pattern=table.get("pattern", str, ""),
        ignore_case=table.get("ignore_case", bool, False),
    )


def _dictionary(table: Table) -> Dictionary:
    table.known("kind", "words", "ignore_case")
    return Dictionary(
        kind=table.get("kind", str, ""),
        words=table.texts("words"),
        ignore_case=table.get("ignore_case", bool, True),
    )
