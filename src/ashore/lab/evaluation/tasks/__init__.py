"""Tasks: JSON-lines files of items, judged by the model's likelihoods or its written answers.

Owns the format of task files, prompts and judges, and the shipped sets. Refuses: uncertainty of figures.
"""

from ashore.lab.evaluation.tasks.model import Item, Task, TaskHeader
from ashore.lab.evaluation.tasks.reader import open_task, parse_task, shipped_tasks
from ashore.lab.evaluation.tasks.results import TaskResult, accuracy_change
from ashore.lab.evaluation.tasks.run import run_task
