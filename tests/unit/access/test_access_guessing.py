"""Guessing is slowed and locked out by address, in bounded memory, and forgotten in time."""

from __future__ import annotations

import pytest

from ashore.core.addresses import address_of
from ashore.core.clock import ManualClock
from ashore.core.errors import PermissionDenied, TooManyAttempts, Unauthenticated
from ashore.data.authority import Directory, Doorkeeper, KeyRecord, KeyScope, Tenant, digest_of, new_key
from ashore.data.authority.guessing import FIRST_LOCK_S, LONGEST_LOCK_S, MOST_FAILURES, Guesses
from ashore.kit.recorder import MemoryRecorder

MINE, OTHER = b"m", b"o"


def lock(guesses: Guesses, origin: str, now_s: float) -> None:
    assert [guesses.failed(origin, now_s) for _ in range(int(MOST_FAILURES))][-1]


def locked(guesses: Guesses, origin: str, now_s: float, digest: bytes = OTHER) -> bool:
    try:
        guesses.check(digest, origin, now_s)
    except TooManyAttempts as fault:
        assert fault.retry_after_s and fault.http_status == 429
        return True
    return False


def test_an_address_is_locked_out_and_another_is_not() -> None:
    guesses = Guesses()
    for _ in range(int(MOST_FAILURES) - 1):
        assert not guesses.failed("1.1.1.1", 0)
    assert not locked(guesses, "1.1.1.1", 0)
    assert guesses.failed("1.1.1.1", 0)
    assert locked(guesses, "1.1.1.1", FIRST_LOCK_S - 1) and not locked(guesses, "2.2.2.2", 0)
    assert not locked(guesses, "1.1.1.1", FIRST_LOCK_S)


def test_who_was_right_from_there_before_is_still_heard() -> None:
    guesses = Guesses()
    guesses.succeeded(MINE, "1.1.1.1")
    lock(guesses, "1.1.1.1", 0)
    assert not locked(guesses, "1.1.1.1", 1, MINE) and locked(guesses, "1.1.1.1", 1, OTHER)


def test_locks_grow_and_calm_ends_them() -> None:
    guesses, now_s, lengths = Guesses(), 0.0, []
    for _ in range(8):
        lock(guesses, "1.1.1.1", now_s)
        length = next(s for s in range(1, 2000) if not locked(guesses, "1.1.1.1", now_s + s))
        lengths.append(length)
        now_s += length
    assert lengths == sorted(lengths) and lengths[0] == FIRST_LOCK_S and lengths[-1] == LONGEST_LOCK_S
    lock(guesses, "1.1.1.1", now_s + 3601)
    assert not locked(guesses, "1.1.1.1", now_s + 3601 + FIRST_LOCK_S)


def test_a_mistake_now_and_then_locks_nobody_out() -> None:
    guesses = Guesses()
    assert not any(guesses.failed("1.1.1.1", 31.0 * n) for n in range(1000))


def test_memory_is_bounded_by_addresses_and_by_credentials() -> None:
    guesses = Guesses(max_addresses=100, max_known=100)
    for n in range(10_000):
        guesses.failed(f"10.0.{n >> 8}.{n & 255}", 0)
        guesses.succeeded(n.to_bytes(4), "1.1.1.1")
    assert len(guesses._tries) == 100 and len(guesses._known) == 100


@pytest.mark.parametrize(
    ("origin", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a:b:nonsense", "a:b:nonsense"),
    ],
)
def test_who_is_held_responsible(origin: str, address: str) -> None:
    assert address_of(origin) == address


class Door:
    def __init__(self) -> None:
        self.clock, self.directory, self.recorder = ManualClock(), Directory(), MemoryRecorder()
        self.keeper = Doorkeeper(self.directory, self.clock, self.recorder)

    def key(self, **more: object) -> str:
        secret = new_key()
        record = KeyRecord(
            key_id=secret[:12], prefix=secret[:12], digest=digest_of(secret).sha256.hex(), owner="app",
            tenant="t", **more,  # type: ignore[arg-type]
        )  # fmt: skip
        self.directory.take(tenants=[Tenant(name="t")], keys=[record])
        self.keeper.forget()
        return secret


def test_a_key_is_remembered_until_something_changes() -> None:
    door = Door()
    key = door.key()
    first = door.keeper.authenticate(key, "1.1.1.1")
    assert door.keeper.authenticate(key, "1.1.1.1") is first
    assert door.keeper.authenticate(key, "2.2.2.2") is first, "equal, and found by `is` wherever it is remembered"
    door.keeper.forget()
    assert door.keeper.authenticate(key, "1.1.1.1") is first
    door.directory.take(tenants=[Tenant(name="t", disabled=True)])
    assert door.keeper.authenticate(key, "1.1.1.1") is first
    door.keeper.forget()
    with pytest.raises(Unauthenticated):
        door.keeper.authenticate(key, "1.1.1.1")


def test_an_expiry_ends_what_is_remembered_and_a_clock_set_back_does_not_bring_it_back() -> None:
    door = Door()
    key = door.key(expires_s=int(door.clock.now_s()) + 60)
    door.keeper.authenticate(key)
    door.clock.advance(60)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired"):
            door.keeper.authenticate(key)
        door.clock.advance(-50)


def test_uses_are_counted_once_for_each_key_and_handed_out() -> None:
    door = Door()
    key = door.key()
    for _ in range(5):
        door.keeper.authenticate(key)
    assert door.keeper.take_uses() == {key[:12]: int(door.clock.now_s())} and door.keeper.take_uses() == {}


def test_wrong_keys_lock_out_and_revoked_ones_do_not() -> None:
    door = Door()
    revoked = door.key(revoked_s=1)
    for _ in range(30):
        with pytest.raises(Unauthenticated, match="revoked"):
            door.keeper.authenticate(revoked, "1.1.1.1")
    for _ in range(30):
        with pytest.raises((Unauthenticated, TooManyAttempts)):
            door.keeper.authenticate(new_key(), "1.1.1.1")
    good = door.key()
    with pytest.raises(TooManyAttempts):
        door.keeper.authenticate(good, "1.1.1.1")
    assert door.keeper.authenticate(good, "2.2.2.2").id == "app"
    door.clock.advance(FIRST_LOCK_S)
    assert door.keeper.authenticate(good, "1.1.1.1").id == "app"


def test_a_key_for_one_network_is_refused_from_another() -> None:
    door = Door()
    key = door.key(scope=KeyScope(networks=("10.0.0.0/8",)))
    assert door.keeper.authenticate(key, "10.1.2.3").id == "app"
    with pytest.raises(PermissionDenied, match=r"from 8\.8\.8\.8"):
        door.keeper.authenticate(key, "8.8.8.8")


@pytest.mark.parametrize("token", ["", "x", "ash_00000000_" + "A" * 43, "ü" * 50, "a\x00b", "\ud800", "A" * 100_000])
def test_tokens_that_are_no_key(token: str) -> None:
    door = Door()
    door.key()
    with pytest.raises(Unauthenticated) as caught:
        door.keeper.authenticate(token)
    assert len(token) < 5 or token not in caught.value.message
