"""Grammar constraints: each runs in a process of its own, which returns after every token which may come next."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidGrammar
from ashore.data.engines.grammar import prepared, refused
from ashore.data.engines.grammarprocess import GrammarLine, GrammarProcess, wait_for_answers
from ashore.data.engines.model import Grammar

_COMPILED_AT_ONCE: Final = 4
_OF_ONE_TENANT: Final = 2
PATIENCE_S: Final = 0.005
"""What the step of all waits for what a grammar permits next; usual ones take a tenth of it. Whose grammar takes
longer misses the step, alone."""


class _GenerationFile(msgspec.Struct, frozen=True):
    """The part of `generation.json` used here; `ashore.data.text` owns the file."""

    eos_token_ids: list[int] = []


class Constraint:
    """The state of one sequence inside its grammar. The first mask is ready on creation."""

    def __init__(self, line: GrammarLine, vocab_size: int, begun: Sequence[int] = ()) -> None:
        """Create it behind the tokens of an answer that has begun."""
        self._line = line
        self._vocab_size = vocab_size
        self._allowed_V: NDArray[np.bool_] | None = None
        self.waits = False
        """Whether the tokens that may follow are not known yet."""
        self._line.follow(begun)
        self.waits = True
        self.look()

    def accept(self, token_id: int) -> None:
        """Advance by a token that `allowed` permits; returns at once, and sets `waits`."""
        self._line.follow([token_id])
        self.waits = True

    @property
    def is_answered(self) -> bool:
        """Whether `look` returns without waiting."""
        return self._line.is_answered

    def look(self) -> None:
        """Read the tokens that may follow, waiting for them if necessary.

        Raises:
            InvalidGrammar: the grammar has become too complex to follow. NotReady: the process for grammars ended.
        """
        self.waits = False
        try:
            bits = self._line.answer()
        except InvalidGrammar as fault:
            raise refused("the grammar cannot be followed further", fault) from fault
        self._allowed_V = None
        if bits is not None:
            allowed = np.zeros(self._vocab_size, np.bool_)
            flags = np.unpackbits(
                np.frombuffer(bits, np.uint8), bitorder="little", count=min(self._vocab_size, len(bits) * 8)
            )
            allowed[: flags.size] = flags
            self._allowed_V = allowed

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow."""
        return self._allowed_V is None

    def allowed(self) -> NDArray[np.bool_]:
        """Return, for each token of the vocabulary, whether it may come next."""
        assert self._allowed_V is not None and not self.waits
        return self._allowed_V

    def close(self) -> None:
        """End its process. May be called twice."""
        self._line.close()

    def wait_until(self, until_s: float) -> None:
        """Wait until it is answered, or until `until_s` by the monotonic clock."""
        wait_for_answers([self._line], until_s)

    @staticmethod
    def wait(constraints: Iterable[Constraint], timeout_s: float) -> None:
        """Wait until all of these are answered, or have had `timeout_s` since their request."""
        lines = [one._line for one in constraints]
        if lines:
            wait_for_answers(lines, max(line.asked_s for line in lines) + timeout_s)


class GrammarCompiler:
    """Compiles constraints in threads of its own, so that no running sequence waits for a compilation. Tenants take
    turns."""

    def __init__(self, directory: Path, *, vocab_size: int) -> None:
        """Create it; `tokenizer.json` and `generation.json` of the folder are read for the first grammar."""
        self._directory = directory
        self._vocab_size = vocab_size
        self._threads = ThreadPoolExecutor(_COMPILED_AT_ONCE, thread_name_prefix="grammar")
        self._process = GrammarProcess(self._tokenizer)
        self._ahead: OrderedDict[str, deque[tuple[Future[Constraint], Grammar, Sequence[int]]]] = OrderedDict()
        """Queued compilations by tenant; the next turn is first."""
        self._at_work: Counter[str] = Counter()
        self._lock = threading.Lock()

    def compile(self, grammar: Grammar, tenant: str = "", begun: Sequence[int] = ()) -> Future[Constraint]:
        """Return at once; the future raises `InvalidGrammar` if the grammar cannot be compiled, or does not permit the
        answer to begin with these tokens."""
        future: Future[Constraint] = Future()
        with self._lock:
            self._ahead.setdefault(tenant, deque()).append((future, grammar, begun))
        self._threads.submit(self._work)
        return future

    @staticmethod
    def drop(future: Future[Constraint]) -> None:
        """Release a constraint that no sequence waits for any more."""
        if not future.cancel():
            future.add_done_callback(_close)

    def close(self) -> None:
        """End all compilations and constraints."""
        with self._lock:
            ahead = [future for line in self._ahead.values() for future, *_ in line]
            self._ahead.clear()
        for future in ahead:
            future.cancel()
        self._process.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _work(self) -> None:
        """Compile queued grammars of tenants below their limit."""
        while True:
            with self._lock:
                tenant = next((one for one in self._ahead if self._at_work[one] < _OF_ONE_TENANT), None)
                if tenant is None:
                    return
                line = self._ahead.pop(tenant)
                future, grammar, begun = line.popleft()
                if line:
                    self._ahead[tenant] = line
                self._at_work[tenant] += 1
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._compile(grammar, begun))
                except Exception as fault:  # noqa: BLE001 - who asked for the grammar gets it
                    future.set_exception(fault)
            with self._lock:
                self._at_work[tenant] -= 1
                self._at_work += Counter()  # drop tenants without work

    def _compile(self, grammar: Grammar, begun: Sequence[int]) -> Constraint:
        line = self._process.begin(*prepared(grammar))
        try:
            try:
                line.compiled()
            except InvalidGrammar as fault:
                raise refused(f"the {grammar.kind} grammar cannot be compiled", fault) from fault
            return Constraint(line, self._vocab_size, begun)
        except BaseException:
            line.close()
            raise

    def _tokenizer(self) -> dict[str, Any]:
        path = self._directory / "tokenizer.json"
        if not path.is_file():
            raise InvalidGrammar(
                f"grammars need {path.name}, which this model does not have",
                hint="pull the model again to add the file",
            )
        text, ends = path.read_text(encoding="utf-8"), _eos_token_ids(self._directory / "generation.json")
        return {"tokenizer": text, "n_vocab": self._vocab_size, "eos_token": ends or None}


def _close(future: Future[Constraint]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().close()


def _eos_token_ids(path: Path) -> list[int]:
    return msgspec.json.decode(path.read_bytes(), type=_GenerationFile).eos_token_ids if path.is_file() else []
