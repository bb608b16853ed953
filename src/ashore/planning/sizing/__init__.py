"""Purchase planning: the speed of a model on devices that are not at hand, and which of them can serve a load.

Owns: the catalogue of devices and of model shapes, the physics of serving, its calibration on published measurements,
and the choice. Refuses: a figure without its interval, and a load without lengths and a service level.
"""

from ashore.planning.sizing.calibration import HELD_OUT, Calibration, Miss, Trust, shipped
from ashore.planning.sizing.check import Report, Score, check
from ashore.planning.sizing.chips import Chip, chips, find_chip
from ashore.planning.sizing.choose import Choice, Figure, Option, Refusal, capacity, choose, words_of
from ashore.planning.sizing.nearby import Evidence
from ashore.planning.sizing.networks import Network, find_network, network_of_config, networks
from ashore.planning.sizing.points import Point, read_points
from ashore.planning.sizing.wish import Costs, Level, Load, missing, priced, refuse_without

__all__ = [
    "HELD_OUT",
    "Calibration",
    "Chip",
    "Choice",
    "Costs",
    "Evidence",
    "Figure",
    "Level",
    "Load",
    "Miss",
    "Network",
    "Option",
    "Point",
    "Refusal",
    "Report",
    "Score",
    "Trust",
    "capacity",
    "check",
    "chips",
    "choose",
    "find_chip",
    "find_network",
    "missing",
    "network_of_config",
    "networks",
    "priced",
    "read_points",
    "refuse_without",
    "shipped",
    "words_of",
]
