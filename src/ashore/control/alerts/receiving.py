"""What an Alertmanager hands in becomes alerts of this home. No text of it becomes a command.

Source: Alertmanager 0.28, "Webhook".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from ashore.control.alerts.model import HANDED_IN, Book, Wrong, handed_in
from ashore.control.alerts.office import AlertOffice
from ashore.control.alerts.section import Severity
from ashore.control.alerts.wording import one_line
from ashore.core.errors import SwitchedOff
from ashore.kit.call import Actor

RECEIVE: Final = "alert:receive"
OWN_LABEL: Final = "ashore_id"
"""On alerts that ashore itself sent to an Alertmanager, which may send them back."""
SEVERITIES: Final[Mapping[str, Severity]] = {
    "critical": "critical", "page": "critical", "emergency": "critical", "info": "advice", "none": "advice",
}  # fmt: skip
"""By the label `severity`; anything else, and none, is a warning."""
Texts = Annotated[dict[str, str], msgspec.Meta(max_length=100)]


class ReceivedAlert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of an Alertmanager. What it has beside this is not read."""

    status: Literal["firing", "resolved"]
    labels: Texts = {}
    annotations: Texts = {}
    fingerprint: Annotated[str, msgspec.Meta(max_length=64)] = ""

    @property
    def wrong(self) -> Wrong:
        """The alert as ashore knows it; the same for the same labels."""
        texts = self.annotations
        said = texts.get("summary") or texts.get("description") or texts.get("message") or "no summary"
        labels = "\0".join(f"{name}\0{value}" for name, value in sorted(self.labels.items()))
        about = self.fingerprint or hashlib.sha256(labels.encode()).hexdigest()  # a label may have a megabyte
        return Wrong(
            rule=HANDED_IN, about=about,
            severity=SEVERITIES.get(self.labels.get("severity", "").lower(), "warning"),
            what=one_line(f"{self.labels.get('alertname') or 'alert'}: {said}"),
        )  # fmt: skip


class ReceivedAlerts(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an Alertmanager's webhook."""

    version: Literal["4"]
    alerts: Annotated[tuple[ReceivedAlert, ...], msgspec.Meta(max_length=1_000)]


class AlertsReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What became of alerts that were handed in."""

    firing: int
    resolved: int
    own: int
    """Those that ashore itself had sent; they are left out."""


def receive(office: AlertOffice, actor: Actor, sent: ReceivedAlerts) -> AlertsReceived:
    """Take alerts of an Alertmanager. They go out like those of ashore, and end once they are resolved. May be called
    twice. Blocks.

    Raises:
        SwitchedOff: there is no channel that could send them.
    """
    if not office.rules.channels:
        raise SwitchedOff("no alert can be sent from here", hint="add an [[alert.channel]] to ashore.toml")
    others = [one for one in sent.alerts if OWN_LABEL not in one.labels]
    firing = [one.wrong for one in others if one.status == "firing"]
    ended = {one.wrong.id for one in others if one.status == "resolved"}
    now_s = office.clock.now_s()

    def taken(book: Book, transaction: object) -> Book:
        detail: dict[str, str | int] = {"firing": len(firing), "resolved": len(ended)}
        actor.record(office.recorder, RECEIVE, "alerts", detail=detail, on=transaction)
        return handed_in(book, firing, ended, now_s)

    office.store.change(taken)
    return AlertsReceived(firing=len(firing), resolved=len(ended), own=len(sent.alerts) - len(others))
