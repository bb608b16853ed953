"""One declaration for an engine: what the cards promise, and that nobody else knows an engine by its name."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest

import ashore
from ashore.core.errors import InvalidSpec
from ashore.core.kinds import EngineKind, ModelFormat
from ashore.data.engines import (
    CARDS,
    EngineCard,
    EngineOptions,
    card_by_name,
    card_of,
    card_reading,
    engine_kinds,
    loaded,
    reads_store,
)
from ashore.lab.optimize import PRECISIONS

SOURCE = Path(ashore.__file__).parent
ENGINES = SOURCE / "data/engines"
NAMED_IN = {
    "core/kinds.py": "the kinds as a type, which mypy and the wire check; a test below holds it against the cards",
    "data/engines/cards.py": "the table of cards",
    "data/path/models.py": "a head answers rows, not text",
    "data/engines/plan.py": "a head answers rows, not text",
}
"""Files outside the engines' own folders that name an engine."""
LIBRARY = {
    "lab/optimize/distilling/distil.py": "versions of the packages in a recipe",
    "lab/optimize/pruning/service.py": "versions of the packages in a recipe",
    "lab/training/trainee.py": "versions of the packages in a recipe",
    "data/feedback/turns.py": "what a run of learning needs",
}
"""Files that name PyTorch, the library that trains and prunes, with whatever engine serves what comes of it."""

MEASURED = {
    "cli/plan.py": "of which engine a load test is",
    "cli/planexpect.py": "which of them a plan of this machine is compared with",
    "cli/plansize.py": "which of them is planned for",
    "lab/sizing/case.py": "by the names that published measurements give engines",
    "lab/sizing/choose.py": "by the names that published measurements give engines",
    "lab/sizing/points.py": "by the names that published measurements give engines",
}
"""Files of the planner, whose engines are those of published measurements: ours, and those of others."""

every_card = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.kind)


def _namings(file: Path) -> Iterator[str]:
    """Yield each place of a file that names an engine: its kind as a whole string, or a module of its folder."""
    kinds = {card.kind for card in CARDS}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Constant) and node.value in kinds:
            yield f"{node.lineno} {node.value!r}"
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            modules = [node.value.partition(":")[0]]
        for module in modules:
            parts = module.split(".")
            if parts[:3] == ["ashore", "data", "engines"] and len(parts) > 3 and parts[3] in kinds:
                yield f"{node.lineno} {module}"


def test_an_engine_is_named_in_its_own_folder_and_in_two_files_more() -> None:
    own = [ENGINES / card.kind for card in CARDS]
    found = {
        str(file.relative_to(SOURCE)): places
        for file in SOURCE.rglob("*.py")
        if not any(file.is_relative_to(folder) for folder in own) and (places := list(_namings(file)))
    }
    assert set(found) == {*NAMED_IN, *LIBRARY, *MEASURED}, found
    for file in LIBRARY:
        assert all(place.endswith("'torch'") for place in found[file]), (file, found[file])


def test_the_kinds_are_those_of_the_cards_and_each_has_its_folder() -> None:
    assert set(get_args(EngineKind)) == {card.kind for card in CARDS} == set(engine_kinds())
    assert len(CARDS) == len(engine_kinds())
    for card in CARDS:
        assert loaded(f"ashore.data.engines.{card.kind}.card:CARD") is card


def test_the_cards_cost_no_library() -> None:
    heavy = {"openvino", "nncf", "torch", "transformers", "xllamacpp", "gguf", "llguidance", "openvino_genai"}
    program = f"import sys, ashore.data.engines.cards\nprint(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@every_card
def test_what_a_card_names_is_there(card: EngineCard) -> None:
    named = [card.adapter, card.files, card.check_name, card.tuning.candidates, card.tuning.built]
    named += [card.program.shell_line] if card.program else []
    named += [card.rounding.rounder] if card.rounding else []
    for target in filter(None, named):
        module, _, name = target.partition(":")
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None, target
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, target
        assert module.startswith(f"ashore.data.engines.{card.kind}."), "an engine's code lies in its own folder"


