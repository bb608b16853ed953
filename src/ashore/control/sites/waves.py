"""Waves of a roll-out: which sites come when, and whether the next wave may begin. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ashore.control.sites.sql import Rollout, Site
from ashore.core.errors import InvalidRequest

LOST_S: Final = 86_400
"""A site that was not heard for so long since it was reached holds its wave no more."""


def waves_of(sites: Sequence[str], text: str) -> tuple[tuple[str, ...], ...]:
    """Divide sites into waves.

    Args:
        sites: Their names, in the order in which they come.
        text: How many sites are in by the end of each wave: `1,10%,100%`. What is left comes in one more.

    Raises:
        InvalidRequest: the text says something else.
    """
    ends = []
    for part in text.split(","):
        number = part.strip().removesuffix("%")
        if not number.isdigit() or (part.strip().endswith("%") and int(number) > 100):
            raise InvalidRequest(f"{text!r} is not a list of waves", hint="write 1,10%,100%", param="waves")
        ends.append(math.ceil(int(number) * len(sites) / 100) if part.strip().endswith("%") else int(number))
    waves, begin = [], 0
    for end in [*ends, len(sites)]:
        if end > begin and begin < len(sites):
            waves.append(tuple(sites[begin:end]))
            begin = end
    return tuple(waves)


def step(rollout: Rollout, sites: Mapping[str, Site], now_s: int) -> Rollout:
    """Return a running roll-out as it stands after what the sites reported.

    It stops at the first site that reports the version as worse, failed or gone back from. It waits for a site that is
    silent, for `LOST_S` where another site serves the version; a revocation takes it out at once.
    """
    if rollout.state != "running":
        return rollout
    reached = [name for wave in rollout.waves[: rollout.wave + 1] for name in wave if name in sites]
    for name in reached:
        if why := _worse(rollout, sites[name]):
            return replace(rollout, state="stopped", why=f"{name}: {why}")
    living, wave = [sites[name] for name in reached if not sites[name].revoked_s], rollout.waves[rollout.wave]
    late = [one for one in living if not _serves(rollout, one)]
    held = [one for one in late if one.name in wave and now_s - max(one.seen_s, one.want.sequence) <= LOST_S]
    names = ", ".join(one.name for one in (held or late)[:9])
    if held or (late and len(late) == len(living)):
        return replace(rollout, well_s=0, why=f"waits for {names}")
    rollout = replace(rollout, why=f"went on without {names}" if late else "")
    well_s = rollout.well_s or now_s
    if now_s - well_s < rollout.soak_s:
        return replace(rollout, well_s=well_s)
    if rollout.wave + 1 == len(rollout.waves):
        return replace(rollout, state="done", well_s=well_s)
    return replace(rollout, wave=rollout.wave + 1, well_s=0)


def _worse(rollout: Rollout, site: Site) -> str:
    """Return what a site reports against the version; empty if nothing. A report from before it does not count."""
    report = site.report
    if report is None or site.revoked_s or report.want < site.want.sequence:
        return ""
    new = {one.model: one.alias for one in rollout.serve}
    for one in report.served:
        if one.state in ("went back", "failed") and one.wanted in new:
            return f"{new[one.wanted]} {one.state}"
    if report.health != "good" and any(one.digest in new for one in report.served):
        return f"its health is {report.health} since it serves the version"
    return ""


def _serves(rollout: Rollout, site: Site) -> bool:
    served = {} if site.report is None else {one.alias: one for one in site.report.served}
    return site.report is not None and site.report.want >= site.want.sequence and all(
        (one := served.get(wish.alias)) is not None and one.digest == wish.model and one.state == "serving"
        for wish in rollout.serve
    )  # fmt: skip
