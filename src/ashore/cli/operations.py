"""The commands of operations, derived from their inputs: run in this home, or with `--job` by a server."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.bootstrap.operations import Operation, Shown, find_operation
from ashore.cli.calls import AS_JSON, HERE, SWITCHES, Server, asked_of, parameters_of, signed, switch
from ashore.cli.columns import say
from ashore.cli.progress import TerminalProgress
from ashore.cli.recorded import os_user
from ashore.cli.sure import go_ahead, print_json
from ashore.core.errors import InvalidRequest
from ashore.core.visible import on_a_screen
from ashore.kit.call import Call
from ashore.kit.decode import convert


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Give what says whether Ctrl-C was pressed; a second time ends the process at once."""
    asked: list[int] = []

    def ask(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked.append(number)
        print("stopping after this step", file=sys.stderr)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


JOB_HELP: Final = "Have the server do it as a job, and print the id; follow it with: ashore job show ID --follow."
CONFIG_HELP: Final = "An ashore.toml whose settings it works with; default: the environment."


class CommandWork(TerminalProgress):
    """A `Work` of the command line, and of the process that a job worker starts."""

    def __init__(
        self, *, server: Server, config: Path | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__()
        self.actor, self.config, self.stopping, self.ask = os_user(), config, stopping, server.ask

    def reload(self) -> None:
        """See `Work`."""
        from ashore.cli.reload import reload

        reload()


def calls_by_name() -> dict[str, Call]:
    """Return the calls that submit operations, by NOUN WORD."""
    from ashore.control.jobs.operations.calls import BY_NAME

    return dict(BY_NAME)


def operation_command(name: str) -> Callable[..., int | None]:
    """Return the function behind the command of an operation, with a signature that cyclopts reads.

    Args:
        name: NOUN WORD of the operation.
    """
    operation = find_operation(name)

    def command(
        *args: Any, job: bool = False, server: Server = HERE, as_json: bool = False, **options: Any
    ) -> int | None:
        config: Path | None = options.pop("config", None)
        yes, dry_run = options.pop("yes", False), options.pop("dry_run", False)
        if job:
            _refuse_with_job(operation, options, {"config": config, "dry-run": dry_run})
            _submit(operation, parameters, args, options, server, yes=yes, as_json=as_json)
            return None
        if not operation.asks_server and (server.url or server.key):
            raise InvalidRequest("--url and --key name a server, but the command works in this home", hint="add --job")
        asked = asked_of(operation.takes, parameters, args, options)
        asks = operation.sure is not None and (dry_run or not yes)  # what is done looks again, for time has passed
        if operation.sure and asks and not go_ahead(operation.sure(asked), yes=yes, dry_run=dry_run, as_json=as_json):
            return None
        do = operation.plan if dry_run and operation.plan else operation.do
        return print_shown(run(operation, asked, server, config=config, do=do), as_json=as_json)

    parameters = parameters_of(operation.takes)
    parameters += [switch("as_json", AS_JSON), switch("job", Parameter(negative=(), help=JOB_HELP))]
    if operation.plan or operation.sure:
        parameters.append(switch("dry_run", Parameter(negative=(), help=_dry_run_help(operation))))
    if operation.sure:
        parameters.append(switch("yes", Parameter(negative=(), help=SWITCHES["yes"])))
    only = inspect.Parameter.KEYWORD_ONLY
    if operation.configured:
        kind: Any = Annotated[Path | None, Parameter(help=CONFIG_HELP)]
        parameters.append(inspect.Parameter("config", only, default=None, annotation=kind))
    parameters.append(inspect.Parameter("server", only, default=HERE, annotation=Annotated[Server, Parameter("*")]))
    return signed(command, parameters, name.rpartition(" ")[2], inspect.getdoc(operation.takes) or "")


def run(
    operation: Operation, asked: msgspec.Struct, server: Server, *, config: Path | None = None, do: Any = None
) -> Shown:
    """Do an operation in this home, and return its result.

    Args:
        operation: Which.
        asked: What it takes.
        server: Whom it asks where it asks a server.
        config: An ashore.toml.
        do: What is done; default: the operation itself.

    Raises:
        AshoreError: it failed.
    """
    with ExitStack() as stack:
        stopping = stack.enter_context(asked_to_stop()) if operation.stops else lambda: False
        work = stack.enter_context(CommandWork(server=server, config=config, stopping=stopping))
        found: Shown = (do or operation.do)(asked, work)
    return found


def print_shown(shown: Shown, *, as_json: bool) -> int:
    """Print a result, and return its exit code."""
    if as_json:
        print_json(shown.document)
    for line in () if as_json else shown.lines:
        say(on_a_screen(line))
    return shown.code


def _dry_run_help(operation: Operation) -> str:
    return " ".join((inspect.getdoc(operation.plan) or SWITCHES["dry_run"]).split()) + (
        " Changes nothing." if operation.plan else ""
    )


def _refuse_with_job(operation: Operation, options: dict[str, Any], others: dict[str, Any]) -> None:
    taken = set(calls_by_name()[operation.name].takes.__struct_fields__)
    given = [name.replace("_", "-") for name, value in options.items() if value is not None and name not in taken]
    for name in (*given, *(name for name, value in others.items() if value)):
        raise InvalidRequest(
            f"--{name} says what only this machine may say, so it cannot be given with --job",
            hint="leave it out, or run the command without --job",
        )


def _submit(
    operation: Operation, parameters: list[inspect.Parameter], args: tuple[Any, ...], options: dict[str, Any],
    server: Server, *, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    call = calls_by_name()[operation.name]
    whole = asked_of(operation.takes, parameters, args, options)
    asked = convert({name: getattr(whole, name) for name in call.takes.__struct_fields__}, call.takes)
    if call.sure:
        what = call.sure.format(**msgspec.to_builtins(asked))
        if not go_ahead(what, yes=yes, dry_run=False, as_json=as_json):
            return
    job = server.ask(call, asked)
    if as_json:
        print(msgspec.json.encode(job).decode())
    else:
        print(f"{job.id}: {job.kind} is {job.state}; follow it: ashore job show {job.id} --follow")
