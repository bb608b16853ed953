"""Entry point of the API worker: `python -m ashore.data.worker --run DIR [--index N]`.

Reads `DIR/topology.json`, connects to the engine hosts, and serves HTTP, and gRPC beside it, in one event loop.
SIGTERM drains: new requests are refused, running ones may end. SIGHUP reads the topology again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ashore.core.clock import Clock, SystemClock
from ashore.core.kinds import EngineKind
from ashore.data.audit import AuditLog
from ashore.data.authority import Authenticator, Authority
from ashore.data.authority.budgets import LedgerBudgets
from ashore.data.authority.issuers import Fetch
from ashore.data.authority.keeping import Keys
from ashore.data.background import Background
from ashore.data.cache import AnswerCache
from ashore.data.engines import GrammarChecker, card_of
from ashore.data.feedback import Receipts
from ashore.data.guard import Guard
from ashore.data.http import DATA_ROUTES, AccessLog, HttpApp, HttpServer, Relay, Siblings, listen
from ashore.data.http.inner import INNER
from ashore.data.issuers import fetch_jwks
from ashore.data.jobs import Quotas
from ashore.data.opening import one_heap, open_the_state, opened_for_good, trusted_proxies
from ashore.data.origin import Origins
from ashore.data.path import (
    BEAT_S,
    Board,
    BytesText,
    ConcurrencyLimit,
    Followers,
    GuardedMasker,
    Guards,
    HttpListen,
    LoopMeter,
    PrivacyMasker,
    Replica,
    ServedModel,
    ServedText,
    ServingService,
    Topology,
    Tracer,
    centre_of,
    keep_to_word,
    read_topology,
)
from ashore.data.privacy import Privacy
from ashore.data.recording import LogRecorder
from ashore.data.releases.room import RequestPath
from ashore.data.rereading import keep_rereading, take_each
from ashore.data.residency import AsksSupervisor
from ashore.data.underway import bodies_of
from ashore.kit.identity import Identity
from ashore.kit.metrics import Metrics
from ashore.kit.processes import Pulse, keep_beating, take_hangups, take_pulse
from ashore.kit.processes.entry import run_process
from ashore.kit.recorder import Recorder
from ashore.kit.rooms import SERVE, Context, Rooms, data_rooms

if TYPE_CHECKING:
    from ashore.data.grpc import GrpcServer

log = logging.getLogger("ashore.worker")

ASIDE_THREADS = 2
"""Threads for work that would block the streams: long prompts, grammars, writes of the access log."""

GRPC_END_S, HTTP_END_S = 1.0, 5.0
"""How long calls and connections may take to end, once requests have, or had their time."""

PATIENCE_S = 30
"""A loop that turns no more for so long hangs, and the supervisor starts this worker again. One of whose threads none
runs any more is missed much sooner."""

CONNECTED_S = 1.0
"""How long a worker that begins lets those wait that ask already, until its hosts have greeted. One that comes back
while they are there would tell its first clients that the model is loading."""


def waits_for_turns(kinds: Collection[EngineKind]) -> bool:
    """Return whether a worker next to engines of these kinds must wait for a free processor.

    A step of an engine on this machine's processors ends when its slowest thread does. A worker that wakes for every
    token and interrupts one of them for tens of microseconds delays all: on two cores, 16 streams of the demo model
    reached 0.87 to 0.90 of the engine alone that way, and 0.96 with waiting (benchmarks/reports/2026-11-25-xeon.md).

    False if the card of every engine says so.
    """
    return not kinds or any(card_of(kind).waits_for_turns for kind in kinds)


def wait_for_turns() -> None:
    """Schedule this process and its threads only on free processors, without preempting engines."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it; scheduling then stays as it was
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def connect_host(socket_path: str) -> Replica:
    """Return an unconnected replica on a unix socket."""
    from ashore.data.engines import HostClient

    replica: Replica = HostClient(Path(socket_path))
    return replica


