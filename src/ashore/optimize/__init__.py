"""Smaller and faster: variants with fewer bits, what each costs, and making any of them again.

Owns: which precision a model gets and where, how that is found, what it will take, and what a rebuild compares.
Refuses: the arithmetic of a number format (the engine that runs it), judging a model (`evaluation`), and changing
weights by learning (`training`).
"""

from ashore.optimize.model import QuantizePlan, QuantizeReport, QuantizeWish, RebuildReport
from ashore.optimize.ports import Maker
from ashore.optimize.precisions import PRECISIONS, is_made_beside
from ashore.optimize.quantise import MAKER, Quantiser
from ashore.optimize.rebuild import Rebuilder

__all__ = [
    "MAKER",
    "PRECISIONS",
    "Maker",
    "Quantiser",
    "QuantizePlan",
    "QuantizeReport",
    "QuantizeWish",
    "RebuildReport",
    "Rebuilder",
    "is_made_beside",
]