@every_card
def test_a_card_says_what_planning_and_tuning_need(card: EngineCard) -> None:
    assert card.formats and card.title and card.what and card.architectures
    assert card.native is None or card.native in card.formats
    assert bool(card.prefix) == bool(card.files) == bool(card.check_name)
    assert bool(card.tuning.candidates) != bool(card.tuning.why_not), "measured, or it says why not"
    assert not set(card.options.tune) & set(card.options.operators)
    assert set(card.features) >= {"temperature", "logprobs"} or {"head", "speak"} & set(card.features)
    assert list(card.features) == sorted(set(card.features))
    if card.choosing.rank:
        why = card.choosing.why.format(architecture="bert", format="gguf", program="/bin/x", passed="of the others")
        assert why and "{" not in why
    assert bool(card.encoders) == bool(card.choosing.why_encoder)
    assert {card.variant, card.exact} - {""} <= set(card.prepared) <= {one.name for one in card.precisions}
    assert {one.engine for one in card.precisions} <= {card.kind}
    assert bool(card.precisions) == (card.rounding is not None)


def test_ranks_differ_and_each_form_of_the_store_has_one_engine_that_reads_it() -> None:
    ranks = [card.choosing.rank for card in CARDS if card.choosing.rank]
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    forms = [form for form in get_args(ModelFormat) if form != "text"]
    read = {form: card_reading(form).kind for form in (*forms, "remote", "fake")}
    assert read == {
        "gguf": "llamacpp",
        "openvino": "openvino",
        "safetensors": "torch",
        "remote": "vllm",
        "fake": "fake",
    }
    with pytest.raises(InvalidSpec, match="no engine reads"):
        card_reading("text")


def test_a_name_says_whether_a_model_lies_in_the_store() -> None:
    own = card_by_name("fake:echo?tok_per_s=2")
    assert own is not None and own.kind == "fake"
    assert card_by_name("smollm2@int8") is None and card_by_name("fakes") is None
    assert not reads_store(EngineOptions(kind="fake"))
    assert reads_store(EngineOptions(kind="vllm"))
    assert not reads_store(EngineOptions(kind="vllm", extra={"fleet": "chat"}))


def test_a_kind_that_is_none_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(InvalidSpec) as refused:
        card_of("openvina")
    assert "'openvina'" in refused.value.message and "openvino" in refused.value.hint


def test_precisions_are_those_of_the_cards() -> None:
    assert [one.name for one in PRECISIONS] == [one.name for card in CARDS for one in card.precisions]
    assert len({one.name for one in PRECISIONS}) == len(PRECISIONS)


def test_a_card_is_data() -> None:
    """Decisions are functions over cards, elsewhere: a card has fields and no methods."""
    methods = {name for name, _ in inspect.getmembers(EngineCard, inspect.isfunction) if not name.startswith("__")}
    assert methods == set()


def test_the_table_of_the_http_reference_says_what_the_cards_say() -> None:
    page = (SOURCE.parent.parent / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("## Fields of a completion, by engine\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in rest.splitlines()[1:] if line[:1] == "|"]
    columns = rows[0][2:]
    samplers = [card for card in CARDS if "head" not in card.features]
    assert set(columns) == {card.kind for card in samplers}
    asked = {
        "`temperature`": "temperature",
        "`presence_penalty`": "presence_penalty",
        "`logit_bias`": "logit_bias",
        "`logprobs`": "logprobs",
        "`seed`": "seed",
        "`response_format`": "grammar",
        "`tool_choice` `required`": "grammar",
        "`echo` with `logprobs`": "score",
        "LoRA adapters": "adapters",
    }
    for beginning, feature in asked.items():
        [row] = [row for row in rows if row[0].startswith(beginning)]
        told = {kind for kind, cell in zip(columns, row[2:], strict=True) if not cell.startswith("no")}
        assert told == {card.kind for card in CARDS if feature in card.features}, beginning
