"""What an operator looks at: figures of the last hours and days, logs, the configuration in force, stored models.

Owns: the ring of figures in the state, and following the events in it. Refuses to own: what is measured (`metrics`, and
each room its own), what happens (the room that it happens in keeps the event), and what the supervisor knows, which it
asks.

Where to add what: a figure of the ring is a row of `SERIES` in `series.py`.
"""

from ashore.server.events import Feed
from ashore.server.series import READINGS, SERIES

__all__ = ["READINGS", "SERIES", "Feed"]
