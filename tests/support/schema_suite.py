"""The JSON-Schema-Test-Suite (draft 2020-12) as one file, and random models that answer under our grammars.

    python tests/support/schema_suite.py JSONSCHEMA_SDIST

writes the file from the source archive of the package `jsonschema`, which carries the suite (MIT) in `json/`.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import numpy as np
from jsonschema import Draft202012Validator, ValidationError

from ashore.data.engines.sampling import Constraint
from ashore.data.text import TextModel

FILE: Final = Path(__file__).parents[1] / "schemas" / "draft2020-12.jsonl"
INSIDE: Final = "/json/tests/draft2020-12/"

STRUCTURE: Final = frozenset(
    {"additionalProperties", "allOf", "anchor", "anyOf", "boolean_schema", "const", "default", "defs", "enum", "items"}
    | {"infinite-loop-detection", "maxItems", "maxProperties", "minItems", "minProperties", "oneOf", "properties"}
    | {"patternProperties", "prefixItems", "ref", "required", "type"}
)
"""Files about the shape of a value: which members and entries it has, of which types, alone or combined."""

_EXPONENT, _DIGITS = 600, 2000
"""Of numbers that are judged exactly: the largest exponent, and more digits than it and an answer can make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One schema of the suite, with values that it must allow and values that it must not."""

    file: str
    case: str
    schema: Any
    valid: tuple[Any, ...]
    invalid: tuple[Any, ...]

    @property
    def name(self) -> str:
        """File and description, as in the suite."""
        return f"{self.file}: {self.case}"


def cases() -> list[Case]:
    """Return every schema of the suite."""
    rows = map(json.loads, FILE.read_text(encoding="utf-8").splitlines())
    return [Case(**{**row, "valid": tuple(row["valid"]), "invalid": tuple(row["invalid"])}) for row in rows]


class Judge:
    """Tells whether an answer is a value that a schema allows."""

    def __init__(self, case: Case) -> None:
        """Ask `jsonschema`; of formats, and of expressions that Python cannot read, `jsonschema_rs`."""
        exact = json.loads(json.dumps(case.schema), parse_float=_number)
        self._judge = Draft202012Validator(exact, format_checker=Draft202012Validator.FORMAT_CHECKER)
        self._second = jsonschema_rs.Draft202012Validator(case.schema, validate_formats=True)
        self._is_text = case.file.startswith(("format", "optional/format", "optional/ecmascript"))

    def fault(self, answer: str) -> str:
        """Return what is wrong with an answer, nothing if all is well."""
        try:
            with localcontext(prec=_DIGITS):
                self._judge.validate(json.loads(answer, parse_float=_number))
        except ValidationError as wrong:
            return wrong.message
        except re.error:
            return "" if self._second.is_valid(json.loads(answer)) else "jsonschema_rs refuses it"
        if self._is_text and isinstance(json.loads(answer), str) and not self._second.is_valid(json.loads(answer)):
            return "jsonschema_rs refuses it"
        return ""


class RandomModel:
    """Draws each token at random among those that a constraint allows; after a while it prefers to come to an end."""

    def __init__(self, text: TextModel, *, vocab_size: int, seed: int) -> None:
        """Take the tokens of a model's text part; the answer ends with one that has no bytes."""
        self._pieces = [text.token_bytes(one) for one in range(min(vocab_size, text.vocab_size))]
        for special in text.special_token_ids:
            self._pieces[special] = b""
        self._rng = np.random.default_rng(seed)
        closing = [not set(piece) - set(b'"}]') for piece in self._pieces]
        self._closing = np.array(closing, np.float64)

    def answer(self, constraint: Constraint, *, calm: int = 24, limit: int = 400) -> str | None:
        """Return one answer; None if it has not ended after `limit` tokens."""
        said: list[bytes] = []
        for step in range(limit):
            if constraint.waits:
                constraint.look()
            if constraint.is_complete:
                constraint.close()
                return b"".join(said).decode()
            logits = self._rng.gumbel(size=len(self._pieces)) + self._closing * (12.0 if step >= calm else 1.0)
            allowed = constraint.allowed()[: len(self._pieces)]
            token = int(np.where(allowed, logits, -np.inf).argmax())
            assert allowed[token], "the grammar allows no token at all"
            if not self._pieces[token]:
                constraint.close()
                return b"".join(said).decode()
            said.append(self._pieces[token])
            constraint.accept(token)
        constraint.close()
        return None


def _number(text: str) -> Any:
    """Return a number as it is written: 651.3 is a multiple of 0.0001 then. A huge exponent makes it a double."""
    exponent = re.search(r"[eE][+-]?0*(\d+)$", text)
    return float(text) if exponent and int(exponent.group(1)) > _EXPONENT else Decimal(text)


def _rows(archive: Path) -> Iterator[dict[str, Any]]:
    with tarfile.open(archive) as tar:
        names = sorted(name for name in tar.getnames() if INSIDE in name and name.endswith(".json"))
        for name in names:
            file = tar.extractfile(name)
            assert file is not None
            for case in json.load(file):
                yield {
                    "file": name.partition(INSIDE)[2].removesuffix(".json"),
                    "case": case["description"],
                    "schema": case["schema"],
                    "valid": [test["data"] for test in case["tests"] if test["valid"]],
                    "invalid": [test["data"] for test in case["tests"] if not test["valid"]],
                }


if __name__ == "__main__":
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in _rows(Path(sys.argv[1]))]
    FILE.write_text("".join(lines), encoding="utf-8")
