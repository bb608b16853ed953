"""`ashore up`: serve models on this machine, in the foreground, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import cyclopts
import msgspec

from ashore import __version__
from ashore.cli.bootstrap import (
    begin_anew,
    build_store,
    command_recorder,
    key_keeper,
    open_model_files,
    open_state,
    release_keeper,
    sealing_notes,
    shared_name,
    supervisor_recorder,
)
from ashore.cli.bootstrap.secrets import hold_home_secrets
from ashore.cli.columns import prose
from ashore.cli.planexpect import expected_of
from ashore.cli.recorded import os_user
from ashore.cli.upchecks import check_home, check_machine, compared, refuse_what_cannot_start, sections_of, warnings_of
from ashore.cli.upplan import (
    NOTHING_ASKED,
    Asked,
    ReloadOrder,
    Request,
    commands_of,
    edge_of,
    inventory_of,
    listening_of,
    plan_and_fetch,
    plan_json,
    plan_without_fetching,
    show_plan,
    told_of,
    with_parts,
)
from ashore.cli.uptune import LOOK_EVERY_S, FirstTuning, start_measuring, untuned
from ashore.control.fleet import FleetFile, FleetSection
from ashore.control.sessions import CONSOLE
from ashore.control.sessions.office import make_first_link
from ashore.core.clock import SystemClock
from ashore.core.errors import AshoreError, Bug
from ashore.data.audit import Outbox
from ashore.data.authority import Acts, keep_first_key, make_first_key
from ashore.data.engines import EngineInfo, ModelPlan, Plan
from ashore.kit.processes import Caller, ControlServer
from ashore.kit.processes.lock import Holder, HomeLock
from ashore.kit.processes.notify import is_managed, tell_manager
from ashore.kit.processes.ports import address_of_this_machine
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.reserve import Reserve
from ashore.kit.settings import Settings
from ashore.kit.state import EpochWatch
from ashore.kit.textfile import read_toml
from ashore.machine.config import Listening, Spec
from ashore.machine.config.effective import in_force
from ashore.machine.deployment import Deployment, StoreMover
from ashore.machine.planning import number_releases, what_fits

log = logging.getLogger("ashore.up")

EVERYWHERE = ("0.0.0.0", "::")
NO_FIRST_KEY = "the first key no longer works; set ASHORE_API_KEY to a key of your own"
SAME_VERSION = "check that the command and the server have the same version"
app = cyclopts.App(name="up", help="Serve models on this machine until Ctrl-C.")


@app.default
def up(
    *models: str,
    asked: Asked = NOTHING_ASKED,
    dry_run: bool = False,
    json_: Annotated[bool, cyclopts.Parameter(name="--json")] = False,
    new_state: bool = False,
) -> int:
    """Serve models over HTTP and gRPC until Ctrl-C or SIGTERM. Running answers may finish; a second signal ends them.

    Args:
        models: Catalogue names, store names or sources; fake:echo needs no model. Default: smollm2 and minilm.
        asked: Options beside the models.
        dry_run: Print the plan with the reason for every choice, and start nothing. Reports what would make a start
            fail.
        json_: Print the plan of --dry-run as JSON.
        new_state: Start with an empty state because the state of this home is lost. Keys, policy, budgets and releases
            are gone.
    """
    request = asked.request(models)
    spec, settings = request.spec(), request.settings()
    for warning in settings.warnings:
        _say(f"warning: {warning}")
    _say(f"configuration: {request.config or 'every value is the default, no ashore.toml is read'}")
    for folder in (Path(), settings.home.root) if request.config is None else ():
        if (file := folder / "ashore.toml").is_file():
            _say(f"note: {file.absolute()} is not read; to use it, give --config {shlex.quote(str(file))}")
    listening = listening_of(spec, settings)
    if dry_run:
        plan, notes = plan_without_fetching(spec, settings, inventory_of(spec))
        commands = commands_of(plan, settings)
        choices = edge_of(spec, plan.inventory.cores, listening.address)
        others = sections_of(listening, settings)
        notes = (*notes, *warnings_of(listening, settings), *expected_of(plan, settings))
        shown = show_plan(plan, notes, _listens(listening), commands, choices, others)
        print(plan_json(plan, notes, commands, choices, others) if json_ else shown, flush=True)
        check_home(settings.home)
        for note in check_machine(spec, settings):
            _say(f"note: {note}")
        refuse_what_cannot_start(spec, plan)
        return 0
    return _serve(request, spec, settings, listening, new_state=new_state)


def _serve(request: Request, spec: Spec, settings: Settings, listening: Listening, *, new_state: bool) -> int:
    started_s = time.monotonic()
    home = settings.home
    check_home(home)
    home.create()
    lock = HomeLock.acquire(home.lock, Holder(pid=os.getpid(), address=listening.address))
    try:
        if new_state:
            with command_recorder(home) as recorder:
                begin_anew(settings, recorder, actor=os_user())
        check_machine(spec, settings)
        keeper = key_keeper(settings)
        held = hold_home_secrets(settings, keeper)  # as long as its workers live
        first_key_lives = _keep_first_key(settings)
        plan, notes = plan_and_fetch(spec, settings, inventory_of(spec))
        for note in notes:
            _say(f"note: {note}")
        clock = SystemClock()
        refuse_what_cannot_start(spec, plan)
        for note in (*warnings_of(listening, settings), *sealing_notes(build_store(home, settings), plan)):
            _say(f"warning: {note}")
        with (
            supervisor_recorder(listening.audit, home) as recorder,
            Supervisor(clock=clock, say=_say, reserve=Reserve(home.root)) as supervisor,
            supervisor.signals(),
            ExitStack() as stack,
        ):
            store = build_store(home, settings, recorder, keeper=keeper)
            state = open_state(settings)
            epochs = EpochWatch(state).start()
            outbox = Outbox(home.audit, state, recorder).start()
            nodes = FleetFile(home.fleet_servers, state, _say)
            _take_nodes(nodes, listening)
            nodes.follow(epochs)
            cold = listening.tiers.cold
            mover = StoreMover(home, store, cold, say=_say, sealing_key=settings.sealing_key)
            deployment = Deployment(
                home=home,
                settings=settings,
                listening=listening,
                config=str(request.config or ""),
                supervisor=supervisor,
                open_files=partial(open_model_files, store, home),
                clock=clock,
                say=_say,
                recorder=recorder,
                releases=(release_keeper(settings, state, recorder, store, listening), epochs),
                open_texts=partial(open_model_files, store, home, without_weights=True),
                mover=mover,
            )
            control = ControlServer(home.control_socket, supervisor, partial(_answer, deployment, nodes, request))
            try:
                for one in what_fits(plan):
                    _say(f"{one.field}: {one.value}; {one.why}")
                names = [
                    _with_use(model.reference, model) for model in plan.models if model.alias not in plan.on_demand
                ]
                _say(loading := f"loading {', '.join(names) or 'no model yet: all of them are on demand'}")
                tell_manager(f"STATUS={loading}")
                deployment.start(plan)
                deployment.wait_ready(told=_tell_loaded)
                if not supervisor.stop_requested:
                    took_s = time.monotonic() - started_s
                    token = ""
                    if first_key_lives and listening.sections()["console"].enabled and not is_managed():
                        token = make_first_link(state, Acts(state, recorder, clock), int(clock.now_s()))
                    shown = _welcome(
                        plan, listening, settings, took_s, first_key_lives=first_key_lives, token=token,
                        has_config=request.config is not None,
                    )  # fmt: skip
                    with suppress(OSError):  # as in `_say`
                        print(shown, flush=True)
                    tell_manager("READY=1", f"STATUS=serving on {_listens(listening)}")
                    begun = deployment.plan
                    tuning = FirstTuning(
                        untuned(spec, plan, store, state),
                        work_done=deployment.steps,
                        start=partial(start_measuring, settings),
                        take=lambda name: deployment.in_turn(lambda: _take_tuned(deployment, spec, settings, begun)),
                        say=_say,
                        clock=clock,
                    )
                    stack.callback(tuning.stop)
                    supervisor.call_every("tuning", LOOK_EVERY_S, tuning.look)
                supervisor.run()
            finally:
                _say("stopping")
                tell_manager("STOPPING=1", "STATUS=waiting for running answers to finish")
                mover.stop()
                supervisor.stop_all()
                deployment.close()
                control.close()
                epochs.close()
                outbox.close()
                state.close()
        for key in held:
            key.close()
        _say("stopped")
        return 0
    finally:
        lock.release()


def _take_tuned(deployment: Deployment, spec: Spec, settings: Settings, begun: Plan) -> None:
    """Let the server take what was measured; after a reload that changed its plan, the next start does."""
    running = deployment.plan
    if running is not begun:
        _say("the measured choice is used from the next start on, or after `ashore reload`")
        return
    try:
        fresh, notes = plan_without_fetching(spec, settings, running.inventory, running)
        for note in notes:
            _say(f"note: {note}")
        for change in deployment.apply(number_releases(running, fresh), deployment.listening):
            _say(f"measured: {change.alias}: {change.kind}")
    except AshoreError as error:
        _say(f"the measured choice is not used: {error.message}")


def _keep_first_key(settings: Settings) -> bool:
    """Create the first key at the first start, and store its digest in the state, where workers read keys.

    A state that several homes share has one first key for each of them. Returns False if first keys are disabled.
    """
    with closing(open_state(settings, say=_say)) as state:
        key = make_first_key(settings.home.first_key)
        created_s = int(settings.home.first_key.stat().st_mtime)
        with state.write() as connection:
            return keep_first_key(connection, key, machine=shared_name(settings), created_s=created_s)


def _answer(
    deployment: Deployment, nodes: FleetFile, request: Request, question: Mapping[str, object], caller: Caller
) -> None:
    """Answer `ashore reload` on the control socket, queueing requests that make changes."""
    if question.get("op") in ("apply", "apply parts"):
        deployment.in_turn(lambda: _answer_now(deployment, nodes, request, question, caller))
    else:
        _answer_now(deployment, nodes, request, question, caller)


def _answer_now(
    deployment: Deployment, nodes: FleetFile, request: Request, question: Mapping[str, object], caller: Caller
) -> None:
    try:
        match question.get("op"):
            case "status":
                told = {
                    "request": told_of(request),
                    "plan": deployment.plan,
                    "listening": deployment.listening,
                    "shares": deployment.shares,
                    "standing": deployment.standing(),
                    "restarts": deployment.restarts(),
                    "endings": deployment.endings(),
                }
                caller.tell({"done": True, **msgspec.to_builtins(told)})
            case "config":
                document = read_toml(request.config) if request.config else {}
                held = in_force(deployment.listening, request.spec(), document, os.environ)
                caller.tell({"done": True, "items": msgspec.to_builtins(held)})
            case "compare":
                said = compared(deployment.listening, request, request.settings())
                caller.tell({"done": True, "configuration": msgspec.to_builtins(said)})
            case "models":
                caller.tell(msgspec.to_builtins(deployment.residents(question)))
            case "apply":
                order = msgspec.convert(question.get("order"), ReloadOrder)
                _take_nodes(nodes, order.listening)  # before hosts start that look for them
                try:
                    changes = deployment.apply(order.plan, order.listening, taken=order.taken)
                finally:
                    _take_nodes(nodes, deployment.listening)
                caller.tell({"done": True, "changes": msgspec.to_builtins(changes)})
            case "check parts":
                with_parts(deployment.listening, request, question)
                caller.tell({"done": True})
            case "apply parts":
                deployment.apply(deployment.plan, with_parts(deployment.listening, request, question))
                caller.tell({"done": True})
            case other:
                raise Bug(f"unknown operation on the control socket: {other!r}")
    except AshoreError as error:
        caller.tell({"done": True, "error": error.message, "hint": error.hint, "retryable": error.retryable})
    except msgspec.ValidationError as error:
        caller.tell({"done": True, "error": f"the order is malformed: {error}", "hint": SAME_VERSION})
    except Exception as error:  # outermost loop of a request: logged and returned as an error; serving continues
        log.exception("%s failed", question.get("op"))
        what = f"{type(error).__name__}: {error}"
        caller.tell(
            {"done": True, "error": what, "hint": "see the output of `ashore up`; the server keeps running as before"}
        )
    finally:
        caller.close()


def _take_nodes(nodes: FleetFile, listening: Listening) -> None:
    nodes.take(listening.section("fleet", FleetSection), egress=listening.egress.allow)


def _say(line: str) -> None:
    with suppress(OSError):  # a file on a full disk, a closed terminal: no one reads it, and the server continues
        print(prose(line, to=sys.stderr), file=sys.stderr, flush=True)


def _tell_loaded(alias: str, info: EngineInfo, took_s: float) -> None:
    _say(f"{alias} is loaded: {info.version}, {info.precision} ({took_s:.1f} s)")


def _listens(listening: Listening) -> str:
    if listening.has_edge:
        return f"{listening.address} (HTTP/1.1, HTTP/2 and gRPC)"
    grpc = f", gRPC {listening.grpc.host}:{listening.grpc.port}" if listening.grpc.port else ""
    host = listening.http.host
    everywhere = f", on every address of this machine ({host}:{listening.http.port})" if host in EVERYWHERE else ""
    return f"{listening.address}{everywhere}{grpc}"


def _welcome(
    plan: Plan,
    listening: Listening,
    settings: Settings,
    took_s: float,
    *,
    first_key_lives: bool,
    has_config: bool,
    token: str = "",
) -> str:
    key = settings.home.first_key
    shown = f"$(cat {shlex.quote(str(key))})" if first_key_lives else "$ASHORE_API_KEY"
    authority = listening.authority(settings.home)
    trust = f"--cacert {shlex.quote(authority)} " if authority else ""
    chat = next((model.alias for model in plan.models if model.chats), None)
    lines = [
        "",
        f"ashore {__version__} serves {', '.join(_with_use(model.alias, model) for model in plan.models)} "
        f"on {_listens(listening)} after {took_s:.1f} s",
        f"in a browser: {listening.address}/",
        *_elsewhere(listening),
        *(
            [f"the console, once within ten minutes: {listening.address}{CONSOLE}/first/{token}"]
            if token
            else [f"the console: {listening.address}{CONSOLE}"]
            if listening.sections()["console"].enabled
            else []
        ),
        *(_of_first_key(key) if first_key_lives else [NO_FIRST_KEY]),
        *([f"clients verify the certificate of the edge with {authority}"] if authority else []),
    ]
    if chat is not None:
        question = '{"role": "user", "content": "Name the capital of France in a full sentence."}'
        lines += [
            "try it:",
            "",
            f"  curl -N {trust}{listening.address}/v1/chat/completions \\",
            f'    -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \\',
            f"""    -d '{{"model": "{chat}", "stream": true, "temperature": 0, "messages": [{question}]}}'""",
            "",
        ]
    command = own_command(os.environ, sys.argv[0])
    given = has_config, os.environ
    steps = [(f"{command} {words}", what) for words, what in _next_steps(chat is not None, first_key_lives, *given)]
    width = max(len(line) for line, _ in steps)
    lines += ["next, in another terminal:", "", *(f"  {line:<{width}}  # {what}" for line, what in steps)]
    return "\n".join([*lines, "", "Ctrl-C stops it.", ""])


def _with_use(name: str, model: ModelPlan) -> str:
    """Return a model's name; for an embedder, with its use."""
    return f"{name} (embeddings for search)" if model.embedder else name


