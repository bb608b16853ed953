"""Which models on demand are in memory: who is loaded, who makes room for whom, and what operators are told of it.

Owns: the rule of eviction, where models on demand stand, `[tiers]`, the calls `model ps|warm|cool|pin|unpin`.
Refuses: starting and ending engine hosts, which `deployment` does; moving bytes, which `store` does.
"""

from ashore.residency.calls import AsksSupervisor
from ashore.residency.model import Residence, ResidenceState, Served, Standings
from ashore.residency.rules import RATE_SPAN_S, Resident, Room, plan_room, rate_after, worth
from ashore.residency.section import TiersSection

__all__ = [
    "RATE_SPAN_S",
    "AsksSupervisor",
    "Residence",
    "ResidenceState",
    "Resident",
    "Room",
    "Served",
    "Standings",
    "TiersSection",
    "plan_room",
    "rate_after",
    "worth",
]
