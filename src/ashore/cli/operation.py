"""Entry point of the process that does one operation: `python -m ashore.cli.operation`, started by the job worker.

It reads what was asked for from its standard input, and does what the command of the same name does, with what the
others leave of processors and disk. Its log is its output; how far it is, it says on the pipe of `progress.py`.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from ashore.cli.main import report
from ashore.cli.progress import tell_error
from ashore.core import Call
from ashore.errors import AshoreError, InvalidRequest

COMMANDS: Final[Mapping[str, str]] = {
    "model pull": "ashore.cli.model:pull",
    "model verify": "ashore.cli.model:verify",
    "model seal": "ashore.cli.modelkeys:seal",
    "model remove": "ashore.cli.model:remove",
    "optimize quantize": "ashore.cli.optimizequantize:quantize",
    "optimize prune": "ashore.cli.optimizeprune:prune",
    "optimize distill": "ashore.cli.optimizedistill:distill",
    "optimize evaluate": "ashore.cli.optimizeevaluate:evaluate",
    "train sft": "ashore.cli.train:sft",
    "learn run": "ashore.cli.learn:run",
    "backup run": "ashore.cli.backup:run",
    "backup scrub": "ashore.cli.backup:scrub",
    "backup rehearse": "ashore.cli.backup:rehearse",
}
"""The function behind the command of each operation."""
CONFIG: Final = "ASHORE_CHILD_CONFIG"
"""Variable with the ashore.toml of the server."""
OOM_SCORE: Final = 800
"""Of 1,000: where memory runs out, the system ends this before it ends a server."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the job worker says."""

    name: str
    asked: msgspec.Raw
    principal: str
    """As `Principal.acting_name` said it."""
    account: str
    tenant: str


@cache
def operations() -> Mapping[str, Call]:
    """Return the calls that are operations, by noun and word."""
    from ashore.jobs.operations.calls import BY_NAME

    return BY_NAME


def command(name: str) -> Callable[..., Any]:
    """Return the function behind the command of an operation."""
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


def words_for(run: Callable[..., Any], asked: msgspec.Struct) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments with which the function of a command does what was asked: what differs from the defaults."""
    hints = get_type_hints(run)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for field in msgspec.structs.fields(type(asked)):
        value = getattr(asked, field.name)
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        if not field.required and value == default:
            continue
        hint = hints[field.name]
        if field.name in _before_slash(run):
            positional += [_as(hint, one) for one in value] if isinstance(value, list) else [_as(hint, value)]
        else:
            named[field.name] = _as(hint, value)
    if "yes" in hints:
        named["yes"] = True
    return positional, named


def _before_slash(run: Callable[..., Any]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    return tuple(one.name for one in inspect.signature(run).parameters.values() if one.kind in kinds)


def _as(hint: Any, value: Any) -> Any:
    """Return a value of a call as the function of its command takes it."""
    if isinstance(value, list):
        inner = get_args(hint)
        return tuple(_as(inner[0] if inner else str, one) for one in value)
    if get_origin(hint) in (Union, UnionType):
        hint = next((one for one in get_args(hint) if one is not NoneType), hint)
    return Path(value) if hint is Path else value


def do(order: Order) -> int:
    """Do one operation, and return its exit code.

    Raises:
        AshoreError: it failed.
    """
    from ashore.cli.recorded import acting_for
    from ashore.cli.target import on_behalf_of

    call = operations().get(order.name)
    if call is None:
        raise InvalidRequest(f"there is no operation {order.name!r}", hint="restart the server")
    run = command(order.name)
    positional, named = words_for(run, msgspec.json.decode(order.asked, type=call.takes))
    if (config := os.environ.get(CONFIG)) and "config" in inspect.signature(run).parameters:
        named.setdefault("config", Path(config))
    with acting_for(order.account), on_behalf_of(order.principal, order.tenant):
        return int(run(*positional, **named) or 0)


def _told(work: Callable[[], int]) -> int:
    """Do something whose error the job worker hears of, too."""
    from ashore.cli.systemerrors import system_errors

    try:
        with system_errors():
            return work()
    except AshoreError as fault:
        tell_error(fault)
        raise


def main() -> int:
    """Do what standard input says. Returns the exit code; errors go to stderr as those of a command do."""
    from ashore.processes import become_idle

    become_idle()
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    return report(lambda: _told(lambda: do(order)))


if __name__ == "__main__":
    raise SystemExit(main())
