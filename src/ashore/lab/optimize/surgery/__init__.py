"""Shared by pruning and distilling: where a decoder's parameters are, how to cut out a smaller one, refit it, and train
it on the larger one.

Refuses to decide what to remove (`pruning`), and the size and data of a student (`distilling`).
"""

from ashore.lab.optimize.surgery.anatomy import Anatomy, Sizes, anatomy_of, anatomy_of_config
from ashore.lab.optimize.surgery.losses import ROWS_AT_ONCE, Lesson, LossMix, hidden_mismatch, lesson_loss
from ashore.lab.optimize.surgery.refitting import refit
from ashore.lab.optimize.surgery.students import (
    StudentPlan,
    cut_student,
    even_layers,
    freeze_vocabulary,
    measure_teacher,
    plan_student,
)
