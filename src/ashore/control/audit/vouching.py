"""Verifies the checkpoints' signatures, and whether an anchor has more of them than the home."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ashore.control.audit.verify import Problem, Vouched
from ashore.data.audit import PublicKey
from ashore.data.audit.checkpoints import BEGINNING, Checkpoint, SignedLine, heads_root, read_checkpoints
from ashore.data.audit.model import FORMAT
from ashore.kit.decode import UNDECODABLE


@dataclass(slots=True, kw_only=True)
class CheckpointReport:
    """Result for the checkpoints."""

    count: int = 0
    last: Checkpoint | None = None
    """The last one that is good."""
    anchored: int = 0
    """Number of the last checkpoint that the anchor holds too; 0: none, or no anchor was given."""
    torn_bytes: int = 0
    problem: Problem | None = None


@dataclass(slots=True)
class _Signers:
    """The keys that may sign the next line."""

    known: dict[str, PublicKey]
    expected: str = ""
    """After a change of keys, the only one that may."""
    unknown: SignedLine | None = None
    """First of the lines whose signer is not among the given keys; a later line that is signed by one vouches for them,
    because it names the hash of the line before it."""


@dataclass(slots=True)
class _Anchored:
    """The anchor's lines, read in step with the local ones."""

    lines: Iterator[bytes]
    next_: SignedLine | None = None
    number: int = 0

    def advance(self) -> None:
        """Read the next one.

        Raises:
            _Wrong: it is not a checkpoint.
        """
        raw = next(self.lines, None)
        if raw is None:
            self.next_ = None
            return
        self.next_ = SignedLine(0, raw, True)
        try:
            self.number = self.next_.checkpoint().number
        except UNDECODABLE as fault:
            raise _Wrong("the anchor", 0, f"it contains a line that is not a checkpoint: {fault}") from fault


class _Wrong(Exception):
    def __init__(self, file: str, line: int, what: str, number: int = 0) -> None:
        super().__init__(what)
        self.problem = Problem(file=file, line=line, seq=number, what=what)


@dataclass(slots=True)
class _State:
    number: int = 0
    hash: str = BEGINNING
    home: str = ""
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)


def verify_checkpoints(
    path: Path, trusted: Iterable[PublicKey], *, anchored: Iterator[bytes] | None = None
) -> CheckpointReport:
    """Verify a file of checkpoints and return the result. Holds one line in memory.

    Args:
        path: The file.
        trusted: Public keys from another source.
        anchored: Lines of an anchor, in the order of their numbers; None: no anchor.
    """
    report, state = CheckpointReport(), _State()
    signers = _Signers({key.key_id: key for key in trusted})
    beside = _Anchored(anchored if anchored is not None else iter(()))
    try:
        beside.advance()
        for line in read_checkpoints(path):
            if not line.whole:
                report.torn_bytes = len(line.raw)
                break
            checkpoint = _read(path, line, state)
            _check_signature(path, line, checkpoint, signers)
            _check_heads(path, line, checkpoint, state)
            state.number, state.hash, state.home = checkpoint.number, line.hash, checkpoint.home
            _compare(path, line, checkpoint, beside, report)
            report.count, report.last = checkpoint.number, checkpoint
        _check_end(path, report, signers, beside, asked=anchored is not None)
    except _Wrong as wrong:
        report.problem = wrong.problem
    return report


def _read(path: Path, line: SignedLine, state: _State) -> Checkpoint:
    try:
        checkpoint = line.checkpoint()
    except UNDECODABLE as fault:
        raise _Wrong(str(path), line.number, f"it is not a checkpoint: {fault}", state.number + 1) from fault
    wrong = ""
    if checkpoint.format != FORMAT:
        wrong = f"its format is {checkpoint.format}; this ashore reads {FORMAT}"
    elif checkpoint.number != state.number + 1:
        wrong = f"its number is {checkpoint.number}; expected {state.number + 1}"
    elif checkpoint.previous != state.hash:
        wrong = "it names a different previous checkpoint"
    elif state.home and checkpoint.home != state.home:
        wrong = f"it belongs to the home {checkpoint.home}; the previous checkpoints belong to {state.home}"
    elif checkpoint.root != heads_root(checkpoint.chains):
        wrong = "its root hash does not match its chain heads"
    if wrong:
        raise _Wrong(str(path), line.number, wrong, state.number + 1)
    return checkpoint


