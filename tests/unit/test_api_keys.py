"""Which keys a worker takes: those of the state, as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import eventually

from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidSpec, Unauthenticated
from ashore.data.authority import KeyRecord, digest_of, make_first_key, new_key, save_key
from ashore.data.authority.keeping import Keys
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, EpochWatch, open_database

FIRST_KEY = Path("/nowhere/first-key")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield one
    one.close()


def put(database: Database, key_id: str, key: str, *, revoked_s: int | None = None) -> None:
    row = KeyRecord(
        key_id=key_id,
        digest=digest_of(key).sha256.hex(),
        owner=key_id,
        tenant="bank-a",
        created_s=1,
        revoked_s=revoked_s,
    )
    with database.write() as connection:
        save_key(connection, row)


def keys_of(first_key: Path | None, database: Database | None, watch: EpochWatch | None = None) -> Keys:
    return Keys(first_key, database, watch, clock=ManualClock(), recorder=MemoryRecorder())


def known(keys: Keys, key: str) -> bool:
    try:
        keys.authenticator.authenticate(key)
    except Unauthenticated:
        return False
    return True


def test_keys_of_the_state_are_taken_with_tenant_and_scopes(database: Database) -> None:
    key, revoked = new_key(), new_key()
    put(database, "app", key)
    put(database, "gone", revoked, revoked_s=5)
    keys = keys_of(FIRST_KEY, database)
    principal = keys.authenticator.authenticate(key)
    assert (principal.id, principal.tenant, principal.scope.actions) == ("app", "bank-a", ("infer",))
    assert not known(keys, revoked) and not known(keys, new_key())


def test_a_reload_reads_them_again(database: Database) -> None:
    old, new = new_key(), new_key()
    put(database, "app", old)
    keys = keys_of(FIRST_KEY, database)
    put(database, "app", new)
    assert known(keys, old)
    asyncio.run(keys.reread())
    assert known(keys, new) and not known(keys, old)


def test_a_revoked_key_is_refused_as_soon_as_the_epoch_moves(database: Database) -> None:
    key = new_key()
    put(database, "app", key)
    watch = EpochWatch(database).start()
    keys = keys_of(FIRST_KEY, database, watch)
    try:
        assert known(keys, key)
        put(database, "app", key, revoked_s=9)
        eventually(lambda: not known(keys, key))
    finally:
        watch.close()


def test_without_a_state_the_file_holds_the_key_and_without_both_the_door_is_open(tmp_path: Path) -> None:
    key = make_first_key(tmp_path / "first-key")
    assert known(keys_of(tmp_path / "first-key", None), key)
    assert keys_of(None, None).authenticator.authenticate(None).id == "anyone"
    with pytest.raises(InvalidSpec):
        keys_of(FIRST_KEY, None)
