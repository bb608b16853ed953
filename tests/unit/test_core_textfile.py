"""Text and TOML that users hand in: a file that is wrong in any way is one error, with its line and the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ashore.kit.textfile as textfile
from ashore.cli.accesspolicy import PolicyFile
from ashore.cli.accesspolicy import read_file as read_access_policy
from ashore.cli.privacypolicy import read as read_privacy_policy
from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.kit.textfile import parse_toml, read_text_file, read_toml
from ashore.lab.evaluation import read_gate
from ashore.lab.sizing.wish import priced
from ashore.machine.config import read_spec
from ashore.machine.deployment.forms import read_places

READERS = {
    "accounts": lambda file: read_access_policy(PolicyFile(file=str(file))),
    "gate": read_gate,
    "places": read_places,
    "prices": priced,
    "privacy": read_privacy_policy,
    "server": read_spec,
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_a_users_file_names_the_file_and_the_line(tmp_path: Path, reader: str) -> None:
    file = tmp_path / "mine.toml"
    with pytest.raises(InvalidSpec, match=r"mine\.toml: No such file") as caught:
        READERS[reader](file)
    assert caught.value.hint
    file.write_bytes(b"# a comment\nx = \n")
    with pytest.raises(InvalidSpec, match=r"mine\.toml is not TOML: .*\(at line 2"):
        READERS[reader](file)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"x = 1\ny = 'caf\xe9'\n", r"not UTF-8: byte 14 is 0xe9 \(at line 2\)"),
        (b"x = 1\nx = 2\n", r"not TOML: .*\(at line 2"),
        (b"x = 1\n\0", r"not TOML: .*\(at line 2"),
        (b"x = " + 5000 * b"[", "not TOML: it is nested too deeply"),
        (b"x = " + 5000 * b"9", "not TOML: .*5000 digits"),
        (b"x = '\x1b[31m'", r"not TOML: .*'.x1b'"),
    ],
)
def test_what_is_not_toml_is_one_error_in_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(data)
    with pytest.raises(InvalidSpec, match=says) as caught:
        read_toml(file)
    assert caught.value.message.startswith(f"{file} is not") and caught.value.message.isprintable()
    assert caught.value.hint and len(caught.value.message) < 400


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textfile, "MOST_TOML_BYTES", 64 << 10)
    with pytest.raises(InvalidSpec, match=r"/dev/zero is larger than 64 KiB"):
        read_toml(Path("/dev/zero"))
    with pytest.raises(InvalidSpec, match="Is a directory") as caught:
        read_toml(tmp_path, hint="name a file")
    assert caught.value.hint == "name a file"


def test_a_file_may_come_from_a_pipe() -> None:
    reads, writes = os.pipe()
    os.write(writes, b"x = 1\r\n")
    os.close(writes)
    assert read_toml(Path(f"/dev/fd/{reads}")) == parse_toml("x = 1", "here") == {"x": 1}
    os.close(reads)


@pytest.mark.parametrize(
    ("data", "says"), [(b" \n", "is empty"), (b"a\0b", "is binary"), (b"a\n\xff", r"0xff \(at line 2\)")]
)
def test_a_text_file_that_is_none_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(InvalidRequest, match=f"the text .*text.txt .*{says}"):
        read_text_file(file, "the text", hint="give another")
