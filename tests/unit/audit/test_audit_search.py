"""Search, export, content and archive of one home's record."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
from pathlib import Path

import pytest
from audit_notes import a_note, an_act, write_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_archive import MemoryArchive

import ashore
from ashore.cli.recorded import ACTS
from ashore.control.audit import AuditService, Follower, archive_segments, verify_export, verify_folder
from ashore.control.audit.archive import ArchiveShelf, FolderArchive
from ashore.control.audit.export import cef_row, csv_row, jsonl_row
from ashore.control.audit.service import actions, is_known
from ashore.core.errors import AuditUnavailable, Conflict, InvalidRequest, NotFound, TamperedAudit
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.audit import (
    AuditLog,
    ChainName,
    ChainWriter,
    Checkpoints,
    ContentSealer,
    LogOptions,
    Query,
    SqlSubjectKeys,
    read_moment,
)
from ashore.data.audit.model import Place
from ashore.data.audit.query import matches
from ashore.data.audit.records import act_record
from ashore.data.audit.search import Hit, oldest_first, search
from ashore.data.audit.segments import LocalShelf, segment_path, segments_of
from ashore.data.audit.writer import DAY_US, Draft
from ashore.data.authority import ACTIONS as RIGHTS
from ashore.kit.call import Actor
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_scratch

READER = Actor(principal=Principal(id="auditor", tenant=TenantId("")), origin="10.0.0.9")
NASTY = '=cmd|"x"\n{"a":1}\r\u2028\u202e,;\t|\\="'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two chains with several segments, a year's worth of names."""
    folder = tmp_path_factory.mktemp("search") / "audit"
    chance = random.Random(3)
    for chain in ("api-0", "cli"):
        writer = ChainWriter(folder, ChainName(chain), segment_bytes=9_000)
        for number in range(300):
            at_us = 1_700_000_000_000_000 + number * 1_000_000
            what = (
                an_act(
                    number, reason=chance.choice(["opened for Müller", "金额超限", "Closing of the YEAR", 'a "b" c'])
                )
                if number % 7 == 0
                else a_note(
                    number,
                    principal=f"user-{number % 11}",
                    outcome=chance.choice(["answered", "failed", "cancelled"]),
                    tenant="Zürich" if number % 5 else "retail",
                )
            )
            writer.append([Draft(at_us, number, what)])
        writer.close()
    return folder


QUERIES = st.builds(
    Query,
    actor=st.sampled_from(["", "", "user-3", "sysadmin", "nobody"]),
    tenant=st.sampled_from(["", "", "retail", "Zürich"]),
    action=st.sampled_from(["", "", "model:infer", "key:*", "segment:open"]),
    outcome=st.sampled_from(["", "", "failed", "done"]),
    resource=st.sampled_from(["", "", "key/*", "key/ash_00000007"]),
    chain=st.sampled_from(["", "", "cli"]),
    text=st.sampled_from(["", "", "closing", "müller", "金额", '"b"', "year opened", "expires_days=90 key", "zzz"]),
    since_us=st.sampled_from([0, 0, 1_700_000_100_000_000]),
    until_us=st.sampled_from([0, 0, 1_700_000_200_000_000]),
    limit=st.sampled_from([1, 5, 10_000]),
)


@settings(max_examples=150, deadline=None)
@given(QUERIES)
def test_search_finds_what_reading_everything_finds(root: Path, query: Query) -> None:
    everything = list(oldest_first(LocalShelf(root), Query(chain=query.chain)))
    expected = [hit for hit in everything if matches(query, hit.record)]
    found = search(LocalShelf(root), query)
    assert len(found) == min(query.limit, len(expected))
    assert {hit.place for hit in found} <= {hit.place for hit in expected}
    times = [hit.order_us for hit in found]
    assert times == sorted(times, reverse=True)
    for chain in ("api-0", "cli"):
        seqs = [hit.record.seq for hit in found if hit.place.chain == chain]
        assert seqs == sorted(seqs, reverse=True), "newest first by number, whatever the clock said"


