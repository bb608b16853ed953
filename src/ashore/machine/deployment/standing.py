"""How a reload treats promoted releases: they stay, and differences from ashore.toml are reported. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ashore.data.engines import Change, ModelPlan, Plan
from ashore.data.releases.model import spec_content
from ashore.machine.planning import describe


def with_standing(
    changes: Sequence[Change], after: Plan, standing: Mapping[str, ModelPlan], taken: Collection[str] = ()
) -> tuple[Change, ...]:
    """Return the changes from one plan to `after`, keeping the operators' promoted releases except those `taken`.

    Args:
        changes: From the old ashore.toml to the new one.
        after: The plan of the new one.
        standing: From `ReleaseKeeper.standing`.
        taken: Aliases to serve as in ashore.toml.
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
