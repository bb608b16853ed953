"""Evaluation of models: perplexity, tasks, comparisons, and the gate that a model must pass.

Owns: perplexity, divergence, tasks, statistics, reports, gates. Refuses: how a model was made, where it is stored, and
which one is released. A model under test is a `Subject`, behind the engine that serves it.

Where to add what:

- A kind of task: its name in lab/evaluation/tasks/model.py, what an item needs in lab/evaluation/tasks/reader.py, its
  judge in lab/evaluation/tasks/run.py, a row in docs/how-to/evaluate-a-model.md.
- A limit of the gate: a row of `METRICS` in lab/evaluation/gate.py.
- A task that ships: a builder in deploy/make_task_sets.py.
"""

from ashore.lab.evaluation.attached import keep_report, kept_reports
from ashore.lab.evaluation.compare import compare
from ashore.lab.evaluation.divergence import divergence
from ashore.lab.evaluation.gate import METRICS, decide, parse_gate, read_gate
from ashore.lab.evaluation.hosted import open_hosted
from ashore.lab.evaluation.model import Judged, Report, read_report
from ashore.lab.evaluation.needs import check_memory, memory_needed
from ashore.lab.evaluation.perplexity import perplexity, perplexity_increase
from ashore.lab.evaluation.ports import Generated, Subject, Told, untold
from ashore.lab.evaluation.rendering import comparison_markdown, report_files, report_markdown
from ashore.lab.evaluation.service import Candidate, NamedText, evaluate
from ashore.lab.evaluation.statistics import mean, mean_difference, ratio, ratio_change
from ashore.lab.evaluation.tasks import (
    Item,
    Task,
    TaskHeader,
    TaskResult,
    accuracy_change,
    open_task,
    parse_task,
    run_task,
    shipped_tasks,
)
