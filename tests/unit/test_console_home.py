"""What Home says that it needs a person for."""

from __future__ import annotations

from ashore.control.alerts.calls import AlertRow
from ashore.control.console.home import MOST_ALERTS, of_alerts


def alert(severity: str, state: str, what: str = "disk is full") -> AlertRow:
    return AlertRow(
        alert="a1", severity=severity, state=state, what=what, rule="D301", since_at=1.0, channels="ops", acked_by="",
        remedy="delete something",
    )  # type: ignore[arg-type]  # fmt: skip


def test_an_open_alert_needs_somebody_until_it_is_acknowledged_silenced_or_over() -> None:
    states = ("waiting", "sent", "escalated", "acknowledged", "silenced", "over")
    found = [one for state in states for one in of_alerts([alert("warning", state, state)], str.upper)]
    assert [one.places["what"] for one in found] == ["WAITING", "SENT", "ESCALATED"]
    assert {(one.tone, one.link, one.why) for one in found} == {("warn", "alerts", "delete something")}
    assert [one.tone for one in of_alerts([alert("critical", "sent")], str)] == ["bad"]
    assert list(of_alerts([alert("advice", "sent")], str)) == []


def test_many_alerts_are_counted_and_not_listed() -> None:
    found = list(of_alerts([alert("warning", "sent")] * (MOST_ALERTS + 4), str))
    assert [one.name for one in found] == ["alert"] * MOST_ALERTS + ["alerts-more"]
    assert found[-1].places == {"count": 4}
