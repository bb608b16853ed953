"""Purchase planning: the speed of a model on devices that are not at hand, and which of them can serve a load.

Owns: the catalogue of devices and of model shapes, the physics of serving, its calibration on published measurements,
and the choice. Refuses: a figure without its interval, and a load without lengths and a service level.
"""

from ashore.planning.sizing.calibration import HELD_OUT, Miss, shipped
from ashore.planning.sizing.check import Score, check
from ashore.planning.sizing.chips import chips, find_chip
from ashore.planning.sizing.choose import Choice, Figure, Option, capacity, choose, words_of
from ashore.planning.sizing.networks import Network, find_network, network_of_config, networks
from ashore.planning.sizing.points import read_points
from ashore.planning.sizing.wish import Costs, Level, Load, missing, priced, refuse_without
