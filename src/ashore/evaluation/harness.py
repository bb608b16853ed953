"""Tasks of lm-evaluation-harness, run on a subject through the harness's own interface, if it is installed.

The harness brings prompts and metrics; the model is asked as for our own tasks. Its data sets come from wherever the
harness takes them; ours ship. Written against lm-eval 0.4.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ashore.engines import ScoredText, ScoreText
from ashore.errors import InvalidRequest, MissingExtra, NotFound
from ashore.evaluation.ports import Subject, Told, untold
from ashore.evaluation.tasks import TaskResult
from ashore.evaluation.tasks.answers import cut
from ashore.evaluation.tasks.results import ItemResult, result_of
from ashore.evaluation.windows import STRIDE_TOKENS, WINDOW_TOKENS, cut_texts, fitted

PREFIX: Final = "lm-eval:"
_NEW_TOKENS: Final = 256
_METRICS: Final = ("acc_norm", "acc", "exact_match", "f1", "bleu", "rougeL")
"""Which one is an item's score, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessTask:
    """A task that the harness knows by name, or a `.yaml` file of its form."""

    place: str
    limit: int = 0

    @property
    def name(self) -> str:
        return PREFIX + Path(self.place).stem


def run_harness(subject: Subject, task: HarnessTask, *, told: Told = untold) -> TaskResult:
    """Return the result of `subject` in a task of the harness.

    Raises:
        MissingExtra: the harness is not installed.
        NotFound: it knows no such task.
        InvalidRequest: the task samples its answers, or gives no score for each item.
    """
    lm_eval = _library()
    begun_s = time.perf_counter()
    manager, name = _manager(task)
    found = lm_eval.simple_evaluate(
        model=harness_model(subject, told=told),
        tasks=[name],
        limit=task.limit or None,
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
    )
    samples: Sequence[dict[str, Any]] = found["samples"].get(name, ())
    metric = next((m for m in _METRICS if samples and m in samples[0]), None)
    if metric is None:
        raise InvalidRequest(
            f"the harness returned no score per item for {name!r}", hint="name a single task, not a group of tasks"
        )
    items = tuple(ItemResult(line=int(one["doc_id"]), score=float(one[metric])) for one in samples)
    digest = hashlib.sha256("".join(str(one["doc_hash"]) for one in samples).encode()).hexdigest()
    seconds = time.perf_counter() - begun_s
    return result_of(task.name, f"lm-eval {metric}", "plain", f"sha256:{digest}", items, seconds)


def harness_model(subject: Subject, *, told: Told = untold) -> Any:
    """Return a model of the harness's own interface that asks `subject`. Raises `MissingExtra`."""
    _library()
    from lm_eval.api.model import LM

    class SubjectLM(LM):  # type: ignore[misc]
        """Answers the harness's three kinds of request."""

        def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            texts = [_continued(subject, *request.args) for request in requests]
            scored = subject.score(texts, top_logprobs=1, told=told)
            return [(_total(rows), _is_greedy(rows)) for rows in scored]

        def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
            whole = [request.args[0] for request in requests]
            window, stride = fitted(WINDOW_TOKENS, STRIDE_TOKENS, subject.info)
            cut_up = cut_texts(whole, subject.text, window=window, stride=stride)
            scored = subject.score([text for _, text in cut_up], told=told)
            totals = [0.0] * len(whole)
            for (number, _), rows in zip(cut_up, scored, strict=True):
                totals[number] += _total(rows)
            return totals

        def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
            answers = []
            for context, wanted in (request.args for request in requests):
                if wanted.get("do_sample") and wanted.get("temperature", 1.0) > 0:
                    raise InvalidRequest("this task samples its answers; ashore evaluates only greedy decoding")
                limit = int(wanted.get("max_gen_toks", _NEW_TOKENS))
                room = subject.info.context_tokens - limit
                ids = subject.text.encode(context)[-room:]
                [answer] = subject.generate([ids], max_new_tokens=limit)
                stops = wanted.get("until") or ()
                answers.append(
                    cut(subject.text.decode(answer.ids), (stops,) if isinstance(stops, str) else tuple(stops))
                )
                told(len(answers), len(requests))
            return answers

    return SubjectLM()


def _continued(subject: Subject, context: str, continuation: str) -> ScoreText:
    """Return context and continuation as tokens; the model sees as much of the end of the context as fits."""
    text = subject.text
    given = text.encode(context) or [*text.eos_token_ids[:1]]
    whole = text.encode(context + continuation)
    if whole[: len(given)] != given or len(whole) == len(given):
        whole = [*given, *text.encode(continuation, bare=True)]
    over = max(0, len(whole) - subject.info.context_tokens)
    return ScoreText(whole[over:], max(1, len(given) - over))


def _total(rows: ScoredText) -> float:
    return math.fsum(row[0].logprob for row in rows)


def _is_greedy(rows: ScoredText) -> bool:
    return all(row[0].token_id == row[1].token_id for row in rows)


def _manager(task: HarnessTask) -> tuple[Any, str]:
    from lm_eval.tasks import TaskManager

    path = Path(task.place)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise NotFound(f"there is no task file {task.place}", hint="name a .yaml file in the format of the harness")
        return TaskManager(include_path=str(path.parent), include_defaults=False), path.stem
    manager = TaskManager()
    if task.place not in manager.all_tasks:
        from ashore.core import did_you_mean

        hint = did_you_mean(task.place, manager.all_tasks)
        raise NotFound(f"the harness has no task {task.place!r}", hint=hint)
    return manager, task.place


def _library() -> Any:
    try:
        import lm_eval
    except ImportError as error:
        raise MissingExtra(f"lm-evaluation-harness is not installed ({error})", hint="pip install lm-eval") from error
    return lm_eval