@pytest.mark.parametrize("jumps", [False, True])
def test_a_time_is_found_whatever_the_clock_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jumps: bool) -> None:
    """Times that jitter are found by halving; where the clock jumped, every line is looked at."""
    monkeypatch.setattr("ashore.data.audit.search.NEAR_BYTES", 700)
    chance, start_us = random.Random(5), 1_700_000_000_000_000
    writer, offset_us, times = ChainWriter(tmp_path, ChainName("api-0")), 0, []
    for number in range(400):
        if jumps and number % 90 == 80:
            offset_us += chance.choice([-200_000_000, 150_000_000])
        at_us = start_us + number * 1_000_000 + offset_us + chance.randrange(-400_000, 400_000)
        times.append(at_us)
        writer.append([Draft(at_us, number * 1_000_000, a_note(number))])
    writer.close()
    for _ in range(60):
        since, until = sorted(start_us + chance.randrange(-50_000_000, 450_000_000) for _ in range(2))
        found = search(LocalShelf(tmp_path), Query(kind="request", since_us=since, until_us=until, limit=1000))
        assert sorted(hit.record.at_us for hit in found) == sorted(at for at in times if since <= at < until)


def test_a_follower_finds_what_a_search_finds_and_reads_each_byte_once(tmp_path: Path) -> None:
    follower = Follower(tmp_path, "key:create")
    assert follower.records() == []
    writer = ChainWriter(tmp_path, ChainName("api-0"), segment_bytes=4_000)
    other = ChainWriter(tmp_path, ChainName("cli"), segment_bytes=4_000)
    for number in range(60):
        what = an_act(number, action=("key:create", "key:revoke")[number % 2]) if number % 3 else a_note(number)
        (writer if number % 4 else other).append([Draft(number * 1_000_000, number, what)])
        if number % 10 == 9:
            found = {(one.resource, one.seq) for one in follower.records()}
            searched = search(LocalShelf(tmp_path), Query(action="key:create", limit=1000))
            assert found == {(hit.record.resource, hit.record.seq) for hit in searched} and found
    writer.close()
    other.close()
    before = follower.records()
    assert follower.whole_since_s() == 0
    first = segment_path(tmp_path, ChainName("api-0"), 1)
    first.write_bytes(b"\n" * first.stat().st_size)
    assert follower.records() == before, "what was read is not read again"
    first.write_bytes(b"short\n")
    left = follower.records()
    assert 0 < len(left) < len(before), "another file has its name"
    first.unlink()
    assert follower.records() == left and follower.whole_since_s() > 0, "older ones may be in an archive"


def test_a_line_of_rubbish_hides_nothing(tmp_path: Path) -> None:
    write_chain(tmp_path, 20)
    path = segment_path(tmp_path, ChainName("api-0"), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[7] = b"\xff\x00 not a record \xc3\n"
    path.write_bytes(b"".join(lines) + b"half a li")
    found = search(LocalShelf(tmp_path), Query(kind="request", limit=1000))
    assert len(found) == 19


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-02", DAY_US),
        ("1970-01-01T08:00:00+08:00", 0),
        ("1970-01-01T00:00:01.5", 1_500_000),
        ("2h", (1_000_000 - 7_200) * 1_000_000),
    ],
)
def test_moments(text: str, us: int) -> None:
    assert read_moment(text, now_s=1_000_000.0) == us


def test_what_is_no_moment_says_so() -> None:
    with pytest.raises(InvalidRequest, match="is not a time"):
        read_moment("yesterday", now_s=0.0)


def a_service(root: Path, tmp_path: Path) -> tuple[AuditService, MemoryRecorder]:
    recorder = MemoryRecorder()
    keys = tmp_path / "keys"
    Checkpoints(root, keys).make(1, force=True)
    return AuditService(root, keys, recorder), recorder


