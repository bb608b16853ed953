"""The form of a head: `head` in config.json says what its features are, `weights` and `bias` are whole numbers.

A row of features becomes a row of whole numbers: a place for each bin of a table, of which one is 1, and numbers
divided by `scale`, rounded and cut to eight bits. The score is their product with the weights plus the bias. So the
points of the features add up to the score exactly, and an encrypted row gets the same score to the last bit.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.nearest import did_you_mean
from ashore.kit.decode import MAX_NAME_CHARS

MOST_ROWS: Final = 256
EIGHT_BITS: Final = 127
Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature of a row."""

    name: Name
    kind: Literal["binned", "category", "number", "vector"]
    edges: tuple[float, ...] = ()
    """Of `binned`: where each bin but the first begins, ascending."""
    values: tuple[str, ...] = ()
    """Of `category`: all of them."""
    size: Annotated[int, Meta(ge=1, le=4096)] = 1
    """Of `vector`: how many numbers."""
    scale: Annotated[float, Meta(ge=1e-12, le=1e12)] = 1.0
    """Of `number` and `vector`: what they are divided by before they are rounded and cut to -127 to 127."""
    optional: bool = False
    """Of `binned` and `category`: a missing value has a bin of its own, the last."""

    @property
    def width(self) -> int:
        """Places in the row of whole numbers."""
        match self.kind:
            case "binned":
                return len(self.edges) + 1 + self.optional
            case "category":
                return len(self.values) + self.optional
        return self.size

    def read(self, value: object, into: NDArray[np.int64], where: str) -> None:
        """Write a value as whole numbers. Raises `InvalidRequest`, which names the field."""
        if value is None and self.optional:
            into[-1] = 1
        elif self.kind == "category":
            if value not in self.values or not isinstance(value, str):
                raise _wrong(value, "one of " + ", ".join(self.values)[:200], where)
            into[self.values.index(value)] = 1
        elif self.kind == "binned":
            into[np.searchsorted(self.edges, _number(value, where), side="right")] = 1
        else:
            numbers = value if self.kind == "vector" else [value]
            if not isinstance(numbers, list) or len(numbers) != self.size:
                raise _wrong(value, f"a list of {self.size} numbers", where)
            found = np.array([_number(one, where) for one in numbers])
            most = EIGHT_BITS * self.scale
            into[:] = np.rint(np.clip(found, -most, most) / self.scale)


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a score of one output means."""

    name: Name
    at_least: int


class HeadForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`head` in config.json."""

    title: str = ""
    features: Annotated[tuple[Feature, ...], Meta(min_length=1, max_length=512)]
    outputs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=256)] = ("score",)
    decisions: tuple[Decision, ...] = ()
    """By falling score, of a head with one output; one below all of them is `below`. Several outputs: the largest."""
    below: str = ""


class Head:
    """A head that is loaded."""

    def __init__(self, form: HeadForm, weights: NDArray[np.int64], bias: NDArray[np.int64]) -> None:
        """Raises `UnsupportedModel`: the weights do not fit the form."""
        self.form, self.weights, self.bias = form, weights, bias
        self._ends = np.cumsum([one.width for one in form.features])
        self._starts = self._ends - [one.width for one in form.features]
        self._known = {one.name for one in form.features}
        wanted = (len(form.outputs), int(self._ends[-1]))
        if weights.shape != wanted or bias.shape != wanted[:1] or len(self._known) < len(form.features):
            raise UnsupportedModel(
                f"a head of {len(form.features)} features has weights {weights.shape} and bias {bias.shape}; "
                f"expected {wanted} and {wanted[:1]}, and a name of its own for each feature"
            )

    @classmethod
    def load(cls, folder: Path, weights: str) -> Head:
        """Read the files of a head. Raises `UnsupportedModel`."""
        from safetensors.numpy import load_file

        with foreign_errors(f"the head in {folder} cannot be read", UnsupportedModel):
            form = msgspec.convert(msgspec.json.decode((folder / "config.json").read_bytes())["head"], HeadForm)
            tensors = {name: one.astype(np.int64) for name, one in load_file(folder / weights).items()}
            return cls(form, tensors["weights"], tensors["bias"])

    def design(self, row: object, where: str) -> NDArray[np.int64]:
        """Return a row as whole numbers.

        Raises:
            InvalidRequest: a field is missing, unknown or wrong; `param` names it.
        """
        if not isinstance(row, dict):
            raise _wrong(row, "an object", where)
        for name in row.keys() - self._known:
            shown = str(name)[:MAX_NAME_CHARS]
            raise InvalidRequest(f"{where} has {shown!r}, which this head does not know", param=f"{where}.{shown}",
                                 hint=did_you_mean(shown, self._known))  # fmt: skip
        found = np.zeros(self.weights.shape[1], np.int64)
        for one, start, end in zip(self.form.features, self._starts, self._ends, strict=True):
            one.read(row.get(one.name), found[start:end], f"{where}.{one.name}")
        return found

    def answer(self, rows: list[Any], digest: str) -> dict[str, object]:
        """Return scores, decisions, and the points of each feature: they add up to the score with `base`."""
        scores: list[object] = []
        decisions, reasons = [], []
        for at, row in enumerate(rows):
            x = self.design(row, f"rows[{at}]")
            score = self.weights @ x + self.bias
            best = int(score.argmax())
            points = np.add.reduceat(self.weights[best] * x, self._starts).tolist()
            names = (one.name for one in self.form.features)
            reasons.append({"base": int(self.bias[best]), **dict(zip(names, points, strict=True))})
            scores.append(int(score[0]) if len(score) == 1 else score.tolist())
            decisions.append(self._decided(int(score[best]), best))
        return {"scores": scores, "decisions": decisions, "reasons": reasons, "head": digest}

    def _decided(self, score: int, best: int) -> str:
        if len(self.form.outputs) > 1:
            return self.form.outputs[best]
        return next((one.name for one in self.form.decisions if score >= one.at_least), self.form.below)


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(value, "a number", where)
    return float(value)


def _wrong(value: object, expected: str, where: str) -> InvalidRequest:
    seen = "missing" if value is None else ascii(value)[:60]
    return InvalidRequest(f"{where} is {seen}; expected {expected}", param=where,
                          hint="send the fields that GET /v1/heads/NAME lists")  # fmt: skip
