"""Grammars at work: compiled beside the steps, in a thread, then a mask of permitted tokens for every step."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.engines.grammar import compiling, matcher_source, parser_limits, reason_of
from ashore.engines.model import Grammar
from ashore.errors import InvalidGrammar

_KEPT_GRAMMARS = 64


class _GenerationFile(msgspec.Struct, frozen=True):
    """The part of `generation.json` that matters here; `ashore.text` owns the file."""

    eos_token_ids: list[int] = []


class Constraint:
    """The state of one sequence inside its grammar."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def allowed(self) -> NDArray[np.bool_]:
        """Return, for each token of the vocabulary, whether it may come next.

        Raises:
            InvalidGrammar: the grammar has become too complex to follow.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        allowed = np.zeros(self._vocab_size, np.bool_)
        flags = np.unpackbits(bits, bitorder="little", count=min(self._vocab_size, bits.size * 8))
        allowed[: flags.size] = flags
        return allowed

    def accept(self, token_id: int) -> None:
        """Advance by a token that `allowed` permits."""
        self._matcher.consume_token(token_id)
        self._check()

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidGrammar(f"the grammar cannot be followed further: {reason_of(self._matcher.get_error())}")


class GrammarCompiler:
    """Makes constraints in a thread of its own, so that no running sequence waits for a compilation."""

    def __init__(self, directory: Path, *, vocab_size: int) -> None:
        """Read nothing yet; `tokenizer.json` and `generation.json` of the folder are read for the first grammar."""
        self._directory = directory
        self._vocab_size = vocab_size
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="grammar")
        self._tokenizer: Any = None
        self._known: OrderedDict[Grammar, Any] = OrderedDict()

    def compile(self, grammar: Grammar) -> Future[Constraint]:
        """Return at once; the future raises `InvalidGrammar` where the grammar cannot be compiled."""
        return self._thread.submit(self._compile, grammar)

    def close(self) -> None:
        """Wait for the compilation at work, drop the others."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compile(self, grammar: Grammar) -> Constraint:
        import llguidance

        known = self._known.get(grammar)
        if known is None:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
            source = matcher_source(grammar)
            with compiling(grammar):
                known = llguidance.LLMatcher(self._tokenizer, source, log_level=0, limits=parser_limits())
            if known.is_error():
                raise InvalidGrammar(f"the {grammar.kind} grammar cannot be compiled: {reason_of(known.get_error())}")
            self._known[grammar] = known
        self._known.move_to_end(grammar)
        while len(self._known) > _KEPT_GRAMMARS:
            self._known.popitem(last=False)
        return Constraint(known.deep_copy(), self._vocab_size)

    def _load_tokenizer(self) -> Any:
        import llguidance

        path = self._directory / "tokenizer.json"
        if not path.is_file():
            raise InvalidGrammar(
                f"grammars need {path.name}, which this model does not have",
                hint="pull the model again to add the file",
            )
        text, ends = path.read_text(encoding="utf-8"), _eos_token_ids(self._directory / "generation.json")
        return llguidance.LLTokenizer(text, n_vocab=self._vocab_size, eos_token=ends or None)


def _eos_token_ids(path: Path) -> list[int]:
    return msgspec.json.decode(path.read_bytes(), type=_GenerationFile).eos_token_ids if path.is_file() else []