def test_every_reading_is_recorded_before_it_is_answered(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(root, copy)
    service, recorder = a_service(copy, tmp_path)
    service.search(Query(actor="user-3", limit=7), READER)
    assert service.verify(READER).ok
    service.export(tmp_path / "out", Query(), "csv", READER)
    service.copy(tmp_path / "copy", READER)
    assert [act.action for act in recorder.acts] == ["audit:search", "audit:verify", "audit:export", "audit:export"]
    assert recorder.acts[0].detail == {"actor": "user-3", "limit": 7}
    assert {act.actor for act in recorder.acts} == {"auditor"}

    class Broken(MemoryRecorder):
        def settle(self, timeout_s: float) -> None:
            raise AuditUnavailable

    unheard = AuditService(copy, tmp_path / "keys", Broken())
    for read in (lambda: unheard.search(Query(), READER), lambda: unheard.copy(tmp_path / "no", READER)):
        with pytest.raises(AuditUnavailable):
            read()
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("form", ["csv", "jsonl", "cef"])
def test_an_export_is_signed_and_any_change_shows(root: Path, tmp_path: Path, form: str) -> None:
    copy, out = tmp_path / "audit", tmp_path / "out"
    shutil.copytree(root, copy)
    service, _ = a_service(copy, tmp_path)
    manifest = service.export(out, Query(action="key:*"), form, READER)  # type: ignore[arg-type]
    trusted = service.public_keys()
    assert verify_export(out, trusted) == (manifest, None)
    assert manifest.records == 86 and manifest.by == "auditor" and manifest.query == {"action": "key:*"}
    with pytest.raises(Conflict):
        service.export(out, Query(), "csv", READER)
    data = (out / manifest.file).read_bytes()
    for name, changed in (
        (manifest.file, data.replace(b"sysadmin", b"sysadmim", 1)),
        (manifest.file, data[:-10]),
        ("manifest.json", (out / "manifest.json").read_bytes().replace(b'"records":86', b'"records":85')),
        ("manifest.sig", b"AAAA\n"),
    ):
        bad = tmp_path / "bad"
        shutil.copytree(out, bad)
        (bad / name).write_bytes(changed)
        problem = verify_export(bad, trusted)[1]
        assert problem is not None and problem.file == str(bad / (name if name != "manifest.json" else "manifest.sig"))
        shutil.rmtree(bad)


def test_the_record_itself_is_copied_and_verifies_elsewhere(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(root, copy)
    service, _ = a_service(copy, tmp_path)
    service.copy(tmp_path / "out", READER)
    assert verify_folder(tmp_path / "out", trusted=service.public_keys()).ok


def a_hit(**changes: object) -> Hit:
    record = act_record(an_act(1, **changes), seq=1, at_us=1_700_000_000_000_000, mono_us=1)
    return Hit(place=Place(chain=ChainName("api-0"), segment=1, offset=0), record=record, order_us=1)


@pytest.mark.parametrize("field", ["actor", "reason", "resource", "tenant", "origin"])
def test_no_text_forges_a_line_or_a_formula(field: str) -> None:
    hit = a_hit(**{field: NASTY, "detail": {NASTY: NASTY}})
    for row in (csv_row(hit), jsonl_row(hit), cef_row(hit)):
        text = row.decode()
        assert text.endswith("\n") and len(text.splitlines()) == 1 and text[:-1].isprintable()
    cells = next(csv.reader(io.StringIO(csv_row(hit).decode())))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    assert json.loads(jsonl_row(hit))[field] == NASTY, "escaped, and not altered"
    cef = cef_row(hit).decode()
    assert len(re.findall(r"(?<!\\)\|", cef.split("|", 7)[7])) >= 0 and cef.startswith("CEF:0|ashore|ashore|")
    assert "\\=cmd" in cef


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "＝", "\t=", "\r="])
def test_a_cell_that_begins_like_a_formula_is_quoted(beginning: str) -> None:
    row = next(csv.reader(io.StringIO(csv_row(a_hit(reason=f"{beginning}1+1")).decode())))
    cell = row[11]
    assert cell.endswith("1+1") and cell.startswith(("'", "\\u"))


# --- content


def sealed_log(root: Path, keys: SqlSubjectKeys) -> None:
    log = AuditLog(ChainWriter(root, ChainName("api-0")), options=LogOptions(keeps_content=True, gather_s=0.0)).start()
    log.seal_content_with(ContentSealer(keys))
    log.note(a_note(1, principal="alice", content=(b"her question", b"her answer")))
    log.note(a_note(2, principal="bob", content=("Bobs 问题".encode(), b"x" * 3_000_000)))
    log.close()


