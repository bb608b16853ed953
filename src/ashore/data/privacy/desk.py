"""Reads and changes the policy: the use case of the command line and of administration over HTTP."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from ashore.core.behind import Behind, nothing_behind
from ashore.core.clock import Clock
from ashore.core.errors import NotReady
from ashore.core.names import EVERY_NAME, Names, check_named
from ashore.data.privacy.custom import check_policy
from ashore.data.privacy.policy import PrivacyPolicy
from ashore.data.privacy.service import Privacy
from ashore.data.privacy.sql import StoredPolicy, load_policy, privacy_secret, read_policy, refuse_older, save_policy
from ashore.kit.call import Actor
from ashore.kit.recorder import Recorder

if TYPE_CHECKING:
    from ashore.kit.state import Database


class PrivacyDesk:
    """The policy of one home, in one process. Every call but `privacy` may wait on the database."""

    def __init__(
        self,
        privacy: Privacy,
        from_file: PrivacyPolicy,
        database: Database | None,
        *,
        clock: Clock,
        recorder: Recorder,
        behind: Behind = nothing_behind,
        names: Names = EVERY_NAME,
    ) -> None:
        self.privacy = privacy
        self.names = names
        """Of tenants: a policy for one that was mistyped masks nothing."""
        self.behind = behind
        """The models behind an alias, whose policies hold too."""
        self._from_file = from_file
        self._database = database
        self._clock = clock
        self._recorder = recorder
        self._reading = threading.Lock()
        """Held from reading a policy until it is in force: of two threads, the one that read last has the last word."""

    def stored(self) -> StoredPolicy:
        """Return the policy of the state."""
        if self._database is None:
            return StoredPolicy(policy=None, version=0)
        with self._database.read() as connection:
            return load_policy(connection)

    @property
    def from_file(self) -> PrivacyPolicy:
        """The policy of ashore.toml, used if the state has none."""
        return self._from_file

    def refresh(self) -> None:
        """Apply the policy of the state, or that of ashore.toml if the state has none. The floors of ashore.toml hold
        in both cases. May be called twice.

        Raises:
            AshoreError: the state cannot be read, or the policy cannot be used here; the last one stays in force.
        """
        with self._reading:
            stored, file = self.stored().policy, self._from_file
            if stored is not None:
                stored = msgspec.structs.replace(stored, floors=(*stored.floors, *file.floors))
            self.privacy.apply(stored or file)

    def take_file(self, policy: PrivacyPolicy) -> None:
        """Set the policy of another ashore.toml; it applies if the state has none."""
        self._from_file = policy
        self.refresh()

    def would_change(self, policy: PrivacyPolicy | None, *, replaces: int) -> StoredPolicy:
        """Return the result of `change`, or raise as it would, without changing anything."""
        self.privacy.check(policy or self._from_file)
        if policy is not None:
            check_policy(policy)
        seen = self.stored()
        if seen.policy == policy:
            return seen
        self._check_tenants(policy)
        refuse_older(seen, replaces)
        return StoredPolicy(policy=policy, version=replaces + 1)

    def change(self, policy: PrivacyPolicy | None, *, replaces: int, actor: Actor) -> StoredPolicy:
        """Save another policy in the state, and apply it here; other processes follow within 200 ms. Without
        differences nothing changes, whatever it replaces.

        Raises:
            NotReady: this server has no state.
            InvalidSpec: the policy cannot be used.
            NotFound: it has a route for a tenant that does not exist.
            Conflict: it was changed in between.
        """
        if self._database is None:
            raise NotReady("this server has no state database to store a policy in", hint="start it with `ashore up`")
        self.privacy.check(policy or self._from_file)
        if self.stored().policy != policy:
            self._check_tenants(policy)
        with self._database.write() as connection:
            seen = read_policy(connection)
            if seen.policy == policy:
                return seen
            stored = save_policy(
                connection, policy, replaces=replaces, who=actor.principal.id, now_s=int(self._clock.now_s())
            )
            actor.record(
                self._recorder,
                "privacy:write",
                "policy/privacy",
                reason="removed" if policy is None else "changed",
                detail={"version": stored.version},
                on=connection,
            )
        self.refresh()
        return stored

    def _check_tenants(self, policy: PrivacyPolicy | None) -> None:
        for route in (*policy.routes, *policy.floors) if policy is not None else ():
            check_named(self.names, "tenant", route.tenant, to="for the route of the policy")


def read_secret(database: Database) -> bytes:
    """Return the pseudonym key of this state, created at the first call."""
    with database.write() as connection:
        return privacy_secret(connection)
