"""What people ask for, by how much of the answer stands in the prompt: edited code, quoted passages, extracted fields,
and talk, where nothing does.

The texts come with Python: functions of its standard library and their documentation. Another seed gives another set.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import textwrap
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, assert_never

from ashore.lab.bench.prompts import sentences

Workload = Literal["edit", "rag", "extract", "chat"]

_MODULES: Final = (
    *(
        "bisect",
        "calendar",
        "colorsys",
        "configparser",
        "csv",
        "difflib",
        "filecmp",
        "fnmatch",
        "fractions",
        "graphlib",
    ),
    *("heapq", "imaplib", "json.decoder", "mailbox", "mimetypes", "netrc", "poplib", "pprint", "queue", "sched"),
    *("shelve", "shlex", "shutil", "smtplib", "statistics", "string", "textwrap", "timeit", "trace", "zipfile"),
)
_FEWEST_LINES, _MOST_LINES = 10, 40
_FEWEST_WORDS, _MOST_WORDS = 30, 120
_PASSAGES: Final = 4
_FIRST: Final = ("Ada", "Bruno", "Chen", "Dilara", "Emeka", "Farah", "Goran", "Hana", "Ines", "Jonas", "Kavya", "Lars")
_LAST: Final = ("Okafor", "Lindqvist", "Zhang", "Moreau", "Petrov", "Haddad", "Silva", "Tanaka", "Novak", "Keller")
_GOODS: Final = ("valves", "cable drums", "filter cloths", "ball bearings", "glass plates", "pump seals", "steel rods")
_PLACES: Final = ("Rotterdam", "Izmir", "Ningbo", "Gdansk", "Porto", "Mombasa", "Halifax", "Busan", "Tallinn", "Lagos")


class WorkloadPrompts:
    """Makes the n-th prompt of a workload and a seed, as `PromptMaker` does; its length is that of the texts."""

    def __init__(self, kind: Workload, *, seed: int) -> None:
        self._kind, self._seed = kind, seed

    def prompt(self, index: int, num_tokens: int) -> str:
        """Return a user message. `num_tokens` is not used."""
        draw = random.Random(f"{self._kind}/{self._seed}/{index}")
        match self._kind:
            case "edit":
                name, code = draw.choice(functions())
                new = f"{draw.choice(('make', 'read', 'find', 'check'))}_{draw.choice(_PLACES).lower()}"
                return (
                    f"Rename the function {name} to {new}. Answer with the whole changed code and nothing else."
                    f"\n\n```python\n{code}\n```"
                )
            case "rag":
                chosen = draw.sample(passages(), _PASSAGES)
                listed = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(chosen, 1))
                wanted = draw.randrange(_PASSAGES)
                start = " ".join(chosen[wanted].split()[:6])
                return f"{listed}\n\nQuote passage [{wanted + 1}], which begins with “{start}”, word for word."
            case "extract":
                return _order(draw)
            case "chat":
                return f"{draw.randrange(10_000)}: write a story in which this happens. {draw.choice(sentences())}"
            case _:
                assert_never(self._kind)

    def system(self, num_tokens: int) -> str:
        """Return no system prompt."""
        return ""


def _order(draw: random.Random) -> str:
    """Return a letter with an order, and the request for its fields."""
    fields: dict[str, str | int] = {
        "customer": f"{draw.choice(_FIRST)} {draw.choice(_LAST)}",
        "order_number": f"{draw.choice('ABCDEF')}{draw.randrange(10**7):07d}-{draw.randrange(100):02d}",
        "goods": draw.choice(_GOODS),
        "quantity": draw.randrange(10, 5_000),
        "port": draw.choice(_PLACES),
        "due": f"2026-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}",
        "reference": "".join(draw.choice("ABCDEFGHJKLMNPRSTUVWXYZ23456789") for _ in range(20)),
        "remark": draw.choice(sentences()),
    }
    example = json.dumps(dict.fromkeys(fields, "..."), indent=2)
    letter = "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in fields.items())
    return f"Extract the fields of this order as JSON like {example}\n\nThe order:\n{letter}"


@lru_cache(maxsize=1)
def functions() -> tuple[tuple[str, str], ...]:
    """Return functions of the standard library by name, of a length that is read at a glance."""
    found: list[tuple[str, str]] = []
    for source in _sources():
        for node in ast.walk(ast.parse(source)):
            code = ast.get_source_segment(source, node, padded=True) if isinstance(node, ast.FunctionDef) else None
            if code and _FEWEST_LINES <= len(code.splitlines()) <= _MOST_LINES:
                found.append((node.name, textwrap.dedent(code)))  # type: ignore[attr-defined]
    return tuple(found)


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """Return paragraphs of the documentation of the standard library."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = (
        ast.get_docstring(node) or ""
        for source in _sources()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented)
    )
    words = (paragraph.split() for text in texts for paragraph in text.split("\n\n"))
    return tuple(dict.fromkeys(" ".join(one) for one in words if _FEWEST_WORDS <= len(one) <= _MOST_WORDS))


def _sources() -> list[str]:
    found = (importlib.util.find_spec(name) for name in _MODULES)
    return [Path(spec.origin).read_text(encoding="utf-8") for spec in found if spec is not None and spec.origin]