def test_content_is_sealed_and_vanishes_with_its_key(tmp_path: Path) -> None:
    root, keys = tmp_path / "audit", SqlSubjectKeys(open_scratch())
    sealed_log(root, keys)
    assert b"question" not in segment_path(root, ChainName("api-0"), 1).read_bytes()
    service, recorder = a_service(root, tmp_path)
    sealer = ContentSealer(keys)
    listed = [hit.record.content for hit in search(LocalShelf(root), Query(kind="request"))]
    assert [(one.key_id != "", one.prompt, one.answer) for one in listed if one] == 2 * [(True, "", "")]
    record, prompt, answer = service.content("api-0#3", sealer, READER)
    assert (record.actor, prompt, answer) == ("alice", b"her question", b"her answer")
    assert len(service.content("api-0#4", sealer, READER)[2]) == 1 << 20, "cut, and the digest is of the whole"

    assert service.erase("alice", keys, READER) == 1
    assert service.erase("alice", keys, READER) == 0
    with pytest.raises(NotFound, match="was destroyed"):
        service.content("api-0#3", sealer, READER)
    assert service.content("api-0#4", sealer, READER)[1] == "Bobs 问题".encode()
    assert service.verify(READER).ok, "the chain stays whole"
    assert [act.action for act in recorder.acts][:3] == ["audit:content", "audit:content", "audit:erase"]


def test_changed_ciphertext_and_records_without_content_say_so(tmp_path: Path) -> None:
    root, keys = tmp_path / "audit", SqlSubjectKeys(open_scratch())
    sealed_log(root, keys)
    service, _ = a_service(root, tmp_path)
    sealer = ContentSealer(keys)
    record = service.content("api-0#3", sealer, READER)[0]
    assert record.content is not None
    import msgspec

    swapped = msgspec.structs.replace(record.content, prompt=record.content.answer, answer=record.content.prompt)
    with pytest.raises(TamperedAudit):
        sealer.open(swapped)
    for place, words in (
        ("api-0#1", "has no stored content"),
        ("api-0#99", "has no stored content"),
        ("zz#1", "no chain"),
    ):
        with pytest.raises(NotFound, match=words):
            service.content(place, sealer, READER)
    for place in ("api-0", "#", "../x#1", "api-0#x"):
        with pytest.raises((InvalidRequest, NotFound)):
            service.content(place, sealer, READER)


# --- archive


