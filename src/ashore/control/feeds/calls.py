"""What may be asked about feeds: how far each is, and to send again."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec

from ashore.control.feeds.feeder import Feeder
from ashore.core.errors import NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.audit import read_moment
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.recorder import Recorder

READ: Final = "feed:read"
REWIND: Final = "feed:rewind"


class FeedDesk:
    """The feeds of this home."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.feeders: tuple[Feeder, ...] = ()


class FeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one feed stands."""

    feed: str
    to: str
    """Its receiver."""
    state: str
    """`sending`, `up to date`, or `waiting`: the receiver takes nothing."""
    behind: int
    """Records that the receiver has not confirmed."""
    good_at: float | None
    """When the receiver last confirmed something, in seconds since 1970; null: never."""
    waiting_s: float
    """How long it has taken nothing."""
    sent: int
    """Lines that it confirmed."""
    resent: int
    """Those among them that went out again; the receiver drops them by their number."""
    skipped: int
    """Records that could not be sent, because they were damaged or lay only in the archive."""
    proves: str
    """What `ashore feed verify` can prove of the receiver's file: `records`, or `numbers` where the feed changes or
    leaves out records."""
    error: str
    """What the receiver last said."""


class RewindIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent again."""

    feed: Annotated[str, msgspec.Meta(max_length=40)]
    """Name of the feed."""
    since: str = ""
    """From when on: 2026-11-24T08:00:00+08:00, or 3h for three hours ago; empty: everything on this machine."""


def status(desk: FeedDesk, actor: Actor, asked: Nothing) -> list[FeedRow]:
    """Show how far each receiver of the audit log is."""
    return [row_of(one) for one in desk.feeders]


def rewind(desk: FeedDesk, actor: Actor, asked: RewindIn) -> FeedRow:
    """Send records to a receiver again, after it lost some.

    It drops what it has by chain and number, or `ashore feed verify` counts them as doubled.
    """
    found = next((one for one in desk.feeders if one.feed.name == asked.feed), None)
    if found is None:
        raise NotFound(
            f"there is no feed {asked.feed!r}",
            hint=did_you_mean(asked.feed, [one.feed.name for one in desk.feeders]) or "`ashore feed status` lists them",
        )
    since_us = read_moment(asked.since, now_s=time.time()) if asked.since else 0
    actor.record(desk.recorder, REWIND, f"feed/{asked.feed}", detail={"since": asked.since or "all"})
    found.rewind(since_us)
    return row_of(found)


def row_of(feeder: Feeder) -> FeedRow:
    """Return how a feed stands."""
    one, behind = feeder.standing, feeder.behind()
    whole = feeder.feed.form == "jsonl" and not feeder.feed.only
    return FeedRow(
        feed=one.name, to=one.to, behind=behind, sent=one.sent, resent=one.resent, skipped=one.skipped, error=one.error,
        state="waiting" if one.failures else "sending" if behind else "up to date",
        good_at=one.good_us / 1e6 if one.good_us else None, proves="records" if whole else "numbers",
        waiting_s=max(0.0, time.time() - one.silent_us / 1e6) if one.silent_us else 0.0,
    )  # fmt: skip


CALLS: Final = (
    Call("feed", "status", "GET", "/feeds", READ, status, on_server=True),
    Call("feed", "rewind", "POST", "/feeds/{feed}/rewind", REWIND, rewind, on_server=True),
)
