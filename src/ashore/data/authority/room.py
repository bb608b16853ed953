"""Who a caller is, and what they may do: in every process that answers."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

from ashore.core.names import EVERY_NAME, Names
from ashore.data.authority.consents import SqlConsents
from ashore.data.authority.directory import Directory
from ashore.data.authority.issuers import Fetch, IssuerKeys
from ashore.data.authority.keeping import Keys
from ashore.data.authority.names import SqlNames
from ashore.data.authority.onbehalf import OnBehalf, read_internal_token
from ashore.data.authority.ports import Authenticator, Authority
from ashore.kit.call import Rights
from ashore.kit.consents import Consents
from ashore.kit.rooms import Context, Opened, Room


async def open_access(context: Context) -> Opened:
    """Read accounts, keys and the policy, and fetch the keys of issuers.

    Raises:
        AshoreError: the state cannot be read, or there is neither a state nor a readable first key.
    """
    first_key: str = context.told("first_key_file")
    keys = await asyncio.to_thread(
        partial(
            Keys,
            Path(first_key) if first_key else None,
            context.database,
            context.watch,
            clock=context.clock,
            recorder=context.recorder,
        )
    )
    issuers = IssuerKeys(keys, context.clock, fetch=context.need(Fetch))

    async def reread(context: Context) -> None:
        await keys.reread()

    async def believe(context: Context) -> None:
        await issuers.apply(context.told("access").issuers, context.told("egress").allow)

    await believe(context)
    names: Names = EVERY_NAME if keys.database is None else SqlNames(keys.database, context.names)
    gives: dict[type, object] = {
        Authenticator: keys.authenticator,
        Directory: keys.directory,
        Authority: keys.authority,
        Rights: keys.authority,
        Names: names,
        Keys: keys,
    }
    if keys.database is not None:
        gives[Consents] = SqlConsents(keys.database, context.clock)
    token: str = context.told("internal_token_file")
    if token:
        secret = read_internal_token(Path(token))
        gives[OnBehalf] = OnBehalf(secret) if keys.database is None else OnBehalf(secret, keys.acting)
    return Opened(
        gives=gives,
        reload=(reread, believe),
        background={"last uses of keys": keys.keep_flushing, "keys of issuers": issuers.keep_fetching},
    )


ROOM: Final = Room(name="access", open=open_access)
