"""Operations that the server queues by itself: jobs as any other, at an interval, a time of day, or when a rule says.

Owns: the rows of what, when and what came of it; one turn at a time of each operation; retries of what was cut off.
Refuses to own: when a room's operation is due (`Source` of that room), and the work (`jobs.operations`).

To have something queued: a `Source` in the room that knows when, added to the `Schedule` as the room opens.
"""

from ashore.control.jobs.schedule.keeping import Entry, Schedule, Source
from ashore.control.jobs.schedule.room import home_in
