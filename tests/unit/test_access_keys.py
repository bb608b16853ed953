"""Keys, digests, the first key's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ashore.core.errors import InvalidSpec, PermissionDenied, Unauthenticated
from ashore.data.authority import (
    INFER,
    KeyTable,
    PolicyAuthority,
    digest_of,
    looks_like_key,
    make_first_key,
    new_key,
    read_first_key,
)


def test_a_new_key_looks_like_one_and_none_is_like_another() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(looks_like_key(key) for key in keys)
    assert not looks_like_key("sk-something")


def test_only_the_key_itself_matches_its_digest() -> None:
    key = new_key()
    assert digest_of(key).matches(key)
    assert not digest_of(key).matches(key[:-1])
    assert key not in repr(digest_of(key))


def test_the_first_key_is_made_once_with_narrow_rights(tmp_path: Path) -> None:
    path = tmp_path / "first-key"
    key = make_first_key(path)
    assert make_first_key(path) == key == read_first_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["first-key"]


@pytest.mark.parametrize("content", ["", "hello", "ash_short"])
def test_a_file_that_holds_no_key_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "first-key"
    path.write_text(content)
    with pytest.raises(InvalidSpec, match="does not contain an ashore key"):
        make_first_key(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="first key"):
        read_first_key(tmp_path / "nothing")


def test_the_table_lets_in_the_first_key_alone() -> None:
    key = new_key()
    table = KeyTable.with_first_key(key)
    principal = table.authenticate(key)
    PolicyAuthority().require(principal, INFER, "model/chat")
    with pytest.raises(PermissionDenied, match="first-key may not audit:search on server"):
        PolicyAuthority().require(principal, "audit:search", "server")
    for wrong in (None, "", "Bearer", new_key(), key + "x", "ü" * 100, "x" * 10_000):
        with pytest.raises(Unauthenticated) as refusal:
            table.authenticate(wrong)
        assert not wrong or len(wrong) < 9 or wrong not in refusal.value.message
