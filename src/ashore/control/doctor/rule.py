"""Rules as rows of rules.toml, and how readings are put into their conditions and texts.

A rule looks at nothing but the readings. Its conditions are expressions and its texts templates of jinja; the head of
rules.toml says what a row holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from ashore.control.doctor.model import Area, Finding
from ashore.control.doctor.readings import Readings
from ashore.core.bytesize import human_bytes
from ashore.core.counted import counted
from ashore.core.timespan import human_seconds
from ashore.kit.textfile import read_toml

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from jinja2.environment import TemplateExpression


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what rules.toml holds."""


class ChangeRow(Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that `doctor apply` makes, where `when` holds."""

    when: str = "true"
    kind: str
    target: str
    value: str = ""
    safe: bool = True


class FindingRow(Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When there is a finding, and its words."""

    each: str = "(none,)"
    names: tuple[str, ...] = msgspec.field(default=("one",), name="as")
    once: str = ""
    let: dict[str, str] = {}
    when: str = "true"
    severity: str
    what: str
    cause: str
    evidence: tuple[tuple[str, ...], ...]
    sure: str
    remedy: str
    commands: tuple[str, ...] = ()
    wrong_remedy: str = ""
    change: ChangeRow | None = None


class Rule(Row, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that can be wrong."""

    id: str
    """`D101`. Never given to another rule."""
    area: Area
    question: str
    """What it asks; a healthy server answers no."""
    needs: tuple[str, ...]
    """Readings without which it cannot be judged: `cpu`, `cpu.stranger_cores`."""
    explains: tuple[str, ...] = ()
    """Rules whose finding is a consequence of this one's."""
    bounds: dict[str, Any] = {}
    """What readings are compared with, by name."""
    source: str = ""
    """Where a bound or the remedy comes from."""
    down: bool = False
    """Whether it is asked while no server runs from this home, too."""
    finds: tuple[FindingRow, ...]

    def judge(self, readings: Readings) -> Iterator[Finding]:
        """Yield what it finds."""
        known = {name: getattr(readings, name) for name in readings.__struct_fields__} | self.bounds
        for row in self.finds:
            told = {""}
            for one in _expression(row.each)(**known) or ():
                names = known | dict(zip(row.names, one if len(row.names) > 1 else (one,), strict=True))
                for name, expression in row.let.items():
                    names[name] = _expression(expression)(**names)
                if _expression(row.when)(**names) and (not row.once or (key := _text(row.once, names)) not in told):
                    told.add(key if row.once else "")
                    yield self._finding(row, names)

    def _finding(self, row: FindingRow, names: Mapping[str, Any]) -> Finding:
        texts = ("severity", "what", "cause", "sure", "remedy", "wrong_remedy")
        figures = (dict(zip(("name", "seen", "limit"), figure, strict=False)) for figure in row.evidence)
        change = row.change if row.change is not None and _expression(row.change.when)(**names) else None
        found = {
            **{name: getattr(row, name) for name in texts},
            "evidence": [*figures],
            "commands": row.commands,
            "change": change and msgspec.to_builtins(change),
        }
        said = msgspec.convert(_filled(found, names), Finding)
        return replace(
            said, rule=self.id, area=self.area, explains=self.explains, commands=tuple(filter(None, said.commands))
        )


@cache
def load_rules() -> tuple[Rule, ...]:
    """Return all rules, in the order of rules.toml."""
    rows = read_toml(Path(__file__).with_name("rules.toml"))
    return msgspec.convert([{"id": id, **row} for id, row in rows.items()], tuple[Rule, ...])


@cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    made = Environment(undefined=StrictUndefined, autoescape=False)
    made.filters |= {"bytes": lambda one: human_bytes(int(one)), "time": human_seconds, "fmt": format}
    made.tests |= {"has": lambda many, one: one in many, "begins": str.startswith}
    made.globals |= {"counted": counted, "max": max}
    return made


@cache
def _expression(text: str) -> TemplateExpression:
    return _environment().compile_expression(text, undefined_to_none=False)


@cache
def _template(text: str) -> Template:
    return _environment().from_string(text)


def _filled(value: Any, names: Mapping[str, Any]) -> Any:
    """Return texts, and dicts and lists of them, with the names put in."""
    if isinstance(value, dict):
        return {key: _filled(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(one, names) for one in value]
    return _text(value, names) if isinstance(value, str) else value


def _text(text: str, names: Mapping[str, Any]) -> str:
    return _template(text).render(names) if "{" in text else text
