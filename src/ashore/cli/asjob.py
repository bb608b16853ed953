"""`--job`: have a server do a command as a job, instead of this process in its home."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, ParamSpec, TypeVar, get_type_hints

import msgspec
from cyclopts import Parameter

from ashore.cli.calls import Server
from ashore.core.decode import convert
from ashore.errors import InvalidRequest

P = ParamSpec("P")
R = TypeVar("R")

JOB_HELP: Final = "Have the server do it as a job, and print the id; follow it with: ashore job show ID --follow."
OWN: Final = ("yes", "as_json")
"""Options that are for the command alone."""


def also_a_job(name: str) -> Callable[[Callable[P, R]], Callable[..., R | None]]:
    """Give a command that works in the home the option to be a job of a server.

    Args:
        name: NOUN WORD of the operation.
    """

    def wrap(run: Callable[P, R]) -> Callable[..., R | None]:
        plain = inspect.signature(run)
        hints = get_type_hints(run, include_extras=True)
        has_server = "url" in plain.parameters

        def command(*args: Any, job: bool = False, server: Server | None = None, **options: Any) -> R | None:
            if not job:
                if server is not None and (server.url or server.key):
                    raise InvalidRequest(
                        "--url and --key name a server, but the command works in this home", hint="add --job"
                    )
                return run(*args, **options)
            if has_server:
                server = Server(url=options.pop("url", None), key=options.pop("key", None))
            _submit(name, plain, args, options, server or Server())
            return None

        parameters = [one.replace(annotation=hints.get(one.name, one.annotation)) for one in plain.parameters.values()]
        flag = Annotated[bool, Parameter(negative=(), help=JOB_HELP)]
        only = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("job", only, default=False, annotation=flag))
        if not has_server:
            kind = Annotated[Server, Parameter(name="*")]
            parameters.append(inspect.Parameter("server", only, default=Server(), annotation=kind))
        command.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": hints.get("return")}
        command.__doc__, command.__name__, command.__module__ = run.__doc__, run.__name__, run.__module__
        return command

    return wrap


def _submit(
    name: str, plain: inspect.Signature, args: tuple[Any, ...], options: dict[str, Any], server: Server
) -> None:
    from ashore.cli.operation import operations
    from ashore.cli.sure import go_ahead

    call = operations()[name]
    bound = plain.bind_partial(*args, **options).arguments
    as_json = bool(bound.get("as_json"))
    taken = set(call.takes.__struct_fields__)
    for field in bound:
        if field not in taken and field not in OWN:
            option = field.replace("_", "-")
            raise InvalidRequest(
                f"--{option} says what only this machine may say, so it cannot be given with --job",
                hint="leave it out, or run the command without --job",
            )
    asked = convert({field: _plain(value) for field, value in bound.items() if field in taken and value is not None},
                    call.takes)  # fmt: skip
    if call.sure:
        what = call.sure.format(**msgspec.to_builtins(asked))
        if not go_ahead(what, yes=bool(bound.get("yes")), dry_run=False, as_json=as_json):
            return
    job = server.ask(call, asked)
    if as_json:
        print(msgspec.json.encode(job).decode())
    else:
        print(f"{job.id}: {job.kind} is {job.state}; follow it: ashore job show {job.id} --follow")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
