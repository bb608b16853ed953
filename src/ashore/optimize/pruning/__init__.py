"""Pruning: an ordinary smaller checkpoint out of a larger one.

Owns what is counted, what goes, and what the rest is taught afterwards. Refuses the steps of training (`training`).
"""

from ashore.optimize.pruning.anatomy import FAMILIES, Anatomy, Sizes, anatomy_of, anatomy_of_config
from ashore.optimize.pruning.planning import KINDS, Kind, PartCount, PrunePlan, plan_pruning, read_share

__all__ = [
    "FAMILIES",
    "KINDS",
    "Anatomy",
    "Kind",
    "PartCount",
    "PrunePlan",
    "Sizes",
    "anatomy_of",
    "anatomy_of_config",
    "plan_pruning",
    "read_share",
]
