"""What changed from one report to another: every difference with its interval and a paired test."""

from __future__ import annotations

from collections.abc import Mapping

from ashore.core.errors import InvalidRequest
from ashore.lab.evaluation.divergence import Divergence
from ashore.lab.evaluation.model import Comparison, Report
from ashore.lab.evaluation.perplexity import perplexity_increase
from ashore.lab.evaluation.statistics import Difference
from ashore.lab.evaluation.tasks import accuracy_change


def compare(before: Report, after: Report, divergences: Mapping[str, Divergence] = {}) -> Comparison:
    """Return the changes from `before` to `after` on everything that both have; the rest has a reason."""
    increases: dict[str, Difference] = {}
    changes: dict[str, Difference] = {}
    skipped: dict[str, str] = {}
    theirs = {text.text: text for text in before.texts}
    for text in after.texts:
        other = theirs.get(text.text)
        if other is None or other.digest != text.digest:
            skipped[text.text] = f"{before.model.name} was not evaluated on this text"
            continue
        try:
            increases[text.text] = perplexity_increase(other.perplexity, text.perplexity)
        except InvalidRequest as error:
            skipped[text.text] = error.message
    done = {task.task: task for task in before.tasks}
    for task in after.tasks:
        if task.task not in done:
            skipped[task.task] = f"{before.model.name} was not evaluated on this task"
            continue
        try:
            changes[task.task] = accuracy_change(done[task.task], task)
        except InvalidRequest as error:
            skipped[task.task] = error.message
    return Comparison(
        against=before.model,
        conditions=before.conditions,
        perplexity_increase=increases,
        divergence=dict(divergences),
        accuracy_change=changes,
        not_compared=skipped,
    )
