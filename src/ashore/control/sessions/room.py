"""Sessions of the console in the control process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ashore.control.directory import DirectoryLogIn
from ashore.control.sessions.calls import CALLS, SessionsDesk
from ashore.control.sessions.cookies import Cookies
from ashore.control.sessions.gate import Gate
from ashore.control.sessions.hashing import Hasher
from ashore.control.sessions.keeper import Keeper
from ashore.control.sessions.model import Provider
from ashore.control.sessions.office import LogInOffice
from ashore.control.sessions.providers import Providers
from ashore.control.sessions.section import ConsoleSection
from ashore.control.sessions.service import Sessions
from ashore.control.sessions.sql import SESSIONS_EPOCH
from ashore.control.sessions.steps import InForce, Steps
from ashore.data.authority import AccessSection, Acts, Authenticator, Authority, Directory
from ashore.data.authority.issuers import Fetch
from ashore.kit.rooms import Context, Opened, Room
from ashore.kit.state import in_write, kept_secret


@dataclass(slots=True)
class _Held:
    """The last values of ashore.toml."""

    in_force: InForce = field(default_factory=InForce)


async def open_sessions(context: Context) -> Opened:
    """Open the sessions; nothing without a state, or if the console is off.

    Raises:
        AshoreError: the state cannot be read.
    """
    database, directory = context.database, context.find(Directory)
    section = context.section("console", ConsoleSection)
    if database is None or directory is None or not section.enabled:
        return Opened()
    directories = context.find(DirectoryLogIn)
    held, clock = _Held(_in_force(section)), context.clock
    cookies = Cookies(await in_write(database, kept_secret, "console"))
    keeper = Keeper(
        database, directory, clock, context.recorder, cookies,
        rules=lambda: held.in_force.rules, local=lambda: held.in_force.local,
        providers=lambda: [one.name for one in held.in_force.providers],
        directories=lambda: () if directories is None else directories.names,
    )  # fmt: skip
    hasher, acts = Hasher(), Acts(database, context.recorder, clock)
    gate = Gate(database, clock, context.recorder, cookies)
    steps = Steps(
        keeper, gate, hasher, acts, context.need(Authenticator), in_force=lambda: held.in_force,
        directories=directories,
    )  # fmt: skip
    providers = Providers(
        keeper, steps, clock, fetch=context.need(Fetch), all_strong=lambda: held.in_force.rules.factor == "all"
    )

    async def take(context: Context) -> None:
        section = context.section("console", ConsoleSection)
        access: AccessSection = context.told("access")
        held.in_force = _in_force(section)
        keeper.forget()
        await providers.apply(section.providers, access.issuers, context.told("egress").allow)

    def changed(kind: str, value: int) -> None:
        """Runs on the thread of the watch."""
        if kind == SESSIONS_EPOCH:
            keeper.forget()

    if context.watch is not None:
        context.watch.on_change(changed)
    await take(context)

    async def close() -> None:
        hasher.close()

    background: dict[str, Callable[[], Awaitable[None]]] = {
        "who uses the console": keeper.keep_flushing,
        "keys of providers": providers.keep_fetching,
        "sessions that have ended": keeper.keep_clearing,
    }
    gives: dict[Any, Any] = {
        Sessions: Sessions(keeper, steps, providers, context.need(Authority)),
    }
    desk = SessionsDesk(
        office=LogInOffice(acts, changed=keeper.forget), rules=lambda: held.in_force.rules, now_s=clock.now_s,
    )  # fmt: skip
    return Opened(desk=desk, gives=gives, reload=(take,), background=background, close=close)


def _in_force(section: ConsoleSection) -> InForce:
    offered = tuple(Provider(name=one.issuer, title=one.title or one.issuer) for one in section.providers)
    return InForce(rules=section.rules, local=section.local, providers=offered)


ROOM: Final = Room(
    name="account", calls=CALLS, section=ConsoleSection, administer=open_sessions,
    acts=(
        *(call.act for call in CALLS if call.changes and call.word != "end-all"),
        "account:lock", "address:lock", "factor:enrol", "factor:remove", "password:change", "password:set",
        "session:link", "session:open", "session:prove", "session:refuse",
    ),
)  # fmt: skip
