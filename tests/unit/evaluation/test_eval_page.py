"""The how-to says what is true: its files are read, and nothing that can be written in them is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from ashore.lab.evaluation import METRICS, TaskHeader, open_task, parse_gate, parse_task, shipped_tasks
from ashore.lab.evaluation.tasks.model import Kind

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "evaluate-a-model.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def test_the_task_and_the_gate_of_the_page_are_taken() -> None:
    [task] = [text for _, text in BLOCKS if text.startswith('{"task"')]
    assert len(parse_task(task.encode(), "page").items) == 2
    [gate] = [text for kind, text in BLOCKS if kind == "toml"]
    assert len(parse_gate(gate, "page").limits) == 4


def test_every_kind_field_limit_and_set_is_on_the_page() -> None:
    names = [*get_args(Kind), *TaskHeader.__struct_fields__, *(metric.name for metric in METRICS), *shipped_tasks()]
    assert [name for name in names if f"`{name}`" not in PAGE and f'"{name}": ' not in PAGE] == []
    for name in shipped_tasks():
        assert f"{len(open_task(name).items):,}" in PAGE
