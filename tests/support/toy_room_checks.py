"""What there is of the toy room, in a package that has it: printed as JSON."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from contextlib import closing, redirect_stdout
from pathlib import Path

from admin_app import AdminApp
from deploy.make_config_page import reference
from http_worker import http_worker

from ashore.cli.main import main
from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.data.http.openapi import describe
from ashore.data.path import StateLink
from ashore.kit.call import Rights
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import Context, room_in
from ashore.kit.settings import read_settings
from ashore.kit.state import Database, execute, open_database
from ashore.machine.config import parse_spec
from ashore.machine.deployment.topology import topology_of

NOTES = "/admin/v1/books/b1/notes"


def said(*words: str) -> str:
    with redirect_stdout(io.StringIO()) as page:
        main(list(words))
    return page.getvalue()


def checks(run: Path) -> dict[str, object]:
    listening = parse_spec("[library]\nnotes = 7\n").listening
    settings = read_settings()
    link = StateLink(path=str(run / "state.db"), snapshots=str(run / "snapshots"))
    told = topology_of((), listening=listening, home=settings.home, settings=settings)
    run.mkdir()
    found: dict[str, object] = {
        "overview": said("--help"),
        "help": said("book", "note", "--help"),
        "reference": reference(),
        "openapi": json.loads(describe(ROUTES))["paths"],
    }
    with http_worker(run, models={"echo": "echo"}, state=link, sections=told.sections) as worker:
        found["read"] = json.loads(worker.request("GET", NOTES)[2])
        found["first key writes"] = worker.request("POST", NOTES, '{"text": "x"}')[0]
        found["command"] = said("book", "notes", "b1", "--json", "--url", worker.root, "--key", worker.key)
        found["dusted"] = worker.metric("ashore_library_dusted_total")
        found["log"] = worker.said()
    app = AdminApp("system-administrator")
    with closing(open_database(Path(link.path), snapshots=run, clock=SystemClock())) as database:
        gives = {Metrics: Metrics(), Recorder: app.recorder, Rights: app.authority, Database: database}
        opened = asyncio.run(room_in("control.library").open(Context(told=told.told, gives=gives)))  # type: ignore[arg-type]
        app.desks["library"] = opened.desk
        found["written"] = app.ask("POST", NOTES, {"text": "hello"})
        with database.read() as connection:
            rows = execute(connection, "SELECT book, text FROM library_note")
            found["table"] = [list(row) for row in rows]
    found["recorded"] = [[act.action, act.resource, act.actor] for act in app.recorder.acts]
    return found


if __name__ == "__main__":
    print(json.dumps(checks(Path(sys.argv[1]))))
