"""`ashore launch`: start an installed coding client, configured for this server.

Everything is passed in the environment and options of that run. No file of the client is written, so there is nothing
to undo, and the client uses its own server again when started directly.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Final

import cyclopts
from cyclopts import Parameter

from ashore.cli.chatclient import ChatClient, Served, no_model
from ashore.cli.target import api_base, find_target
from ashore.core.errors import ContextTooLong, InvalidRequest, NotReady, UnknownModel
from ashore.core.nearest import did_you_mean

app = cyclopts.App(name="launch", help="Start a coding client, set up for this server.")

KEY: Final = "ASHORE_API_KEY"
"""Variable that has the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a client is started with. `$ASHORE_API_KEY` in a variable stands for the key."""

    words: list[str]
    env: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that can be started."""

    program: str
    install: str
    context_tokens: int
    """What its own prompt with its tools takes, and some room to work in."""
    setup: Callable[[str, str, int], Setup]
    """From the address with `/v1`, a model and its context."""


def _claude(base: str, model: str, context: int) -> Setup:
    names = ("ANTHROPIC_MODEL", "ANTHROPIC_SMALL_FAST_MODEL")
    env = {
        "ANTHROPIC_BASE_URL": base.removesuffix("/v1"),
        "ANTHROPIC_AUTH_TOKEN": f"${KEY}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return Setup(words=["claude"], env=env | dict.fromkeys(names, model))


def _codex(base: str, model: str, context: int) -> Setup:
    provider = {"name": "ashore", "base_url": base, "env_key": KEY, "wire_api": "responses"}
    told = {"model": model, "model_provider": "ashore", "model_context_window": context}
    told |= {f"model_providers.ashore.{name}": value for name, value in provider.items()}
    words = [word for name, value in told.items() for word in ("-c", f"{name}={json.dumps(value)}")]
    return Setup(words=["codex", *words], env={KEY: f"${KEY}"})


def _opencode(base: str, model: str, context: int) -> Setup:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "ashore",
        "options": {"baseURL": base, "apiKey": f"{{env:{KEY}}}"},
        "models": {model: {"name": model, "tool_call": True, "limit": {"context": context, "output": context // 4}}},
    }
    config = {"provider": {"ashore": provider}, "model": f"ashore/{model}", "small_model": f"ashore/{model}"}
    return Setup(words=["opencode"], env={KEY: f"${KEY}", "OPENCODE_CONFIG_CONTENT": json.dumps(config)})


CLIENTS: Final[Mapping[str, Client]] = MappingProxyType(
    {
        "claude": Client(
            program="claude",
            install="npm install -g @anthropic-ai/claude-code",
            context_tokens=64_000,
            setup=_claude,
        ),
        "codex": Client(program="codex", install="npm install -g @openai/codex", context_tokens=32_000, setup=_codex),
        "opencode": Client(
            program="opencode", install="npm install -g opencode-ai", context_tokens=32_000, setup=_opencode
        ),
    }
)


@app.default
def launch(
    client: str,
    /,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True)],
    model: str | None = None,
    url: str | None = None,
    key: str | None = None,
    print_: Annotated[bool, Parameter(name="--print", negative="")] = False,
) -> int:
    """Start claude, codex or opencode, set up for this server. No file of the client is changed.

    Args:
        client: claude, codex or opencode.
        words: Options and arguments for the client itself; after `--` where they are options of ashore, too.
        model: Model to use; default: the first that the server offers with enough context.
        url: Address of the server; default: the one that runs from this home.
        key: API key; default: ASHORE_API_KEY, or that of this home for loopback addresses.
        print_: Print the commands for a shell, and start nothing.
    """
    chosen = CLIENTS.get(client)
    if chosen is None:
        raise InvalidRequest(
            f"there is no client {client[:80]!r}", hint=did_you_mean(client[:80], CLIENTS), param="client"
        )
    target = find_target(url, key=key)
    with closing(ChatClient(target)) as asked:
        served = choose(asked.served(), model, client, chosen.context_tokens)
    setup = chosen.setup(api_base(target.url).rstrip("/"), served.name, served.context_tokens)
    if print_:
        print("\n".join(lines(setup, [*setup.words, *words])))
        return 0
    if shutil.which(chosen.program) is None:
        raise NotReady(f"{chosen.program} is not installed", hint=f"{chosen.install}, or see it with --print")
    env = {name: value.replace(f"${KEY}", target.key) for name, value in setup.env.items()}
    os.execvpe(chosen.program, [*setup.words, *words], {**os.environ, **env})
    raise AssertionError("unreachable")


def choose(served: list[Served], wanted: str | None, client: str, needed: int) -> Served:
    """Return the model for a client.

    Raises:
        NotReady: this key may use none.
        UnknownModel: there is none of that name.
        ContextTooLong: its context, or that of every model, is too short for the client.
    """
    served = [one for one in served if _is_plain(one.name)]
    if not served:
        raise no_model()
    named = [one for one in served if wanted is None or one.name == wanted]
    if not named:
        names = [one.name for one in served]
        raise UnknownModel(
            f"no model is called {str(wanted)[:100]!r} here", hint=did_you_mean(str(wanted)[:100], names), param="model"
        )
    longest = max(named, key=lambda one: one.context_tokens)
    enough = [one for one in named if one.context_tokens >= needed or not one.context_tokens]
    if not enough:
        raise ContextTooLong(
            f"{client} needs a context of {needed:,} tokens, and that of {longest.name} is {longest.context_tokens:,}",
            hint="serve a model with more, or raise context_tokens under [model.engine] as far as the model goes",
            param="model",
        )
    return enough[0]


def _is_plain(name: str) -> bool:
    """Return whether a client treats a name as a plain name. Names come from the server, and OpenCode replaces
    `{file:PATH}` anywhere in its configuration by that file's content.
    """
    return name.isprintable() and not any(char in "{}$`" for char in name)


def lines(setup: Setup, words: list[str]) -> list[str]:
    """Return the commands for a shell that start a client; the key stands in its variable, and is not printed."""
    given = [f'# {KEY} must have the key: export {KEY}="$(cat ~/.ashore/first-key)"']
    for name, value in setup.env.items():
        if name != KEY:
            given.append(f'export {name}="${KEY}"' if value == f"${KEY}" else f"export {name}={shlex.quote(value)}")
    return [*given, shlex.join(words)]
