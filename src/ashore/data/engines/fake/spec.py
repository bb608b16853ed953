"""The name of a fake model is its whole configuration: `fake:echo?tok_per_s=20&delay_s=0.1`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final, Literal, Self
from urllib.parse import parse_qsl

from ashore.core.errors import InvalidSpec
from ashore.core.nearest import did_you_mean

_SCHEME: Final = "fake:"
MOST: Final = {"rungs": 4, "embed": 65_536, "context": 100_000_000, "sequences": 1_000_000}
"""Limit of options that cost memory: API users who create releases can set them, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeSpec:
    """How a fake engine behaves."""

    mode: Literal["echo", "random", "tools", "agent"]
    """`echo` answers with the last user turn (without a chat, the whole prompt); `random` babbles; `tools` echoes, but
    where the last user turn has a call in `<tool_call></tool_call>`, it makes that call alone, and then says what the
    tool answered: an agent's first task without a model. `agent` answers as a capable model would, see `agent.py`: it
    calls the tool that the question speaks of, holds grammars, and else echoes."""
    tok_per_s: float = 0.0
    """Tokens per second of one sequence; 0 is as fast as it goes."""
    delay_s: float = 0.0
    """Seconds from an order to its first token."""
    step_s: float = 0.0
    """Seconds that a step takes, whatever it does: makes the engine's capacity finite."""
    tokens: int = 128
    """Length of a `random` answer, unless a shorter one is requested."""
    context: int = 8192
    sequences: int = 4096
    """Sequences that run at once; further ones wait."""
    embed: int = 384
    """Numbers in an embedding."""
    seed: int = 0
    """Draws which orders fail."""
    fail_rate: float = 0.0
    """Share of orders that fail instead of answering."""
    fail_load: bool = False
    """Loading fails."""
    load_s: float = 0.0
    """Seconds that loading takes."""
    memory_bytes: int = 0
    """Memory that it is counted with where models share a budget; it takes none."""
    sleeps: bool = False
    """It can be put to sleep."""
    wake_s: float = 0.0
    """Seconds that it takes to wake up."""
    asleep_bytes: int = 0
    """As `memory_bytes`, while it is asleep."""
    fail_wake: bool = False
    """It does not wake up."""
    rungs: int = 1
    """Precisions that it reports, like an engine with a ladder: fp64, fp32, fp16, int8."""
    rung_from: int = 2
    """Concurrent sequences from which it reports the second one; the third from twice as many, and so on."""
    raise_after: int = 0
    """The step after this many tokens raises, as a broken library would, and so does each later one; 0 is never."""
    hang_after: int = 0
    """The step after this many tokens never returns; 0 is never."""
    die_after: int = 0
    """The process kills itself after this many tokens; 0 is never."""
    wrong_template: bool = False
    """Its chat template leaves out the marks of turns, as another model's might: `echo` answers with all of them."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Parse a model name. A variant (`fake:echo@x`) is not accepted.

        Raises:
            InvalidSpec: not a fake model, an unknown option, or a value of the wrong kind; the message names it.
        """
        kind, _, query = name.removeprefix(_SCHEME).partition("?")
        if not name.startswith(_SCHEME) or kind not in ("echo", "random", "tools", "agent"):
            raise InvalidSpec(f"{name!r} is not a fake model", hint="use fake:echo, random, tools or agent")
        types = {field.name: field.type for field in dataclasses.fields(cls) if field.name != "mode"}
        values: dict[str, float | int | bool] = {}
        for option, text in parse_qsl(query, keep_blank_values=True):
            if option not in types:
                raise InvalidSpec(f"{name!r}: unknown option {option!r}", hint=did_you_mean(option, types))
            values[option] = _value(name, option, str(types[option]), text)
            if values[option] > MOST.get(option, values[option]):
                raise InvalidSpec(f"{name!r}: {option} is {text}; the limit is {MOST[option]:,}")
        return cls(mode=kind, **values)  # type: ignore[arg-type]


def needed_bytes(name: str) -> int:
    """Return the memory estimate of a fake model. Raises `InvalidSpec` as `FakeSpec.parse` does."""
    return FakeSpec.parse(name).memory_bytes


def check_name(name: str) -> None:
    """Check that a name is a valid fake model. Raises `InvalidSpec` as `FakeSpec.parse` does."""
    FakeSpec.parse(name)


def _value(name: str, option: str, kind: str, text: str) -> float | int | bool:
    try:
        number = float(text)
        if not 0 <= number < 1e12 or (kind != "float" and not number.is_integer()):
            raise ValueError(text)
    except ValueError as error:
        expected = {"float": "a number of 0 or more", "int": "a whole number of 0 or more", "bool": "0 or 1"}[kind]
        raise InvalidSpec(f"{name!r}: {option} is {text!r}; expected {expected}") from error
    return number if kind == "float" else bool(number) if kind == "bool" else int(number)
