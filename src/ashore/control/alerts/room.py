"""Alerts in the control process: who is asked what is wrong, and what goes out."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Sequence
from typing import Final

from ashore.control.alerts.calls import CALLS
from ashore.control.alerts.model import Wrong
from ashore.control.alerts.office import AlertOffice, BookStore, Source
from ashore.control.alerts.section import AlertSection
from ashore.control.doctor import Looks
from ashore.control.jobs.schedule import home_in
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.rooms import Context, Opened, Room

OWN: Final = ("D924", "D927")
"""Rules of the doctor that alerts say in their own, finer way: budgets and channels."""
_ALERTS: Final = Metric("ashore_alerts", "gauge", "Alerts that are open, by severity.", ("severity",))
_CHANNELS: Final = Metric(
    "ashore_alert_channel_failures",
    "gauge",
    "Number of consecutive messages that a channel of alerts did not take.",
    ("channel",),
)


async def open_alerts(context: Context) -> Opened:
    """Open the room; nothing without a state."""
    if context.database is None:
        return Opened()
    looks, home = context.find(Looks), home_in(context)
    office = AlertOffice(
        store=BookStore(context.database, home), recorder=context.recorder, clock=context.clock, home=home,
        node=platform.node() or "ashore", rules=context.section("alert", AlertSection),
        allow=context.told("egress").with_own, slow=None if looks is None else doctor_of(looks),
    )  # fmt: skip

    async def reload(context: Context) -> None:
        office.rules, office.allow = context.section("alert", AlertSection), context.told("egress").with_own

    return Opened(
        desk=office,
        reload=(reload,),
        background={"what is wrong": office.keep_looking, "alerts": office.keep_sending},
        measure=lambda: asyncio.to_thread(_measure, office, context.metrics),
        close=lambda: asyncio.to_thread(office.stop),
    )


def doctor_of(looks: Looks) -> Source:
    """Return the doctor's findings as a source: causes alone, since their consequences say nothing new."""

    async def ask() -> Sequence[Wrong]:
        found = await looks(fresh=False)
        return [
            Wrong(
                rule=one.rule, severity=one.severity, what=one.what, area=one.area, remedy=one.remedy,
                commands=one.commands,
            )
            for one in found.items if not one.because_of and one.rule not in OWN
        ]  # fmt: skip

    return ask


def _measure(office: AlertOffice, metrics: Metrics) -> None:
    book = office.store.read()
    for severity in ("critical", "warning", "advice"):
        firing = sum(one.wrong.severity == severity and not one.gone_s for one in book.alerts.values())
        metrics.set(_ALERTS.name, firing, severity)
    for channel in office.rules.channels:
        state = book.channels.get(channel.name)
        metrics.set(_CHANNELS.name, state.failures if state is not None else 0, channel.name)


ROOM: Final = Room(
    name="alert", calls=CALLS, section=AlertSection, metrics=(_ALERTS, _CHANNELS), administer=open_alerts,
    acts=("alert:receive", "alert:send", "alert:unsilence"),
)  # fmt: skip
