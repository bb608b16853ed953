"""Purchase planning: the speed of a model on devices that are not at hand, and which of them can serve a load.

Owns: the catalogue of devices and of model shapes, the physics of serving, its calibration on published measurements,
and the choice. Refuses: a figure without its interval, and a load without lengths and a service level.
"""

from ashore.lab.sizing.calibration import HELD_OUT, Miss, shipped
from ashore.lab.sizing.check import Score, check
from ashore.lab.sizing.chips import chips, find_chip
from ashore.lab.sizing.choose import Choice, Figure, Option, choose, words_of
from ashore.lab.sizing.networks import Network, find_network, network_of_config, networks
from ashore.lab.sizing.points import read_points
from ashore.lab.sizing.wish import Costs, Level, Load, missing, priced, refuse_without
