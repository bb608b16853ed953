"""Smaller and faster: variants with fewer bits, their costs, and rebuilding them.

Owns: the precision of each part of a model, how it is chosen, the resources it takes, and the comparison of a rebuild.
Refuses: the arithmetic of a number format (the engine that runs it), judging a model (`evaluation`), and changing
weights by learning (`training`).

Where to add what:

- A way of pruning: how many parts stay in pruning/planning.py, which ones in surgery/students.py; a family of
  models in surgery/anatomy.py and surgery/students.py.
- What a student learns from its teacher: distilling/lessons.py, called in distilling/distil.py.
- A maker of variants or derived models: a `Maker` (optimize/ports.py) in `rebuilder` of bootstrap/optimizing.py.
- A row of the table of optimising: a stage in benchmarks/optimise/road.py, its judge in benchmarks/optimise/table.py.
"""

from ashore.optimize.model import QuantizePlan, QuantizeReport, RebuildReport
from ashore.optimize.ports import Maker
from ashore.optimize.precisions import PRECISIONS, is_made_beside
from ashore.optimize.quantise import MAKER, Quantiser
from ashore.optimize.rebuild import Rebuilder
