"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType

import grimp
import pytest

import ashore
from ashore import errors
from ashore.cli.commands import COMMANDS

SOURCE = Path(ashore.__file__).parent
ROOT = Path(__file__).parent.parent
ROOMS = sorted(p.parent for p in SOURCE.glob("*/__init__.py"))
HEAVY = {
    "openvino", "openvino_genai", "nncf", "torch", "transformers", "gguf", "grpc", "huggingface_hub",
    "matplotlib", "llguidance", "oras", "obstore", "xllamacpp", "numpy", "tokenizers", "sqlalchemy", "httptools",
    "httpx", "redis", "rich", "cyclopts", "opentelemetry.exporter",
}  # fmt: skip


def _all_errors(kind: type[errors.AshoreError] = errors.AshoreError) -> Iterator[type[errors.AshoreError]]:
    for child in kind.__subclasses__():
        if child.__module__ == "ashore.errors":  # a room may have one that never leaves it; tests make their own
            yield child
        yield from _all_errors(child)


def _by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as the import sorter has it."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: p.name)
def test_room_says_what_it_owns_and_exports_sorted_names(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())
    doc = ast.get_docstring(tree)
    assert doc, f"{room.name}/__init__.py has no docstring"
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            and node.value is not None
            and ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target) == "__all__"
        ),
        None,
    )
    assert exported is not None, f"{room.name}/__init__.py has no __all__"
    assert exported == sorted(exported, key=_by_kind)


def test_error_codes_are_told_in_the_tree_of_the_docstring() -> None:
    for kind in _all_errors():
        assert kind.__name__ in (errors.__doc__ or ""), f"{kind.__name__} is not drawn in the error tree"
        assert kind.exit_code in (2, 3, 4, 5, 70)
        assert kind.__doc__


def test_leaf_error_codes_are_unique() -> None:
    shared = {"invalid_request", "permission_denied", "overloaded", "environment"}
    of_the_group = {"InvalidRequest", "Overloaded", "PermissionDenied"}
    seen: dict[str, str] = {}
    for kind in _all_errors():
        assert "code" in vars(kind) or kind.__name__ in of_the_group, f"{kind.__name__} has no code of its own"
        if kind.code in shared:
            continue
        assert kind.code not in seen, f"{kind.__name__} and {seen[kind.code]} share the code {kind.code}"
        seen[kind.code] = kind.__name__


@pytest.mark.parametrize("words", [["--help"], ["--version"], []], ids=["help", "version", "nothing"])
def test_the_overview_loads_no_heavy_library(words: list[str]) -> None:
    program = (
        "import sys\nfrom ashore.cli.main import main\n"
        f"code = main({words!r})\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\nraise SystemExit(code)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"
    assert "ashore" in result.stdout


def test_importing_a_room_loads_no_heavy_library() -> None:
    rooms = [f"ashore.{room.name}" for room in ROOMS if room.name not in ("cli",)]
    light = HEAVY - {"numpy", "tokenizers"}
    program = (
        f"import sys, importlib\nfor room in {rooms!r}:\n    importlib.import_module(room)\n"
        f"print(sorted({light!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_command_of_the_releases_starts_without_numbers_and_clients() -> None:
    program = "import sys, ashore.cli.release\nprint(sorted({'numpy', 'redis', 'tokenizers'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_command_of_the_table_can_be_imported() -> None:
    for command in COMMANDS:
        module, _, name = command.target.partition(":")
        assert hasattr(importlib.import_module(module), name), command


def test_no_module_works_at_import_or_swallows_everything() -> None:
    for module in pkgutil.walk_packages([str(SOURCE)], "ashore."):
        if module.name.endswith(("_pb2", "_pb2_grpc")) or ".quiet." in module.name:
            continue
        path = SOURCE.joinpath(*module.name.split(".")[1:])
        file = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                raise AssertionError(f"{file}:{node.lineno} has a bare except")
            if isinstance(node, ast.Name) and node.id in ("TODO", "FIXME"):
                raise AssertionError(f"{file}:{node.lineno} is unfinished")


def test_who_decodes_also_expects_what_python_says_of_it() -> None:
    """Bytes that are not UTF-8, and what is nested too deeply, come as Python's errors: `UNDECODABLE` holds all."""
    partial = re.compile(r"except .*msgspec\.(DecodeError|MsgspecError)")
    found = [str(path) for path in SOURCE.rglob("*.py") if partial.search(path.read_text())]
    assert not found


def test_what_stands_beside_the_package_asks_it_for_names_that_it_has() -> None:
    """Benchmarks, the bundle and golden scripts run seldom: a name that was deleted would be missed too late."""
    missing = []
    for path in (path for folder in ("benchmarks", "deploy", "tests/golden") for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ashore":
                module = importlib.import_module(str(node.module))
                for name in (alias.name for alias in node.names):
                    in_room = hasattr(module, "__path__") and importlib.util.find_spec(f"{node.module}.{name}")
                    if not hasattr(module, name) and not in_room:
                        missing.append(f"{path.relative_to(ROOT)}: {node.module}.{name}")
    assert missing == []


def test_no_module_imports_what_imports_it() -> None:
    """Whatever is imported counts: at the top, in a function, for types alone."""
    graph = grimp.build_graph("ashore", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as fault:
        pytest.fail(" <- ".join(fault.args[1]))


def test_no_default_of_a_dataclass_is_one_that_the_oldest_python_refuses() -> None:
    """Python 3.11 takes a `MappingProxyType` for a mutable default, later ones do not."""
    found = []
    for module in pkgutil.walk_packages([str(SOURCE)], "ashore."):
        path = SOURCE.joinpath(*module.name.split(".")[1:])
        file = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if "@dataclass" in file.read_text():
            found += [
                f"{module.name}: {kind.__name__}.{field.name}"
                for kind in vars(importlib.import_module(module.name)).values()
                if isinstance(kind, type) and dataclasses.is_dataclass(kind)
                for field in dataclasses.fields(kind)
                if isinstance(field.default, MappingProxyType)
            ]
    assert found == []


def test_children_in_this_python_import_nothing_from_the_directory_where_they_start() -> None:
    """Python puts that directory first on the path of `-m` and `-c`, unless -P or -I says otherwise."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            of_python = isinstance(node, ast.List | ast.Tuple) and [ast.unparse(one) for one in node.elts[:2]]
            unsafe = of_python and of_python[0] == "sys.executable" and of_python[1:] not in (["'-P'"], ["'-I'"])
            elsewhere = isinstance(node, ast.Constant) and node.value == "-m" and path.name != "environment.py"
            if unsafe or elsewhere:
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}: use python_command of ashore.processes")
    assert found == []
