"""Key sources, keyring files, passphrases, envelopes, small secrets: what is refused, and what the refusal says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from memory_keeper import MemoryKeeper
from transit_double import TOKEN, running_transit

from ashore.core.clock import ManualClock
from ashore.core.errors import (
    AshoreError,
    CorruptBlob,
    InvalidSpec,
    KeyServiceUnreachable,
    RemoteRefused,
    SealingKeyMissing,
)
from ashore.kit.sealing import DataKeys, SecretBox, Wrapped, is_ours_alone, new_data_key
from ashore.kit.sealing.keyring import KeyringKeeper
from ashore.kit.sealing.keysource import format_key_source, no_key_source, parse_key_source
from ashore.kit.sealing.passphrase import PassphraseKeeper
from ashore.kit.sealing.transit import TransitKeeper
from ashore.machine.config import parse_spec, read_spec


@pytest.mark.parametrize(
    ("mode", "owner", "group", "accepted"),
    [
        (0o600, 10001, 10001, True), (0o400, 0, 0, True), (0o440, 0, 10001, True), (0o440, 10001, 10001, False),
        (0o440, 0, 100, False), (0o460, 0, 10001, False), (0o444, 0, 10001, False), (0o640, 10001, 10001, False),
    ],
)  # fmt: skip
def test_only_a_file_of_root_may_be_read_by_our_group(mode: int, owner: int, group: int, accepted: bool) -> None:
    assert is_ours_alone(mode, owner, group, uid=10001, gid=10001) is accepted
    assert not is_ours_alone(0o440, 0, 0, uid=0, gid=0), "root has no need of its group"


TRANSIT = "transit:https://vault.corp:8200/v1/transit/keys/models?token_file=/run/token"


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("keyring:/etc/ring", "keyring:/etc/ring"),
        ("keyring:ring", "keyring:/base/ring"),
        ("passphrase:words", "passphrase:/base/words"),
        ("passphrase:", "passphrase:"),
        (TRANSIT, TRANSIT),
        (TRANSIT + "&namespace=team&ca_file=ca.pem", TRANSIT + "&ca_file=/base/ca.pem&namespace=team"),
        (TRANSIT.replace("https://vault.corp:8200", "http://127.0.0.1:8200"), None),
    ],
)
def test_a_key_source_is_one_line_with_absolute_paths(text: str, again: str | None) -> None:
    assert format_key_source(parse_key_source(text, folder=Path("/base"))) == (again or text.replace("https", "http"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keyring",
        "keyring:",
        "keyrng:/etc/ring",
        "transit:https://vault.corp/v1/transit/keys/models",
        "transit:https://vault.corp/v1/transit/models?token_file=/t",
        "transit:http://vault.corp/v1/transit/keys/models?token_file=/t",
        "transit:https://u:p@vault.corp/v1/transit/keys/models?token_file=/t",
        "transit:https://vault.corp:port/v1/transit/keys/models?token_file=/t",
        "transit:https://vault.corp/v1/transit/keys/a/b?token_file=/t",
        TRANSIT + "&token=s.secret",
    ],
)
def test_what_is_no_key_source_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        parse_key_source(text)


def test_sealing_without_a_key_source_says_how_to_name_one() -> None:
    with pytest.raises(SealingKeyMissing) as caught:
        no_key_source()
    assert "ASHORE_SEALING_KEY" in caught.value.hint


def test_a_keyring_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ring"
    keepers = [KeyringKeeper(path, ManualClock()) for _ in range(8)]
    threads = [threading.Thread(target=k.wrap, args=(bytes(32),), kwargs={"bound_to": "x"}) for k in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.stat().st_mode & 0o777 == 0o600
    assert len({k.wrap(bytes(32), bound_to="x").key_id for k in keepers}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_keyring_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    keeper = KeyringKeeper(tmp_path / "ring", ManualClock())
    wrapped = keeper.wrap(bytes(32), bound_to="x")
    (tmp_path / "ring").chmod(mode)
    with pytest.raises(InvalidSpec, match=f"mode 0{mode:o}.*expected 0600"):
        keeper.unwrap(wrapped, bound_to="x")
    with pytest.raises(InvalidSpec, match="expected 0600"):
        keeper.wrap(bytes(32), bound_to="x")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":2,"active":"a","keys":[]}', b"\xff"])
def test_a_keyring_that_is_none_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ring"
    path.write_bytes(content)
    path.chmod(0o600)
    for call in (lambda k: k.wrap(bytes(32), bound_to="x"), lambda k: k.renew()):
        with pytest.raises(InvalidSpec, match="the keyring"):
            call(KeyringKeeper(path, ManualClock()))
    assert path.read_bytes() == content


def test_a_keyring_that_is_a_pipe_or_a_folder_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InvalidSpec, match="not a regular file"):
            KeyringKeeper(path, ManualClock()).wrap(bytes(32), bound_to="x")


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="has 5 characters; expected at least 12"):
        PassphraseKeeper(lambda: "12345\n", place="a file").wrap(bytes(32), bound_to="x")


def test_a_passphrase_is_asked_for_once_and_stretched_once_for_each_salt() -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("?")
        return "correct horse battery staple"

    keeper = PassphraseKeeper(ask, place="the terminal")
    wrapped = [keeper.wrap(bytes(32), bound_to=str(number)) for number in range(3)]
    assert [keeper.unwrap(one, bound_to=str(number)) for number, one in enumerate(wrapped)] == [bytes(32)] * 3
    assert len({one.salt for one in wrapped}) == 1
    assert asked == ["?"]


@pytest.mark.parametrize("cost", [(), (3, 1 << 30, 4), (10**6, 65536, 4), (0, 65536, 4), (3, 65536, 0), (3, 1, 4)])
def test_an_envelope_cannot_make_this_machine_stretch_for_ever(cost: tuple[int, ...]) -> None:
    keeper = PassphraseKeeper(lambda: "long enough it is", place="a file")
    wrapped = Wrapped(kind="passphrase", key_id="pp-1", data="AAAA", salt="00" * 16, cost=cost)
    with pytest.raises(CorruptBlob):
        keeper.unwrap(wrapped, bound_to="x")


def test_what_the_key_service_answers_is_told_by_what_to_do(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with running_transit("models") as transit:
        keeper = TransitKeeper(transit.url, "models", token_file=token)
        wrapped = keeper.wrap(bytes(32), bound_to="x")
        with pytest.raises(SealingKeyMissing, match="has no key absent"):
            TransitKeeper(transit.url, "absent", token_file=token).wrap(bytes(32), bound_to="x")
        faults: list[tuple[int, type[AshoreError]]] = [
            (403, RemoteRefused), (400, CorruptBlob), (503, KeyServiceUnreachable), (418, RemoteRefused),
        ]  # fmt: skip
        for status, kind in faults:
            transit.fails_with = status
            with pytest.raises(kind) as caught:
                keeper.unwrap(wrapped, bound_to="x")
            assert TOKEN not in caught.value.message + caught.value.hint
        transit.fails_with = 0
        token.chmod(0o644)
        with pytest.raises(InvalidSpec, match="expected 0600"):
            keeper.unwrap(wrapped, bound_to="x")
        token.chmod(0o600)
        token.write_text("s.old")
        with pytest.raises(RemoteRefused, match="refuses decrypt"):
            keeper.unwrap(wrapped, bound_to="x")
    with pytest.raises(KeyServiceUnreachable):
        keeper.wrap(bytes(32), bound_to="x")


def test_an_envelope_under_the_name_of_another_key_does_not_open(tmp_path: Path) -> None:
    keeper = MemoryKeeper()
    keys = DataKeys(tmp_path, lambda: keeper)
    first, second = keys.create(), keys.create()
    assert keys.open(first.key_id) == first
    text = keys.read(second.key_id).decode().replace(second.key_id, first.key_id)
    keys.path(first.key_id).write_text(text)
    with pytest.raises(CorruptBlob, match="was altered"):
        keys.open(first.key_id)
    keys.path(first.key_id).write_bytes(b"{}")
    with pytest.raises(CorruptBlob):
        keys.open(first.key_id)
    keys.remove(first.key_id)
    with pytest.raises(SealingKeyMissing, match="is missing"):
        keys.open(first.key_id)


@pytest.mark.parametrize("key_id", ["", "../../etc/passwd", "A" * 32, "0" * 31])
def test_the_id_of_a_data_key_is_no_path(tmp_path: Path, key_id: str) -> None:
    with pytest.raises(CorruptBlob, match="is not the id of a data key"):
        DataKeys(tmp_path, MemoryKeeper).path(key_id)


def test_keys_move_from_one_place_to_another_and_a_second_call_finds_them_moved(tmp_path: Path) -> None:
    old, new = MemoryKeeper(), KeyringKeeper(tmp_path / "ring", ManualClock())
    keys = DataKeys(tmp_path / "envelopes", lambda: old)
    made = [keys.create() for _ in range(3)]
    assert keys.rewrap(made[0].key_id, new)  # the call was killed here
    assert [keys.rewrap(key.key_id, new) for key in made] == [False, True, True]
    moved = DataKeys(tmp_path / "envelopes", lambda: new)
    assert [moved.open(key.key_id) for key in made] == made
    with pytest.raises(SealingKeyMissing, match="wrapped by a keyring"):
        keys.open(made[0].key_id)


def test_a_small_secret_is_bound_to_its_name_and_key() -> None:
    box, key = SecretBox(new_data_key()), new_data_key()
    boxed = box.seal("webhooks", b"s3cret")
    assert box.open("webhooks", boxed) == b"s3cret"
    assert boxed != box.seal("webhooks", b"s3cret")
    for name, text, opener in (
        ("cache", boxed, box),
        ("webhooks", boxed[:-8] + "AAAAAAA=", box),
        ("webhooks", boxed, SecretBox(key)),
        ("webhooks", "plain", box),
        ("webhooks", "sealed:1:", box),
    ):
        with pytest.raises(CorruptBlob):
            opener.open(name, text)


def test_the_key_source_of_the_file_is_a_setting_with_paths_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "ashore.toml").write_text('[sealing]\nkey = "keyring:ring"\n')
    assert read_spec(tmp_path / "ashore.toml").settings["sealing_key"] == f"keyring:{tmp_path}/ring"


def test_a_key_service_is_called_only_where_egress_names_it() -> None:
    text = f'[sealing]\nkey = "{TRANSIT}"\n'
    with pytest.raises(InvalidSpec, match="may not call"):
        parse_spec(text)
    assert parse_spec(text + '[egress]\nallow = ["vault.corp:8200"]\n').settings["sealing_key"] == TRANSIT
    with pytest.raises(InvalidSpec, match="unknown key 'keys'"):
        parse_spec('[sealing]\nkeys = "x"\n')
