"""`ashore access budget` and `ashore access usage`: limits and usage."""

from __future__ import annotations

from collections.abc import Sequence

from ashore.cli.calls import Errand, command_of, noun_of
from ashore.cli.sure import DryRun, Yes, go_ahead
from ashore.core.counted import counted
from ashore.data.authority.budgets.calls import (
    CALLS,
    BudgetIn,
    BudgetOut,
    BudgetRemoved,
    BudgetShow,
    CountOut,
    UsageOut,
)
from ashore.kit.call import Items, call_named


def _set(errand: Errand, asked: BudgetIn, *, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Set a budget, and ask first if it limits the whole server."""
    chosen = {"tenant": asked.tenant, "user": asked.user, "key": asked.key, "model": asked.model}
    named = ", ".join(f"{noun} {name}" for noun, name in chosen.items() if name)
    whom = named or "everyone together, as no --tenant, --user, --of-key or --model is given"
    what = f"limit {asked.kind} to {asked.cap:,} for {whom}"
    if go_ahead(what, yes=yes or bool(named), dry_run=dry_run, as_json=errand.as_json):
        errand.tell(errand.ask(asked))


def _line(one: BudgetOut) -> str:
    per = {"now": "at once", "total": "in total"}.get(one.window, f"per {one.window}")
    return f"{one.id}  {one.cap:,} {one.kind} {per} for {one.about}"


def _show_list(found: Items[BudgetOut]) -> None:
    for one in found.items:
        print(_line(one))
        _show_counts(one.counts)
    if not found.items:
        print("no budgets: usage is not limited")


def _show_set(made: BudgetOut) -> None:
    print(_line(made))


def _show_removed(gone: BudgetRemoved) -> None:
    print(f"removed {gone.id}")


def _show(found: BudgetShow) -> None:
    print(_line(found.budget))
    _show_counts(found.items)


def _show_counts(counts: Sequence[CountOut]) -> None:
    for one in counts:
        who = " ".join(name for name in (one.tenant, one.user, one.key, one.model) if name) or "everybody"
        reset = f", resets at {one.resets_at}" if one.resets_at else ""
        print(f"  {who}: {one.settled:,} used, {one.open:,} reserved, {one.left:,} left{reset}")


def _show_usage(found: Items[UsageOut]) -> None:
    for one in found.items:
        who = " ".join(name for name in (one.day, one.tenant, one.user, one.model) if name)
        cost = f", {one.cost} {one.currency}" if one.cost is not None else ""
        refused = f", {one.refused:,} refused" if one.refused else ""
        print(
            f"{who}: {counted(one.requests, 'request')} ({one.hits:,} from the cache), "
            f"{one.prompt_tokens:,} + {one.completion_tokens:,} tokens{refused}{cost}"
        )
    if not found.items:
        print("no usage in this period")


budget = noun_of(
    "access budget",
    "List, set, remove and show budgets.",
    CALLS,
    {"list": _show_list, "set": _show_set, "remove": _show_removed, "show": _show},
    {"set": _set},
)
usage = command_of(call_named("usage", CALLS), _show_usage)
