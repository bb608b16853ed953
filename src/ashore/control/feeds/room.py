"""The feeds of a home in the control process: one thread for each, and what may be asked about them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from ashore.control.audit import forget_feed, read_feeds
from ashore.control.feeds.calls import CALLS, FeedDesk
from ashore.control.feeds.feeder import Feeder, end_of
from ashore.control.feeds.receivers import open_receiver
from ashore.control.feeds.section import FeedSection
from ashore.data.audit import AuditLink, read_home
from ashore.kit.metrics import Metric
from ashore.kit.rooms import Context, Opened, Room

_BEHIND: Final = Metric(
    "ashore_feed_behind_records",
    "gauge",
    "Records of the audit log that a receiver has not confirmed.",
    ("feed",),
)
_TIME: Final = Metric(
    "ashore_feed_time_seconds",
    "gauge",
    "Unix time at which a receiver of the audit log last confirmed something (`good`), and since which it takes "
    "nothing (`silent`; 0 while it takes records).",
    ("feed", "what"),
)
_SENT: Final = Metric(
    "ashore_feed_lines",
    "gauge",
    "Lines of the audit log that a receiver has confirmed (`sent`), that went out again (`resent`), and that could not "
    "be sent (`skipped`).",
    ("feed", "what"),
)


async def open_feeds(context: Context) -> Opened:
    """Open the feeds; nothing without an audit log."""
    link: AuditLink = context.told("audit")
    if not link.path:
        return Opened()
    root, desk = Path(link.path), FeedDesk(context.recorder)

    def take(context: Context) -> None:
        """Go by ashore.toml: stop what changed or is gone, and start what is new."""
        allow = context.told("egress").with_own
        wanted = context.section("feed", FeedSection).items
        kept = {one.feed.name: one for one in desk.feeders if one.feed in wanted and one.allow == allow}
        for one in desk.feeders:
            if kept.get(one.feed.name) is not one:
                one.close()
        for name in {one.name for one in read_feeds(root)} - {one.name for one in wanted}:
            context.recorder.record(end_of(name))
            forget_feed(root, name)
        desk.feeders = tuple(
            kept.get(one.name)
            or Feeder(
                one, open_receiver(one, allow), allow=allow, root=root, home=read_home(root),
                recorder=context.recorder, clock=context.clock,
            ).start()
            for one in wanted
        )  # fmt: skip

    def measure() -> None:
        for one in desk.feeders:
            name, said = one.feed.name, one.standing
            context.metrics.set(_BEHIND.name, one.behind(), name)
            context.metrics.set(_TIME.name, said.good_us / 1e6, name, "good")
            context.metrics.set(_TIME.name, said.silent_us / 1e6, name, "silent")
            for what, number in (("sent", said.sent), ("resent", said.resent), ("skipped", said.skipped)):
                context.metrics.set(_SENT.name, number, name, what)

    async def reload(context: Context) -> None:
        await asyncio.to_thread(take, context)

    def close() -> None:
        for one in desk.feeders:
            one.close()

    await reload(context)
    return Opened(
        desk=desk, reload=(reload,), measure=lambda: asyncio.to_thread(measure), close=lambda: asyncio.to_thread(close)
    )


ROOM: Final = Room(
    name="feed", calls=CALLS, section=FeedSection, metrics=(_BEHIND, _TIME, _SENT), administer=open_feeds,
    acts=("feed:begin", "feed:end", "feed:fail", "feed:recover"),
)  # fmt: skip
