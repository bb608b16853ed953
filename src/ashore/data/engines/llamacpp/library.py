"""llama.cpp's C interface, from the shared library in the `xllamacpp` wheel, or one built for this processor.

Only plain functions and two structures are used. The one whose layout changes between versions, the context
parameters, is checked against its known defaults before anything is set, and the sizes that the context reports are
checked afterwards: an unknown version is refused, never misread. Calls release the interpreter lock.
"""

from __future__ import annotations

import ctypes
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_bool, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_void_p
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ashore.core.errors import EngineFailed, MissingExtra
from ashore.kit.extras import how_to_install

_log = logging.getLogger(__name__)

BUILT: Final = "llama_cpp"
"""The module of llama-cpp-python, whose installation builds llama.cpp for the processor that it is installed on."""
_WARN, _ERROR = 3, 4
"""`enum ggml_log_level`."""
_HINT: Final = "install the xllamacpp that this release of ashore was tested with: pip install 'xllamacpp==2026.10.*'"


class Batch(ctypes.Structure):
    """`struct llama_batch`."""

    _fields_ = (
        ("n_tokens", c_int32),
        ("token", c_void_p),
        ("embd", c_void_p),
        ("pos", c_void_p),
        ("n_seq_id", c_void_p),
        ("seq_id", c_void_p),
        ("logits", c_void_p),
    )


class _ModelParams(ctypes.Structure):
    """`struct llama_model_params`, never inspected: the library's defaults are used. Larger than any version of it,
    which is harmless for a structure returned or passed in memory."""

    _fields_ = (("bytes", c_uint8 * 512),)


_BEFORE: Final = (
    ("n_ctx", c_uint32),
    ("n_batch", c_uint32),
    ("n_ubatch", c_uint32),
    ("n_seq_max", c_uint32),
    ("n_rs_seq", c_uint32),
    ("n_outputs_max", c_uint32),
    ("n_outputs_max_per_seq", c_uint32),
    ("n_threads", c_int32),
    ("n_threads_batch", c_int32),
    ("ctx_type", c_int32),
    ("rope_scaling_type", c_int32),
    ("pooling_type", c_int32),
    ("attention_type", c_int32),
    ("flash_attn_type", c_int32),
    ("rope_freq_base", c_float),
    ("rope_freq_scale", c_float),
    ("yarn_ext_factor", c_float),
    ("yarn_attn_factor", c_float),
    ("yarn_beta_fast", c_float),
    ("yarn_beta_slow", c_float),
    ("yarn_orig_ctx", c_uint32),
    ("defrag_thold", c_float),
    ("cb_eval", c_void_p),
    ("cb_eval_user_data", c_void_p),
    ("type_k", c_int32),
    ("type_v", c_int32),
    ("abort_callback", c_void_p),
    ("abort_callback_data", c_void_p),
)
_BEHIND: Final = (
    ("embeddings", c_bool),
    ("offload_kqv", c_bool),
    ("no_perf", c_bool),
    ("op_offload", c_bool),
    ("swa_full", c_bool),
    ("kv_unified", c_bool),
    ("rest", c_uint8 * 512),
)
"""With room for fields that follow."""


class ContextParams(ctypes.Structure):
    """`struct llama_context_params` of llama.cpp b11500 and nearby, as in the wheel."""

    _fields_ = (*_BEFORE, ("reserved", c_void_p), *_BEHIND)


class PlainContextParams(ctypes.Structure):
    """The layout of other versions, such as the build of llama-cpp-python 0.3.36."""

    _fields_ = (*_BEFORE, *_BEHIND)


_LAYOUTS: Final = (ContextParams, PlainContextParams)

_CONTEXT_DEFAULTS: Final = {
    "n_ctx": 512, "n_batch": 2048, "n_ubatch": 512, "n_seq_max": 1, "n_rs_seq": 0, "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1, "ctx_type": 0, "rope_scaling_type": -1, "pooling_type": -1, "attention_type": -1,
    "flash_attn_type": -1, "rope_freq_base": 0.0, "rope_freq_scale": 0.0, "yarn_ext_factor": -1.0,
    "yarn_attn_factor": -1.0, "yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0, "yarn_orig_ctx": 0, "defrag_thold": -1.0,
    "cb_eval": None, "type_k": 1, "type_v": 1, "abort_callback": None, "reserved": None, "embeddings": False,
    "offload_kqv": True, "no_perf": True, "op_offload": True, "swa_full": True, "kv_unified": False,
}  # fmt: skip
"""What `llama_context_default_params` returns, in whichever layout."""

