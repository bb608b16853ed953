"""Models on demand in memory: loading, eviction, and their status for operators.

Owns: the eviction rule, the status of models on demand, `[tiers]`, the calls `model ps|warm|cool|pin|unpin`. Refuses:
starting and ending engine hosts, which `deployment` does; moving bytes, which `store` does.
"""

from ashore.residency.model import AsksSupervisor, Residence, ResidenceState, Served, Standings
from ashore.residency.rules import RATE_SPAN_S, Resident, plan_room, rate_after, worth
from ashore.residency.section import TiersSection
