"""The access room on one database, with everything that acts on it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ashore.control.access import AccountWish, Keyring, KeyWish, People, PolicyBook
from ashore.core.clock import ManualClock
from ashore.data.authority import OFFICERS, Account, Actor, Acts, Binding, Compiled, Directory, Principal, digest_of
from ashore.data.authority import sql as access_sql
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database


def seat(database: Database, *names: str, role: str = "security-officer") -> None:
    """Make accounts of one office, whatever offices there are."""
    with database.write() as connection:
        for name in names:
            access_sql.save_account(connection, Account(id=name, kind="user", tenant="default", created_s=1))
        now = access_sql.load_policy(connection)
        bindings = (*now.bindings, *(Binding(f"user/{name}", role) for name in names))
        access_sql.save_policy(
            connection, replace(now, version=now.version + 1, bindings=bindings), author="test", comment="", now_s=1
        )


@dataclass
class House:
    """Everything on one database, and what a process knows of it."""

    database: Database
    clock: ManualClock
    recorder: MemoryRecorder
    first_key: str

    def __post_init__(self) -> None:
        acts = Acts(self.database, self.recorder, self.clock)
        self.people, self.keyring, self.book = People(acts), Keyring(acts), PolicyBook(acts)

    def who(self, key: str, origin: str = "") -> Principal:
        """Return whose key it is, as a process would that has read everything."""
        return self.directory().of_key(key, digest_of(key).sha256.hex(), origin, self.clock.now_s())[0]

    def directory(self) -> Directory:
        directory = Directory()
        with self.database.read() as connection:
            accounts, gone = access_sql.changed_accounts(connection, -1)
            directory.take(
                tenants=access_sql.list_tenants(connection),
                accounts=accounts,
                gone=gone,
                keys=access_sql.changed_keys(connection, -1),
                whole=True,
            )
        return directory

    def actor(self, key: str) -> Actor:
        return Actor(principal=self.who(key), origin="10.0.0.9", request_id="req")

    def may(self, key: str, action: str, resource: str) -> bool:
        with self.database.read() as connection:
            compiled = Compiled(access_sql.load_policy(connection))
        return compiled.decide(self.who(key), action, resource).allowed

    def make(self, actor: Actor, name: str, *roles: str, **wish: object) -> str:
        """Make a user with a key and return the key."""
        _, new = self.people.create_account(
            actor,
            AccountWish(id=name, roles=roles, key=KeyWish(), **wish),  # type: ignore[arg-type]
        )
        assert new is not None
        return new.secret

    def three(self) -> tuple[str, str, str]:
        """Make the three administrators with the first key; return their keys: system, security, audit."""
        first = self.actor(self.first_key)
        return tuple(self.make(first, name, role) for name, role in zip(("sam", "sec", "ann"), OFFICERS, strict=True))  # type: ignore[return-value]

    def acts(self, action: str) -> list[tuple[str, str]]:
        return [(act.actor, act.outcome) for act in self.recorder.acts if act.action == action]