def load_text(served: ServedModel) -> ServedText:
    """Return the text side of a served model; a model without a directory uses bytes as tokens, or takes text alone."""
    takes_text = "speak" in card_of(served.kind).features
    if not served.text_dir and not takes_text:
        return BytesText()
    from ashore.data.text import TextModel, TextOnly

    if takes_text:
        return TextOnly()
    text: ServedText = TextModel.load(Path(served.text_dir))
    return text


def siblings_of(topology: Topology, index: int) -> Siblings:
    """Return the other processes of this machine whose figures stand on one page with those of this worker."""
    where = topology.listens(index)
    own = where.inner or where.http.uds
    return Siblings([one for one in (*topology.inner_sockets, topology.control) if one not in ("", own)])


def guards_of(context: Context) -> Guards:
    """Return the request guards of the rooms."""
    lists, masker = context.need(Guard), PrivacyMasker(context.need(Privacy), context.metrics, context.behind)
    guards = Guards(masker=GuardedMasker(masker, lists, context.metrics, context.behind), lists=lists)
    if (audit := context.find(AuditLog)) is not None:
        guards = replace(guards, auditor=audit)
    if (budgets := context.find(LedgerBudgets)) is not None:
        guards = replace(guards, budgets=budgets)
    heard = [one for one in (context.find(Tracer), context.find(Receipts)) if one is not None]
    return replace(guards, tracer=Followers(heard) if len(heard) > 1 else heard[0] if heard else None)


