"""Which files of a hub repository or bucket make the model; decided from the list, before a byte is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ashore.core.errors import UnknownModel, UnsupportedModel
from ashore.core.nearest import did_you_mean
from ashore.kit.extras import require_gguf
from ashore.kit.store.conversion.pooling import layers_among
from ashore.kit.store.conversion.safetensorsmeta import INDEX
from ashore.kit.store.prepare import (
    DOCS,
    KEPT_BESIDE_SAFETENSORS,
    SPLIT_GGUF,
    refuse_pickle_names,
    refuse_without_tokenizer,
)

BESIDE_SAFETENSORS = (*KEPT_BESIDE_SAFETENSORS, "chat_template.jinja", "chat_template.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file on offer."""

    path: str
    num_bytes: int
    sha256: str = ""
    """Empty where the source does not tell (small files of a hub)."""


def choose_files(
    files: Iterable[RemoteFile], wanted: str, where: str, *, text_only: bool = False
) -> tuple[RemoteFile, ...]:
    """Return the files to fetch: safetensors with what belongs to them, or one GGUF model, and the licence texts.

    Args:
        files: All files of the repository.
        wanted: A `.gguf` file that the user named; empty: the repository decides.
        where: For messages.
        text_only: Leave out weights, but for a GGUF model, in which the vocabulary lies.

    Raises:
        UnknownModel: there is no such file.
        UnsafeWeights: the only weights are pickles.
        UnsupportedModel: no weights, no tokenizer that works without code, or several GGUF models and none named.
        MissingExtra: it is a GGUF model, and their reader is not installed.
    """
    offered = {f.path: f for f in files}
    docs = [f for p, f in offered.items() if DOCS.fullmatch(p)]
    ggufs = sorted(p for p in offered if p.endswith(".gguf"))
    if wanted:
        if wanted not in offered:
            raise UnknownModel(f"{where} has no file {wanted!r}", hint=did_you_mean(wanted, ggufs))
        require_gguf(where)
        return (*_parts_of(wanted, offered), *docs)
    tensors = [f for p, f in offered.items() if p.endswith(".safetensors") and "/" not in p]
    if INDEX in offered:  # a second copy in the form of the makers' own program, as Mistral's have it
        tensors = [f for f in tensors if not f.path.startswith("consolidated")]
    if text_only and "tokenizer.json" in offered and not wanted:
        return (*(offered[p] for p in BESIDE_SAFETENSORS if p in offered and p != INDEX), *docs)
    if tensors:
        refuse_without_tokenizer(offered, where)
        return (*tensors, *(offered[p] for p in (*BESIDE_SAFETENSORS, *layers_among(offered)) if p in offered), *docs)
    heads = [p for p in ggufs if not (m := SPLIT_GGUF.search(p)) or m[1] == "00001"]
    if len(heads) == 1:
        require_gguf(where)
        return (*_parts_of(heads[0], offered), *docs)
    if heads:
        raise UnsupportedModel(
            f"{where} has {len(heads)} GGUF models: {', '.join(heads[:8])}", hint=f"name one: {where}:{heads[0]}"
        )
    refuse_pickle_names(offered)
    raise UnsupportedModel(f"{where} has no weights: no .safetensors or .gguf file", hint="check the name")


def _parts_of(first: str, offered: dict[str, RemoteFile]) -> tuple[RemoteFile, ...]:
    split = SPLIT_GGUF.search(first)
    if not split:
        return (offered[first],)
    stem = first[: split.start()]
    return tuple(f for p, f in sorted(offered.items()) if p.startswith(stem) and SPLIT_GGUF.search(p))