def _elsewhere(listening: Listening) -> Iterator[str]:
    """Yield the addresses for other machines, if the server listens on all addresses."""
    if (listening.edge if listening.has_edge else listening.http).host in EVERYWHERE:
        yield f"from other machines: {listening.address_at(address_of_this_machine() or socket.gethostname())}/"


def _of_first_key(file: Path) -> Iterator[str]:
    """Yield the location of the first key, its owner, and the next step."""
    yield f"the key is in {file}"
    yield "  It is yours, the owner's: it asks every model and sees the settings. Your own programs may use it."
    yield "  For other people, create the three administrators (last line below). They make keys, and this one ends."


def _next_steps(
    has_chat: bool, first_key_lives: bool, has_config: bool, environ: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield useful next commands with their purpose."""
    if has_chat:
        yield "chat", "talk to it"
    yield "status", "what runs, is it well, what needs you"
    if not has_config:
        by_make = "MAKELEVEL" in environ
        again = 'make up ARGS="--config ashore.toml"' if by_make else "ashore up --config ashore.toml"
        yield "config example > ashore.toml", f"every setting; then start with `{again}`"
    if first_key_lives:
        yield "access user create sam --role system-administrator", "hand over to administrators"
    else:
        yield "audit search --since 1h", "who asked what"


def own_command(environ: Mapping[str, str], program: str) -> str:
    """Return how this command is typed in another terminal: with the home that it has, and with its path where a shell
    would find no `ashore`, or another one."""
    named, found = Path(program), shutil.which("ashore")
    command = "ashore"
    if named.name == "ashore" and (found is None or not named.exists() or not named.samefile(found)):
        command = shlex.quote(program)
    home = environ.get("ASHORE_HOME")
    return f"ASHORE_HOME={shlex.quote(home)} {command}" if home else command
