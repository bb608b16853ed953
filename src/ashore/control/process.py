"""The control process: reads `DIR/topology.json`, and administers by a unix socket, in one event loop.

SIGTERM ends it, SIGHUP reads the topology again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Final

from ashore.cli.bootstrap import build_store, build_workshop, served_here
from ashore.control.console import Console
from ashore.control.faces.chat import WorkerChat
from ashore.control.faces.console import Chat, ConsoleDoor
from ashore.control.faces.table import OWN_ROUTES, ROUTES
from ashore.control.releases import KeptVerdicts
from ashore.control.server.stored import Shelf
from ashore.control.sessions import Sessions
from ashore.control.workers import WorkersView
from ashore.core.clock import Clock as ClockPort
from ashore.core.clock import SystemClock
from ashore.core.errors import NotReady
from ashore.data.authority import Authenticator, Authority, read_internal_token
from ashore.data.authority.budgets.caps import Caps
from ashore.data.authority.issuers import Fetch
from ashore.data.background import Background
from ashore.data.feedback.service import FeedbackService
from ashore.data.http import AccessLog, Face, HttpServer, Relay, Siblings, listen
from ashore.data.http.relay import Peers
from ashore.data.issuers import fetch_jwks
from ashore.data.jobs import Quotas
from ashore.data.opening import one_heap, open_the_state, opened_for_good, trusted_proxies
from ashore.data.origin import Origins
from ashore.data.path import HttpListen, Topology, read_topology
from ashore.data.recording import LogRecorder
from ashore.data.releases import EvaluationGate, Workshop
from ashore.data.rereading import keep_rereading, take_each
from ashore.data.underway import bodies_of
from ashore.kit.metrics import Metrics
from ashore.kit.processes import Pulse, keep_beating, take_hangups, take_pulse
from ashore.kit.processes.entry import run_process
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import ADMINISTER, Context, Rooms, Workers, rooms
from ashore.kit.settings import Home
from ashore.kit.state import Database, EpochWatch

log = logging.getLogger("ashore.control")

THREADS: Final = 4
"""Threads for SQL and files of administration."""
SLOW: Final = 2
"""Slow calls that may have one of these threads at a time."""
HTTP_END_S: Final = 2.0
"""How long connections may take to end."""
PATIENCE_S: Final = 30
"""A loop that turns no more for so long hangs, and the supervisor starts this process again."""


def releasing_of(topology: Topology) -> dict[type, object]:
    """Return what releases need from the home, if there is one."""
    if not topology.home:
        return {}
    store = cache(lambda: build_store(Home(root=Path(topology.home))))
    workshop = build_workshop(store, privacy=lambda: topology.privacy, kept=lambda: topology.cache)
    shelf = Shelf(store=store, here=served_here)
    return {Workshop: workshop, EvaluationGate: KeptVerdicts(store), Shelf: shelf}


def chat_of(topology: Topology, sockets: Sequence[str]) -> Chat:
    """Return what answers the page Chat: a worker of this machine."""
    if not sockets or not topology.internal_token_file:

        async def nobody(*_: object) -> None:
            raise NotReady("no API worker of this server can be asked from here", hint="start it with `ashore up`")

        return nobody
    token = read_internal_token(Path(topology.internal_token_file))
    return WorkerChat(Relay(sockets[0], what="the API worker"), token)


async def serve(topology_path: Path, *, pulse: Pulse | None = None) -> int:
    """Administer until SIGTERM or SIGINT; return the exit code. `pulse` beats as long as the loop turns."""
    topology = read_topology(topology_path)
    sock = listen(HttpListen(uds=topology.control))
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="aside"))
    clock, metrics = SystemClock(), Metrics(metric for room in rooms() for metric in room.metrics)
    workers = Siblings(topology.inner_sockets)
    view = WorkersView(workers, clock)
    opened = Rooms(
        Context(
            told=topology.told,
            gives={
                ClockPort: clock,
                Metrics: metrics,
                Recorder: LogRecorder(),
                Workers: workers,
                Fetch: fetch_jwks,
                **releasing_of(topology),
            },
            process="control",
            behind=view.behind,
            names=view.names,
        ),
        parts=ADMINISTER,
    )
    slow = asyncio.Semaphore(SLOW)
    await opened.open("record")
    await open_the_state(topology, opened)
    view.database, view.watch = opened.find(Database), opened.find(EpochWatch)
    view.is_shared = bool(topology.state.url)
    await opened.open("state")
    opened.give({Quotas: opened.find(Caps)})
    await opened.open("serving")
    authenticator, authority = opened.context.need(Authenticator), opened.context.need(Authority)
    view.authority = authority
    console = Console(
        rooms(), opened.desks, sessions=opened.find(Sessions), authenticator=authenticator, authority=authority,
        recorder=opened.context.recorder, serving=view, votes=opened.find(FeedbackService),
        chat_model=topology.told("console").get("chat_model", ""), settle=view.settle, slow=slow,
    )  # fmt: skip
    await console.start()
    origins = Origins(trusted_proxies(topology))
    app = Face(
        view, authenticator, metrics, OWN_ROUTES, limits=topology.limits, rooms=opened,
        access_log=AccessLog() if topology.access_log else None, authority=authority, origins=origins,
        bodies=bodies_of(topology.limits), recorder=opened.context.recorder,
        console=ConsoleDoor(console, chat_of(topology, topology.inner_sockets)), described=ROUTES, settle=view.settle,
        slow=slow,
    )  # fmt: skip
    stop, reread = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reread.set)
    take_hangups()

    await view.look()
    server = HttpServer(Peers(app), sock, topology.limits)
    app.start()
    server.start()
    rereading, background = Background(), Background()

    async def take(topology: Topology) -> None:
        await take_each(opened.reloads(topology.told))
        origins.trusted_proxies = trusted_proxies(topology)

    rereading.keep("topology", partial(keep_rereading, reread, topology_path, take))
    background.keep("pulse", partial(keep_beating, pulse or Pulse(None), PATIENCE_S))
    background.keep("standing of the workers", view.keep_looking)
    for name, work in opened.background():
        background.keep(name, work)
    opened_for_good()
    log.info("administering")
    await stop.wait()

    view.draining = True
    await rereading.stop()
    await server.stop(HTTP_END_S)
    await app.close()
    await background.stop()
    await opened.close()
    view.close()
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the process and return the exit code."""
    parser = argparse.ArgumentParser(prog="ashore.control", description="Administer one server.")
    parser.add_argument("--run", type=Path, required=True, help="directory with topology.json")
    return run_process(parser, words, _run)


def _run(given: argparse.Namespace) -> int:
    pulse = take_pulse()
    one_heap()
    return asyncio.run(serve(given.run / "topology.json", pulse=pulse))
