"""Smaller and faster: variants with fewer bits, and their costs.

Owns: the precision of each part of a model, how it is chosen, and the resources it takes.
Refuses: the arithmetic of a number format (the engine that runs it), judging a model (`evaluation`), and changing
weights by learning (`training`).

Where to add what:

- A way of pruning: how many parts stay in pruning/planning.py, which ones in surgery/students.py; a family of
  models in surgery/anatomy.py and surgery/students.py.
- What a student learns from its teacher: distilling/distil.py.
- A row of the table of optimising: a stage in benchmarks/optimise/road.py, its judge in benchmarks/optimise/table.py.
"""

from ashore.lab.optimize.quantise import PRECISIONS, Quantiser, QuantizePlan, QuantizeReport