def _check_signature(path: Path, line: SignedLine, checkpoint: Checkpoint, signers: _Signers) -> None:
    number = checkpoint.number
    if signers.expected and checkpoint.key_id != signers.expected:
        raise _Wrong(
            str(path),
            line.number,
            f"it is signed by the key {checkpoint.key_id}; expected {signers.expected}, which had replaced it",
            number,
        )
    key = signers.known.get(checkpoint.key_id)
    if key is None:
        signers.unknown = signers.unknown or line
    elif not line.is_signed_by(key):
        raise _Wrong(str(path), line.number, f"its signature does not match the key {key.key_id}", number)
    else:
        signers.unknown = None
    if checkpoint.next_key:
        fresh = PublicKey.from_text(checkpoint.next_key)
        if fresh is None:
            raise _Wrong(str(path), line.number, "the new key it names is not a valid key", number)
        signers.expected = fresh.key_id
        if key is not None:
            signers.known[fresh.key_id] = fresh


def _check_heads(path: Path, line: SignedLine, checkpoint: Checkpoint, state: _State) -> None:
    heads = {head.chain: (head.seq, head.hash) for head in checkpoint.chains}
    for chain, before in state.heads.items():
        now = heads.get(chain)
        if now is None or now[0] < before[0] or (now[0] == before[0] and now[1] != before[1]):
            seen = "omits it" if now is None else f"has it at record {now[0]}"
            what = (
                f"{chain} was at record {before[0]} before, but this checkpoint {seen}: the chain was cut or rewritten"
            )
            raise _Wrong(str(path), line.number, what, checkpoint.number)
    state.heads = heads


def _compare(path: Path, line: SignedLine, here: Checkpoint, beside: _Anchored, report: CheckpointReport) -> None:
    while beside.next_ is not None and beside.number <= here.number:
        if beside.number == here.number:
            if beside.next_.raw != line.raw:
                raise _Wrong(
                    str(path), line.number, "the anchor has a different checkpoint of this number", here.number
                )
            report.anchored = here.number
        beside.advance()


def _check_end(path: Path, report: CheckpointReport, signers: _Signers, beside: _Anchored, *, asked: bool) -> None:
    if signers.unknown is not None:
        key_id = signers.unknown.checkpoint().key_id
        raise _Wrong(
            str(path),
            signers.unknown.number,
            f"it is signed by the key {key_id}, which is not among the given public keys",
        )
    if beside.next_ is not None:
        signer = signers.known.get(beside.next_.checkpoint().key_id)
        if signer is not None and not beside.next_.is_signed_by(signer):
            raise _Wrong("the anchor", 0, f"its checkpoint {beside.number} has a wrong signature", beside.number)
        raise _Wrong(
            str(path),
            report.count,
            f"it ends with checkpoint {report.count}; the anchor has checkpoint {beside.number}: its tail is missing",
            report.count + 1,
        )
    if report.count == 0:
        raise _Wrong(str(path), 0, "there is no checkpoint; no signature covers these records")
    if asked and report.anchored == 0:
        raise _Wrong("the anchor", 0, f"it has no checkpoint of this home ({report.last.home if report.last else ''})")


def vouched_of(path: Path, chain: str, *, up_to: int) -> Iterator[Vouched]:
    """Yield the heads of a chain in checkpoints up to number `up_to`, each record once, in order."""
    seq = 0
    for line in read_checkpoints(path):
        if line.number > up_to:
            return
        checkpoint = line.checkpoint()
        head = checkpoint.head_of(chain)
        if head is not None and head.seq > seq:
            seq = head.seq
            yield Vouched(seq=head.seq, hash=head.hash, by=f"checkpoint {checkpoint.number}")
