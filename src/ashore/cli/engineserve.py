"""`ashore engine serve`: plan one model, open its files, and serve it alone."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from ashore.cli.bootstrap import build_store, open_model_files
from ashore.cli.upplan import plan_and_fetch
from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidRequest
from ashore.data.authority import make_first_key
from ashore.data.engines import EngineInfo, read_inventory
from ashore.data.path import HttpListen
from ashore.kit.identity import Identity
from ashore.kit.processes.ports import check_port
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.settings import read_settings
from ashore.machine.config import Spec
from ashore.machine.deployment import serve_engine
from ashore.machine.planning import ModelSection


def serve_alone(section: ModelSection, *, host: str, port: int, key_file: Path | None, tls: bool) -> int:
    """Serve one model until a signal; return the exit code."""
    if section.engine.fleet:
        raise InvalidRequest("a model of another server is served there", hint="use `ashore up` for it")
    settings = read_settings()
    check_port(host, port, option="--port")
    settings.home.create()
    identity = Identity(folder=settings.home.fleet)
    if tls:  # this and the key before anything is fetched or loaded
        identity.context(server=True)
    if key_file is not None:
        make_first_key(key_file)
    plan, notes = plan_and_fetch(Spec(models=(section,)), settings, read_inventory())
    for note in notes:
        _say(f"note: {note}")
    (model,) = plan.models
    if key_file is None and not tls and host not in ("127.0.0.1", "::1", "localhost"):
        _say(f"warning: anybody who reaches {host}:{port} may use this engine; give --key-file or --tls")
    files = open_model_files(build_store(settings.home, settings), settings.home, model)
    clock = SystemClock()
    with Supervisor(clock=clock, say=_say) as supervisor, supervisor.signals():
        _say(f"loading {model.reference}")
        try:
            serve_engine(
                model,
                files,
                HttpListen(host=host, port=port, identity=str(identity.folder.absolute()) if tls else ""),
                key_file=key_file,
                settings=settings,
                supervisor=supervisor,
                clock=clock,
                ready=partial(_tell_ready, model.alias, host, port, tls),
            )
        finally:
            supervisor.stop_all()
    _say("stopped")
    return 0


def _tell_ready(alias: str, host: str, port: int, tls: bool, info: EngineInfo) -> None:
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if tls else "http"
    print(f"{alias} on {scheme}://{shown}:{port} ({info.version}, {info.precision}); Ctrl-C stops it", flush=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