def an_old_home(tmp_path: Path) -> tuple[Path, Checkpoints]:
    root = tmp_path / "audit"
    writer = ChainWriter(root, ChainName("api-0"), segment_bytes=4_000)
    for number in range(90):
        writer.append([Draft(number * DAY_US // 10, number, a_note(number))])
    writer.close()
    checkpoints = Checkpoints(root, tmp_path / "keys")
    checkpoints.make(1)
    return root, checkpoints


def test_old_segments_leave_and_are_still_verified_and_found(tmp_path: Path) -> None:
    root, checkpoints = an_old_home(tmp_path)
    before, chain = segments_of(root, ChainName("api-0")), ChainName("api-0")
    archive = FolderArchive(tmp_path / "archive")
    done = archive_segments(root, checkpoints.home, archive, checkpoints, now_us=9 * DAY_US, after_days=5)
    assert [one.segment for one in done] == before[:-1]
    left = segments_of(root, chain)
    assert 1 < len(left) < len(before), "the young ones are copied, and stay"
    assert not [one for one in done if one.removed and one.segment in left]
    trusted = AuditService(root, tmp_path / "keys", MemoryRecorder()).public_keys()
    assert verify_folder(root, trusted=trusted).ok, "a signed checkpoint says where the chain begins here"
    shelf = ArchiveShelf(root, checkpoints.home, archive)
    report = verify_folder(root, trusted=trusted, shelf=shelf)
    assert report.ok and report.chains[0].first_seq == 1 and report.chains[0].segments == len(before)
    assert len(search(shelf, Query(kind="request", limit=1000))) == 90
    assert len(search(LocalShelf(root), Query(kind="request", limit=1000))) < 90
    shelf.close()

    segment_path(root, chain, left[0]).unlink()
    assert "is missing" in verify_folder(root, trusted=trusted).problems[0].what
    assert archive_segments(root, checkpoints.home, archive, checkpoints, now_us=9 * DAY_US, after_days=9_999)


def test_a_copy_that_does_not_come_back_removes_nothing(tmp_path: Path) -> None:
    root, checkpoints = an_old_home(tmp_path)
    before = segments_of(root, ChainName("api-0"))

    class Lossy(MemoryArchive):
        def read(self, name: str) -> bytes:
            return super().read(name)[:-1]

    with pytest.raises(TamperedAudit, match="reads back different"):
        archive_segments(root, checkpoints.home, Lossy(), checkpoints, now_us=99 * DAY_US, after_days=1)
    assert segments_of(root, ChainName("api-0")) == before


def test_an_altered_archive_is_found(tmp_path: Path) -> None:
    root, checkpoints = an_old_home(tmp_path)
    archive = MemoryArchive()
    archive_segments(root, checkpoints.home, archive, checkpoints, now_us=99 * DAY_US, after_days=1)
    name = next(iter(archive.kept))
    archive.kept[name] = archive.kept[name].replace(b"alice@bank", b"alice@bonk", 1)
    trusted = AuditService(root, tmp_path / "keys", MemoryRecorder()).public_keys()
    shelf = ArchiveShelf(root, checkpoints.home, archive)
    assert "hash" in verify_folder(root, trusted=trusted, shelf=shelf).problems[0].what
    del archive.kept[name]
    assert "is missing" in verify_folder(root, trusted=trusted, shelf=shelf).problems[0].what
    shelf.close()


def test_every_action_of_the_source_can_be_asked_for() -> None:
    rights = {right.name for right in RIGHTS}
    assert rights <= actions()
    nouns = {action.partition(":")[0] for action in actions()}
    source = [file.read_text() for file in Path(ashore.__file__).parent.rglob("*.py") if file.name != "room.py"]
    named = {word for text in source for word in re.findall(r'"([a-z-]+:[a-z-]+)"', text)}
    recorded = {
        word for text in source for word in re.findall(r'(?:record|tell|Act)\([^()"]*"([a-z-]+:[a-z-]+)"', text)
    }
    assert {word for word in named if word.partition(":")[0] in nouns} | recorded <= actions()
    made = {part for text in source for part in re.findall(r'f"([a-z-]+:)\{(?:step\.)?(?:do|verb|word|move)\}"', text)}
    made |= {part for text in source for part in re.findall(r'f"\{[a-z.]+\}(:[a-z-]+)"', text)}
    commands = {f"{noun}:{verb}" for noun, verbs in ACTS.items() for verb in verbs}
    found = {act: act.split(":") for act in actions() - rights - named - commands}
    never = [act for act, (noun, verb) in found.items() if made.isdisjoint((f"{noun}:", f":{verb}"))]
    assert not never, "an auditor would find nothing by these names, whatever was done"
    assert is_known("key:*") and is_known("key:re*") and not is_known("kye:*") and not is_known("key:creat")


@pytest.fixture
def service(root: Path, tmp_path: Path) -> AuditService:
    return AuditService(root, tmp_path / "keys", MemoryRecorder())


def test_an_action_that_does_not_exist_is_an_error_with_a_near_one(service: AuditService, tmp_path: Path) -> None:
    for ask in (
        lambda query: service.search(query, READER),
        lambda query: service.export(tmp_path / "out", query, "jsonl", READER),
    ):
        with pytest.raises(InvalidRequest, match="there is no action 'key:creat'") as told:
            ask(Query(action="key:creat"))
        assert "'key:create'" in told.value.hint and told.value.param == "action"
    assert service.search(Query(action="backup:restore"), READER) == [], "it exists, and nobody did it"
    with pytest.raises(InvalidRequest, match=r"there is no action 'kye:\*'"):
        service.search(Query(action="kye:*"), READER)


def test_what_the_log_holds_is_found_whatever_the_list_says(tmp_path: Path) -> None:
    writer = ChainWriter(tmp_path / "audit", ChainName("cli"))
    writer.append([Draft(1_700_000_000_000_000, 1, an_act(action="key:forge"))])
    writer.close()
    service = AuditService(tmp_path / "audit", tmp_path / "keys", MemoryRecorder())
    assert len(service.search(Query(action="key:forge"), READER)) == 1
    assert service.search(Query(action="key:forge", actor="nobody"), READER) == []


def test_names_that_no_record_has_are_told(service: AuditService) -> None:
    (told,) = service.unseen(Query(actor="user-33x", tenant=""))
    assert told.startswith("no record has the actor 'user-33x': did you mean 'user-3'")
    assert service.unseen(Query(outcome="failed")) == []
