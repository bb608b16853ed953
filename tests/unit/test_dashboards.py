"""The Grafana boards and alert rules: every metric and label in them is one that ashore tells."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ashore.data.http.vllmnames import VLLM_TABLE
from ashore.kit.metrics import HOST_TABLE, TABLE, Kind
from ashore.kit.rooms import rooms

DEPLOY = Path(__file__).parents[2] / "deploy"
ADDED = {"le"}
"""Labels that histograms have beside their own."""


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dashboards", DEPLOY / "make_dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(name: str, kind: Kind) -> tuple[str, ...]:
    if kind == "histogram":
        return f"{name}_bucket", f"{name}_sum", f"{name}_count"
    return (f"{name}_total",) if kind == "counter" else (name,)


def known() -> dict[str, set[str]]:
    """Return the labels of every sample that `/metrics` may have, by its name."""
    ours = [*TABLE, *HOST_TABLE, *(metric for room in rooms() for metric in room.metrics)]
    found = {sample: set(one.labels) | ADDED for one in ours for sample in samples(one.name, one.kind)}
    theirs = {"model_name", "engine", "finished_reason"} | ADDED
    return found | {f"vllm:{sample}": theirs for row in VLLM_TABLE for sample in samples(row.name, row.kind)}


def expressions() -> Iterator[str]:
    for board in sorted((DEPLOY / "grafana").glob("*.json")):
        for panel in json.loads(board.read_text())["panels"]:
            yield from (target["expr"] for target in panel["targets"])
    for group in yaml.safe_load((DEPLOY / "alerts" / "ashore.yml").read_text())["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


ALL = tuple(expressions())


def faults(expression: str) -> list[str]:
    """Return what of an expression ashore does not tell."""
    table, wrong = known(), []
    names = re.findall(r"\b(?:ashore|vllm)[_:]\w+", expression)
    wrong += [name for name in names if name not in table]
    labels = set().union(*(table.get(name, set()) for name in names))
    for inner in re.findall(r"\{([^}]*)\}", expression):
        wrong += [label for label in re.findall(r"(\w+)\s*[=!]~?\"", inner) if label not in labels]
    for inner in re.findall(r"\bby \(([^)]*)\)", expression):
        wrong += [label for label in re.split(r",\s*", inner) if label not in labels]
    return wrong if names else [*wrong, "no metric at all"]


@pytest.mark.parametrize("expression", ALL)
def test_every_name_and_label_is_told(expression: str) -> None:
    assert faults(expression) == []
    assert expression.count("(") == expression.count(")")


def test_a_wrong_name_or_label_would_be_found() -> None:
    assert faults("rate(ashore_requests[5m])") == ["ashore_requests"]
    assert faults('ashore_errors_total{tenant="x"}') == ["tenant"]
    assert faults("sum by (model) (ashore_open_requests)") == ["model"]
    assert faults("vllm:time_to_first_token_seconds_bucket") == []


def test_the_files_are_what_the_script_writes() -> None:
    for path, text in script().files().items():
        assert path.read_text() == text, f"run deploy/make_dashboards.py: {path.name} is another"


def test_each_alert_says_what_to_do_and_leads_to_a_page() -> None:
    rules = yaml.safe_load((DEPLOY / "alerts" / "ashore.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 14
    for rule in rules:
        assert (DEPLOY.parent / rule["annotations"]["runbook"]).is_file(), rule["alert"]
