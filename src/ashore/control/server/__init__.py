"""Views for operators: figures of the last hours and days, logs, the effective configuration, stored models.

Owns: figures out of the ring in the state, and following the events in it. Refuses to own: what is measured
(`metrics`, and each room its own), events (stored by the room where they happen), and the supervisor's data, which it
queries.

Where to add what: a figure of the ring is a row of `SERIES` in data/server/series.py.
"""

from ashore.control.server.events import Feed
