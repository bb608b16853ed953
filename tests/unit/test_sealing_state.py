"""Secrets of the state: sealed once a key source is named, found by workers, rewrapped, and written back on demand."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from memory_keeper import MemoryKeeper

from ashore.cli.bootstrap import build_store, hold_state_secrets, open_state, rekey
from ashore.control.jobs import webhook_secret
from ashore.core.clock import ManualClock
from ashore.core.errors import CorruptBlob, SealingKeyMissing
from ashore.data.cache import cache_secret
from ashore.kit.sealing import SecretBox, new_data_key, seal_secrets, secrets_by_link, unseal_secrets
from ashore.kit.settings import Home, Settings
from ashore.kit.state import Database, execute, kept_secret, open_database
from ashore.machine.config import parse_spec


def _settings(tmp_path: Path, *, key: bool = True, state: bool = True) -> Settings:
    home = Home(root=tmp_path / "home")
    home.create()
    return Settings(home=home, sealing_key=f"keyring:{tmp_path}/ring" if key else "", sealing_state=state)


def _worker(settings: Settings) -> Database:
    """Open the state as a worker does: with no key source, only the link that the supervisor made."""
    return open_database(
        settings.home.state_db,
        snapshots=settings.home.snapshots,
        clock=ManualClock(),
        secrets=secrets_by_link(settings.home.secrets_key),
    )


def _secrets(database: Database) -> tuple[bytes, str]:
    with database.write() as connection:
        return cache_secret(connection), webhook_secret(connection, "acme")


def _rows(database: Database) -> dict[str, str]:
    with database.read() as connection:
        return {str(r.name): str(r.value) for r in execute(connection, "SELECT name, value FROM secret").all()}


def test_secrets_keep_their_values_when_they_are_sealed_and_when_they_are_written_back(tmp_path: Path) -> None:
    plain = _settings(tmp_path, key=False)
    state = open_state(plain)
    before = _secrets(state)
    assert hold_state_secrets(plain) is None

    settings = _settings(tmp_path)
    held = hold_state_secrets(settings)
    assert held is not None
    worker = _worker(settings)
    assert _secrets(worker) == before
    rows = _rows(worker)
    assert all(value.startswith("sealed:1:") for name, value in rows.items() if name != "sealing-envelope")
    assert before[0].hex() not in " ".join(rows.values())
    with worker.write() as connection:
        late = kept_secret(connection, "a later one")
    assert late.hex() not in " ".join(_rows(worker).values())

    assert hold_state_secrets(_settings(tmp_path, state=False)) is None
    assert _secrets(state) == before
    assert "sealing-envelope" not in _rows(worker)
    with state.write() as connection:
        assert kept_secret(connection, "a later one") == late
    for database in (worker, state):
        database.close()


def test_without_the_key_a_start_says_so_and_a_worker_too(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    held = hold_state_secrets(settings)
    assert held is not None
    worker = _worker(settings)
    _secrets(worker)
    with pytest.raises(SealingKeyMissing, match="no key source is configured"):
        hold_state_secrets(_settings(tmp_path, key=False))
    held.close()  # the supervisor has ended
    with pytest.raises(SealingKeyMissing, match="secrets of the state are sealed"):
        _secrets(worker)
    (tmp_path / "ring").unlink()
    with pytest.raises(SealingKeyMissing):
        hold_state_secrets(settings)
    worker.close()


def test_rekeying_covers_the_state_and_no_running_worker_notices(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    held = hold_state_secrets(settings)
    worker = _worker(settings)
    before, envelope = _secrets(worker), _rows(worker)["sealing-envelope"]
    report = rekey(settings, build_store(settings.home, settings), to=None, new_key=True)
    assert report.rewrapped == ("state",)
    assert _rows(worker)["sealing-envelope"] != envelope
    assert _secrets(worker) == before
    again = hold_state_secrets(settings)
    assert again is not None and held is not None
    assert _secrets(worker) == before
    worker.close()


def test_two_supervisors_at_one_moment_agree_on_one_key(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    keeper = MemoryKeeper()
    databases = [
        open_database(
            settings.home.state_db,
            snapshots=settings.home.snapshots,
            clock=ManualClock(),
            secrets=secrets_by_link(tmp_path / "no-link", lambda: keeper),
        )
        for _ in range(4)
    ]
    found: list[str] = []

    def start(database: Database) -> None:
        with database.write() as connection:
            found.append(seal_secrets(connection, keeper).key_id)

    threads = [threading.Thread(target=start, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len({_secrets(database) for database in databases}) == 1
    for database in databases:
        database.close()


def test_a_secret_under_another_name_is_found_out(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    keeper = MemoryKeeper()
    database = open_database(
        settings.home.state_db,
        snapshots=settings.home.snapshots,
        clock=ManualClock(),
        secrets=secrets_by_link(tmp_path / "no-link", lambda: keeper),
    )
    with database.write() as connection:
        key = seal_secrets(connection, keeper)
        kept_secret(connection, "one")
        boxed = SecretBox(key).seal("one", bytes(32))
        execute(connection, "UPDATE secret SET value = :v WHERE name = 'one'", v=boxed)
        assert kept_secret(connection, "one") == bytes(32)
        for value in (SecretBox(key).seal("two", bytes(32)), SecretBox(new_data_key()).seal("one", bytes(32))):
            execute(connection, "UPDATE secret SET value = :v WHERE name = 'one'", v=value)
            with pytest.raises(CorruptBlob):
                kept_secret(connection, "one")
        execute(connection, "UPDATE secret SET value = :v WHERE name = 'one'", v=boxed)
        unseal_secrets(connection, lambda: keeper)
        assert kept_secret(connection, "one") == bytes(32)
    database.close()


def test_the_file_says_whether_the_state_is_sealed_too() -> None:
    assert parse_spec("[sealing]\nstate = false\n").settings == {"sealing_state": False}
    assert parse_spec("").settings == {}
