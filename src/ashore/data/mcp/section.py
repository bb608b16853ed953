"""`[mcp]`: servers with tools that agents reach through this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from msgspec import Meta

from ashore.core.errors import InvalidSpec
from ashore.core.foreign import foreign_errors
from ashore.kit.section import Seconds, Section, toml

_RUN: Final = "ashore starts no programs: run the server with its HTTP transport, and give its url"
_TOKEN: Final = "write what the server expects behind `Authorization: Bearer` as token"
_ELSEWHERE: Final = dict.fromkeys(("command", "args", "env", "transport", "type"), _RUN) | dict.fromkeys(
    ("headers", "key", "api_key", "authorization"), _TOKEN
)
"""Keys that the files of other clients of MCP have, and what stands for them here."""
_OWN: Final = ("127.0.0.1", "::1", "localhost")


class McpServer(Section, frozen=True, kw_only=True):
    """A server of tools. Agents reach it as `/mcp/NAME` with their key of ashore; what they may call is a matter of
    roles (`mcp:call on tool/NAME/TOOL`), and only of tools that `ashore mcp approve` approved."""

    name: Annotated[
        str,
        Meta(
            pattern=r"\A[a-z][a-z0-9-]{0,23}\Z", examples=['"bank"'],
            description="1 to 24 small letters, digits and hyphens, with a letter first",
        ),
    ]  # fmt: skip
    """Name of the server in addresses, roles, budgets (`mcp/NAME`) and policies."""
    url: Annotated[str, Meta(examples=['"https://tools.corp.example/mcp"'])]
    """Where it speaks MCP over Streamable HTTP. Its host must be in `[egress] allow`; without TLS only on this
    machine. Redirects are not followed."""
    token: str = ""
    """Sent as `Authorization: Bearer`, best as `{ from_file = PATH }`. Nothing of a client's headers goes there."""
    timeout_s: Seconds = 30.0
    """Longest time of one call, with everything that belongs to it."""
    argument_bytes: Annotated[int, Meta(ge=256, le=1 << 20)] = 65_536
    """Longest request of a client."""
    result_bytes: Annotated[int, Meta(ge=256, le=1 << 20)] = 262_144
    """Longest answer of the server. A longer one becomes an error."""
    at_once: Annotated[int, Meta(ge=1, le=256)] = 16
    """Calls that one API worker makes at the same time; those of one tenant take at most three quarters of them. For
    calls a minute, set a budget: `ashore access budget set requests 60 --per minute --model mcp/NAME`."""

    @classmethod
    def prepared(cls, values: Mapping[str, object], where: str) -> Mapping[str, object]:
        for name, hint in _ELSEWHERE.items():
            if name in values:
                raise InvalidSpec(f"{where} has an unknown key {name!r}", hint=hint)
        return values

    def checked(self, where: str) -> Self:
        with foreign_errors(f"{where} url = {self.url!r}", InvalidSpec, hint="write https://HOST/PATH"):
            parts = urlsplit(self.url)
            plain = not (parts.username or parts.password or parts.fragment) and parts.port != 0
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            hint = (
                "it has no user and no fragment; write a token as token" if parts.scheme else "begin it with https://"
            )
            raise InvalidSpec(f"{where} url = {self.url!r}; expected https://HOST/PATH", hint=hint)
        if parts.scheme == "http" and parts.hostname not in _OWN:
            raise InvalidSpec(
                f"{where} url = {self.url!r} sends calls in clear to another machine", hint="use https://"
            )
        return self


class McpSection(Section, frozen=True, kw_only=True):
    """Tools of other servers for agents (Model Context Protocol), behind keys, roles, masking, budgets and the audit
    log."""

    servers: Annotated[tuple[McpServer, ...], toml("server")] = ()
    own_calls: tuple[str, ...] = ()
    """Calls of ashore itself that agents of operators may make as tools at `/admin/mcp`, with the rights of their key:
    `*` or `job *` for those that only read, and the whole names of others, `job cancel`. Empty: none."""
    origins: tuple[str, ...] = ()
    """Sites whose pages may call tools from a browser: `https://agents.corp.example`. Pages of this machine always
    may; those of any other site never."""

    @property
    def calls(self) -> Mapping[str, str]:
        return {f"{one.name} url": one.url for one in self.servers}

    def checked(self, where: str) -> Self:
        names = [one.name for one in self.servers]
        if len(set(names)) < len(names):
            raise InvalidSpec(f"{where} has two [[mcp.server]] of the same name", hint="give each its own name")
        return self
