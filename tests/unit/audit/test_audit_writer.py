"""How the lines of a log come to the disk: every kind of draft, in order, in a file that nobody takes away."""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_notes import a_note, an_act, records

from ashore.control.audit import verify_local
from ashore.core.errors import AuditUnavailable, EnvironmentFault
from ashore.data.audit import ChainName, ChainWriter, NoteForm
from ashore.data.audit.model import Sealed
from ashore.data.audit.segments import segment_path
from ashore.data.audit.writer import DAY_US, Draft

CHAIN = ChainName("api-0")


def acts(first: int, behind: int) -> list[Draft]:
    return [Draft(DAY_US + n, n, an_act(n)) for n in range(first, behind)]


def test_every_kind_of_draft_is_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path, CHAIN)
    form = NoteForm(a_note(7, masked={"cn_id": 2}))
    sealed = Sealed(answer="YQ==", key_id="k1", prompt="cA==")
    writer.append(
        [
            Draft(DAY_US, 1, ("writer:start", {"pid": 7})),
            Draft(DAY_US + 1, 2, form, "req-一"),
            Draft(DAY_US + 2, 3, a_note(8, content=(b"secret", b"answer")), sealed=sealed),
            Draft(DAY_US + 3, 4, an_act(9, detail={"n": 3})),
            Draft(DAY_US + 4, 5, form, "req-2"),
        ]
    )
    found = records(tmp_path)
    assert [one.action for one in found] == [
        "segment:open", "writer:start", "model:infer", "model:infer", "key:create", "model:infer",
    ]  # fmt: skip
    assert [one.request_id for one in found[2:]] == ["req-一", a_note(8).request_id, "", "req-2"]
    assert found[3].content == sealed and found[4].detail == {"n": 3} and found[5].masked == {"cn_id": 2}
    assert [one.at_us - DAY_US for one in found] == [0, 0, 1, 2, 3, 4]
    assert (writer.head.segment, writer.head.seq) == (1, 6)
    report = verify_local(tmp_path, CHAIN)
    assert report.problem is None and report.last_seq == 6
    assert b"secret" not in segment_path(tmp_path, CHAIN, 1).read_bytes()


def test_a_chain_goes_on_where_it_stood(tmp_path: Path) -> None:
    first = ChainWriter(tmp_path, CHAIN)
    first.append(acts(0, 3))
    first.close()
    with segment_path(tmp_path, CHAIN, 1).open("ab") as file:
        file.write(b"half a li")
    second = ChainWriter(tmp_path, CHAIN)
    assert second.torn_bytes == 9 and second.damaged_line == 0 and second.head.seq == 4
    second.append(acts(3, 5))
    assert [one.seq for one in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert verify_local(tmp_path, CHAIN).problem is None


def test_a_file_that_somebody_removed_is_refused_and_nothing_counts(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path, CHAIN)
    writer.append(acts(0, 2))
    path = segment_path(tmp_path, CHAIN, 1)
    kept = path.rename(path.with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(AuditUnavailable, match="was removed while it was being written"):
            writer.append(acts(2, 4))
    kept.rename(path)
    writer.append(acts(2, 4))
    assert [one.resource for one in records(tmp_path) if one.kind != "chain"] == [f"key/ash_{n:08x}" for n in range(4)]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(EnvironmentFault, match="is a file"):
        ChainWriter(tmp_path / "file", CHAIN)
