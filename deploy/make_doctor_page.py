"""Write docs/reference/doctor.md: every rule of the doctor, and the test that shows it fire.

A test shows a rule that it expects among the findings of a running server, a home or a machine with a fault, or of a
recorded reading of a real machine. The tests are read and not run: `{"D301"} <= set(found)`, `finds("D301")`,
`found["D301"]` and rows of faults count, `"D301" not in found` does not.

    python deploy/make_doctor_page.py > docs/reference/doctor.md
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ashore.control.doctor import load_rules

HERE: Final = Path(__file__).parent.parent
FAULTS: Final = (
    *sorted((HERE / "tests/acceptance").glob("test_doctor_*faults.py")),
    HERE / "tests/acceptance/test_reach_tools_page.py",
    HERE / "tests/acceptance/test_up_vllm.py",
)
RECORDED: Final = tuple(
    HERE / "tests/unit/doctor" / name
    for name in ("test_doctor_cards.py", "test_doctor_gpus.py", "test_doctor_recorded.py", "test_doctor_sites.py")
)
_ID: Final = re.compile(r"D\d{3}")
_SILENT: Final = frozenset({"is_silent"})


def shown() -> dict[str, list[str]]:
    """Return the tests that show each rule, `FILE: what the test is called`, by its id."""
    found: dict[str, list[str]] = {}
    for file in (*FAULTS, *RECORDED):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            for rule, what in _named(node):
                found.setdefault(rule, []).append(f"{file.name}: {what}")
    return {rule: list(dict.fromkeys(tests)) for rule, tests in found.items()}


def _named(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield each rule that a statement of a module expects, with what tells the case."""
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
        yield from ((rule, node.name.removeprefix("test_").replace("_", " ")) for rule in _expected(node))
    if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple):
                yield from ((rule, str(key.value)) for rule in _expected(value))


def _expected(node: ast.AST) -> Iterator[str]:
    """Yield the rules that stand in a piece of code, without those that it expects to be silent."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return
    if isinstance(node, ast.Compare) and any(isinstance(one, ast.NotIn) for one in node.ops):
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SILENT:
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and _ID.fullmatch(node.value):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _expected(child)


def page() -> str:
    """Return the page.

    Raises:
        ValueError: no test shows one of the rules.
    """
    tests, rules = shown(), load_rules()
    if unseen := [one.id for one in rules if one.id not in tests]:
        raise ValueError(f"no test makes a fault on which {', '.join(unseen)} fires: write one, or delete the rule")
    lines = [
        "# Rules of the doctor",
        "",
        "Written by `make docs`. `ashore doctor` asks these rules;",
        "[Find what is wrong](../how-to/find-what-is-wrong.md) tells how to use it.",
        "",
        f"{len(rules)} rules. Each is shown to fire by the test named here: on a real fault of a running server,",
        "a home or a machine (`make test-doctor`), or on a recorded reading of a real machine.",
        "",
        "| rule | area | what it asks | shown by |",
        "|---|---|---|---|",
    ]
    for one in sorted(rules, key=lambda one: one.id):
        by = "; ".join(what for _, _, what in (test.partition(": ") for test in tests[one.id]))
        lines.append(f"| {one.id} | {one.area} | {one.question} | {by} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
