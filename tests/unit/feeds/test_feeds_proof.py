"""The file of a receiver proves itself: what is missing, doubled or changed is found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from feed_rig import Audited, a_feed, as_events, as_syslog, audited

from ashore.control.feeds.proof import Proof, prove
from ashore.control.feeds.reading import SIGNED
from ashore.core.errors import NotFound

SHAPES = {"syslog": as_syslog, "events": as_events}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return audited(tmp_path_factory.mktemp("proof"))


def proved(tmp_path: Path, log: Audited, data: bytes) -> Proof:
    file = tmp_path / "siem.log"
    file.write_bytes(data)
    return prove(file, log.keys)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_file_is_as_written_in_any_order_and_with_lines_of_others(
    tmp_path: Path, log: Audited, shape: str
) -> None:
    data = SHAPES[shape](log.lines())
    lines = data.splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    found = proved(tmp_path, log, b"sshd: hello\n" + b"".join(lines) + b'{"ashore":{}}\n' + lines[5])
    (chain,) = found.chains
    assert found.ok, found.problems
    assert found.checkpoints == 2 and chain.first == 1 and chain.last == chain.signed == chain.records
    assert chain.doubled == (0 if b'"checkpoint"' in lines[5] or b"checkpoint [" in lines[5] else 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_line_that_is_taken_out_or_changed_is_found(tmp_path: Path, log: Audited, shape: str) -> None:
    lines = SHAPES[shape](log.lines()).splitlines(keepends=True)
    for number, line in enumerate(lines):
        taken = proved(tmp_path, log, b"".join(lines[:number] + lines[number + 1 :]))
        assert taken.ok == (number == len(lines) - 1), f"line {number} was taken out"
        changed = line.replace(b'"actor":"', b'"actor":"x', 1)
        if b'"actor":"' in line:
            found = proved(tmp_path, log, b"".join([*lines[:number], changed, *lines[number + 1 :]]))
            assert not found.ok, f"line {number} was changed"


def test_a_rewritten_file_fails_by_its_signatures(tmp_path: Path, log: Audited) -> None:
    other = audited(tmp_path / "other", 30)
    mixed = [line for line in other.lines() if line.chain == "api-0"] + [
        line for line in log.lines() if line.chain != "api-0"
    ]
    renamed = as_syslog(mixed).replace(other.home.encode(), log.home.encode())
    found = proved(tmp_path, log, renamed)
    assert any("signed" in problem for problem in found.problems)


def test_a_line_that_a_dying_receiver_tore_is_no_fault_where_a_whole_copy_came(tmp_path: Path, log: Audited) -> None:
    lines = as_syslog(log.lines()).splitlines(keepends=True)
    found = proved(tmp_path, log, b"".join([*lines[:9], lines[9][:-40], *lines[9:]]))
    assert found.ok and found.chains[0].torn == 1, found.problems
    torn = proved(tmp_path, log, b"".join([*lines[:9], lines[9][:-40], *lines[10:]]))
    assert not torn.ok, "no whole copy came"


def test_a_missing_tail_is_named_by_the_checkpoint_that_covers_it(tmp_path: Path, log: Audited) -> None:
    lines = log.lines()
    found = proved(tmp_path, log, as_syslog([line for line in lines if line.chain != "api-0" or line.seq < 40]))
    assert len(found.problems) == 1
    assert found.problems[0].startswith("api-0: numbers 40 to") and "which checkpoint 2 signed" in found.problems[0]


def test_stubs_prove_their_number_and_hash(tmp_path: Path, log: Audited) -> None:
    feed = a_feed(form="ecs")
    found = proved(tmp_path, log, as_syslog(log.lines(), feed))
    assert found.ok, found.problems
    assert found.chains[0].stubs == found.chains[0].records
    lines = as_syslog(log.lines(), feed).splitlines(keepends=True)
    assert not proved(tmp_path, log, b"".join(lines[:7] + lines[8:])).ok


@pytest.mark.parametrize("shape", SHAPES)
def test_without_a_signature_nothing_is_proved(tmp_path: Path, log: Audited, shape: str) -> None:
    """Whoever writes the receiver's file can write a chain of his own."""
    found = proved(tmp_path, log, SHAPES[shape]([line for line in log.lines() if line.chain != SIGNED]))
    assert not found.ok and "no signed checkpoint" in found.problems[0]


def test_a_first_record_that_names_no_hash_is_wrong(tmp_path: Path, log: Audited) -> None:
    first = next(line for line in log.lines() if line.chain == "api-0")
    data = as_syslog([first]).replace(b'seq="1"', b'seq="2"').replace(b'"previous":"', b'"previous":"x')
    assert not proved(tmp_path, log, data).ok


def test_a_file_of_something_else_is_refused(tmp_path: Path, log: Audited) -> None:
    with pytest.raises(NotFound, match="no line of a feed"):
        proved(tmp_path, log, b"hello\n")
