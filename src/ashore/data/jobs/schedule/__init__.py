"""When an operation is due by itself, and what came of it: rows and rules.

Owns: turns. Refuses: to queue a job.
"""

from ashore.data.jobs.schedule.rows import Turn, read_turns, see, turn_of
from ashore.data.jobs.schedule.rules import AGAIN_S, MOST_TRIES, Next, every
