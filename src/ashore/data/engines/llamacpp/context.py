"""A model and its memory in llama.cpp, as the engine uses them: token batches in, rows of logits out."""

from __future__ import annotations

import re
from ctypes import c_float
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import EngineFailed, UnsupportedModel
from ashore.data.engines.llamacpp.library import Batch, LlamaLibrary

_KV_TYPES: Final = {"f16": 1, "f32": 0, "q8_0": 8}
"""`enum ggml_type`."""
_NO_ROOM: Final = 1
"""Result of `llama_decode` when the memory has no room for the batch; nothing has changed then."""


class LlamaModel:
    """Weights on disk, mapped. `close` frees them."""

    def __init__(self, library: LlamaLibrary, path: Path) -> None:
        self.library = library
        with library.explaining() as lines:
            self.handle: Any = library.llama_model_load_from_file(
                str(path).encode(), library.llama_model_default_params()
            )
            if not self.handle:
                raise _load_error(path, " | ".join(lines))
        if not library.llama_model_has_decoder(self.handle):
            self.close()
            raise UnsupportedModel(f"{path.name} is not a decoder; the llamacpp engine only generates text")
        self.vocab_size = int(library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.handle)))
        self.context_tokens = int(library.llama_model_n_ctx_train(self.handle))
        self.can_share_prefixes = not (
            library.llama_model_is_recurrent(self.handle) or library.llama_model_is_hybrid(self.handle)
        )
        """False where the memory is a state that cannot be cut back to a prefix."""

    @property
    def precision(self) -> str:
        """`f16`, `q8_0`, `q4_k_medium`: the last part of the library's description of the file."""
        import ctypes

        buffer = ctypes.create_string_buffer(256)
        self.library.llama_model_desc(self.handle, buffer, len(buffer))
        words = buffer.value.decode("utf-8", "replace").replace(" - ", "_").split()
        kind = re.sub(r"[^a-z0-9_]", "", words[-1].lower()) if words else ""
        return {"f16": "fp16", "f32": "fp32", "allf32": "fp32", "bf16": "bf16"}.get(kind, kind or "unknown")

    def close(self) -> None:
        """Free the weights. May be called twice."""
        if self.handle:
            self.library.llama_model_free(self.handle)
            self.handle = None


