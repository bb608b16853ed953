"""Plans how models are served on this machine: engine, variant, threads and cache of each.

Owns: the plan and the reason of every choice in it. Refuses: starting anything, fetching anything.
"""

from ashore.machine.planning.changes import compare, describe, number_releases
from ashore.machine.planning.rules import kv_cache_bytes, make_plan, plan_beside, refuse_without_program, what_fits
from ashore.machine.planning.section import EngineSection, LadderSection, ModelSection, ShareSection
from ashore.machine.planning.workshop import StoreWorkshop
