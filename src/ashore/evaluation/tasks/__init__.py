"""Tasks: JSON-lines files of items, asked of a model and judged by likelihood or by what it writes.

Owns the form of task files, how items are asked and judged, and the sets that ship. Refuses: how sure a figure is.
"""

from ashore.evaluation.tasks.model import Item, Task, TaskHeader
from ashore.evaluation.tasks.program import ConfinedRunner, Program, Runner
from ashore.evaluation.tasks.reader import open_task, parse_task, shipped_tasks
from ashore.evaluation.tasks.results import ItemResult, TaskResult, accuracy_change
from ashore.evaluation.tasks.run import run_task

__all__ = [
    "ConfinedRunner",
    "Item",
    "ItemResult",
    "Program",
    "Runner",
    "Task",
    "TaskHeader",
    "TaskResult",
    "accuracy_change",
    "open_task",
    "parse_task",
    "run_task",
    "shipped_tasks",
]
