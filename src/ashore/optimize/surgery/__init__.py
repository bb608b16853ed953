"""What pruning and distilling share: where the parameters of a decoder are, how a smaller one is cut out of it, how
what is left takes over the work of what went, and the loss by which it learns from the larger one.

Refuses to decide what goes (`pruning`), how large a student is and what it reads (`distilling`).
"""

from ashore.optimize.surgery.anatomy import FAMILIES, Anatomy, Sizes, anatomy_of, anatomy_of_config
from ashore.optimize.surgery.losses import ROWS_AT_ONCE, Lesson, LossMix, hidden_mismatch, lesson_loss
from ashore.optimize.surgery.refitting import refit
from ashore.optimize.surgery.students import (
    StudentPlan,
    cut_student,
    even_layers,
    freeze_vocabulary,
    measure_teacher,
    plan_student,
)

__all__ = [
    "FAMILIES",
    "ROWS_AT_ONCE",
    "Anatomy",
    "Lesson",
    "LossMix",
    "Sizes",
    "StudentPlan",
    "anatomy_of",
    "anatomy_of_config",
    "cut_student",
    "even_layers",
    "freeze_vocabulary",
    "hidden_mismatch",
    "lesson_loss",
    "measure_teacher",
    "plan_student",
    "refit",
]
