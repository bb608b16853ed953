"""One suite for every place that keeps sealing keys, the one in memory included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from memory_keeper import MemoryKeeper
from transit_double import TOKEN, running_transit

from ashore.core.clock import ManualClock
from ashore.core.errors import CorruptBlob, InvalidRequest, KeyServiceUnreachable, RemoteRefused, SealingKeyMissing
from ashore.kit.sealing import KeyKeeper, close_envelope, new_data_key, open_envelope
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.sealing.passphrase import PassphraseKeeper
from ashore.kit.sealing.transit import TransitKeeper

PASSPHRASE = "correct horse battery staple"


class Place:
    """A keeper, and how to make another one on the same keys or on others."""

    def __init__(self, kind: str, folder: Path, url: str) -> None:
        self._kind = kind
        self._folder = folder
        self._url = url
        self._memory = MemoryKeeper()

    def keeper(self, *, foreign: bool = False) -> KeyKeeper:
        mine = "foreign" if foreign else "mine"
        match self._kind:
            case "memory":
                return MemoryKeeper() if foreign else self._memory
            case "keyring":
                keeper = KeyringKeeper(self._folder / mine, ManualClock())
                keeper.wrap(bytes(32), bound_to="-")
                return keeper
            case "passphrase":
                words = PASSPHRASE + ("!" if foreign else "")
                return PassphraseKeeper(lambda: words + "\n", place=f"file {mine}")
            case _:
                token = self._folder / "token"
                token.write_text(TOKEN + "\n")
                token.chmod(0o600)
                return TransitKeeper(self._url, mine, token_file=token)


@pytest.fixture(params=["memory", "keyring", "passphrase", "transit"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "transit":
        with running_transit("mine", "foreign") as transit:
            yield Place("transit", tmp_path, transit.url)
    else:
        yield Place(request.param, tmp_path, "")


def test_what_is_wrapped_comes_back_in_another_process(place: Place) -> None:
    wrapped = place.keeper().wrap(b"k" * 32, bound_to="model")
    assert place.keeper().unwrap(wrapped, bound_to="model") == b"k" * 32
    assert wrapped.kind == place.keeper().kind


def test_two_wrappings_of_one_key_differ(place: Place) -> None:
    keeper = place.keeper()
    assert keeper.wrap(b"k" * 32, bound_to="model").data != keeper.wrap(b"k" * 32, bound_to="model").data


def test_a_wrapped_key_that_is_put_elsewhere_does_not_open(place: Place) -> None:
    wrapped = place.keeper().wrap(b"k" * 32, bound_to="model")
    with pytest.raises(CorruptBlob):
        place.keeper().unwrap(wrapped, bound_to="other")


def test_an_altered_wrapping_does_not_open(place: Place) -> None:
    wrapped = place.keeper().wrap(b"k" * 32, bound_to="model")
    at = len(wrapped.data) // 2
    altered = wrapped.data[:at] + ("A" if wrapped.data[at] != "A" else "B") + wrapped.data[at + 1 :]
    with pytest.raises(CorruptBlob):
        place.keeper().unwrap(msgspec.structs.replace(wrapped, data=altered), bound_to="model")


def test_a_missing_key_is_named_with_the_place_where_it_was_looked_for(place: Place) -> None:
    wrapped = place.keeper().wrap(b"k" * 32, bound_to="model")
    stranger = place.keeper(foreign=True)
    with pytest.raises(SealingKeyMissing) as caught:
        stranger.unwrap(wrapped, bound_to="model")
    assert wrapped.key_id in caught.value.message
    assert stranger.place in caught.value.message


def test_a_renewed_key_wraps_from_now_on_and_older_ones_still_open(place: Place) -> None:
    keeper = place.keeper()
    before = keeper.wrap(b"k" * 32, bound_to="model")
    if keeper.kind == "passphrase":
        with pytest.raises(InvalidRequest, match="cannot be changed in place"):
            keeper.renew()
        return
    fresh = keeper.renew()
    after = keeper.wrap(b"k" * 32, bound_to="model")
    assert after.key_id == fresh != before.key_id
    assert place.keeper().unwrap(before, bound_to="model") == place.keeper().unwrap(after, bound_to="model")


def test_an_envelope_tells_no_secret(place: Place) -> None:
    key, keeper = new_data_key(), place.keeper()
    envelope = close_envelope(key, keeper)
    told = envelope + keeper.place.encode() + repr(key).encode()
    for secret in (key.secret.hex().encode(), key.secret, PASSPHRASE.encode(), TOKEN.encode()):
        assert secret not in told
    assert open_envelope(envelope, place.keeper(), key_id=key.key_id) == key


def test_a_key_service_whose_answer_does_not_end_is_given_up(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN, encoding="utf-8")
    token.chmod(0o600)
    later = itertools.count(step=6.0)
    with running_transit("mine") as transit:
        transit.pours = b" " * (1 << 16)
        keeper = TransitKeeper(transit.url, "mine", token_file=token)
        with pytest.raises(RemoteRefused, match="more than 1,048,576 bytes"):
            keeper.wrap(bytes(32), bound_to="one")
        slow = TransitKeeper(transit.url, "mine", token_file=token, monotonic_s=lambda: next(later))
        with pytest.raises(KeyServiceUnreachable, match="had not finished its answer after 10 s"):
            slow.wrap(bytes(32), bound_to="one")
