"""Fields that Ollama clients send and the routes do not know."""

from __future__ import annotations

from typing import Any, Final

from ashore.data.http.dialect import Dialect, Json, Reader, Said
from ashore.data.http.ollama.types import (
    OllamaChatRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
)

OF_THE_SERVER: Final = (
    "num_ctx", "num_keep", "num_batch", "num_gpu", "num_thread", "main_gpu", "low_vram", "f16_kv", "use_mmap",
    "use_mlock", "vocab_only", "logits_all", "embedding_only", "numa", "draft_num_predict",
)  # fmt: skip
"""Options of how a model is loaded, which the operator sets here."""
OF_THE_SAMPLER: Final = ("repeat_last_n", "penalize_newline", "mirostat_tau", "mirostat_eta")
"""Options that refine others."""
NEUTRAL: Final = {"mirostat": 0, "typical_p": 1.0, "tfs_z": 1.0}
"""Samplers that ashore does not have, and the value with which they do nothing."""

HINTS: Final = {
    "keep_alive": "clients of Ollama; a served model stays loaded",
    "truncate": "clients of Ollama; a text that is too long is refused",
    "shift": "clients of Ollama; a prompt that is too long is refused",
    "verbose": "clients of Ollama",
    **{f"options.{name}": "clients of Ollama; the operator sets it" for name in OF_THE_SERVER},
    **{f"options.{name}": "clients of Ollama" for name in OF_THE_SAMPLER},
}
REFUSED: Final = {
    "messages[].images": "send text; the models that ashore serves read nothing else",
    "images": "send text; the models that ashore serves read nothing else",
    "template": "serve the model with another chat template; a request cannot bring its own",
    "context": "send the turns before as messages to /api/chat",
    **{f"options.{name}": f"omit it, or send {value}" for name, value in NEUTRAL.items()},
}


def _adapt(body: Json, said: Said) -> None:
    """Rename Ollama's fields to ours, and drop those without effect."""
    if "model" not in body and isinstance(body.get("name"), str):
        body["model"] = body.pop("name")
    options = body.get("options")
    if isinstance(options, dict):
        if options.get("repeat_penalty") is not None:
            options.setdefault("repetition_penalty", options["repeat_penalty"])
        options.pop("repeat_penalty", None)
        for name, nothing in NEUTRAL.items():
            if options.get(name) == nothing:
                del options[name]
        if options.get("seed") == -1:  # what clients send for a new one each time
            del options["seed"]
    for name in ("images", "context", "template"):
        _drop_empty(body, name)
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            _drop_empty(message, "images")


def _drop_empty(body: Json, name: str) -> None:
    value: Any = body.get(name)
    if name in body and not value:
        del body[name]


_DIALECT: Final = Dialect(name="ollama", ignored=HINTS, refused=REFUSED, adapt=_adapt)
CHAT_READER: Final = Reader(OllamaChatRequest, _DIALECT)
GENERATE_READER: Final = Reader(OllamaGenerateRequest, _DIALECT)
EMBED_READER: Final = Reader(OllamaEmbedRequest, Dialect(name="ollama", ignored={**HINTS, "options": ""}, adapt=_adapt))
EMBEDDINGS_READER: Final = Reader(
    OllamaEmbeddingsRequest, Dialect(name="ollama", ignored={**HINTS, "options": ""}, adapt=_adapt)
)
SHOW_READER: Final = Reader(OllamaShowRequest, Dialect(name="ollama", ignored=HINTS, adapt=_adapt))