_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (c_void_p, c_void_p)),
    "llama_model_default_params": (_ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (c_void_p, (c_char_p, _ModelParams)),
    "llama_model_free": (None, (c_void_p,)),
    "llama_model_desc": (c_int32, (c_void_p, c_char_p, ctypes.c_size_t)),
    "llama_model_get_vocab": (c_void_p, (c_void_p,)),
    "llama_model_has_decoder": (c_bool, (c_void_p,)),
    "llama_model_is_hybrid": (c_bool, (c_void_p,)),
    "llama_model_is_recurrent": (c_bool, (c_void_p,)),
    "llama_model_n_ctx_train": (c_int32, (c_void_p,)),
    "llama_vocab_n_tokens": (c_int32, (c_void_p,)),
    "llama_init_from_model": (c_void_p, (c_void_p, ContextParams)),
    "llama_free": (None, (c_void_p,)),
    "llama_n_batch": (c_uint32, (c_void_p,)),
    "llama_n_ctx": (c_uint32, (c_void_p,)),
    "llama_n_seq_max": (c_uint32, (c_void_p,)),
    "llama_n_threads": (c_int32, (c_void_p,)),
    "llama_get_memory": (c_void_p, (c_void_p,)),
    "llama_memory_seq_cp": (None, (c_void_p, c_int32, c_int32, c_int32, c_int32)),
    "llama_memory_seq_rm": (c_bool, (c_void_p, c_int32, c_int32, c_int32)),
    "llama_state_seq_get_size": (c_size_t, (c_void_p, c_int32)),
    "llama_state_seq_get_data": (c_size_t, (c_void_p, c_void_p, c_size_t, c_int32)),
    "llama_state_seq_set_data": (c_size_t, (c_void_p, c_void_p, c_size_t, c_int32)),
    "llama_decode": (c_int32, (c_void_p, Batch)),
    "llama_get_logits_ith": (c_void_p, (c_void_p, c_int32)),
    "ggml_quantize_chunk": (c_size_t, (c_int32, c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p)),
    "ggml_op_name": (c_char_p, (c_int32,)),
    "ggml_nbytes": (c_size_t, (c_void_p,)),
}

_LogCallback = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)


class LlamaLibrary:
    """The loaded library: each function of `_FUNCTIONS` is an attribute, with its types set."""

    def __init__(self, path: str, version: str) -> None:
        self.version = version
        self._lines: deque[str] = deque(maxlen=20)
        self._logs = True
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise EngineFailed(
                f"{version} cannot be loaded: {error}", hint="set `library` to the path of a libllama.so"
            ) from error
        for name, (result, arguments) in _FUNCTIONS.items():
            try:
                function = getattr(library, name)
            except AttributeError as error:
                raise EngineFailed(f"{version} has no function {name}", hint=_HINT) from error
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        self._callback = _LogCallback(self._take_line)
        self.llama_log_set(ctypes.cast(self._callback, c_void_p), None)
        self.llama_backend_init()
        self._choose_layout()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Suppress logging of expected failures inside the context."""
        self._logs = False
        try:
            yield
        finally:
            self._logs = True

    @contextmanager
    def explaining(self) -> Iterator[deque[str]]:
        """Yield the library's warnings inside the context: it explains failures in its log only."""
        yield self.fresh_lines()

    def fresh_lines(self) -> deque[str]:
        """Return a list that collects the library's warnings from now on. For the most frequent call."""
        self._lines.clear()
        return self._lines

    def _take_line(self, level: int, text: bytes, user_data: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level not in (_WARN, _ERROR) or not line:
            return
        self._lines.append(line)
        if self._logs:
            _log.log(logging.WARNING if level == _WARN else logging.ERROR, "%s", line)

    def _choose_layout(self) -> None:
        """Choose the first layout in which the defaults have their expected values."""
        misfits = []
        for layout in _LAYOUTS:
            self.llama_context_default_params.restype = layout
            misfit = misfit_of(self.llama_context_default_params())
            if not misfit:
                self.llama_init_from_model.argtypes = (c_void_p, layout)
                return
            misfits.append(misfit)
        raise EngineFailed(f"{self.version}: {misfits[0]}; this version has a different memory layout", hint=_HINT)


def misfit_of(defaults: Any) -> str:
    """Return the first default with an unexpected value; empty if all are as expected."""
    for name, expected in _CONTEXT_DEFAULTS.items():
        seen = getattr(defaults, name, expected)
        if seen != expected:
            return f"the default of {name} is {seen!r}, expected {expected!r}"
    return ""


def built_library() -> str:
    """Return the path of the library that llama-cpp-python built at its installation; empty if it is not installed."""
    found = find_spec(BUILT)
    path = Path(found.origin).parent / "lib" / "libllama.so" if found is not None and found.origin else None
    return str(path) if path is not None and path.is_file() else ""


@cache
def load_library(name: str = "") -> LlamaLibrary:
    """Return the library. Loading it again returns the same one.

    Args:
        name: Empty for that of the wheel; `llama_cpp` for the build of llama-cpp-python; else the path of a
            `libllama.so`, with its dependencies in the same directory.

    Raises:
        MissingExtra: the wheel, or llama-cpp-python, is not installed.
        EngineFailed: its interface is unknown, or it cannot be loaded.
    """
    if name:
        path = built_library() if name == BUILT else name
        if not path:
            raise MissingExtra(
                'the option library = "llama_cpp" needs llama-cpp-python, built on this machine',
                hint="CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python llama-cpp-python",
            )
        return LlamaLibrary(path, f"llama.cpp ({_named(name)})")
    try:
        import xllamacpp
        from xllamacpp import xllamacpp as extension
    except ImportError as error:
        raise MissingExtra(
            f"the llamacpp engine needs the xllamacpp package ({error})", hint=how_to_install("cpu")
        ) from error
    return LlamaLibrary(str(extension.__file__), f"llama.cpp (xllamacpp {xllamacpp.__version__})")


def _named(name: str) -> str:
    return f"llama-cpp-python {version('llama-cpp-python')}" if name == BUILT else name
