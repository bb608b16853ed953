"""The `textonly` engine: orders in messages become streamed answers of servers in OpenAI's chat form."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from ashore.core.errors import Conflict, InvalidSpec, UnsupportedByEngine
from ashore.data.engines.affinity import Turn
from ashore.data.engines.failures import failed
from ashore.data.engines.model import EngineInfo, EngineOptions, GenerateOrder, ModelFiles, SayOrder
from ashore.data.engines.textonly.card import CARD
from ashore.data.engines.textonly.form import CHAT, chat_body
from ashore.data.engines.vllm.engine import VllmEngine
from ashore.data.engines.vllm.reach import FleetServers, Reach
from ashore.data.engines.vllm.talk import Live
from ashore.kit.folders import make_folder

PREFIX: Final = "chat:"
MOST_NAME_CHARS: Final = 200
CONTEXT_TOKENS: Final = 32_768
"""The most that prompt and answer count as, where neither the operator nor the server says it."""
NO_LIMIT: Final = 1 << 31
"""Keys and values are the server's own matter; admission counts sequences."""


def check_name(name: str) -> None:
    """Check that a name says what the server calls the model.

    Raises:
        InvalidSpec: it does not.
    """
    there = name.removeprefix(PREFIX)
    if not there or len(there) > MOST_NAME_CHARS or not there.isprintable():
        raise InvalidSpec(f"{name[:40]!r} names no model of a server", hint="write chat:NAME, by its name there")


def chat_model_files(name: str, directory: Path) -> ModelFiles:
    """Return the files of such a model: an empty folder, made if it is missing.

    Raises:
        InvalidSpec: the name is wrong.
    """
    check_name(name)
    make_folder(directory)
    return ModelFiles(name=name, digest=name, directory=str(directory.absolute()), format="remote", plain_bytes=True)


class TextOnlyEngine(VllmEngine):
    """Implements `Engine`, `Speaks` and `CanWait`."""

    def load(self, files: ModelFiles, options: EngineOptions) -> EngineInfo:
        fleet = FleetServers.of(options)
        if fleet is None:
            hint = "set [model.engine] fleet = true, and add [[fleet.node]]"
            raise InvalidSpec(f"{files.name} has no server", hint=hint)
        # a fleet's own authority signs no server that is not of ashore
        reach = replace(Reach.of(options), identity=None, only_tls_outside=True)
        limit = str(options.extra.get("limit_field", "max_tokens"))
        form = replace(CHAT, body=partial(chat_body, limit_field=limit))
        self._connect(reach, fleet.read() or (), fleet, form, files.name.removeprefix(PREFIX), is_name_given=True)
        entry = self._ask(self._first_of_the_fleet())
        servers = self._reached()
        self._info = EngineInfo(
            kind="textonly",
            version=form.title if servers.pool.ready else f"{form.title}, no server answers yet",
            model=files.name,
            precision="unknown",
            context_tokens=options.context_tokens or (entry and entry.max_model_len) or CONTEXT_TOKENS,
            vocab_size=1,
            kv_tokens=NO_LIMIT,
            max_sequences=options.max_sequences,
            features=CARD.features,
        )
        self._network().call_soon_threadsafe(servers.watch)
        return self._info

    def submit(self, order: GenerateOrder) -> None:
        fault = UnsupportedByEngine("this model takes messages, not token ids", hint="send messages")
        self._push(failed(order.order_id, fault))

    def speak(self, order: SayOrder) -> None:
        if order.order_id in self._live:
            fault = Conflict(f"order {order.order_id!r} is already running", hint="give every order a unique id")
            self._push(failed(order.order_id, fault))
            return
        turn = Turn(opening=order.opening, prompt_tokens=order.most_prompt_tokens)
        live = self._live[order.order_id] = Live(order=order, turn=turn, prompt_tokens=turn.prompt_tokens)
        self._network().call_soon_threadsafe(self._start, live)
