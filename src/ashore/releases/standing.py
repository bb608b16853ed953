"""What a reload makes of promoted releases: they stay, and where ashore.toml disagrees, it is said. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ashore.planning import Change, ModelPlan, Plan, describe
from ashore.releases.digests import spec_content
from ashore.releases.model import Book


def moved_by_hand(book: Book) -> Mapping[str, ModelPlan]:
    """Return the plan of what answers, by alias, where it is not what ashore.toml said the last time."""
    found = {}
    for alias in book.aliases.values():
        live = next((name for name in alias.releases if book.courses[name].state == "live"), None)
        if live is not None and alias.spec_content and spec_content(book.releases[live].plan) != alias.spec_content:
            found[alias.name] = replace(book.releases[live].plan, alias=alias.name, release=live)
    return found


def with_standing(
    changes: Sequence[Change], after: Plan, standing: Mapping[str, ModelPlan], taken: Collection[str] = ()
) -> tuple[Change, ...]:
    """Return the changes from one plan to `after` where what operators had answer stays, but for what is taken.

    Args:
        changes: Between what ashore.toml said and says.
        after: What it says now.
        standing: From `moved_by_hand`.
        taken: Aliases that are to be served as ashore.toml says.
    """
    models = {model.alias: model for model in after.models}
    return tuple(
        _change(change, models[change.alias], standing[change.alias], taken)
        if change.alias in standing and change.kind in ("keep", "replace")
        else change
        for change in changes
    )


def _change(change: Change, asked: ModelPlan, stands: ModelPlan, taken: Collection[str]) -> Change:
    what = f"{stands.release}, {describe(stands)}"
    if spec_content(asked) == spec_content(stands):
        return replace(change, kind="keep", what=what)
    if change.alias in taken:
        return replace(change, kind="replace", what=f"{what} -> {describe(asked)} (taken from ashore.toml)")
    said = f"ashore.toml says {describe(asked)}; to serve that: ashore reload --take {change.alias}"
    return replace(change, kind="keep", what=f"{what}, as it was promoted ({said})")
