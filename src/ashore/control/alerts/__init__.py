"""Alerts: what is wrong, brought to a person, once, where they look, until it is over.

Owns: the life of an alert (it waits, is sent, repeats, escalates, is acknowledged, ends), silences, channels and their
limits, the heartbeat. Refuses to own: what is wrong (the doctor's rules, budgets), and whom a person is.

Where to add what:

- Something to be alerted of: a rule of the doctor (control/doctor/rules.toml), which is a source already.
- Another system that hands alerts in: what receiving.py has for an Alertmanager, with a route in control/faces.
- A kind of channel: a function in control/alerts/channels.py, its name in control/alerts/section.py, a case in
  tests/contract/test_alert_channels.py.
"""

from ashore.control.alerts.office import AlertOffice
from ashore.control.alerts.receiving import RECEIVE, AlertsReceived, ReceivedAlerts, receive

__all__ = ["RECEIVE", "AlertOffice", "AlertsReceived", "ReceivedAlerts", "receive"]
