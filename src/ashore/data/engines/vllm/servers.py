"""The servers behind one engine: identification, probes, orders and retries. In one asyncio loop.

If a server fails on an order, the order goes to another one, or to the same one again if there is no other; after a
token, to one that goes on behind the tokens that were made, and with the error of the first if none can. An order
waits while no server can take it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import httpx
import msgspec

from ashore.core.errors import (
    AshoreError,
    EngineFailed,
    InvalidRequest,
    KillsHosts,
    NotReady,
    SourceUnreachable,
    UnknownModel,
    UnsupportedByEngine,
)
from ashore.core.serversent import DONE
from ashore.data.engines.affinity import Turn
from ashore.data.engines.model import (
    EngineEvent,
    Finished,
    FleetServer,
    GenerateOrder,
    Moved,
    Order,
    SayOrder,
    Token,
    rest_of,
)
from ashore.data.engines.vllm import wire
from ashore.data.engines.vllm.dialects import Dialect
from ashore.data.engines.vllm.pool import Backend, Pool
from ashore.data.engines.vllm.reach import FleetServers, Reach, is_outside
from ashore.data.engines.vllm.spoken import DIALECTS
from ashore.data.engines.vllm.talk import (
    PROBE_TIMEOUT_S,
    Elsewhere,
    Live,
    Talk,
    Who,
    check,
    events,
    failed_by,
    translated,
)
from ashore.kit.decode import UNDECODABLE

_log = logging.getLogger(__name__)

PROBE_S: Final = 2.0
"""Between two probes of a server."""
LIST_S: Final = 0.1
"""Between two looks at the file that lists servers that come and go."""
SILENT_S: Final = 15.0
"""A server with orders that neither speaks nor answers probes for so long hangs. vLLM answers `/health` beside its
longest step."""
PATIENCE_S: Final = 30.0
"""How long an order waits for a server, as the request path waits for a host that restarts."""
AWAY_S: Final = 10.0
"""How long orders wait for one once all are known to be out, counted from then: later ones are refused at once."""
MOST_ATTEMPTS: Final = 4
MOST_DEATHS: Final = 2
"""Limit of servers that may fail on one order, which may be the cause."""
END_S: Final = 5.0
"""How long the end of a stream, and what its answer cost, may come after the reason of its end."""
DONE_S: Final = 0.2
"""How long its end may come after its last event. Reading on to it keeps the connection for the next order."""
MOST_REASON_CHARS: Final = 40
MOST_NAME_CHARS: Final = 100
"""Of the names of models that a server lists."""
BUSY_S: Final = 0.2
"""Pause before an order that a server refused for lack of room is sent again."""


class Servers:
    """Every server of one engine, and the orders on them."""

    def __init__(
        self,
        reach: Reach,
        listed: Sequence[FleetServer],
        *,
        fleet: FleetServers | None = None,
        dialect: Dialect | None,
        wanted: str,
        is_name_given: bool,
        tell: Callable[[EngineEvent], None],
        lost: Callable[[str], None],
    ) -> None:
        """Create it; no server is called yet.

        Args:
            reach: How the servers are reached.
            listed: The current servers.
            fleet: Lists them later on, if they come and go.
            dialect: How orders are written for them; None: as the first one speaks that answers while `learns`.
            wanted: Name of the model there. If the operator gave none and a server has one model only, it is that one.
            is_name_given: Whether the operator gave the name.
            tell: Called with the tokens and the ends of orders.
            lost: Called with the reason when a hanging server is given up.
        """
        self.pool = Pool(())
        self.dialect = dialect or wire.VLLM
        self.learns = dialect is None
        """Whether the dialect may still change; False once the engine has said what it can do."""
        self._is_dialect_given = dialect is not None
        self._reach = reach
        self._fleet = fleet
        self._talks: dict[Backend, Talk] = {}
        """Includes removed servers until their last orders have ended."""
        self._wanted = wanted
        self._is_name_given = is_name_given
        self._tell = tell
        self._lost = lost
        self._adapters: dict[str, str] = {}
        self._changed = asyncio.Event()
        """Set when the state of a server has changed, or a trial has ended."""
        self._watching: list[asyncio.Task[None]] = []
        self._list(listed)

    # --- identification

    def _list(self, listed: Sequence[FleetServer]) -> None:
        """Set the list of servers. A removed one gets no more orders, and finishes its own."""
        self.pool.set({server.url: server.drains for server in listed})
        for one, server in zip(self.pool.backends, listed, strict=True):
            if one not in self._talks:
                self._talks[one] = Talk(
                    who=Who(self.dialect.title, server.url, self.dialect.takes_text),
                    client=self._reach.client(server),
                    heard_s=time.monotonic(),
                )
                one.is_outside = is_outside(server)
        self._changed.set()

    async def _keep_listing(self, fleet: FleetServers) -> None:
        while True:
            if (listed := fleet.read()) is not None:
                _log.info("servers of the fleet: %s", ", ".join(server.url for server in listed) or "none")
                self._list(listed)
                for one in self.pool.backends:
                    if one.state == "new":
                        self._probe_soon(one)
            for one in self._talks.keys() - set(self.pool.backends):
                if not one.running:
                    await self._talks.pop(one).client.aclose()
            await asyncio.sleep(LIST_S)

    async def first(self) -> wire.ModelEntry:
        """Return the model of the first server that answers.

        Raises:
            SourceUnreachable: none answers yet.
            UnknownModel, RemoteRefused, PermissionDenied: one answered, and retrying is pointless.
        """
        await asyncio.gather(*(self._probe(one) for one in self.pool.backends))
        for one in self.pool.ready:
            entry = self._talks[one].entry
            assert entry is not None, "a server is ready once it has said what it serves"
            return entry
        hopeless = [talk.fault for talk in self._talks.values() if talk.fault is not None]
        if hopeless and len(hopeless) == len(self._talks):
            raise hopeless[0]
        raise SourceUnreachable(self._reasons() or "no server is listed")

    async def version(self) -> str:
        """Return the version that a ready server reports."""
        path, field = self.dialect.version
        for one in self.pool.ready if path else ():
            with contextlib.suppress(Elsewhere, AshoreError, LookupError, *UNDECODABLE):
                return str(msgspec.json.decode(await self._talks[one].get(path), type=dict[str, Any])[field])[:100]
        return "unknown"  # an older server, or another one with the same API

    async def load_adapter(self, name: str, directory: str) -> None:
        """Load a LoRA adapter on every ready server; later ones load it when they come.

        Raises:
            AshoreError: the first server rejects it; the message has its own text.
        """
        self._adapters[name] = directory
        for one in self.pool.ready:
            await self._give_adapters(one)

    async def is_asleep(self) -> bool:
        """Return whether any server that answers sleeps.

        Raises:
            UnsupportedByEngine: one has no such mode.
        """
        return any([await self._sleeps(one) for one in self.pool.ready])

    async def _sleeps(self, one: Backend) -> bool:
        try:
            return msgspec.json.decode(await self._talks[one].get("/is_sleeping"), type=wire.Sleeping).is_sleeping
        except InvalidRequest as error:
            raise UnsupportedByEngine(
                f"the vLLM server at {one.url} cannot sleep: {error.message}",
                hint="start it with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1, or remove the option "
                "enable_sleep_mode",
            ) from error
        except Elsewhere as verdict:
            raise verdict.error from verdict

    async def rest(self, *, asleep: bool) -> None:
        """Make every server that answers offload its weights to its machine's memory and drop its KV cache (level 1),
        or restore them. Waits until that is done.

        Raises:
            EngineFailed: one could not.
        """
        for one in self.pool.ready:
            try:
                await self._talks[one].post("/sleep?level=1" if asleep else "/wake_up", {})
                is_asleep = await self._sleeps(one)
            except Elsewhere as verdict:
                raise EngineFailed(verdict.error.message, hint="see the log of that server") from verdict
            if is_asleep != asleep:
                raise EngineFailed(f"the vLLM server at {one.url} {'does not sleep' if asleep else 'sleeps on'}")

    async def _greet(self, one: Backend) -> None:
        """Ask a server what it serves, and load the adapters on it."""
        talk = self._talks[one]
        entries = msgspec.json.decode(await talk.get("/v1/models"), type=wire.ModelList).data
        talk.entry = self._chosen(one.url, entries)
        self._learn_dialect(one.url, talk.entry)
        if self.dialect.about:
            told = msgspec.json.decode(await talk.get(self.dialect.about), type=dict[str, Any])
            context = msgspec.convert(self.dialect.context(told), int | None)
            talk.entry = msgspec.structs.replace(talk.entry, max_model_len=context)
        one.kind = self.dialect.title
        if self.dialect.takes_text and talk.entry.owned_by:
            one.kind += f", {talk.entry.owned_by[:MOST_REASON_CHARS]}"
        talk.adapters = {entry.id for entry in entries} & self._adapters.keys()
        await self._give_adapters(one)

    def _learn_dialect(self, url: str, entry: wire.ModelEntry) -> None:
        """Take the dialect of the first server that names itself, unless the operator said it. The others must speak
        the same: one model has one set of features."""
        spoken = next((one for one in DIALECTS if one.owner == entry.owned_by), None)
        if spoken is None or self._is_dialect_given:
            return
        if spoken is not self.dialect and not self.learns:
            raise UnsupportedByEngine(
                f"the server at {url} is {spoken.title}; this model was loaded for {self.dialect.title}",
                hint=f'write options = {{ dialect = "{spoken.name}" }} if all of them are, else give it an alias of '
                "its own",
            )
        self.dialect, self.learns = spoken, False
        for talk in self._talks.values():
            talk.who = Who(spoken.title, talk.who.url)

    def _chosen(self, url: str, entries: list[wire.ModelEntry]) -> wire.ModelEntry:
        for entry in entries:
            if entry.id == self._wanted:
                return entry
        base = [entry for entry in entries if entry.parent is None]
        if len(base) == 1 and not self._is_name_given:
            return base[0]
        names = ", ".join(entry.id[:MOST_NAME_CHARS] for entry in base[:8]) or "no model"
        raise UnknownModel(
            f"the server at {url} serves {names}, not {self._wanted!r}",
            hint='write options = { served_model_name = "…" } with the name that it has there',
        )

    async def _give_adapters(self, one: Backend) -> None:
        talk = self._talks[one]
        for name, directory in self._adapters.items():
            if name not in talk.adapters:
                body = {"lora_name": name, "lora_path": directory}
                await self._talks[one].post("/v1/load_lora_adapter", body)
                talk.adapters.add(name)

    # --- probes

    def watch(self) -> None:
        """Probe every server until cancelled."""
        now_s = time.monotonic()
        for talk in self._talks.values():
            talk.heard_s = now_s
        loop = asyncio.get_running_loop()
        self._watching.append(loop.create_task(self._keep_probing(), name="vllm-probes"))
        if self._fleet is not None:
            self._watching.append(loop.create_task(self._keep_listing(self._fleet), name="vllm-fleet"))

    async def _keep_probing(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(PROBE_S)
            for one in self._talks:
                self._judge_silence(one, self._talks[one])
                is_silent = one.running > 0 and time.monotonic() - self._talks[one].heard_s > PROBE_S
                if one.state != "ready" or number % self.dialect.rests == 0 or is_silent:
                    self._probe_soon(one)

    def _probe_soon(self, one: Backend) -> None:
        talk = self._talks[one]
        if talk.probing is None or talk.probing.done():
            talk.probing = asyncio.get_running_loop().create_task(self._probe(one), name=f"probe {one.url}")

    async def _probe(self, one: Backend) -> None:
        """Probe one server's health; one that was out is identified again."""
        talk = self._talks[one]
        why, was = "", one.state
        try:
            async with asyncio.timeout(3 * PROBE_TIMEOUT_S):  # adapters may be loaded on it
                if one.state == "ready":
                    await self._talks[one].get(self.dialect.health)
                else:
                    await self._greet(one)
            talk.heard_s, talk.fault = time.monotonic(), None
        except Elsewhere as verdict:
            why = verdict.error.message
        except AshoreError as error:
            why = error.message
            talk.fault = error
        except TimeoutError:
            why = f"no answer within {3 * PROBE_TIMEOUT_S:g} s"
        except UNDECODABLE as error:
            why = f"{talk.who} sent an invalid response: {error}"
        if self.pool.probed(one, time.monotonic(), why=why):
            self._tell_change(one, was)

    def _judge_silence(self, one: Backend, talk: Talk) -> None:
        """Take the orders from a server that has gone silent while it has some."""
        now_s = time.monotonic()
        if not one.running:
            talk.heard_s = now_s
            return
        silent_s = now_s - talk.heard_s
        if silent_s < SILENT_S:
            return
        why = f"the {talk.who.title} server at {one.url} has not responded for {silent_s:.0f} s"
        _log.error("%s; its %d orders are taken from it", why, one.running)
        self.pool.silenced(one, why, now_s)
        talk.heard_s = now_s
        for live in talk.orders:
            live.gave_up = why
            assert live.task is not None, "an order is on a server from within its task"
            live.task.cancel()
        self._lost(why)
        self._changed.set()

    def _tell_change(self, one: Backend, was: str) -> None:
        _log.log(
            logging.INFO if one.state == "ready" else logging.WARNING,
            "server %s: %s -> %s%s", one.url, was, one.state, f" ({one.reason})" if one.reason else "",
        )  # fmt: skip
        self._changed.set()

    def _reasons(self) -> str:
        return "; ".join(f"{one.url}: {'draining' if one.drains else one.reason}" for one in self.pool.backends)

    # --- orders

    async def run(self, live: Live) -> None:
        """Run one order to its end and report every token. Cancelling closes the stream, which makes vLLM abort it.

        Raises:
            NotReady: no server could take it in time.
            KillsHosts: two servers broke on it without a token in between.
            AshoreError: it was refused, or was lost after its first token and cannot go on.
        """
        tried: set[str] = set()
        attempts, deaths, until_s = 0, 0, time.monotonic() + PATIENCE_S
        lost: Elsewhere | None = None
        while True:
            made = live.made
            try:
                one = await self._free(tried, until_s, live.turn)
                if lost is not None:
                    self._tell(Moved(live.order.order_id, live.where, one.url))
                live.where = one.url
                with self.pool.running(one, live.turn):
                    await self._run_on(live, one)
                return
            except AshoreError as error:
                if lost is None or live.made > made:
                    raise
                raise lost.error from error  # it cannot go on there
            except Elsewhere as verdict:
                if live.made > made:
                    if not any(_can_go_on(live, talk) for talk in self._talks.values()):
                        raise verdict.error from verdict
                    lost, deaths, until_s = verdict, 0, time.monotonic() + PATIENCE_S
                    self._doubt(one, str(verdict))
                else:
                    self._note_failure(one, verdict)
                deaths += verdict.taken
                if deaths >= MOST_DEATHS:
                    raise KillsHosts(
                        f"{deaths} servers failed while they worked on this request; it is given to no other. The "
                        f"last one said: {verdict}",
                        hint="do not send it again as it is; the operator finds in the logs of the servers why",
                    ) from verdict
                attempts += not verdict.refused
                if attempts == MOST_ATTEMPTS:
                    raise verdict.error from verdict
                tried.add(one.url)
                _log.warning("order %s: %s; trying again", live.order.order_id, verdict)
                if verdict.busy and len(tried) >= len(self.pool.ready):
                    await asyncio.sleep(BUSY_S)

    async def _free(self, tried: set[str], until_s: float, turn: Turn | None = None) -> Backend:
        """Wait for an available server for an order and return it."""
        while (one := self.pool.pick(time.monotonic(), tried, turn)) is None:
            lost_s = self.pool.lost_s
            until_s = until_s if lost_s is None else min(until_s, lost_s + AWAY_S)
            trial_s = self.pool.next_trial_s()
            wake_s = until_s if trial_s is None else min(until_s, trial_s)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.001, wake_s - time.monotonic())):
                    await self._changed.wait()
            if time.monotonic() >= until_s:
                _log.info("an order found no server: %s", self._reasons() or "none is listed")
                raise NotReady(
                    "no server of this model answers now",
                    hint="send it again later; the operator sees in `ashore status` what is wrong",
                    retry_after_s=5,
                )
        return one

    def _doubt(self, one: Backend, why: str) -> None:
        """Give a server that lost an answer no orders until it answers a probe."""
        if one.state == "ready":
            self.pool.silenced(one, why, time.monotonic())
            self._tell_change(one, "ready")
        self._probe_soon(one)

    def _note_failure(self, one: Backend, verdict: Elsewhere) -> None:
        was = one.state
        if was == "out":
            self._changed.set()
        if not verdict.busy and self.pool.failed(one, str(verdict), time.monotonic(), refused=verdict.refused):
            self._tell_change(one, was)

    async def _run_on(self, live: Live, one: Backend) -> None:
        """Stream an order from one server."""
        talk = self._talks[one]
        assert talk.entry is not None, "a server gets orders once it has said what it serves"
        order, begun = live.order, 0
        if isinstance(order, GenerateOrder):
            order = rest_of(order, live.ids, order.order_id) if live.ids else order
            begun = order.begun
        if not order.max_new_tokens:  # only the end of its stream was lost
            self._tell(Finished(order.order_id, "length", live.prompt_tokens, live.cached_tokens, live.made))
            return
        if begun and not _can_go_on(live, talk):
            raise UnsupportedByEngine(f"{talk.who} cannot go on with this answer")
        talk.orders.add(live)
        try:
            body = self.dialect.body(order, talk.entry.id)
            if begun and talk.resumes:
                body["begun"] = begun
            traceparent = live.order.traceparent
            headers = {"traceparent": traceparent} if traceparent and not one.is_outside else {}
            asked = talk.client.stream("POST", self.dialect.path, json=body, headers=headers)
            async with translated(talk.who), asked as answer:
                await check(talk.who, answer)
                await self._read_stream(live, order, one, answer)
        except asyncio.CancelledError:
            why, live.gave_up = live.gave_up, ""
            if not why:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            raise Elsewhere(SourceUnreachable(why, hint="check that server; requests are retried")) from None
        finally:
            talk.orders.discard(live)

    async def _read_stream(self, live: Live, order: Order, one: Backend, answer: httpx.Response) -> None:
        talk, before = self._talks[one], live.made
        read, stops = self.dialect.reader(order), frozenset[int]()
        if isinstance(order, GenerateOrder) and not order.ignore_eos:
            stops = frozenset(order.stop_token_ids)
        ended, stop_token_id, cached_tokens = "", None, None
        now_s, alarm = asyncio.get_running_loop().time, asyncio.timeout(None)
        with _passing(alarm):
            async with alarm, contextlib.aclosing(events(talk.who, answer)) as found:
                async for data in found:
                    talk.heard_s = time.monotonic()
                    if data == DONE:
                        alarm.reschedule(now_s() + DONE_S)
                        continue  # a stream ends after it; reading on to its end closes what httpx opened
                    piece = read(data)
                    if piece.error:
                        raise failed_by(talk.who, piece, answer)
                    begins = live.made == before and bool(piece.rows or piece.said)
                    if piece.counts is not None:
                        live.prompt_tokens, live.said = piece.counts
                    if piece.cached_tokens is not None and not before:
                        live.cached_tokens = cached_tokens = min(max(0, piece.cached_tokens), live.prompt_tokens)
                    if ended and piece.rows:
                        break  # it runs on past its end
                    if ended and piece.said is not None:
                        ended = ""  # a reason before the last piece is not that of its end
                        alarm.reschedule(None)
                    stop = next((at for at, row in enumerate(piece.rows) if row[0] in stops), None)
                    if stop is not None:
                        ended, stop_token_id = "stop", piece.rows[stop][0]
                        del piece.rows[stop:]
                    elif piece.ended and not ended:
                        ended, stop_token_id = piece.ended, piece.stop_token_id
                        alarm.reschedule(now_s() + END_S)
                    if begins:
                        live.turn.begin_at(one)
                    if piece.said is not None:
                        self._tell(piece.said)
                    room = order.max_new_tokens - (live.made - before)
                    for token_id, logprob, top in piece.rows[:room]:
                        live.ids.append(token_id)
                        self._tell(Token(order.order_id, token_id, logprob, top))
                    if (live.made > before or ended) and (one.failures or one.state != "ready"):
                        was = one.state
                        if self.pool.answered(one):
                            self._tell_change(one, was)
                    if len(piece.rows) > room:
                        _log.warning("order %s: %s sends more tokens than were asked for", order.order_id, one.url)
                        ended, stop_token_id = "length", None
                        break
        if ended not in ("stop", "length"):
            what = f"ended with {ended[:MOST_REASON_CHARS]!r}" if ended else "ended before the answer did"
            raise Elsewhere(EngineFailed(f"the stream of {one.url} {what}", hint="see the log of that server"))
        if cached_tokens is not None and not before:
            self.pool.ended(one, live.turn, cached_tokens)
        self._tell(
            Finished(order.order_id, ended, live.prompt_tokens, live.cached_tokens, live.made, stop_token_id)  # type: ignore[arg-type]
        )

    # --- calls

    async def call(self, path: str, body: Callable[[str], dict[str, Any]]) -> bytes:
        """Return a server's answer to an idempotent call; `body` builds the request from the model's name there.

        Raises:
            NotReady: no server could take it in time.
            AshoreError: it was refused, or servers failed on it.
        """
        tried: set[str] = set()
        until_s = time.monotonic() + PATIENCE_S
        for attempt in range(1, MOST_DEATHS + 1):
            one = await self._free(tried, until_s)
            entry = self._talks[one].entry
            assert entry is not None, "a server gets orders once it has said what it serves"
            try:
                with self.pool.running(one):
                    return await self._talks[one].post(path, body(entry.id))
            except Elsewhere as verdict:
                self._note_failure(one, verdict)
                if attempt == MOST_DEATHS:
                    raise verdict.error from verdict
                tried.add(one.url)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """End every order and connection. May be called twice."""
        tasks = [live.task for talk in self._talks.values() for live in talk.orders if live.task is not None]
        tasks += [talk.probing for talk in self._talks.values() if talk.probing is not None]
        tasks += self._watching
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for talk in self._talks.values():
            await talk.client.aclose()
        await asyncio.get_running_loop().shutdown_asyncgens()


@contextlib.contextmanager
def _passing(alarm: asyncio.Timeout) -> Iterator[None]:
    """Let the end of a timeout pass: what it waited for is left out."""
    try:
        yield
    except TimeoutError:
        if not alarm.expired():
            raise


def _can_go_on(live: Live, talk: Talk) -> bool:
    """Return whether a server can go on with an answer: behind any, if it takes the tokens that were made as such;
    else they are a prompt to it, so their sampling must leave no state. The tokens of a text are not known here."""
    if isinstance(live.order, SayOrder):
        return False
    sampling = live.order.sampling
    counts = sampling.presence_penalty or sampling.frequency_penalty
    draws = sampling.seed is not None and sampling.temperature > 0
    return talk.resumes or not (live.order.grammar is not None or counts or draws)