class LlamaContext:
    """Memory for sequences, and the one call that advances them."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        kv_tokens: int,
        num_sequences: int,
        max_batch: int,
        threads: int,
        kv_cache: str,
        watch: Any = None,
    ) -> None:
        """Allocate it.

        Args:
            model: Must outlive the context.
            kv_tokens: Tokens over all sequences.
            num_sequences: Sequence numbers are 0 up to this.
            max_batch: Most tokens in one call of `decode`.
            threads: Threads of one call.
            kv_cache: `f16`, `f32` or `q8_0`.
            watch: Pointer to a `ggml_backend_sched_eval_callback`, which must outlive the context.

        Raises:
            EngineFailed: the library refused, or applied other parameters than given.
        """
        self.library = library = model.library
        self._vocab_size = model.vocab_size
        self.max_outputs = max(num_sequences, 64)
        params = library.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = kv_tokens, max_batch, min(max_batch, 512)
        params.n_seq_max, params.kv_unified = num_sequences, True
        params.n_outputs_max, params.n_outputs_max_per_seq = min(self.max_outputs, max_batch), 0
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = _KV_TYPES[kv_cache]
        params.cb_eval = watch
        self.max_outputs = params.n_outputs_max
        with library.explaining() as lines:
            self.handle: Any = library.llama_init_from_model(model.handle, params)
            if not self.handle:
                raise EngineFailed(
                    f"llama.cpp cannot create a context for {kv_tokens} tokens: {' | '.join(lines)}",
                    hint="lower kv_tokens or context_tokens",
                )
        self.kv_tokens = int(library.llama_n_ctx(self.handle))
        seen = (library.llama_n_seq_max(self.handle), library.llama_n_threads(self.handle))
        if seen != (num_sequences, threads) or self.kv_tokens < kv_tokens:
            raise EngineFailed(f"llama.cpp understood {(self.kv_tokens, *seen)}: {library.version} has another layout")
        self.max_batch = int(library.llama_n_batch(self.handle))
        """The requested size, or `kv_tokens` if that is less. Beyond it the library aborts the process."""
        self.max_outputs = min(self.max_outputs, self.max_batch)
        self._memory: Any = library.llama_get_memory(self.handle)
        self._token, self._pos, self._seq = (np.zeros(max_batch, np.int32) for _ in range(3))
        self._num_seq = np.ones(max_batch, np.int32)
        self._seq_pointers = self._seq.ctypes.data + 4 * np.arange(max_batch, dtype=np.uint64)
        self._wanted = np.zeros(max_batch, np.int8)
        arrays = (self._token, None, self._pos, self._num_seq, self._seq_pointers, self._wanted)
        self._batch = Batch(0, *(None if array is None else array.ctypes.data for array in arrays))
        self._row_type = c_float * self._vocab_size
        self._rows: dict[int, NDArray[np.float32]] = {}
        """Views of the library's memory, by address: it answers with the same few in every call."""

    def decode(self, parts: list[tuple[int, int, list[int], int]]) -> list[NDArray[np.float32]] | None:
        """Advance sequences; return the rows of logits that the parts need, or None if there is no room.

        Args:
            parts: Sequence number, position of its first token, tokens, and how many of the last ones need a row of
                logits after them; all together at most `max_outputs`.

        The rows are views that the next call overwrites. With None nothing has changed.

        Raises:
            EngineFailed: the library failed; the memory of these sequences is undefined.
        """
        outputs = self._fill(parts)
        code = self._call(sum(len(tokens) for _, _, tokens, _ in parts))
        return None if code == _NO_ROOM else [self._row(place) for place in outputs]

    def cut(self, sequence: int, keep: int) -> None:
        """Drop a sequence's tokens from position `keep` on."""
        if not self.library.llama_memory_seq_rm(self._memory, sequence, keep, -1):
            self.library.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Let `target`, which must be empty, share the first tokens of `source`. Needs no extra room."""
        self.library.llama_memory_seq_cp(self._memory, source, target, 0, num_tokens)

    def state_of(self, sequence: int) -> NDArray[np.uint8]:
        """Return the keys and values of a sequence, and their positions, for `restore`."""
        state = np.empty(self.library.llama_state_seq_get_size(self.handle, sequence), np.uint8)
        written = self.library.llama_state_seq_get_data(self.handle, state.ctypes.data, len(state), sequence)
        if written != len(state):
            raise EngineFailed(f"llama.cpp wrote {written} of the {len(state)} bytes of a sequence")
        return state

    def restore(self, sequence: int, state: NDArray[np.uint8]) -> bool:
        """Restore an empty sequence from `state_of`; False, and still empty, if there is no room for it."""
        with self.library.trying():
            read = self.library.llama_state_seq_set_data(self.handle, state.ctypes.data, len(state), sequence)
        if read != len(state):
            self.cut(sequence, 0)
        return bool(read == len(state))

    def close(self) -> None:
        """Free the memory. May be called twice."""
        if self.handle:
            self.library.llama_free(self.handle)
            self.handle = None

    def _fill(self, parts: list[tuple[int, int, list[int], int]]) -> list[int]:
        at = 0
        outputs: list[int] = []
        for sequence, position, tokens, wanted in parts:
            end = at + len(tokens)
            if end - at == 1:  # as in most calls: no arrays are made for it
                self._token[at], self._pos[at], self._seq[at], self._wanted[at] = tokens[0], position, sequence, 0
            else:
                self._token[at:end] = tokens
                self._pos[at:end] = np.arange(position, position + len(tokens))
                self._seq[at:end] = sequence
                self._wanted[at:end] = 0
            if wanted:
                self._wanted[end - wanted : end] = 1
                outputs += range(end - wanted, end)
            at = end
        return outputs

    def _call(self, num_tokens: int) -> int:
        lines = self.library.fresh_lines()
        self._batch.n_tokens = num_tokens
        code = int(self.library.llama_decode(self.handle, self._batch))
        if code not in (0, _NO_ROOM):
            raise EngineFailed(f"llama_decode returned {code}: {' | '.join(lines)}")
        return code

    def _row(self, place: int) -> NDArray[np.float32]:
        address = self.library.llama_get_logits_ith(self.handle, place)
        if not address:
            raise EngineFailed(f"llama.cpp kept no logits for token {place} of its last call")
        row = self._rows.get(address)
        if row is None:
            if len(self._rows) >= 2 * self.max_outputs:  # the library has moved its memory
                self._rows.clear()
            row = self._rows[address] = np.ctypeslib.as_array(self._row_type.from_address(address))
        return row


def _load_error(path: Path, words: str) -> Exception:
    if "unknown model architecture" in words or "unknown pre-tokenizer" in words:
        return UnsupportedModel(f"llama.cpp does not know {path.name}: {words}", hint="try a newer xllamacpp")
    return EngineFailed(
        f"llama.cpp cannot load {path}: {words or 'no reason given'}", hint="check the file with `ashore model verify`"
    )
