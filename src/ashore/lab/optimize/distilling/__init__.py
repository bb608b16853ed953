"""Distillation: a smaller model learns from a larger one's output.

Owns the teacher's log-probabilities on disk, how a student is cut out of a teacher, and its training objective. Refuses
the steps of training themselves (`training`) and judging the student (`evaluation`).
"""

from ashore.lab.optimize.distilling.distil import MAKER, Distiller
from ashore.lab.optimize.distilling.logitstore import LogitStore, StoreKey
from ashore.lab.optimize.distilling.model import DistilPlan, DistilReport, DistilWish
from ashore.lab.optimize.distilling.settings import DistilSettings
from ashore.lab.optimize.distilling.toprows import TopRows, top_rows
