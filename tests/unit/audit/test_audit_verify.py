"""Verifying: untouched records pass, every tampering is found and named, and what cannot be known is said."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from audit_notes import write_chain
from benchmarks.audit_tampering import DEEDS, TAIL_DEEDS, Deed, cut_checkpoints, set_back

from ashore.control.audit import VerifyReport, open_anchor, verify_folder, verify_local
from ashore.data.audit import PUBLIC_KEYS, ChainName, Checkpoints, PublicKey, load_signing_key, read_public_keys
from ashore.data.audit.canonical import decode, encode
from ashore.data.audit.chain import linked
from ashore.data.audit.checkpoints import heads_root, read_checkpoints, signed_line
from ashore.data.audit.segments import segment_path
from ashore.data.audit.signing import new_signing_key
from ashore.kit.sealing import SecretFolder


class Home:
    """An audit with two chains, some segments and checkpoints, anchored in a folder."""

    def __init__(self, folder: Path) -> None:
        self.root, self.keys, self.anchor = folder / "audit", folder / "keys", folder / "anchor"
        self.anchor.mkdir()
        self.checkpoints = Checkpoints(self.root, self.keys)
        for turn in range(6):
            for chain in ("api-0", "supervisor"):
                write_chain(self.root, 25 + turn, chain, segment_bytes=6_000)
            self.sign(turn)

    def sign(self, at_us: int) -> None:
        line = self.checkpoints.make(at_us)
        assert line is not None
        last = self.checkpoints.last()
        assert last is not None
        open_anchor(str(self.anchor), self.checkpoints.home).put(last.checkpoint().number, line)

    @property
    def trusted(self) -> tuple[PublicKey, ...]:
        return read_public_keys(self.keys / PUBLIC_KEYS)

    def verify(self, root: Path | None = None, *, anchored: bool = True) -> VerifyReport:
        return verify_folder(root or self.root, trusted=self.trusted, anchor=str(self.anchor) if anchored else "")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home"))


def test_what_nobody_touched_passes(home: Home) -> None:
    for anchored in (True, False):
        report = home.verify(anchored=anchored)
        assert report.ok, report.problems
        assert report.checkpoints.count == 6 and report.num_records > 300
        assert all(chain.vouched_seq == chain.last_seq for chain in report.chains)
    assert home.verify().checkpoints.anchored == 6


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["chains/api-0/00000001.log", "chains/supervisor/00000002.log", "checkpoints.log"])
@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_keeps_nobody(home: Home, tmp_path: Path, name: str, put: Callable[[Path], None]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(home.root, copy)
    (copy / name).unlink()
    put(copy / name)
    report = home.verify(copy)
    assert not report.ok
    assert any(Path(problem.file).name == Path(name).name for problem in report.problems), report.problems


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_every_tampering_is_found(home: Home, tmp_path: Path, deed: Deed) -> None:
    """Each kind of deed at random places. The benchmark does it ten thousand times."""
    for seed in range(16):
        copy = tmp_path / str(seed)
        shutil.copytree(home.root, copy)
        did = deed(copy, random.Random(seed))
        report = home.verify(copy)
        assert not report.ok, f"not found: {did} (seed {seed})"
        assert report.problems[0].what
        if deed not in TAIL_DEEDS and "the checkpoints" not in did:
            assert not home.verify(copy, anchored=False).ok, f"not found without an anchor: {did} (seed {seed})"


def test_without_an_anchor_a_cut_tail_is_reported_as_not_anchored(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(home.root, copy)
    set_back(copy, random.Random(1))
    report = home.verify(copy, anchored=False)
    assert report.ok and report.checkpoints.anchored == 0 and report.checkpoints.count < 6
    found = home.verify(copy)
    assert "its tail is missing" in found.problems[0].what and "the anchor has checkpoint" in found.problems[0].what


def test_records_behind_the_last_checkpoint_are_told_apart(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(home.root, copy)
    write_chain(copy, 3, "api-0")
    chain = next(one for one in home.verify(copy).chains if one.chain == "api-0")
    assert chain.problem is None and chain.vouched_seq == chain.last_seq - 5


def test_the_first_bad_record_is_named(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(home.root, copy)
    path = segment_path(copy, ChainName("api-0"), 2)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"alice@bank"', b'"mallory@mm"')
    path.chmod(0o600)
    path.write_bytes(b"".join(lines))
    (problem,) = home.verify(copy).problems
    assert problem.file == str(path) and problem.line == 5 and "hash" in problem.what


def test_a_key_from_elsewhere_is_needed(home: Home, tmp_path: Path) -> None:
    stranger = new_signing_key().public
    report = verify_folder(home.root, trusted=[stranger])
    assert not report.ok and "not among the given public keys" in report.problems[0].what


def test_an_anchor_that_holds_nothing_of_this_home_says_so(home: Home, tmp_path: Path) -> None:
    report = verify_folder(home.root, trusted=home.trusted, anchor=str(tmp_path))
    assert not report.ok and "has no checkpoint of this home" in report.problems[0].what


def test_keys_hand_over(tmp_path: Path) -> None:
    home = Home(tmp_path)
    old = home.trusted
    fresh, _ = home.checkpoints.rotate(100)
    write_chain(home.root, 5, "api-0")
    home.checkpoints.make(101)
    assert home.trusted == (*old, fresh)
    for trusted in (old, (fresh,), home.trusted):
        assert verify_folder(home.root, trusted=trusted).ok, "from either end of the line of keys"
    assert (home.root / "public-key.pem").read_text().count("BEGIN") == 2


def test_the_old_key_signs_no_more(tmp_path: Path) -> None:
    home = Home(tmp_path)
    stolen = tmp_path / "stolen"
    shutil.copytree(home.keys, stolen)
    home.checkpoints.rotate(100)
    write_chain(home.root, 5, "api-0")
    Checkpoints(home.root, stolen).make(101)
    (problem, *_) = verify_folder(home.root, trusted=home.trusted).problems
    assert "which had replaced it" in problem.what


def test_a_death_between_key_and_line_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)

    def dies(folder: Path, named: str) -> None:
        if named:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("ashore.data.audit.checkpoints.take_next_key", dies)
        home.checkpoints.rotate(100)
    write_chain(home.root, 5, "api-0")
    home.checkpoints.make(101)
    assert len(home.trusted) == 2 and verify_folder(home.root, trusted=home.trusted[:1]).ok


def test_half_a_checkpoint_is_cut(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.checkpoints.path.open("ab") as file:
        file.write(home.checkpoints.path.read_bytes()[:100])
    assert home.verify().checkpoints.torn_bytes == 100
    write_chain(home.root, 5, "api-0")
    home.sign(50)
    assert home.verify().ok and home.verify().checkpoints.count == 7


def test_nothing_new_is_not_signed_again_within_the_hour(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.checkpoints.make(10) is None
    assert home.checkpoints.make(10 + 3_600_000_000) is not None
    assert home.checkpoints.make(11) is not None, "a clock that went back is signed too"


def test_a_lost_key_is_never_replaced_in_silence(tmp_path: Path) -> None:
    from ashore.core.errors import InvalidSpec

    home = Home(tmp_path)
    (home.keys / "signing-key.pem").unlink()
    with pytest.raises(InvalidSpec, match="is missing"):
        home.checkpoints.make(99, force=True)
    assert (home.keys / "public-keys.pem").exists()


def test_private_files_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert (home.keys / "signing-key.pem").stat().st_mode & 0o777 == 0o600
    assert not list(home.root.rglob("signing-key*")), "the key that signs does not lie in what it signs"


def test_a_chain_that_shrank_while_we_run_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    path = segment_path(home.root, ChainName("api-0"), 1)
    shutil.rmtree(path.parent)
    write_chain(home.root, 3, "api-0")
    home.checkpoints.make(99)
    assert home.checkpoints.shrunk == ("api-0",)
    assert not home.verify(anchored=False).ok


def test_a_file_kept_by_syslog_is_an_anchor(home: Home, tmp_path: Path) -> None:
    from ashore.control.audit.anchors.syslog import message

    kept = tmp_path / "remote.log"
    lines = [line.raw for line in read_checkpoints(home.checkpoints.path)]
    noise = b"<13>1 2026-11-24T00:00:00Z host other 1 - - hello\n"
    kept.write_bytes(noise + b"".join(message(line) + b"\n" for line in (lines[2], lines[1], lines[1], *lines[3:])))
    assert verify_folder(home.root, trusted=home.trusted, anchor=str(kept)).checkpoints.anchored == 6
    copy = tmp_path / "audit"
    shutil.copytree(home.root, copy)
    cut_checkpoints(copy, random.Random(3))
    assert not verify_folder(copy, trusted=home.trusted, anchor=str(kept)).ok


# --- each check by itself: lines that are signed and hashed as they should be, and say something else


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"number": 9}, "its number is 9; expected 7"),
        ({"previous": "0" * 64}, "names a different previous checkpoint"),
        ({"home": "0" * 16}, "belongs to the home"),
        ({"root": "0" * 64}, "its root hash does not match its chain heads"),
        ({"format": 2}, "its format is 2"),
        ({"next_key": "AAAA"}, "the new key it names is not a valid key"),
        ({"chains": ()}, "omits it"),
        ({"chains": "shorter"}, "the chain was cut or rewritten"),
        ({"chains": "rewritten"}, "the chain was cut or rewritten"),
    ],
)
def test_a_checkpoint_that_says_something_wrong_is_named(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """Signed with the right key: what whoever has it, or a mistake of ours, could do."""
    home = Home(tmp_path)
    last = list(read_checkpoints(home.checkpoints.path))[-1]
    before = last.checkpoint()
    if isinstance(changes.get("chains"), str):
        head = before.chains[0]
        wrong = {"seq": head.seq - 1} if changes["chains"] == "shorter" else {"hash": "0" * 64}
        changes = {"chains": (msgspec.structs.replace(head, **wrong), *before.chains[1:])}  # type: ignore[arg-type]
    if "chains" in changes:
        changes["root"] = heads_root(changes["chains"])  # type: ignore[arg-type]
    told = msgspec.structs.replace(before, **({"number": 7, "previous": last.hash} | changes))  # type: ignore[arg-type]
    with home.checkpoints.path.open("ab") as file:
        file.write(signed_line(told, load_signing_key(SecretFolder(home.keys))) + b"\n")
    problem = home.verify(anchored=False).problems[0]
    assert words in problem.what and problem.line == 7


def test_an_anchor_with_another_line_of_a_number_is_found(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first, *rest = list(read_checkpoints(home.checkpoints.path))
    other = signed_line(
        msgspec.structs.replace(first.checkpoint(), at_us=77), load_signing_key(SecretFolder(home.keys))
    )
    (home.anchor / f"{home.checkpoints.home}.checkpoints").write_bytes(
        b"".join(line + b"\n" for line in (other, *(one.raw for one in rest)))
    )
    problem = home.verify().problems[0]
    assert "the anchor has a different checkpoint of this number" in problem.what and problem.line == 1


def test_records_without_any_checkpoint_are_vouched_for_by_nothing(home: Home, tmp_path: Path) -> None:
    copy = tmp_path / "audit"
    shutil.copytree(home.root, copy)
    (copy / "checkpoints.log").unlink()
    assert "there is no checkpoint" in home.verify(copy, anchored=False).problems[0].what


@pytest.mark.parametrize(
    ("number", "line", "changes", "words"),
    [
        (1, 5, {"seq": 9}, "its number is 9; expected 5"),
        (1, 1, {"detail": {"format": 2}}, "its format is 2"),
        (2, 1, {"detail": {"format": 1, "segment": 7}}, "names a different position in the chain"),
        (
            2,
            1,
            {"detail": {"format": 1, "segment": 2, "previous": "0" * 64}},
            "names a different position in the chain",
        ),
        (2, 1, {"detail": "another root"}, "names a different root hash"),
        (1, -1, {"detail": {"root": "0" * 64}}, "root hash of the segment does not match its records"),
        (2, 1, {"action": "segment:opem"}, "does not begin with its opening record"),
        (1, -1, {"action": "segment:clothes"}, "ends without its closing record"),
    ],
)
def test_a_record_that_says_something_wrong_is_named(
    tmp_path: Path, number: int, line: int, changes: dict[str, object], words: str
) -> None:
    """Every hash fits; only what the record says does not."""
    root, chain = tmp_path / "audit", ChainName("api-0")
    write_chain(root, 40, segment_bytes=6_000)
    path = segment_path(root, chain, number)
    lines = path.read_bytes().splitlines()
    at = line - 1 if line > 0 else len(lines) - 1
    record = decode(lines[at][65:])
    if changes.get("detail") == "another root":
        changes = {"detail": {**record.detail, "previous_root": "0" * 64}}
    before = bytes.fromhex(str(record.detail["previous"]) if at == 0 else lines[at - 1][:64].decode())
    body = encode(msgspec.structs.replace(record, **changes))  # type: ignore[arg-type]
    lines[at] = b"%s %s" % (linked(before, body).hex().encode(), body)
    path.chmod(0o600)
    path.write_bytes(b"\n".join(lines) + b"\n")
    problem = verify_local(root, chain).problem
    assert problem is not None and words in problem.what and problem.file == str(path) and problem.line == at + 1
