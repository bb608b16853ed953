"""Pruning: an ordinary smaller checkpoint out of a larger one.

Owns the counts, the choice of parts to remove, and the training afterwards. Refuses the steps of training (`training`).
"""

from ashore.optimize.pruning.model import PruneWish
from ashore.optimize.pruning.planning import KINDS, Kind, plan_pruning
from ashore.optimize.pruning.service import PruneOrder, Pruner, PruneReport
from ashore.optimize.surgery import Anatomy, Sizes, anatomy_of, anatomy_of_config
