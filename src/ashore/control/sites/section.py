"""`[sites]`: whether this home is a centre or a site, and what that means."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import msgspec
from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import AtLeast0, Kept, Seconds, Section

Days = Annotated[float, Meta(gt=0, le=3_650)]

Takes = Literal["admission", "cache", "privacy", "budgets", "pairs"]


class SitesSection(Section, frozen=True, kw_only=True):
    """Branch offices: a centre that says what its sites serve, or one of these sites."""

    role: Kept[Literal["", "centre", "site"]] = ""
    """`centre`: publish models and assignments for sites; `site`: take them from a centre; empty: neither."""
    # centre
    publish: Kept[str] = "https"
    """Where the centre publishes: `https`, over its own edge; `folder:/srv/sites`, for any web server or for sticks; or
    `s3://BUCKET/PATH`."""
    root_days: Days = 365
    """Days until the root expires. Operators sign the next one with `ashore site keys rotate`."""
    targets_days: Days = 90
    """Days until the list of released models expires."""
    director_days: Days = 30
    """Days until the assignments of sites expire. The centre renews them when half of that is over."""
    timestamp_days: Days = 3
    """Days until a site that hears no news takes nothing new; it serves on. At most so long can somebody hold news
    back unnoticed."""
    token_hours: Annotated[float, Meta(gt=0, le=24 * 30)] = 24
    """How long the token of a new site may be used."""
    # site
    centre: Kept[str] = ""
    """Address of the centre, `https://centre.example`; or `folder:/PATH` or `s3://BUCKET/PATH`, where it publishes.
    Empty: it is reached by sticks alone."""
    takes: tuple[Takes, ...] = ()
    """What the centre may set here: parts of this file (`admission`, `cache`; `privacy`, whose floors only mask more),
    `budgets` and curated `pairs`. Empty: nothing. An assignment with a part that is not allowed here is not taken."""
    poll_s: Seconds = 60
    """About how often the centre is asked for news."""
    report_s: Seconds = 300
    """About how often the site reports where nothing changes."""
    judge_s: Seconds = 60
    """How long a new version is watched once it answers. Then it counts as served, and older ones free the disk."""
    rate: AtLeast0 = 0
    """Most bytes a second that models are fetched with; 0: no limit. The centre may set a lower one."""
    hours: Annotated[str, Meta(pattern=r"\A(\d\d:\d\d-\d\d:\d\d)?\Z")] = ""
    """Local times between which models are fetched, `22:00-06:00`, unless the centre sets others. Empty: always."""
    escalate: Kept[Literal["never", "overflow", "quality"]] = "never"
    """Which requests the centre may answer: `overflow`, those that are too long for the model here or find no room;
    `quality`, also those of the aliases in `escalate_first`. The centre's own word may allow less."""
    escalate_key: Kept[str] = ""
    """API key for the centre, best as `{ from_file = PATH }`."""
    escalate_to: Kept[dict[str, str]] = msgspec.field(default_factory=dict)
    """Alias at the centre by alias here, where they differ."""
    escalate_first: Kept[tuple[str, ...]] = ()
    """Aliases that the centre answers whenever the link allows it."""
    escalate_wait_s: Kept[Seconds] = 3
    """How long the centre may take to its first byte where the site can answer itself."""

    @property
    def runs(self) -> bool:
        return self.role == "site"

    def checked(self, where: str) -> Self:
        if self.publish != "https" and not self.publish.startswith(("folder:/", "s3://")):
            raise InvalidSpec(
                f"{where} publish = {self.publish!r}; expected https, folder:/PATH or s3://BUCKET/PATH",
                hint='write "https" to publish over the edge of this home',
            )
        return self
