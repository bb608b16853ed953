"""`[sites]`: whether this home is a centre or a site, and what that means."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.kit.section import Kept, Section

Days = Annotated[float, Meta(gt=0, le=3_650)]


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

    def checked(self, where: str) -> Self:
        if self.publish != "https" and not self.publish.startswith(("folder:/", "s3://")):
            raise InvalidSpec(
                f"{where} publish = {self.publish!r}; expected https, folder:/PATH or s3://BUCKET/PATH",
                hint='write "https" to publish over the edge of this home',
            )
        return self