async def serve(
    topology_path: Path,
    *,
    index: int = 0,
    make_replica: Callable[[str], Replica] = connect_host,
    meter: LoopMeter | None = None,
    pulse: Pulse | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. `meter` is the selector of this loop; `pulse` beats as
    long as the loop turns."""
    topology = read_topology(topology_path)
    clock, metrics = SystemClock(), Metrics(metric for room in data_rooms() for metric in room.metrics)
    siblings = siblings_of(topology, index)

    def behind(name: str) -> tuple[str, ...]:
        """Return the models behind an alias. First called with a request, after `serving` is set."""
        return serving.behind(name)

    opened = Rooms(
        Context(
            told=topology.told,
            gives={Clock: clock, Metrics: metrics, Recorder: LogRecorder(), Fetch: fetch_jwks},
            process=f"api-{index}",
            worker=index,
            behind=behind,
        ),
        listed=data_rooms,
        parts=SERVE,
    )
    await opened.open("record")
    await open_the_state(topology, opened)
    await opened.open("state")
    authenticator, authority = opened.context.need(Authenticator), opened.context.need(Authority)
    origins = Origins(trusted_proxies(topology))
    board = Board(Path(topology.board), index) if topology.board else None
    grammars = GrammarChecker()
    centre = centre_of(topology.sections.get("sites", {}), topology.home, authority=authority, clock=clock)
    serving = ServingService(
        topology, make_replica=make_replica, load_text=load_text, check_grammar=grammars.check, clock=clock,
        metrics=metrics, cache=opened.context.need(AnswerCache), authority=authority, board=board,
        guards=guards_of(opened.context), limit=ConcurrencyLimit(meter),
        tell_supervisor=opened.context.find(AsksSupervisor),
        centre=centre,
    )  # fmt: skip
    where = topology.listens(index)
    sock = listen(where.http)
    bodies = bodies_of(topology.limits, num_workers=max(1, len(topology.workers)))
    opened.give({RequestPath: serving, Quotas: opened.find(LedgerBudgets)})
    await opened.open("serving")
    app = HttpApp(
        serving, authenticator, metrics, (*DATA_ROUTES, *INNER), limits=topology.limits, rooms=opened, number=index,
        siblings=siblings, access_log=AccessLog() if topology.access_log else None, authority=authority,
        origins=origins, bodies=bodies, recorder=opened.context.recorder, vllm_names=topology.metrics.vllm_names,
        relay=Relay(topology.control) if topology.control else None, described=DATA_ROUTES,
        has_console=bool(topology.control) and topology.told("console").get("enabled", True),
    )  # fmt: skip
    loop = asyncio.get_running_loop()
    if (keys := opened.context.find(Keys)) is not None:
        serving.reception.current = keys.current
        keys.after_change = partial(loop.call_soon_threadsafe, serving.reception.end_revoked)
    loop.set_default_executor(ThreadPoolExecutor(ASIDE_THREADS, thread_name_prefix="aside"))
    stop = asyncio.Event()
    reread = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reread.set)
    take_hangups()

    await serving.start()
    await serving.connected(CONNECTED_S)
    tls = Identity(folder=Path(where.http.identity)).context(server=True) if where.http.identity else None
    servers = [HttpServer(app, sock, topology.limits, tls=tls)]
    if where.inner:
        servers.append(HttpServer(app, listen(HttpListen(uds=where.inner)), topology.limits))
    app.start()
    for server in servers:
        server.start()
    beside: GrpcServer | None = None
    if where.grpc is not None:
        from ashore.data.grpc import GrpcServer

        beside = GrpcServer(
            serving, authenticator, where.grpc.host, where.grpc.port, metrics=metrics, uds=where.grpc.uds,
            recorder=opened.context.recorder, origins=origins, limits=topology.limits, bodies=bodies,
        )  # fmt: skip
        await beside.start()
    rereading, background = Background(), Background()

    async def take(topology: Topology) -> None:
        await take_each((*opened.reloads(topology.told), partial(serving.apply, topology)))
        origins.trusted_proxies = trusted_proxies(topology)

    rereading.keep("topology", partial(keep_rereading, reread, topology_path, take))
    background.keep("pulse", partial(keep_beating, pulse or Pulse(None), PATIENCE_S))
    for name, work in opened.background():
        background.keep(name, work)
    if topology.sections.get("sites", {}).get("role") == "site":
        keep_word = partial(keep_to_word, serving.reception, Path(topology.home), clock, centre)
        background.keep("word of the centre", keep_word)
    if board is not None:
        background.keep("beat on the board", partial(_beat, board))
    opened_for_good()
    log.info("serving %s", ", ".join(model.alias for model in topology.models))
    await stop.wait()

    log.info("draining %d requests, at most %g s", serving.in_flight, topology.drain_timeout_s)
    await rereading.stop()
    whole = await serving.drain(topology.drain_timeout_s)
    if beside is not None:
        await beside.stop(GRPC_END_S)
    if not whole:
        log.warning("%d requests did not finish in time and were cut off", serving.in_flight)
    await serving.close()
    grammars.close()
    await asyncio.gather(*(server.stop(HTTP_END_S) for server in servers))
    await app.close()
    await background.stop()
    await opened.close()
    if board is not None:
        board.close()
    return 0


async def _beat(board: Board) -> None:
    while True:
        board.beat()
        await asyncio.sleep(BEAT_S)


def main(words: Sequence[str] | None = None) -> int:
    """Run the worker and return the exit code."""
    parser = argparse.ArgumentParser(prog="ashore.data.worker", description="Serve HTTP and gRPC for one topology.")
    parser.add_argument("--run", type=Path, required=True, help="directory with topology.json")
    parser.add_argument("--index", type=int, default=0, help="number of this worker in the topology")
    return run_process(parser, words, _run)


def _run(given: argparse.Namespace) -> int:
    pulse, path = take_pulse(), given.run / "topology.json"
    one_heap()
    if waits_for_turns([model.kind for model in read_topology(path).models]):
        wait_for_turns()
    meter = LoopMeter()
    serving = serve(path, index=given.index, meter=meter, pulse=pulse)
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(meter)) as runner:
        return runner.run(serving)


if __name__ == "__main__":
    raise SystemExit(main())
