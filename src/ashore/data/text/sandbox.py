"""Sandbox for chat templates: jinja2's immutable sandbox, with a budget of steps, characters and seconds.

A template is untrusted code that comes with a model. The sandbox blocks Python; the budget bounds processor time and
memory: loops, calls and created strings are counted, and a template that exceeds it fails with an error.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_STEPS: Final = 500_000
"""Loop rounds and calls of one rendering. A conversation of 1,000 turns takes about 20,000."""
MAX_CHARS: Final = 32_000_000
"""Characters that one rendering may produce, intermediate strings included; ten times the longest context known."""
MAX_SECONDS: Final = 2.0
MAX_WEIGHT: Final = 1_000_000
"""Values in a value, longer texts as several; what stands in several places counts as often. A list of 30 lists, each
the one before it twice, is small, and no end of work for what writes or compares it."""
MAX_RANGE: Final = 100_000
MAX_WIDTH: Final = 1_000
"""Widest padding, indentation or number format."""
MAX_BITS: Final = 1_000
"""Longest whole number that `**` and `*` may make."""


class RefusedByTemplate(TemplateError):
    """The template called `raise_exception`."""


class BudgetSpent(TemplateError):
    """The template exceeded the budget of a rendering."""


@dataclass(slots=True)
class Budget:
    """Resources used by one rendering."""

    steps: int = MAX_STEPS
    chars: int = MAX_CHARS
    ends_at_s: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    weights: dict[int, tuple[object, int]] = field(default_factory=dict)
    """Of each value that was weighed, which is kept so that no other gets its place. Templates change none."""

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise BudgetSpent(f"more than {MAX_STEPS} steps")
        self.check_time()

    def weigh(self, value: object) -> int:
        if isinstance(value, str):
            return 1 + len(value) * MAX_WEIGHT // MAX_CHARS
        if not isinstance(value, list | tuple | Mapping | MappingView):
            return 1
        known = self.weights.get(id(value))
        if known is None:
            inner: Iterable[object] = value  # type: ignore[assignment]  # a view of any kind
            if isinstance(value, Mapping):
                inner = (*value.keys(), *value.values())
            known = self.weights[id(value)] = (value, 1 + sum(self.weigh(one) for one in inner))
            if known[1] > MAX_WEIGHT:
                raise BudgetSpent(f"a value of more than {MAX_WEIGHT} others")
        return known[1]

    def check_time(self) -> None:
        if time.monotonic() > self.ends_at_s:
            raise BudgetSpent(f"more than {MAX_SECONDS:g} s")

    def produce(self, num_chars: int) -> None:
        self.chars -= num_chars
        if self.chars < 0:
            raise BudgetSpent(f"more than {MAX_CHARS} characters")


_budget: ContextVar[Budget] = ContextVar("budget")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that Hugging Face templates expect, with limits."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, *, now_s: Callable[[], float]) -> None:
        """Create an environment. `now_s` is the time for `strftime_now`, in seconds since the epoch."""
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do", GenerationTag],
            finalize=_counted_output,
            cache_size=0,
        )
        self.globals |= {
            "raise_exception": _raise_exception,
            "range": _range,
            "namespace": _Namespace,
            "strftime_now": lambda form: datetime.fromtimestamp(now_s()).strftime(str(form)[:200]),
        }
        del self.globals["lipsum"], self.filters["wordwrap"]
        self.filters |= {
            "tojson": tojson,
            "from_json": json.loads,
            "_rounds": _Rounds,
            "_counted": _counted,
            "_weighed": _weighed,
            "batch": _narrow(self.filters["batch"]),
            "slice": _narrow(self.filters["slice"]),
            "center": _narrow(self.filters["center"]),
            "indent": _narrow(self.filters["indent"]),
            "format": lambda form, *args, **named: _counted(_checked_format(form) % (args or named)),
            "replace": lambda text, old, new, count=None: _replace(str(text), str(old), str(new), count),
            "join": lambda items, by="", attribute=None: self._join(items, by, attribute),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        Metering().visit(tree)
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            _check_product(left, right)
        elif operator == "**":
            if not (abs(left) <= 1 or abs(right) * abs(left).bit_length() <= MAX_BITS):
                raise BudgetSpent("a power that is too large")
        elif operator == "%" and isinstance(left, str):
            _checked_format(left)
        return _weighed(_counted(super().call_binop(context, operator, left, right)))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        _budget.get().step()
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str):
            named = {k: v for k, v in kwargs.items() if k not in ("_loop_vars", "_block_vars")}  # jinja2's own
            match obj.__name__:
                case "center" | "ljust" | "rjust" | "zfill" | "expandtabs":
                    _check_width(*args, *named.values())
                case "join":
                    return _join_strings(owner, list(*args))
                case "replace":
                    return _replace(owner, *args, **named)
                case "translate":
                    raise BudgetSpent("a translation of characters, which nothing bounds,")
                case _:
                    pass
        elif getattr(obj, "__name__", "") in ("format", "format_map"):
            _checked_format(getattr(getattr(obj, "__wrapped__", None), "__self__", ""))
        return _weighed(_counted(super().call(context, obj, *args, **kwargs)))

    def _join(self, items: Any, by: str, attribute: str | None) -> Any:
        if attribute is not None:
            items = [self.getitem(item, attribute) for item in items]
        return _join_strings(str(by), [str(item) for item in items])


class Metering(NodeTransformer):
    """Adds a count to every loop, every `~` and every captured block of a template, and measures what it builds."""

    # jinja2 calls these by name; a returned node replaces the old one
    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "_rounds")
        return node

    def visit_Expr(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        is_target = isinstance(node, nodes.Tuple) and node.ctx != "load"
        return node if is_target else _filtered(node, "_weighed")

    visit_List = visit_Dict = visit_Tuple = visit_Filter = visit_Compare = visit_Test = visit_Expr

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(node, "_counted")

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:
        self.generic_visit(node)
        node.filter = _filtered(node.filter, "_counted")
        return node


class GenerationTag(Extension):
    """`{% generation %}`: marks the assistant's text for training; rendering leaves the marks out."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that jinja2 wants

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(Namespace):
    """Storage for a template's values; it does not print them."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Rounds:
    """An iterable whose iterations are counted."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        budget = _budget.get()
        for item in self._items:
            budget.step()
            yield item

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]


