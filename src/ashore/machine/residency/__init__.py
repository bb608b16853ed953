"""Models on demand: which one makes room.

Owns: the rules and `[tiers]`. Refuses: to start a host.
"""

from ashore.machine.residency.rules import RATE_SPAN_S, Resident, plan_room, rate_after, worth
from ashore.machine.residency.section import TiersSection
