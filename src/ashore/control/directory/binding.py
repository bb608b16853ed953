"""Log-in with the password of a directory: find the person, then let the directory check the password.

The directory is asked as the entry that was found, on a connection of its own, and never with a name made of what was
typed. The result goes to the log; the person reads one sentence for all that can be wrong.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from ashore.control.directory import sql
from ashore.control.directory.calls import DirectoryDesk
from ashore.control.directory.reading import find_person, one_form, opened
from ashore.control.directory.section import DirectorySection
from ashore.control.directory.wire import Ldap, tls_context
from ashore.core.errors import RemoteRefused, SourceUnreachable, Unauthenticated

TRIES: Final = 3
"""Wrong passwords that lock a person here: fewer than directories allow, or anybody could lock out anybody there."""
AT_ONCE: Final = 8
"""Passwords that are checked at a time."""

log = logging.getLogger("ashore.directory")


class DirectoryLogIn:
    """Checks passwords with the directories that are set to let people log in. Used by one event loop."""

    def __init__(self, desk: DirectoryDesk) -> None:
        self._desk = desk
        self._few = asyncio.Semaphore(AT_ONCE)

    @property
    def names(self) -> tuple[str, ...]:
        """Directories whose people may log in."""
        return tuple(one.name for one in self._desk.section.all if one.log_in)

    def named(self, typed: str) -> tuple[DirectorySection, str] | None:
        """Return the directory and the login in what a person typed: `corp:alice`, or `alice` where only one directory
        lets people log in; None: neither."""
        name, colon, login = typed.partition(":")
        names = self.names
        if not colon and len(names) == 1:
            name, login = names[0], typed
        section = self._desk.section.named(name) if name in names else None
        return (section, one_form(login)) if section is not None and login.strip() else None

    async def prove(self, section: DirectorySection, login: str, password: str) -> str:
        """Return the account of the person, if the password is theirs; else an empty text.

        Raises:
            SourceUnreachable: the directory does not answer.
            Unauthenticated: the password is right, and the person has no account here.
        """
        try:
            async with self._few, opened(section, self._desk.allow) as connection:
                found = await find_person(connection, section, login, self._desk.clock.now_s())
                # an unknown name takes as long as a wrong password
                dn = f"cn=-,{section.people}" if found is None else found.dn
                other = await Ldap.open(connection.url, self._desk.allow, tls_context(section.ca_file))
                try:
                    why = await other.bind(dn, password)
                finally:
                    await other.close()
        except (SourceUnreachable, RemoteRefused) as fault:
            log.warning("cannot check a password with the directory %s: %s", section.name, fault.in_one_line)
            raise SourceUnreachable(
                f"the directory {section.name} does not answer", hint="try again later; who is logged in stays so"
            ) from fault
        if found is None or why or found.disabled:
            log.info("%s:%s was not let in: %s", section.name, login[:100], why or "disabled, or no such person")
            return ""

        def account() -> str:
            with self._desk.database.read() as connection:
                person = sql.find_person(connection, section.name, found.guid)
                return "" if person is None else person.account

        account_id = await asyncio.to_thread(account)
        if not account_id:
            raise Unauthenticated(
                "you have no account here yet",
                hint="people in the groups that ashore follows get one within a minute; ask to be added to one",
            )
        return account_id

    async def prove_again(self, account_id: str, password: str) -> bool:
        """Return whether a password is that of the person with an account.

        Raises:
            AshoreError: as `prove`.
        """
        section = self._desk.section.named(account_id.partition(":")[0])

        def login() -> str:
            with self._desk.database.read() as connection:
                return sql.login_of(connection, account_id)

        name = await asyncio.to_thread(login)
        if section is None or not section.log_in or not name:
            return False
        return await self.prove(section, name, password) == account_id