@contextmanager
def full_budget() -> Iterator[None]:
    """Run a rendering with a budget of its own."""
    token = _budget.set(Budget())
    try:
        yield
    finally:
        _budget.reset(token)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return `value` as JSON in the form of Hugging Face's templates: no HTML escapes, no \\u escapes by default."""
    if indent is not None:
        _check_width(indent)
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if ensure_ascii:  # marks of the guard must not be escaped
        text = re.sub("[^\x00-\x7f\ud800]", lambda char: json.dumps(char[0])[1:-1], text)
    _counted(text)
    return text


def _raise_exception(message: object = "") -> None:
    raise RefusedByTemplate(str(message))


def _range(*args: int) -> range:
    numbers = range(*args)
    if len(numbers) > MAX_RANGE:
        raise BudgetSpent(f"a range of more than {MAX_RANGE}")
    return numbers


def _filtered(node: nodes.Node | None, name: str) -> nodes.Filter:
    lineno = node.lineno if node is not None else 0
    return nodes.Filter(node, name, [], [], None, None, lineno=lineno)


def _counted(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list | tuple) and len(value) > MAX_WIDTH):
        budget = _budget.get(None)
        if budget is not None:
            budget.produce(len(value))
    return value


def _weighed(value: Any) -> Any:
    budget = _budget.get(None)
    if budget is not None:
        budget.check_time()
        budget.weigh(value)
    return value


def _counted_output(value: Any) -> Any:
    return _counted(value if isinstance(value, str | Undefined) else str(value))


def _checked_format(form: Any) -> Any:
    if re.search(r"\d{4,}|\*|\{[^{}]*\{", str(form)):
        raise BudgetSpent("a number format that is too wide")
    return form


def _check_width(*values: Any) -> None:
    if any(isinstance(v, int) and v > MAX_WIDTH for v in values):
        raise BudgetSpent(f"a width above {MAX_WIDTH}")


def _narrow(plain: Callable[..., Any]) -> Callable[..., Any]:
    def narrow(text: Any, *args: Any, **named: Any) -> Any:
        _check_width(*args, *named.values())
        return _counted(plain(text, *args, **named))

    return narrow


def _check_product(left: Any, right: Any) -> None:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, str | list | tuple) and isinstance(times, int) and len(many) * times > MAX_RANGE:
            raise BudgetSpent(f"a repetition longer than {MAX_RANGE}")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise BudgetSpent("a product that is too large")


def _join_strings(by: str, items: list[Any]) -> str:
    _budget.get().produce(sum(len(item) for item in items) + len(by) * len(items))
    return by.join(items)


def _replace(text: str, old: str, new: str, count: int | None = None) -> str:
    limit = -1 if count is None else count
    found = text.count(old) if limit < 0 else min(limit, text.count(old))
    _budget.get().produce(len(text) + found * len(new))
    return text.replace(old, new, limit)
