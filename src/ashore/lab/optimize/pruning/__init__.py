"""Pruning: an ordinary smaller checkpoint out of a larger one.

Owns the counts, the choice of parts to remove, and the training afterwards. Refuses the steps of training (`training`).
"""

from ashore.lab.optimize.pruning.model import PruneWish
from ashore.lab.optimize.pruning.planning import KINDS, Kind, plan_pruning
from ashore.lab.optimize.pruning.service import PruneOrder, Pruner, PruneReport
from ashore.lab.optimize.surgery import Anatomy, Sizes, anatomy_of, anatomy_of_config
