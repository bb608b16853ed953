"""Records in files of JSON: none, a whole one, and one that cannot be read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ashore.core.errors import CorruptBlob
from ashore.kit.recordfile import read_record, write_record


class Standing(msgspec.Struct, frozen=True):
    round: int
    note: str = ""


def test_a_record_is_read_as_it_was_written_and_is_none_before(tmp_path: Path) -> None:
    path = tmp_path / "standing.json"
    assert read_record(path, Standing, if_damaged="delete it") is None
    write_record(path, Standing(3, "ünï"))
    write_record(path, Standing(4))
    assert read_record(path, Standing) == Standing(4)
    assert [one.name for one in tmp_path.iterdir()] == ["standing.json"]


@pytest.mark.parametrize("raw", [b"", b"{", b'{"round":"three"}', b'{"round":1,"note":"\xff"}', b"[" * 100_000])
def test_a_damaged_record_is_none_or_says_what_to_do(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "standing.json"
    path.write_bytes(raw)
    assert read_record(path, Standing) is None
    with pytest.raises(CorruptBlob, match=r"standing\.json is damaged: ") as caught:
        read_record(path, Standing, if_damaged="delete it")
    assert caught.value.hint == "delete it"


def test_a_directory_in_its_place_is_no_record(tmp_path: Path) -> None:
    assert read_record(tmp_path, Standing) is None
    with pytest.raises(CorruptBlob, match="is damaged: "):
        read_record(tmp_path, Standing, if_damaged="move it away")
