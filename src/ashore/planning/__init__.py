"""Plans how models are served on this machine: engine, variant, threads and cache of each.

Owns: the plan and the reason of every choice in it. Refuses: starting anything, fetching anything.
"""

from ashore.planning.changes import compare, describe, number_releases
from ashore.planning.inventory import read_inventory
from ashore.planning.model import (
    RESERVED_BYTES,
    RUNGS,
    Change,
    Choice,
    Inventory,
    ModelFacts,
    ModelPlan,
    OnDemand,
    Plan,
    Promise,
    Tuned,
    Wish,
)
from ashore.planning.rules import (
    kv_cache_bytes,
    make_plan,
    plan_beside,
    refuse_without_program,
    what_fits,
)
from ashore.planning.section import EngineSection, LadderSection, ModelSection, ShareSection
